//! What a treasury refuses, and why.

use thiserror::Error;
use watershed_protocol::{Msat, PaymentHash, Subject};

use crate::escrow::{HoldError, LotError, TermsError};
use crate::ledger::{Account, EntryError, Name};
use crate::store::StoreError;
use crate::wallet::{InvoiceError, NodeId, WalletError};

/// Why a treasury refused.
#[derive(Debug, Error)]
pub enum TreasuryError {
    /// The wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// An invoice.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// The payer's side of a lot.
    #[error(transparent)]
    Lot(#[from] LotError),
    /// The payee's side of a lot, or a pledge.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// Terms.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Money that is not on the chain.
    #[error(
        "nothing on chain can be sent: {kept} sat there are kept for the closing of channels, and {lightning} are in channels. \
         `wallet send INVOICE` pays these out at once, `wallet close PEER` brings them on chain"
    )]
    NothingOnChain {
        /// Kept for the closing of channels, in sat.
        kept: u64,
        /// In channels.
        lightning: Msat,
    },
    /// Other terms under the same subject.
    #[error("there is an escrow {0} with other terms")]
    OtherTerms(Subject),
    /// No such escrow.
    #[error("there is no escrow {0}")]
    NoEscrow(Subject),
    /// No such payment.
    #[error("there is no payment {0} here")]
    NoPayment(PaymentHash),
    /// The hash is used for something else.
    #[error("the payment hash {0} was used before; every lot needs a new secret")]
    HashUsed(PaymentHash),
    /// Not as many invoices as lots.
    #[error("{invoices} invoices do not fit {lots} open lots of the escrow")]
    InvoiceCount {
        /// Given.
        invoices: usize,
        /// Needed.
        lots: usize,
    },
    /// The account does not have it.
    #[error("{account} has {available} to spend, {needed} are needed")]
    Budget {
        /// Which.
        account: Account,
        /// To spend.
        available: Msat,
        /// Asked.
        needed: Msat,
    },
    /// The channels with the payee have no room.
    #[error(
        "{needed} lots need as many free HTLC slots on channels with {payee}, {free} are free: open another channel \
         with it"
    )]
    Slots {
        /// To whom.
        payee: NodeId,
        /// Asked.
        needed: usize,
        /// Free.
        free: usize,
    },
    /// The channels with the payee have not enough.
    #[error(
        "the channels with {payee} can send {spendable}, {needed} are needed: open another channel with it"
    )]
    Spendable {
        /// To whom.
        payee: NodeId,
        /// Asked.
        needed: Msat,
        /// There.
        spendable: Msat,
    },
    /// A lot that no single channel carries.
    #[error(
        "a lot of {lot} is on one channel, and the largest that a channel with {payee} takes now is {largest}"
    )]
    Largest {
        /// To whom.
        payee: NodeId,
        /// Asked.
        lot: Msat,
        /// Possible.
        largest: Msat,
    },
    /// Too much in small lots.
    #[error(
        "lots of less than {below} sum to {sum}, {free} are possible: a forced close would lose them to fees. Use fewer \
         tiers or a larger reward"
    )]
    Dust {
        /// What counts as small.
        below: Msat,
        /// Asked.
        sum: Msat,
        /// Possible.
        free: Msat,
    },
    /// A channel larger than the policy allows.
    #[error("a channel of {needed} sat is needed, the policy allows {most}")]
    Policy {
        /// In sat.
        needed: u64,
        /// In sat.
        most: u64,
    },
    /// The peer does not let a channel carry much at once.
    #[error(
        "{peer} takes only {takes} at a time in a channel of {sats} sat; let it name this node as its `payer`, then its \
         channels carry their whole value"
    )]
    InFlight {
        /// Who.
        peer: NodeId,
        /// The channel's size.
        sats: u64,
        /// At a time.
        takes: Msat,
    },
    /// Money of the peer's is still at stake.
    #[error("{open} lots with {peer} are still open; settle or fail them first")]
    LotsOpen {
        /// With whom.
        peer: NodeId,
        /// How many.
        open: usize,
    },
    /// No such campaign.
    #[error("there is no campaign {0}")]
    NoCampaign(Name),
    /// It is there, with another goal.
    #[error("there is a campaign {0} with other terms")]
    OtherCampaign(Name),
    /// It takes no more pledges.
    #[error("the campaign {name} takes no pledges any more: it is {state}")]
    CampaignOver {
        /// Which.
        name: Name,
        /// In a word.
        state: &'static str,
    },
    /// Too many pledges are not paid yet.
    #[error(
        "{most} pledges are waiting to be paid, which is the limit; try again when some were paid or have expired"
    )]
    TooManyPledges {
        /// The limit.
        most: usize,
    },
    /// Too many invoices in a short time.
    #[error("too many invoices were asked for; ask again in {seconds} s")]
    Busy {
        /// To wait.
        seconds: u32,
    },
    /// A wrong kind of account.
    #[error("{0} is not an account that can be credited or charged by hand; claims are")]
    NotAClaim(Account),
    /// Something did not happen in time.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
}

impl TreasuryError {
    /// Whether trying again later may succeed: nothing is wrong with what was asked.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Wallet(_) | Self::Store(_))
    }
}
