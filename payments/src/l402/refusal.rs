//! Why a request was not let through: the code and the status of each case, which are a contract with clients.

use axum::http::StatusCode;
use thiserror::Error;

/// Why a request was not let through. The layer leaves it in the extensions of its answer, where a layer around it may
/// read what clients are not told. It holds neither a macaroon nor a preimage.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nothing was presented.
    #[error(
        "this costs a payment: pay the invoice, then repeat the request with `Authorization: L402 MACAROON:PREIMAGE`"
    )]
    PaymentRequired,
    /// Not looked into.
    #[error(
        "the Authorization header takes {found} bytes and {max} are read; present the macaroon with fewer caveats"
    )]
    HeaderTooLong {
        /// In bytes.
        found: usize,
        /// The most, in bytes.
        max: usize,
    },
    /// No credential of L402.
    #[error("the Authorization header is not one `L402 MACAROON:PREIMAGE`: {0}")]
    HeaderMalformed(&'static str),
    /// No macaroon as they are sold here.
    #[error("the macaroon cannot be read: {0}; present it as it was sold, or narrowed in the same format")]
    MacaroonUndecodable(&'static str),
    /// Made or changed by someone else.
    #[error("the macaroon was not signed by this server, or was changed since")]
    SignatureForged,
    /// Of another place.
    #[error("the macaroon is for another {0} than this one")]
    TokenForeign(&'static str),
    /// A caveat of this service.
    #[error("caveat {number} of the macaroon is refused: {why}")]
    CaveatRefused {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// Its time is over.
    #[error("the macaroon was valid until {valid_until} and it is {now} (Unix seconds); pay for a new one")]
    TokenExpired {
        /// Unix seconds; not valid from then on.
        valid_until: u64,
        /// Unix seconds.
        now: u64,
    },
    /// Bought for something else.
    #[error("the macaroon does not have the capability {needed:?}; pay for one that has")]
    CapabilityMissing {
        /// What this route sells.
        needed: String,
    },
    /// Not of this invoice.
    #[error("the preimage is not that of the invoice of this macaroon")]
    PreimageWrong,
    /// Not paid, as far as is known.
    #[error(
        "the invoice of this macaroon is not settled; if it was paid, repeat the request, and do not pay again"
    )]
    InvoiceUnsettled,
    /// Nothing is left.
    #[error("all {limit} uses that the payment bought are taken; pay for more")]
    TokenUsedUp {
        /// How many.
        limit: u32,
    },
    /// Too many invoices were asked for.
    #[error("too many invoices are asked for; repeat the request in {seconds} s")]
    CashierBusy {
        /// To wait.
        seconds: u32,
    },
    /// Lightning is not to be had.
    #[error("the cashier: {0}")]
    CashierUnavailable(String),
    /// A use cannot be counted.
    #[error("the store of uses: {0}")]
    StoreUnavailable(String),
}

impl Refusal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PaymentRequired => "l402_payment_required",
            Self::HeaderTooLong { .. } => "l402_header_too_long",
            Self::HeaderMalformed(_) => "l402_header_malformed",
            Self::MacaroonUndecodable(_) => "l402_macaroon_undecodable",
            Self::SignatureForged => "l402_signature_forged",
            Self::TokenForeign(_) => "l402_token_foreign",
            Self::CaveatRefused { .. } => "l402_caveat_refused",
            Self::TokenExpired { .. } => "l402_token_expired",
            Self::CapabilityMissing { .. } => "l402_capability_missing",
            Self::PreimageWrong => "l402_preimage_wrong",
            Self::InvoiceUnsettled => "l402_invoice_unsettled",
            Self::TokenUsedUp { .. } => "l402_token_used_up",
            Self::CashierBusy { .. } => "l402_cashier_busy",
            Self::CashierUnavailable(_) => "l402_cashier_unavailable",
            Self::StoreUnavailable(_) => "l402_store_unavailable",
        }
    }

    /// The status of the answer. With 402, and with nothing else, goes a challenge.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::PaymentRequired
            | Self::TokenExpired { .. }
            | Self::CapabilityMissing { .. }
            | Self::TokenUsedUp { .. } => StatusCode::PAYMENT_REQUIRED,
            Self::HeaderTooLong { .. } | Self::HeaderMalformed(_) | Self::MacaroonUndecodable(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::SignatureForged
            | Self::TokenForeign(_)
            | Self::CaveatRefused { .. }
            | Self::PreimageWrong
            | Self::InvoiceUnsettled => StatusCode::FORBIDDEN,
            Self::CashierBusy { .. } | Self::CashierUnavailable(_) | Self::StoreUnavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What clients are told: of the server's own troubles, no details.
    pub fn message(&self) -> String {
        match self {
            Self::CashierUnavailable(_) => {
                "payments cannot be handled now; repeat the request later".to_owned()
            }
            Self::StoreUnavailable(_) => "uses cannot be counted now; repeat the request later".to_owned(),
            _ => self.to_string(),
        }
    }
}
