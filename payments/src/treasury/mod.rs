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
//!
//! # Unknown outcomes
//! A payment that was written down, and of which nobody knows whether the node took it, stays as it is and is asked for
//! again at every turn (`payer`, `payments`). It is booked back only when the node proves that nothing was sent, or at a
//! height at which nothing of it can be in flight.

mod archive;
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
mod withdrawals;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, watch};
use watershed_protocol::PaymentHash;

use crate::escrow::{Hold, Lot};
use crate::store::{Change, Filter, Record, Store, StoreError, Versioned, get, list};
use crate::wallet::{ChainTrouble, ChainWatch, ChannelPolicy, Event, Outgoing, Wallet};

pub use archive::REMEMBERED;
pub use books::{Books, ChannelRecord};
pub use channels::Capacity;
pub use claims::Claim;
pub use error::TreasuryError;
pub use payee::HoldStatus;
pub use payer::{LotStatus, Offer};
pub use payments::{Payout, PayoutState, Request, RequestState};
pub use pledges::{Campaign, CampaignState, CampaignStatus, PledgeStatus};
pub use remit::{RemitState, Remittance};
pub use till::Till;
pub use withdrawals::{Withdrawal, WithdrawalState};

/// Time since 1970, as the caller tells it.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Takes note of what a person should hear of: something refused, a channel gone, a step that is tried again.
pub type Notices = Arc<dyn Fn(String) + Send + Sync>;

/// How often the chain is looked at.
const TURN: Duration = Duration::from_secs(1);

/// How often open records and the on-chain wallet are looked at when no block comes.
const BOOKING: Duration = Duration::from_secs(10);

/// How often peers that are away are tried; LDK Node by itself does so once a minute.
const RECONNECT: Duration = Duration::from_secs(2);

/// When they were last looked at.
#[derive(Default)]
struct Looked {
    tip: u32,
    at: Duration,
}

/// How often a step is tried again when another step came between.
const ATTEMPTS: u32 = 8;

/// Payments that are between two steps.
#[derive(Default)]
struct Moving {
    // Between a payment's being written down and the node's taking it, the node's record is that of an earlier attempt.
    sending: BTreeSet<PaymentHash>,
    // Written down, and nobody knows whether the node took it: asked for again at every turn.
    unknown: BTreeSet<PaymentHash>,
}

/// A wallet with books. Clones are the same treasury.
pub struct Treasury<W, S> {
    wallet: Arc<W>,
    store: Arc<S>,
    clock: Clock,
    notices: Notices,
    changes: Arc<watch::Sender<u64>>,
    policy: ChannelPolicy,
    watch: Arc<Mutex<ChainWatch>>,
    moving: Arc<Mutex<Moving>>,
    // Payments are sent by many at once, and forgotten by one alone: the node must not forget what is being sent.
    payments: Arc<RwLock<()>>,
    // Transactions that are in the books: the node shows all that it ever made.
    booked: Arc<Mutex<HashSet<String>>>,
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
            policy: self.policy,
            watch: Arc::clone(&self.watch),
            moving: Arc::clone(&self.moving),
            payments: Arc::clone(&self.payments),
            booked: Arc::clone(&self.booked),
            spending: Arc::clone(&self.spending),
            remitting: Arc::clone(&self.remitting),
        }
    }
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Joins a running wallet and its store. Call [`Treasury::resume`], then [`Treasury::run`].
    pub fn new(wallet: Arc<W>, store: Arc<S>, clock: Clock, notices: Notices) -> Self {
        let changes = Arc::new(watch::Sender::new(0));
        Self {
            wallet,
            store,
            clock,
            notices,
            changes,
            policy: ChannelPolicy::default(),
            watch: Arc::default(),
            moving: Arc::default(),
            payments: Arc::default(),
            booked: Arc::default(),
            spending: Arc::default(),
            remitting: Arc::default(),
        }
    }

    /// The same with other sizes of channels that it opens.
    #[must_use]
    pub fn with_channels(self, policy: ChannelPolicy) -> Self {
        Self { policy, ..self }
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

    fn moving(&self) -> MutexGuard<'_, Moving> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_sending(&self, hash: PaymentHash) -> bool {
        self.moving().sending.contains(&hash)
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
        let watch = async {
            loop {
                if let Err(e) = self.watch_chain().await {
                    self.notice(e.to_string());
                }
                tokio::time::sleep(BOOKING).await;
            }
        };
        tokio::join!(events, chain, peers, watch);
    }

    /// Why the wallet does not see the chain, if it does not.
    pub fn chain_trouble(&self) -> Option<ChainTrouble> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).trouble()
    }

    /// Looks whether the wallet sees the chain, and says so when that changes.
    async fn watch_chain(&self) -> Result<(), TreasuryError> {
        let view = self.wallet.chain().await?;
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.look(view, self.now()) {
            match watch.trouble() {
                Some(trouble) => self.notice(trouble.with_advice()),
                None => self.notice(format!("the wallet follows the chain again, at block {}", view.tip)),
            }
        }
        Ok(())
    }

    /// What one event leads to. Safe to repeat.
    async fn handle(&self, event: &Event) -> Result<(), TreasuryError> {
        match event {
            Event::Claimable { hash, amount, deadline } => self.on_claimable(*hash, *amount, *deadline).await,
            Event::Received { hash, amount } => self.on_received(*hash, *amount).await,
            // A preimage is proof, even if the node has lost its record of the payment.
            Event::Sent { hash, preimage, fee } => {
                let paid = Some(Outgoing::Succeeded { preimage: *preimage, fee: *fee });
                self.observe_lot(*hash, paid).await?;
                self.observe_payout(*hash, paid).await?;
                self.observe_offers().await?;
                self.adopt_sent(*hash, *preimage, *fee)
            }
            // This is a hint: it may be an old one of an earlier attempt. The node's record says what is so.
            Event::Failed { hash, .. } => {
                self.observe_lot(*hash, Some(Outgoing::Failed)).await?;
                self.observe_payout(*hash, Some(Outgoing::Failed)).await?;
                self.observe_offers().await
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
        self.ask_again(tip).await?;
        let block = looked.tip != tip;
        if !block && now.saturating_sub(looked.at) < BOOKING {
            return Ok(());
        }
        for hold in list::<Hold>(self.store.as_ref(), Filter::Open)? {
            self.on_tip(&hold.record, tip).await?;
        }
        for campaign in list::<Campaign>(self.store.as_ref(), Filter::Open)? {
            self.advance_campaign(&campaign.record.name).await?;
        }
        // An offer that fails before there is an invoice has no event with a hash.
        self.observe_offers().await?;
        if block {
            for lot in list::<Lot>(self.store.as_ref(), Filter::Open)? {
                self.expire_lot(&lot.record, tip).await?;
            }
            for payout in list::<Payout>(self.store.as_ref(), Filter::Open)? {
                self.expire_payout(&payout.record, tip).await?;
            }
            self.forget_ended(tip).await?;
        }
        self.book_chain().await?;
        *looked = Looked { tip, at: now };
        Ok(())
    }

    /// Asks the node again for payments of which nobody knows whether it took them.
    async fn ask_again(&self, tip: u32) -> Result<(), TreasuryError> {
        let unknown: Vec<_> = self.moving().unknown.iter().copied().collect();
        for hash in unknown {
            if self.ask_lot_again(hash, tip).await? && self.ask_payout_again(hash, tip).await? {
                self.moving().unknown.remove(&hash);
            }
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
