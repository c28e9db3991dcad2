//! What can be asked of a wallet's process.

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, PaymentHash, Preimage, Subject};

use crate::escrow::Terms;
use crate::ledger::{Account, Name};
use crate::treasury::Offer;
use crate::wallet::{Invoice, NodeAddress, NodeId, Withdraw};

/// A request. Repeating one is safe, except `Address`, `Receive` and `Pledge`, which make something new each time, and
/// `WithdrawOnChain`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request", deny_unknown_fields)]
pub enum Request {
    /// Who the wallet is and how it stands.
    Show,
    /// Ask the chain source for news now.
    Sync,
    /// A chain address to deposit to.
    Address,
    /// What there is.
    Balance,
    /// The open channels, and with `all` the closed ones.
    Channels {
        /// Whether to list closed ones.
        all: bool,
    },
    /// Connect to a node.
    Connect {
        /// To whom.
        peer: NodeAddress,
    },
    /// Open a channel.
    Open {
        /// With whom.
        peer: NodeAddress,
        /// Its size, all ours.
        sats: u64,
        /// Whether the whole network is told of it.
        #[serde(default)]
        public: bool,
    },
    /// Open channels, or use those there are, so that `amount` can be held in `htlcs` lots.
    Ensure {
        /// With whom.
        peer: NodeAddress,
        /// How much.
        amount: Msat,
        /// In how many HTLCs.
        htlcs: usize,
    },
    /// Close all channels with a peer.
    Close {
        /// With whom.
        peer: NodeId,
        /// Without its agreement.
        force: bool,
    },
    /// Pay an invoice.
    Send {
        /// Which.
        invoice: Invoice,
        /// Most that forwarding nodes may take.
        max_fee: Msat,
        /// Whose money.
        from: Account,
    },
    /// How a payment stands.
    Sent {
        /// Which.
        hash: PaymentHash,
    },
    /// Make an invoice.
    Receive {
        /// How much.
        amount: Msat,
        /// What for.
        memo: String,
        /// Seconds that it can be paid.
        expiry: u32,
        /// Whose money it will be.
        to: Account,
    },
    /// How an invoice stands.
    Received {
        /// Which.
        hash: PaymentHash,
    },
    /// Send to the chain.
    WithdrawOnChain {
        /// To where.
        address: String,
        /// How much.
        what: Withdraw,
    },
    /// Payer: write an escrow down.
    Offer(Offer),
    /// Payer: lock it with the payee's invoices.
    Lock {
        /// Which.
        subject: Subject,
        /// From the payee.
        invoices: Vec<Invoice>,
    },
    /// Payer: take the payee's word that lots are locked.
    Confirm {
        /// Which.
        subject: Subject,
        /// Hash and deadline of each.
        lots: Vec<(PaymentHash, u32)>,
    },
    /// Payer: how its lots stand.
    Escrow {
        /// Which.
        subject: Subject,
    },
    /// Payer: withdraw the offer of lots that are not locked.
    WithdrawOffer {
        /// Which.
        subject: Subject,
    },
    /// Payee: make the invoices of an escrow.
    Accept(Terms),
    /// Payee: how its lots stand.
    Held {
        /// Which.
        subject: Subject,
    },
    /// Payee: claim the lots of these secrets.
    Settle {
        /// The secrets.
        preimages: Vec<Preimage>,
    },
    /// Payee: give lots back.
    GiveBack {
        /// Which.
        subject: Subject,
        /// Only these; all that are not settled, if there are none.
        hashes: Vec<PaymentHash>,
        /// Why.
        reason: String,
    },
    /// Payee: receipts for what was settled.
    Receipts {
        /// Which.
        subject: Subject,
    },
    /// Start a campaign.
    StartCampaign {
        /// Its name.
        name: Name,
        /// Its goal.
        goal: Msat,
        /// Blocks that a pledge waits.
        window: u32,
        /// Seconds since 1970 at which it ends.
        ends: Option<u64>,
    },
    /// How a campaign stands.
    Campaign {
        /// Which.
        name: Name,
    },
    /// A hold invoice for a pledge.
    Pledge {
        /// For which.
        name: Name,
        /// Whose.
        sponsor: Name,
        /// How much.
        amount: Msat,
    },
    /// End a campaign without success.
    CancelCampaign {
        /// Which.
        name: Name,
        /// Why.
        reason: String,
    },
    /// All accounts.
    Accounts,
    /// Entries of the ledger.
    Entries {
        /// Of one account only.
        account: Option<Account>,
        /// After this number.
        after: u64,
        /// At most so many.
        limit: u32,
    },
    /// Move a claim between accounts, once for each key.
    Transfer {
        /// Names it.
        key: String,
        /// From whom.
        from: Account,
        /// To whom.
        to: Account,
        /// How much.
        amount: Msat,
    },
    /// Compare the ledger with the node.
    Reconcile,
}

/// The answer: for programs and for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Ok {
        /// For programs.
        value: serde_json::Value,
        /// For people.
        lines: Vec<String>,
    },
    /// Refused.
    Error {
        /// Why, and what to do.
        message: String,
    },
}
