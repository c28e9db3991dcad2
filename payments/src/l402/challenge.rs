//! The 402 answer: the offer of a macaroon and an invoice, in the one header that all known clients read.
//!
//! What clients need of the header: the scheme `L402` at its very beginning; `macaroon` first and `invoice` second, each in
//! double quotes, after a comma; the macaroon in base64; one challenge only. `version` and `token`
//! are what the L402 specification calls the same things now.

use std::fmt;

use axum::http::HeaderValue;
use libmacaroon::MacaroonError;
use serde_json::{Value, json};
use thiserror::Error;
use watershed_protocol::PaymentHash;

use super::cashier::Issued;
use super::caveat;
use super::price::{Price, Uses};
use super::secret::RootSecret;
use super::settings::Settings;
use super::token::Token;

/// The longest invoice that is put into a header, in bytes: with two macaroons it stays far below the 16 KiB that HTTP
/// clients read.
const MAX_INVOICE_BYTES: usize = 4096;

/// An offer to one client.
pub(crate) struct Challenge {
    header: HeaderValue,
    /// What is offered, for the body: all that people and programs may want to know except the macaroon.
    pub(crate) offer: Value,
}

/// An offer that cannot be made.
#[derive(Debug, Error)]
pub(crate) enum ChallengeError {
    /// It would break the header, or smuggle something into it.
    #[error(
        "it gave {found} bytes that are no BOLT 11 invoice in lowercase of at most {MAX_INVOICE_BYTES} bytes"
    )]
    Invoice { found: usize },
    #[error("no macaroon could be made: {0}")]
    Macaroon(MacaroonError),
    #[error("no header could be made")]
    Header,
}

impl Challenge {
    /// Offers what `price` sells for the invoice `issued`.
    ///
    /// The token is good from now until `price.valid_s` after the invoice expires, so whoever pays late loses nothing.
    pub(crate) fn new(
        price: &Price,
        settings: &Settings,
        secret: &RootSecret,
        issued: &Issued,
        now: u64,
    ) -> Result<Self, ChallengeError> {
        let invoice = &issued.bolt11;
        let plain = invoice.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !plain || !invoice.starts_with("ln") || invoice.len() > MAX_INVOICE_BYTES {
            return Err(ChallengeError::Invoice { found: invoice.len() });
        }
        let pay_before = now.saturating_add(settings.invoice_expiry_s.into());
        let valid_until = pay_before.saturating_add(price.valid_s.into());
        let hash = PaymentHash::from_bytes(issued.payment_hash);
        let caveats = caveat::sold(&price.service, price.tier, &price.capability, valid_until);
        let token =
            Token::mint(secret, settings.location(), hash, &caveats).map_err(ChallengeError::Macaroon)?;
        let text = format!(r#"L402 macaroon="{token}", invoice="{invoice}", version="0", token="{token}""#);
        let mut header = HeaderValue::from_str(&text).map_err(|_| ChallengeError::Header)?;
        header.set_sensitive(true);
        let uses = match price.uses {
            Uses::Unlimited => None,
            Uses::Times(limit) => Some(limit),
        };
        let offer = json!({
            "amount_msat": price.amount.msat(),
            "description": price.description,
            "service": price.service,
            "capability": price.capability,
            "uses": uses,
            "invoice": invoice,
            "payment_hash": hash.to_string(),
            "pay_before": pay_before,
            "valid_until": valid_until,
        });
        Ok(Self { header, offer })
    }

    /// The value of `WWW-Authenticate`.
    pub(crate) fn into_header(self) -> HeaderValue {
        self.header
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({})", self.offer)
    }
}
