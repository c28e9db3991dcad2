//! Making the node forget what has ended. It keeps every payment in memory, shows all of them whenever it is asked, and
//! reads all of them at each start; what we need of them is in our records.

use std::time::Duration;

use watershed_protocol::PaymentHash;

use super::{Payout, Request, RequestState, Treasury, TreasuryError};
use crate::escrow::{BackReason, Hold, HoldState, Lot, Purpose};
use crate::store::{Change, Filter, NodeMemory, Record, Store, StoreError, Versioned, list};
use crate::wallet::Wallet;

/// Blocks for which the node remembers a payment that has ended: a day in which it can be compared with our record.
pub const REMEMBERED: u32 = 144;

/// Blocks for which an invoice is remembered that nobody paid in time.
const UNPAID: u32 = 6;

/// An invoice may be on its way to be paid in the moment in which it expires.
const GRACE: Duration = Duration::from_secs(120);

/// A record of a payment that the node has too.
pub(super) trait Remembered: Record + Clone {
    fn hash(&self) -> PaymentHash;
    fn memory(&mut self) -> &mut NodeMemory;

    /// Whether nothing happens to it any more at this time since 1970.
    fn has_ended(&self, _now: Duration) -> bool {
        !self.is_open()
    }

    /// Whether nobody ever paid, so that nothing has to be known of it.
    fn is_unpaid(&self) -> bool {
        false
    }
}

impl Remembered for Lot {
    fn hash(&self) -> PaymentHash {
        self.hash
    }
    fn memory(&mut self) -> &mut NodeMemory {
        &mut self.memory
    }
}

impl Remembered for Payout {
    fn hash(&self) -> PaymentHash {
        self.hash
    }
    fn memory(&mut self) -> &mut NodeMemory {
        &mut self.memory
    }
}

impl Remembered for Hold {
    fn hash(&self) -> PaymentHash {
        self.hash
    }
    fn memory(&mut self) -> &mut NodeMemory {
        &mut self.memory
    }
    // The hash of a lot was chosen by others and must not be taken a second time; that of a pledge was random.
    fn is_unpaid(&self) -> bool {
        matches!(self.purpose, Purpose::Pledge { .. })
            && matches!(self.state, HoldState::GivenBack { reason: BackReason::Expired, until: None })
    }
}

impl Remembered for Request {
    fn hash(&self) -> PaymentHash {
        self.hash
    }
    fn memory(&mut self) -> &mut NodeMemory {
        &mut self.memory
    }
    fn has_ended(&self, now: Duration) -> bool {
        !self.is_unpaid() || now > self.invoice.expires_at() + GRACE
    }
    fn is_unpaid(&self) -> bool {
        self.state == RequestState::Open
    }
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Makes the node forget what ended long enough ago. Safe to repeat.
    pub(super) async fn forget_ended(&self, tip: u32) -> Result<(), TreasuryError> {
        self.forget_of::<Lot>(tip).await?;
        self.forget_of::<Payout>(tip).await?;
        self.forget_of::<Hold>(tip).await?;
        self.forget_of::<Request>(tip).await
    }

    async fn forget_of<R: Remembered + Send>(&self, tip: u32) -> Result<(), TreasuryError> {
        // A lot that came back may be locked again.
        let _alone = self.payments.write().await;
        let now = self.now();
        let (mut change, mut due) = (Change::new(), Vec::new());
        for Versioned { mut record, version } in list::<R>(self.store.as_ref(), Filter::Kept)? {
            let blocks = if record.is_unpaid() { UNPAID } else { REMEMBERED };
            if !record.has_ended(now) {
                continue;
            } else if record.memory().is_needed() {
                *record.memory() = NodeMemory::Ended(tip);
                change.put(&record, version)?;
            } else if record.memory().is_due(tip, blocks) {
                due.push((record, version));
            }
        }
        if !due.is_empty() {
            let hashes = due.iter().map(|(record, _)| record.hash()).collect();
            // First the node, then our record: what the node still has must be one that we look at again.
            let gone = self.wallet.forget(hashes).await?;
            for (mut record, version) in due {
                if !gone.contains(&record.hash()) {
                    continue;
                }
                if record.is_unpaid() {
                    change.delete(&record, version);
                } else {
                    *record.memory() = NodeMemory::Forgotten;
                    change.put(&record, version)?;
                }
            }
        }
        match self.commit(&change) {
            // Something happened to one of them after all: at the next block.
            Err(TreasuryError::Store(StoreError::Conflict { .. })) => Ok(()),
            other => other,
        }
    }
}
