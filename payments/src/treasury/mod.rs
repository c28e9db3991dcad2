//! A wallet with books: carries out escrows, pledges, payments and channels over a [`Wallet`], writing every step into a
//! [`Store`] first.
//!
//! # Steps
//! A step is made by a pure function (`escrow`, `pledge`), committed together with its ledger entry, and only then
//! carried out. Two callers that step the same record at once are told apart by its version; the second reads again.
//!
//! # After a crash
//! [`Treasury::resume`] asks the node about every open record and asks it again for whatever the record calls for. The
//! node answers repeated requests as it answered the first, so nothing is done twice.

mod books;
mod channels;
mod claims;
mod error;
mod payee;
mod payer;
mod payments;
mod pledges;
mod remit;
mod till;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use watershed_protocol::PaymentHash;

use crate::escrow::{Hold, Lot};
use crate::store::{Change, Filter, Record, Store, StoreError, Versioned, get, list};
use crate::wallet::{Event, Wallet};

pub use books::{Books, ChannelRecord};
pub use channels::{Capacity, ChannelPolicy};
pub use claims::Claim;
pub use error::TreasuryError;
pub use payee::HoldStatus;
pub use payer::{LotStatus, Offer};
pub use payments::{Payout, PayoutState, Request, RequestState};
pub use pledges::{Campaign, CampaignState, CampaignStatus, PledgeStatus};
pub use remit::{RemitState, Remittance};
pub use till::Till;

/// Time since 1970, as the caller tells it.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Takes note of what a person should hear of: something refused, a channel gone, a step that is tried again.
pub type Notices = Arc<dyn Fn(String) + Send + Sync>;

/// How often the chain is looked at.
const TURN: Duration = Duration::from_secs(1);

/// How often the on-chain wallet is looked at when no block comes.
const BOOKING: Duration = Duration::from_secs(10);

/// How often peers that are away are tried; LDK Node by itself does so once a minute.
const RECONNECT: Duration = Duration::from_secs(2);

/// When the on-chain wallet was last looked at.
#[derive(Default)]
struct Looked {
    tip: u32,
    at: Duration,
}

/// How often a step is tried again when another step came between.
const ATTEMPTS: u32 = 8;

/// A wallet with books. Clones are the same treasury.
pub struct Treasury<W, S> {
    wallet: Arc<W>,
    store: Arc<S>,
    clock: Clock,
    notices: Notices,
    changes: Arc<watch::Sender<u64>>,
    // Between a payment's being written down and the node's taking it, the node's record is that of an earlier attempt.
    sending: Arc<Mutex<BTreeSet<PaymentHash>>>,
    // LDK Node builds every transaction from what its wallet has seen, and sees its own only at the next look at the
    // mempool: two in a row would spend the same coin. One at a time, and what the wallet must be down to before the next.
    spending: Arc<tokio::sync::Mutex<Option<u64>>>,
    // Held while a remittance is begun: two at once would each see the whole account.
    remitting: Arc<tokio::sync::Mutex<()>>,
}

impl<W, S> Clone for Treasury<W, S> {
    fn clone(&self) -> Self {
        Self {
            wallet: Arc::clone(&self.wallet),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            notices: Arc::clone(&self.notices),
            changes: Arc::clone(&self.changes),
            sending: Arc::clone(&self.sending),
            spending: Arc::clone(&self.spending),
            remitting: Arc::clone(&self.remitting),
        }
    }
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Joins a running wallet and its store. Call [`Treasury::resume`], then [`Treasury::run`].
    pub fn new(wallet: Arc<W>, store: Arc<S>, clock: Clock, notices: Notices) -> Self {
        let changes = Arc::new(watch::Sender::new(0));
        let (sending, spending, remitting) = (Arc::default(), Arc::default(), Arc::default());
        Self { wallet, store, clock, notices, changes, sending, spending, remitting }
    }

    /// The wallet.
    pub fn wallet(&self) -> &W {
        &self.wallet
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// A number that changes whenever something was written.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn now(&self) -> Duration {
        (self.clock)()
    }

    fn notice(&self, text: impl Into<String>) {
        (self.notices)(text.into());
    }

    fn sending(&self) -> MutexGuard<'_, BTreeSet<PaymentHash>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, change: &Change) -> Result<(), TreasuryError> {
        if !change.is_empty() {
            self.store.commit(change, self.now().as_secs())?;
            self.changes.send_modify(|n| *n = n.wrapping_add(1));
        }
        Ok(())
    }

    /// Steps one record: `step` sees it and says what is to be written. Repeats when another step came between.
    fn step<R: Record, T>(
        &self,
        id: &str,
        step: impl Fn(&Versioned<R>, &mut Change) -> Result<T, TreasuryError>,
    ) -> Result<Option<T>, TreasuryError> {
        let mut left = ATTEMPTS;
        loop {
            let Some(found) = get::<R>(self.store.as_ref(), id)? else { return Ok(None) };
            let mut change = Change::new();
            let value = step(&found, &mut change)?;
            match self.commit(&change) {
                Ok(()) => return Ok(Some(value)),
                Err(TreasuryError::Store(StoreError::Conflict { .. })) if left > 0 => left -= 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Asks the node about everything that was open when the last process ended.
    ///
    /// # Errors
    /// [`TreasuryError`].
    pub async fn resume(&self) -> Result<(), TreasuryError> {
        for lot in list::<Lot>(self.store.as_ref(), Filter::Open)? {
            self.resume_lot(&lot.record).await?;
        }
        for payout in list::<Payout>(self.store.as_ref(), Filter::Open)? {
            self.resume_payout(&payout.record).await?;
        }
        self.resume_offers().await?;
        for hold in list::<Hold>(self.store.as_ref(), Filter::Open)? {
            self.resume_hold(&hold.record).await?;
        }
        for campaign in list::<Campaign>(self.store.as_ref(), Filter::Open)? {
            self.advance_campaign(&campaign.record.name).await?;
        }
        Ok(())
    }

    /// Handles the wallet's events and watches the chain, until the future is dropped. Dropping it loses nothing: what
    /// was not acknowledged comes again.
    pub async fn run(&self) {
        let events = async {
            loop {
                let event = self.wallet.next_event().await;
                match self.handle(&event).await {
                    Ok(()) => {}
                    // The store or the node is in trouble: not acknowledged, so it comes again.
                    Err(e) if e.is_passing() => {
                        self.notice(format!("an event of the node is tried again in a second: {e}"));
                        tokio::time::sleep(TURN).await;
                        continue;
                    }
                    Err(e) => self.notice(format!("an event of the node was refused: {e}")),
                }
                if let Err(e) = self.wallet.event_handled().await {
                    self.notice(e.to_string());
                    tokio::time::sleep(TURN).await;
                }
            }
        };
        let chain = async {
            let mut looked = Looked::default();
            loop {
                if let Err(e) = self.turn(&mut looked).await {
                    self.notice(format!("looking at the chain failed and is tried again: {e}"));
                }
                tokio::time::sleep(TURN).await;
            }
        };
        let peers = async {
            loop {
                if let Err(e) = self.wallet.reconnect().await {
                    self.notice(e.to_string());
                }
                tokio::time::sleep(RECONNECT).await;
            }
        };
        tokio::join!(events, chain, peers);
    }

    /// What one event leads to. Safe to repeat.
    async fn handle(&self, event: &Event) -> Result<(), TreasuryError> {
        match event {
            Event::Claimable { hash, amount, deadline } => self.on_claimable(*hash, *amount, *deadline).await,
            Event::Received { hash, amount } => self.on_received(*hash, *amount).await,
            // The event is a hint: it may be an old one of an earlier attempt. The node's record says what is so.
            Event::Sent { hash, .. } | Event::Failed { hash, .. } => {
                self.observe_lot(*hash).await?;
                self.observe_payout(*hash).await?;
                self.observe_offers().await?;
                match event {
                    Event::Sent { hash, preimage, fee } => self.adopt_sent(*hash, *preimage, *fee),
                    _ => Ok(()),
                }
            }
            Event::ChannelClosed { channel, reason, cooperative, .. } => {
                if !cooperative {
                    self.notice(format!("the channel {channel} was closed by force: {reason}"));
                }
                self.changes.send_modify(|n| *n = n.wrapping_add(1));
                self.on_channel_closed(channel, reason, *cooperative)
            }
            Event::ChannelPending { .. } | Event::ChannelReady { .. } => {
                self.note_channels().await?;
                self.changes.send_modify(|n| *n = n.wrapping_add(1));
                Ok(())
            }
            Event::Other(_) => Ok(()),
        }
    }

    /// What the height of the chain and the time lead to. Safe to repeat.
    async fn turn(&self, looked: &mut Looked) -> Result<(), TreasuryError> {
        let (tip, now) = (self.wallet.tip().await?, self.now());
        for hold in list::<Hold>(self.store.as_ref(), Filter::Open)? {
            self.on_tip(&hold.record, tip).await?;
        }
        for campaign in list::<Campaign>(self.store.as_ref(), Filter::Open)? {
            self.advance_campaign(&campaign.record.name).await?;
        }
        // An offer that fails before there is an invoice has no event with a hash.
        self.observe_offers().await?;
        // The node lists all payments it ever made: not every second.
        if looked.tip != tip {
            for lot in list::<Lot>(self.store.as_ref(), Filter::Open)? {
                self.expire_lot(&lot.record, tip).await?;
            }
        }
        if looked.tip != tip || now.saturating_sub(looked.at) >= BOOKING {
            self.book_chain().await?;
            *looked = Looked { tip, at: now };
        }
        Ok(())
    }

    /// Waits until `done` says yes, looking whenever something changed and at least every second.
    ///
    /// # Errors
    /// [`TreasuryError::Timeout`]; those of `done`.
    pub async fn wait<T>(
        &self,
        what: &'static str,
        limit: Duration,
        mut done: impl AsyncFnMut() -> Result<Option<T>, TreasuryError>,
    ) -> Result<T, TreasuryError> {
        let mut changes = self.changes();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if let Some(value) = done().await? {
                    return Ok(value);
                }
                let _ = tokio::time::timeout(TURN, changes.changed()).await;
            }
        };
        tokio::time::timeout(limit, waiting)
            .await
            .map_err(|_| TreasuryError::Timeout { what, seconds: limit.as_secs() })?
    }
}
