//! The decision on one request to a route that costs something: every check, in the order of the table in the module's
//! documentation.

use std::fmt::Display;
use std::future::Future;

use axum::http::HeaderMap;

use super::cashier::Cashier;
use super::caveat;
use super::challenge::Challenge;
use super::credential::Credential;
use super::price::{Price, PriceTable, Uses};
use super::refusal::Refusal;
use super::secret::{RootSecret, TokenId};
use super::settings::Settings;
use super::spent::{Spend, Spent};
use super::token::Token;

/// What let a request through; the layer puts it into the request's extensions for the handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// Of the invoice that was paid.
    pub payment_hash: [u8; 32],
    /// The token that was presented.
    pub token: TokenId,
    /// The capability that the route sells.
    pub capability: String,
}

/// Everything that decisions are made of.
pub(crate) struct Gate<C, S, N> {
    pub(crate) prices: PriceTable,
    pub(crate) settings: Settings,
    pub(crate) secret: RootSecret,
    pub(crate) cashier: C,
    pub(crate) spent: S,
    pub(crate) now: N,
}

impl<C: Cashier, S: Spent, N: Fn() -> u64> Gate<C, S, N> {
    /// Lets a request through, and takes a use for it, or says why not.
    pub(crate) async fn admit(&self, price: &Price, headers: &HeaderMap) -> Result<Paid, Refusal> {
        let credential = Credential::of(headers, self.settings.max_header_bytes)?;
        let token = Token::from_text(credential.macaroon)?;
        if !token.is_signed(&self.secret) {
            return Err(Refusal::SignatureForged);
        }
        let sold_until = self.check_grant(price, &token)?;
        if credential.preimage.hash() != token.payment_hash {
            return Err(Refusal::PreimageWrong);
        }
        self.check_settled(token.payment_hash.to_bytes()).await?;
        self.take(price, token.id, sold_until).await?;
        Ok(Paid {
            payment_hash: token.payment_hash.to_bytes(),
            token: token.id,
            capability: price.capability.clone(),
        })
    }

    /// Asks for an invoice and offers what the price sells for it.
    pub(crate) async fn challenge(&self, price: &Price) -> Result<Challenge, Refusal> {
        let expiry_s = self.settings.invoice_expiry_s;
        let asked = self.cashier.invoice(price.amount, price.description.clone(), expiry_s);
        let refused = |e: C::Error| match C::retry_after(&e) {
            Some(seconds) => Refusal::CashierBusy { seconds },
            None => Refusal::CashierUnavailable(e.to_string()),
        };
        let issued = match tokio::time::timeout(self.settings.cashier_timeout, asked).await {
            Ok(answer) => answer.map_err(refused)?,
            Err(_) => return Err(Refusal::CashierUnavailable(self.too_late())),
        };
        Challenge::new(price, &self.settings, &self.secret, &issued, (self.now)())
            .map_err(|e| Refusal::CashierUnavailable(e.to_string()))
    }

    /// Whether the token was sold for this route and time; the time until which it was sold.
    fn check_grant(&self, price: &Price, token: &Token) -> Result<u64, Refusal> {
        if token.location() != Some(self.settings.location()) {
            return Err(Refusal::TokenForeign("location"));
        }
        let grant = caveat::read(token.predicates(), &price.service, |key| {
            self.prices.concerns(&price.service, key)
        })?;
        if !grant.has_service(&price.service, price.tier) {
            return Err(Refusal::TokenForeign("service"));
        }
        let now = (self.now)();
        if now >= grant.valid_until {
            return Err(Refusal::TokenExpired { valid_until: grant.valid_until, now });
        }
        if !grant.has_capability(&price.capability) {
            return Err(Refusal::CapabilityMissing { needed: price.capability.clone() });
        }
        Ok(grant.sold_until)
    }

    /// Waits a little for a payment that is on its way: who is asked here has the preimage.
    async fn check_settled(&self, payment_hash: [u8; 32]) -> Result<(), Refusal> {
        for left in (0..=self.settings.settle_retries).rev() {
            let paid = self.in_time(self.cashier.is_paid(payment_hash)).await;
            if paid.map_err(Refusal::CashierUnavailable)? {
                return Ok(());
            }
            if left > 0 {
                tokio::time::sleep(self.settings.settle_pause).await;
            }
        }
        Err(Refusal::InvoiceUnsettled)
    }

    async fn take(&self, price: &Price, token: TokenId, sold_until: u64) -> Result<(), Refusal> {
        let Uses::Times(limit) = price.uses else { return Ok(()) };
        let now = (self.now)();
        if now >= sold_until {
            // it expired while the cashier was asked, and the store may have forgotten it
            return Err(Refusal::TokenExpired { valid_until: sold_until, now });
        }
        let spend = Spend { token, limit, now, forget_at: sold_until };
        match self.in_time(self.spent.take(spend)).await.map_err(Refusal::StoreUnavailable)? {
            true => Ok(()),
            false => Err(Refusal::TokenUsedUp { limit: limit.get() }),
        }
    }

    /// The answer of a helper, or what is wrong with it as text.
    async fn in_time<T, E: Display>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, String> {
        match tokio::time::timeout(self.settings.cashier_timeout, answer).await {
            Ok(answer) => answer.map_err(|e| e.to_string()),
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> String {
        format!("no answer within {:?}", self.settings.cashier_timeout)
    }
}
