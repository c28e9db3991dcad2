//! Who makes invoices and knows which are paid: what L402 needs of a Lightning wallet, and no more.

use std::fmt::Display;
use std::future::Future;

use watershed_protocol::Msat;

/// An invoice for one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The invoice as BOLT 11 text.
    pub bolt11: String,
    /// Its payment hash.
    pub payment_hash: [u8; 32],
}

/// Makes invoices and tells which were paid.
///
/// Calls may run at the same time; a call that is slow delays only the request that needs it, and is given up after
/// [`Settings::cashier_timeout`](super::Settings::cashier_timeout). How many invoices are made in a time is for the cashier
/// to bound: anybody may ask for one.
pub trait Cashier: Clone + Send + Sync + 'static {
    /// Why it could not answer. The text is never shown to clients.
    type Error: Display + Send;

    /// A new invoice with a payment hash that was never used before.
    ///
    /// # Errors
    /// When no invoice can be made; the client is answered 503.
    fn invoice(
        &self,
        amount: Msat,
        description: String,
        expiry_s: u32,
    ) -> impl Future<Output = Result<Issued, Self::Error>> + Send;

    /// Whether the invoice with this payment hash was paid in full, and for good.
    ///
    /// # Errors
    /// When that is not known; the client is answered 503.
    fn is_paid(&self, payment_hash: [u8; 32]) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// After how many seconds it is worth asking for an invoice again, if that is all that is wrong.
    fn retry_after(_error: &Self::Error) -> Option<u32> {
        None
    }
}
