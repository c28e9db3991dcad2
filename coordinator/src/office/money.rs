//! What a coordinator needs of money. Every call may be repeated.

use std::future::Future;

use thiserror::Error;
use watershed_payments::treasury::TreasuryError;
use watershed_payments::wallet::DestinationError;
use watershed_protocol::market::RunSpec;
use watershed_protocol::market::view::{PledgeMade, PledgeView};
use watershed_protocol::{AssignmentId, Msat, PaymentHash, PublicKey, RunId};

use crate::blobs::BlobError;
use crate::machine::Work;
use crate::market::MarketError;

/// Why an effect did not succeed.
#[derive(Debug, Error)]
pub enum MoneyError {
    /// The wallet and its books.
    #[error(transparent)]
    Treasury(#[from] TreasuryError),
    /// The blobs.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The runs.
    #[error(transparent)]
    Market(#[from] MarketError),
    /// Where a sponsor wants to be paid.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A token that is nobody's.
    #[error("this claim token is not that of a pledge for this run")]
    NoClaim,
    /// Nothing to be paid.
    #[error("nothing is left of this pledge, or all of it is paid or being paid")]
    NothingLeft,
    /// It could not be paid.
    #[error("it could not be paid: {0}. Nothing was sent; the claim stays good")]
    NotPaid(String),
    /// It is not over yet.
    #[error("the payment is under way; ask for the pledge's state to see how it ends")]
    UnderWay,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// A payment to a sponsor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refunded {
    /// Of which pledge.
    pub pledge: PaymentHash,
    /// The payment.
    pub payment: PaymentHash,
    /// How much.
    pub amount: Msat,
}

/// The answer to a miner that has not paid to join: most often 402 with an invoice.
pub type Unpaid = Box<axum::response::Response>;

/// How a campaign ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Campaign {
    /// All pledges are taken.
    Funded(Vec<(PaymentHash, Msat)>),
    /// All went back.
    Over(String),
}

/// What a wallet has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funds {
    /// Channels, usable or not.
    pub channels: usize,
    /// Channels that can be used now.
    pub usable: usize,
    /// What they can send.
    pub spendable: Msat,
    /// On chain, in sat, as much as can be spent.
    pub on_chain_sats: u64,
    /// Why the wallet does not see the chain, if it does not.
    pub chain_trouble: Option<String>,
}

/// What is done with money.
pub trait Money: Send + Sync + 'static {
    /// Collects pledges and waits for the end of it.
    fn campaign(
        &self,
        run: RunId,
        spec: &RunSpec,
    ) -> impl Future<Output = Result<Campaign, MoneyError>> + Send;

    /// Gives pledges back.
    fn cancel_campaign(
        &self,
        run: RunId,
        reason: &str,
    ) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// Asks for a pledge. What is left of it goes to `refund_to`, if that is given.
    fn pledge(
        &self,
        run: RunId,
        sponsor: &str,
        amount: Msat,
        refund_to: Option<&str>,
    ) -> impl Future<Output = Result<PledgeMade, MoneyError>> + Send;

    /// How a pledge stands.
    fn pledge_state(&self, run: RunId, hash: &str) -> Result<PledgeView, MoneyError>;

    /// Sums pledged so far, and what is needed.
    fn raised(&self, run: RunId) -> Result<(Msat, Msat), MoneyError>;

    /// Sees that a node can hold a reward in so many lots.
    fn channel(
        &self,
        node: &str,
        reward: Msat,
        lots: usize,
    ) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// Closes all channels with a node, if there are any; an error while lots are open in them.
    fn part(&self, node: &str) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// What the wallet has; an error if it does not answer.
    fn funds(&self) -> impl Future<Output = Result<Funds, MoneyError>> + Send;

    /// Makes an escrow.
    fn offer(
        &self,
        run: RunId,
        spec: &RunSpec,
        assignment: AssignmentId,
        work: &Work,
        node: &str,
    ) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// Pays its lots.
    fn lock(
        &self,
        assignment: AssignmentId,
        invoices: &[String],
    ) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// Compares the payee's word with our node.
    fn confirm(
        &self,
        assignment: AssignmentId,
        reports: &[(PaymentHash, u32)],
    ) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// Takes back what was not paid.
    fn withdraw(&self, assignment: AssignmentId) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// Waits until no lot is open; what was paid and what came back. Lots that nobody asked to pay are withdrawn when
    /// `tried` says that nobody will.
    fn ended(
        &self,
        assignment: AssignmentId,
        tried: &(dyn Fn() -> bool + Send + Sync),
    ) -> impl Future<Output = Result<(Msat, Msat), MoneyError>> + Send;

    /// Credits a validator.
    fn fee(
        &self,
        run: RunId,
        spec: &RunSpec,
        assignment: AssignmentId,
        validator: PublicKey,
    ) -> impl Future<Output = Result<(), MoneyError>> + Send;

    /// Credits miners what they are due, and divides what is left then among the sponsors' accounts.
    fn finish(
        &self,
        run: RunId,
        spec: &RunSpec,
        pledged: Msat,
        due: &[(PublicKey, Msat)],
    ) -> impl Future<Output = Result<Msat, MoneyError>> + Send;

    /// Pays a sponsor's part of what is left to an invoice, an offer or an address: whoever knows the token made the pledge.
    fn refund(
        &self,
        run: RunId,
        claim: &str,
        to: &str,
    ) -> impl Future<Output = Result<Refunded, MoneyError>> + Send;

    /// Pays sponsors where they wanted to be paid. Whether nothing more can be done.
    fn pay_refunds(&self, run: RunId) -> impl Future<Output = Result<bool, MoneyError>> + Send;

    /// All payments to sponsors of a run so far.
    fn refunds(&self, run: RunId) -> Result<Vec<Refunded>, MoneyError>;

    /// The payment with which a miner paid the joining fee, by what the headers show or the books say; or the answer that
    /// asks for it.
    fn joining_fee(
        &self,
        run: RunId,
        spec: &RunSpec,
        miner: PublicKey,
        headers: &axum::http::HeaderMap,
    ) -> impl Future<Output = Result<Result<PaymentHash, Unpaid>, MoneyError>> + Send;

    /// Books a miner's joining fee to the run's budget.
    fn book_joining_fee(&self, run: RunId, spec: &RunSpec, miner: PublicKey) -> Result<(), MoneyError>;

    /// Pays a validator or a miner what it was credited.
    fn pay_out(&self, key: PublicKey, invoice: &str)
    -> impl Future<Output = Result<Msat, MoneyError>> + Send;
}
