//! What the market needs of a Lightning wallet, whatever node is behind it.
//!
//! # Events
//! [`Wallet::next_event`] gives the oldest event that was not yet acknowledged; [`Wallet::event_handled`] acknowledges it.
//! Between the two the caller writes down what follows from it. So after a crash an event comes again, sometimes twice,
//! and every handler must be idempotent; an acknowledged event never comes again, so nothing may be acknowledged before
//! it is written down. Events are hints: the truth about a payment is [`Wallet::outgoing`] and [`Wallet::incoming`].

mod balance;
mod chain;
mod destination;
mod error;
mod invoice;
pub mod ldk;
mod lightning_address;
mod limits;
mod listen;
mod offer;
mod policy;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Envelope, Msat, PaymentHash, Preimage, Receipt};

pub use balance::{Balances, Channel, ClosedChannelFunds, Holdings};
pub use chain::{ChainTrouble, ChainView, ChainWatch};
pub use destination::{Destination, DestinationError};
pub use error::WalletError;
pub use invoice::{Expected, Invoice, InvoiceError};
pub use ldk_node::bitcoin::Network;
/// A Lightning node, by its compressed public key.
pub use ldk_node::bitcoin::secp256k1::PublicKey as NodeId;
pub use lightning_address::{AddressClient, AddressError, LightningAddress};
pub use limits::Limits;
pub use listen::{ListenTrouble, cannot_listen, check_address};
pub use offer::{Offer, OfferError};
pub use policy::ChannelPolicy;

/// A node and where it listens: `<66 hex digits>@host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeAddress {
    /// Who.
    pub id: NodeId,
    /// `host:port`.
    pub address: String,
}

impl std::str::FromStr for NodeAddress {
    type Err = WalletError;
    fn from_str(text: &str) -> Result<Self, WalletError> {
        let bad = || WalletError::Address(text.chars().take(120).collect());
        let (id, address) = text.split_once('@').ok_or_else(bad)?;
        let id = id.parse().map_err(|_| bad())?;
        address.parse::<ldk_node::lightning::ln::msgs::SocketAddress>().map_err(|_| bad())?;
        Ok(Self { id, address: address.to_owned() })
    }
}

impl TryFrom<String> for NodeAddress {
    type Error = WalletError;
    fn try_from(text: String) -> Result<Self, WalletError> {
        text.parse()
    }
}

impl From<NodeAddress> for String {
    fn from(node: NodeAddress) -> Self {
        node.to_string()
    }
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

/// What a hold invoice is to say.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    /// Whose preimage releases it.
    pub hash: PaymentHash,
    /// Its amount.
    pub amount: Msat,
    /// Shown by the payer's wallet.
    pub description: String,
    /// How long it may be paid.
    pub expiry: Duration,
    /// Blocks between the payer's tip and the HTLC's expiry (BOLT 11, field `c`).
    pub final_cltv: u16,
}

/// What a payment may cost and how long it may be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayLimits {
    /// Most that forwarding nodes may take.
    pub max_fee: Msat,
    /// Most blocks until the first HTLC of the route expires.
    pub max_cltv: u32,
}

/// How a payment of ours stands with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// On the way or held.
    Pending,
    /// The payee has claimed it.
    Succeeded {
        /// The proof.
        preimage: Preimage,
        /// Kept by forwarding nodes.
        fee: Msat,
    },
    /// It came back, or never left.
    Failed,
}

/// A payment to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferPayment {
    /// Of the payee's invoice; the node tells it when the payment has succeeded.
    pub hash: Option<PaymentHash>,
    /// How it stands.
    pub outcome: Outgoing,
}

/// How a payment to us stands with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Not yet paid, or held.
    Pending,
    /// Claimed; the preimage is on disk.
    Succeeded,
    /// Failed back by us.
    Failed,
}

/// A payment over Lightning that the node remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LightningPayment {
    /// Which.
    pub hash: PaymentHash,
    /// Whether we pay.
    pub outgoing: bool,
    /// Its amount, without fee.
    pub amount: Msat,
    /// Kept by forwarding nodes, for payments of ours that succeeded.
    pub fee: Msat,
    /// Whether the outcome is open.
    pub pending: bool,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// A payment on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPayment {
    /// Hex, as explorers show it.
    pub txid: String,
    /// Whether we pay.
    pub outgoing: bool,
    /// Its amount, without fee.
    pub amount: Msat,
    /// Paid by us.
    pub fee: Msat,
    /// Whether it is in a block.
    pub confirmed: bool,
}

/// Says of an on-chain transaction whether it is known already, so that the node need not show it.
pub type Known = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What happened at the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A hold invoice is paid: its HTLCs are ours to claim or to fail until the deadline.
    Claimable {
        /// Which.
        hash: PaymentHash,
        /// What a claim would bring.
        amount: Msat,
        /// Height from which the node fails it back by itself, silently; none if it does not say.
        deadline: Option<u32>,
    },
    /// A payment to us is claimed: the preimage is on disk, the amount is ours.
    Received {
        /// Which.
        hash: PaymentHash,
        /// What came.
        amount: Msat,
    },
    /// A payment of ours was claimed by the payee.
    Sent {
        /// Which.
        hash: PaymentHash,
        /// The proof.
        preimage: Preimage,
        /// Kept by forwarding nodes.
        fee: Msat,
    },
    /// A payment of ours came back.
    Failed {
        /// Which.
        hash: PaymentHash,
        /// In the node's words.
        reason: String,
    },
    /// A channel's funding transaction is out.
    ChannelPending {
        /// The node's name for it.
        channel: ChannelName,
        /// With whom.
        peer: NodeId,
        /// The funding transaction.
        funding_txid: String,
    },
    /// A channel can be used.
    ChannelReady {
        /// The node's name for it.
        channel: ChannelName,
        /// With whom.
        peer: Option<NodeId>,
    },
    /// A channel is gone.
    ChannelClosed {
        /// The node's name for it.
        channel: ChannelName,
        /// With whom.
        peer: Option<NodeId>,
        /// In the node's words.
        reason: String,
        /// Whether both sides agreed; otherwise it went to the chain by force.
        cooperative: bool,
    },
    /// Something that no part of the market acts on.
    Other(String),
}

/// The local name of a channel, constant from opening to closing.
pub type ChannelName = String;

/// A channel to be opened.
#[derive(Clone, Debug)]
pub struct OpenChannel {
    /// With whom.
    pub peer: NodeAddress,
    /// Its size, in sat, all ours.
    pub sats: u64,
    /// Whether the whole network is told of it, so that others can pay through it and both nodes are known.
    pub public: bool,
}

/// What to withdraw to a chain address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Withdraw {
    /// So many sat; the fee comes on top.
    Sats(u64),
    /// Everything but what open channels need in reserve.
    All,
}

/// A Lightning wallet. All calls are safe to repeat.
pub trait Wallet: Send + Sync + 'static {
    /// Who we are on the network.
    fn node_id(&self) -> NodeId;

    /// Which chain.
    fn network(&self) -> Network;

    /// What the node and the network allow.
    fn limits(&self) -> Limits;

    /// Signs with the key that also signs invoices.
    ///
    /// # Errors
    /// [`WalletError::Signing`].
    fn sign_receipt(&self, receipt: &Receipt) -> Result<Envelope, WalletError>;

    /// An invoice for a hash whose preimage somebody else holds. The payment is announced by [`Event::Claimable`] and
    /// waits for [`Wallet::claim`] or [`Wallet::fail`].
    fn hold_invoice(&self, request: HoldRequest)
    -> impl Future<Output = Result<Invoice, WalletError>> + Send;

    /// An ordinary invoice, claimed by the node itself.
    fn invoice(
        &self,
        amount: Msat,
        description: String,
        expiry: Duration,
    ) -> impl Future<Output = Result<Invoice, WalletError>> + Send;

    /// Starts to pay. [`WalletError::NotSent`] says that this call sent nothing (an earlier one may have), and
    /// [`WalletError::AlreadyPaying`] that an earlier one did; after any other error the outcome is unknown.
    fn pay(
        &self,
        invoice: &Invoice,
        limits: PayLimits,
    ) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// Asks the payee of an offer for an invoice and pays it. The payee sees the note, and the payment is found by it: it must
    /// be used once. [`WalletError::NotSent`] means that nothing was sent; after another error it may have been.
    fn pay_offer(
        &self,
        offer: &Offer,
        amount: Msat,
        note: String,
        limits: PayLimits,
    ) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// What the node knows of a payment to an offer with this note; none if it never heard of it.
    fn offer_payment(
        &self,
        note: String,
    ) -> impl Future<Output = Result<Option<OfferPayment>, WalletError>> + Send;

    /// Claims a held payment. Success says that the node has taken note, [`Event::Received`] that it is done; after the
    /// deadline the node says yes and does nothing.
    fn claim(
        &self,
        hash: PaymentHash,
        amount: Msat,
        preimage: Preimage,
    ) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// Gives a held payment back. There is no event.
    fn fail(&self, hash: PaymentHash) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// What the node knows of a payment of ours; none if it never heard of it.
    fn outgoing(
        &self,
        hash: PaymentHash,
    ) -> impl Future<Output = Result<Option<Outgoing>, WalletError>> + Send;

    /// Makes the node forget payments that cannot be in flight. Those it did forget, or did not know: all of which it has
    /// no HTLC.
    fn forget(
        &self,
        hashes: Vec<PaymentHash>,
    ) -> impl Future<Output = Result<Vec<PaymentHash>, WalletError>> + Send;

    /// What the node knows of a payment to us; none if it never heard of it.
    fn incoming(
        &self,
        hash: PaymentHash,
    ) -> impl Future<Output = Result<Option<Incoming>, WalletError>> + Send;

    /// Every payment over Lightning that the node remembers.
    fn lightning_payments(&self) -> impl Future<Output = Result<Vec<LightningPayment>, WalletError>> + Send;

    /// What payments of ours whose outcome is open sum to.
    fn in_flight(&self) -> impl Future<Output = Result<Msat, WalletError>> + Send;

    /// The payments on chain that are not `known`.
    fn chain_payments(
        &self,
        known: Known,
    ) -> impl Future<Output = Result<Vec<ChainPayment>, WalletError>> + Send;

    /// The height that the node has seen.
    fn tip(&self) -> impl Future<Output = Result<u32, WalletError>> + Send;

    /// The same beside what the chain source has, which is asked.
    fn chain(&self) -> impl Future<Output = Result<ChainView, WalletError>> + Send;

    /// What there is.
    fn balances(&self) -> impl Future<Output = Result<Balances, WalletError>> + Send;

    /// The open channels.
    fn channels(&self) -> impl Future<Output = Result<Vec<Channel>, WalletError>> + Send;

    /// Whether there is a connection to `peer`.
    fn is_connected(&self, peer: NodeId) -> impl Future<Output = Result<bool, WalletError>> + Send;

    /// Connects, and keeps connecting after restarts.
    fn connect(&self, peer: NodeAddress) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// Connects again to every node that was once connected to and is away now. A claim that does not reach the other side
    /// before its HTLC expires ends on the chain, so this is worth trying often.
    fn reconnect(&self) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// Starts to open a channel. [`Event::ChannelReady`] with the same name follows.
    fn open_channel(
        &self,
        open: OpenChannel,
    ) -> impl Future<Output = Result<ChannelName, WalletError>> + Send;

    /// Closes a channel, with the peer's agreement or by force.
    fn close_channel(
        &self,
        channel: &Channel,
        force: bool,
    ) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// An unused chain address.
    fn address(&self) -> impl Future<Output = Result<String, WalletError>> + Send;

    /// Sends to a chain address; the transaction's id.
    fn withdraw(
        &self,
        address: String,
        what: Withdraw,
    ) -> impl Future<Output = Result<String, WalletError>> + Send;

    /// Waits for the oldest event that is not acknowledged.
    fn next_event(&self) -> impl Future<Output = Event> + Send;

    /// Acknowledges the event that [`Wallet::next_event`] gave.
    fn event_handled(&self) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// Asks the chain source for news now instead of at the next turn. Does not wait for ever.
    fn sync(&self) -> impl Future<Output = Result<(), WalletError>> + Send;

    /// Ends all work and writes everything down. A wallet that is killed instead may lose its channels to a forced close.
    fn stop(&self) -> impl Future<Output = Result<(), WalletError>> + Send;
}
