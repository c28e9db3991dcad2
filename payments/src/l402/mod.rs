//! HTTP 402 with Lightning (L402): a tower layer that sells access to routes, one BOLT 11 invoice at a time.
//!
//! Responsible for: which routes cost what ([`PriceTable`]), the macaroon that is sold, the challenge that offers it, and
//! every check of what a client presents ([`L402Layer`]). It never holds money, keys of a node or a socket: invoices come
//! from a [`Cashier`], uses are counted by a [`Spent`] store, and the time is passed in. Nothing is stored per token: each
//! token's key is derived from one [`RootSecret`].
//!
//! Sources: the L402 protocol and macaroon specifications (github.com/lightninglabs/L402, also bLIP 26), BOLT 11,
//! RFC 9110 section 11.
//!
//! # What is sold
//!
//! A macaroon (version 2, binary, in padded standard base64 as in the L402 specification) whose identifier is
//! `version 0 (2 bytes) | payment hash (32) | token id (32)`, with the caveats `services=NAME:TIER`,
//! `NAME_capabilities=CAPABILITY` and `NAME_valid_until=UNIX SECONDS`. Whoever holds it may add caveats. Those that
//! concern this service must be understood and may only narrow; those of other services are skipped, as the
//! specification asks. What `NAME_` starts, and for a constraint what a capability and `_` start, concerns this service.
//!
//! # What is answered
//!
//! A challenge is given exactly where paying again is the remedy, and never twice for one payment: some clients pay
//! every 402 that they see, without end, and some pay whatever carries a challenge, whatever its status. So a refusal that
//! payment cannot cure is 400 or 403 without `WWW-Authenticate` (401 would have to carry one, RFC 9110 section 15.5.2).
//! This departs from the L402 specification, which answers 402 to every invalid credential.
//!
//! The checks are made in this order, and the codes never change their meaning:
//!
//! | code | status | when |
//! |---|---|---|
//! | `l402_payment_required` | 402 + challenge | no credential of the scheme `L402` or `LSAT` |
//! | `l402_header_too_long` | 400 | over [`Settings::max_header_bytes`], seen before anything is decoded |
//! | `l402_header_malformed` | 400 | not one `MACAROON:PREIMAGE` |
//! | `l402_macaroon_undecodable` | 400 | no macaroon in the form that was sold, or one with third-party caveats |
//! | `l402_signature_forged` | 403 | not signed by this server |
//! | `l402_token_foreign` | 403 | of another location or for another service |
//! | `l402_caveat_refused` | 403 | a caveat of this service that is not understood, or that widens an earlier one |
//! | `l402_token_expired` | 402 + challenge | past its `valid_until` |
//! | `l402_capability_missing` | 402 + challenge | bought for other routes, which clients' caches do not tell apart |
//! | `l402_preimage_wrong` | 403 | the preimage is not that of the invoice |
//! | `l402_invoice_unsettled` | 403 | the cashier has not been paid |
//! | `l402_token_used_up` | 402 + challenge | every use that the payment bought is taken |
//! | `l402_cashier_busy` | 503 + `Retry-After` | the cashier was asked for too many invoices |
//! | `l402_cashier_unavailable` | 503 | the cashier failed, took too long, or gave no usable invoice |
//! | `l402_store_unavailable` | 503 | the count of uses could not be kept |
//!
//! The body is `{"error": {"code", "message"}}`, with `"price"` beside it when there is a challenge.
//!
//! # What the caller sees to
//!
//! - How many invoices all peers together may ask for in a time: each unpaid 402 asks the cashier for one
//!   ([`Till`](crate::treasury::Till) bounds it; which peer asks is not looked at).
//! - TLS: who reads a credential can spend it.
//! - A use is taken when the request is let through, not when it succeeds: a handler that may fail should be sold with
//!   more than one use, or without a limit.
//! - Prices of whole satoshis: some clients refuse to pay an invoice of less than one.
//!
//! # Example
//!
//! ```
//! use axum::{Router, routing::get};
//! use watershed_payments::l402::{
//!     Cashier, L402Layer, MemorySpent, Price, PriceTable, RootSecret, Settings, Uses,
//! };
//! use watershed_protocol::Msat;
//!
//! fn app(cashier: impl Cashier, secret: RootSecret, now: fn() -> u64) -> Result<Router, Box<dyn std::error::Error>> {
//!     let prices = PriceTable::new(vec![Price {
//!         method: None,
//!         path: "/generate".into(),
//!         amount: Msat::new(21_000),
//!         service: "watershed".into(),
//!         tier: 0,
//!         capability: "generate".into(),
//!         uses: Uses::ONCE,
//!         valid_s: 3600,
//!         description: "One text".into(),
//!     }])?;
//!     let settings = Settings::new("https://watershed.example")?;
//!     let layer = L402Layer::new(prices, settings, secret, cashier, MemorySpent::new(10_000), now);
//!     Ok(Router::new()
//!         .route("/", get(async || "free"))
//!         .route("/generate", get(async || "bought"))
//!         .layer(layer))
//! }
//! ```

mod cashier;
mod caveat;
mod challenge;
mod credential;
mod desk;
mod gate;
mod layer;
mod pattern;
mod price;
mod refusal;
mod secret;
mod settings;
mod spent;
mod token;

pub use cashier::{Cashier, Issued};
pub use desk::Desk;
pub use gate::Paid;
pub use layer::{L402Layer, L402Service};
pub use price::{Price, PriceError, PriceTable, Uses};
pub use refusal::Refusal;
pub use secret::{RootSecret, TokenId};
pub use settings::{Settings, SettingsError};
pub use spent::{MemorySpent, MemorySpentFull, Spend, Spent};
