//! What L402 needs of a treasury: invoices that are booked when paid, and counts of uses that outlive the process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, PaymentHash};

use super::{Request, RequestState, Treasury, TreasuryError};
use crate::l402::{Cashier, Issued, Spend, Spent};
use crate::ledger::Account;
use crate::store::{Change, Filter, Record, Store, StoreError, list};
use crate::wallet::Wallet;

/// Most invoices that are made at once, and how many a second are made after that. Anybody may ask for one, and each is
/// kept for an hour here and at the node.
const BURST: f64 = 60.0;
const EACH_SECOND: f64 = 1.0;

/// A bucket that fills with time; each invoice takes one token.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// Takes a token at this time since 1970, or says after how many seconds there is one.
    fn take(&mut self, now: Duration) -> Result<(), u32> {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * EACH_SECOND).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            // below 1 / EACH_SECOND
            return Err(((1.0 - self.tokens) / EACH_SECOND).ceil() as u32);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// A treasury that sells access; what comes in is credited to one account.
pub struct Till<W, S> {
    treasury: Treasury<W, S>,
    credit: Account,
    bucket: Arc<Mutex<Bucket>>,
    // The day until which counts of uses that nobody needs are deleted.
    tidy: Arc<Mutex<u64>>,
}

impl<W, S> Clone for Till<W, S> {
    fn clone(&self) -> Self {
        Self {
            treasury: self.treasury.clone(),
            credit: self.credit.clone(),
            bucket: Arc::clone(&self.bucket),
            tidy: Arc::clone(&self.tidy),
        }
    }
}

impl<W: Wallet, S: Store> Till<W, S> {
    /// Sells on account of `credit`.
    pub fn new(treasury: Treasury<W, S>, credit: Account) -> Self {
        let bucket = Arc::new(Mutex::new(Bucket { tokens: BURST, at: Duration::ZERO }));
        Self { treasury, credit, bucket, tidy: Arc::default() }
    }
}

impl<W: Wallet, S: Store> Cashier for Till<W, S> {
    type Error = TreasuryError;

    async fn invoice(
        &self,
        amount: Msat,
        description: String,
        expiry_s: u32,
    ) -> Result<Issued, TreasuryError> {
        let now = self.treasury.now();
        let taken = self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        taken.map_err(|seconds| TreasuryError::Busy { seconds })?;
        let expiry = Duration::from_secs(u64::from(expiry_s));
        let made: Request = self.treasury.request(amount, description, expiry, self.credit.clone()).await?;
        Ok(Issued { bolt11: made.invoice.to_string(), payment_hash: made.hash.to_bytes() })
    }

    async fn is_paid(&self, payment_hash: [u8; 32]) -> Result<bool, TreasuryError> {
        match self.treasury.requested(PaymentHash::from_bytes(payment_hash)) {
            Ok(found) => Ok(matches!(found.state, RequestState::Paid { .. })),
            Err(TreasuryError::NoPayment(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn retry_after(error: &TreasuryError) -> Option<u32> {
        match error {
            TreasuryError::Busy { seconds } => Some(*seconds),
            _ => None,
        }
    }
}

/// How often a token was used.
#[derive(Debug, Serialize, Deserialize)]
struct Uses {
    token: String,
    used: u32,
    forget_at: u64,
}

impl Record for Uses {
    const KIND: &'static str = "l402-uses";
    fn id(&self) -> String {
        self.token.clone()
    }
    fn group(&self) -> String {
        // By day, so that those that can be forgotten are found together.
        day(self.forget_at)
    }
    fn is_open(&self) -> bool {
        false
    }
}

fn day(seconds: u64) -> String {
    (seconds / 86_400).to_string()
}

impl<W: Wallet, S: Store> Till<W, S> {
    /// Deletes the counts of tokens that expired on the days before `now`, once a day.
    fn tidy(&self, now: u64) -> Result<(), TreasuryError> {
        let today = now / 86_400;
        {
            let mut done = self.tidy.lock().unwrap_or_else(PoisonError::into_inner);
            if *done >= today {
                return Ok(());
            }
            *done = today;
        }
        // Of the days on which this did not run, as far back as the longest token that is sold.
        for before in 1..=31 {
            let mut change = Change::new();
            let group = day(now.saturating_sub(before * 86_400));
            for old in list::<Uses>(self.treasury.store.as_ref(), Filter::Group(&group))? {
                change.delete(&old.record, old.version);
            }
            self.treasury.commit(&change)?;
        }
        Ok(())
    }
}

impl<W: Wallet, S: Store> Spent for Till<W, S> {
    type Error = TreasuryError;

    async fn take(&self, spend: Spend) -> Result<bool, TreasuryError> {
        self.tidy(spend.now)?;
        let token = hex::encode(spend.token.to_bytes());
        loop {
            let taken = self.treasury.step::<Uses, _>(&token, |found, change| {
                let used = found.record.used;
                if used >= spend.limit.get() {
                    return Ok(false);
                }
                let uses = Uses { token: token.clone(), used: used + 1, forget_at: found.record.forget_at };
                change.put(&uses, found.version)?;
                Ok(true)
            })?;
            if let Some(taken) = taken {
                return Ok(taken);
            }
            let mut change = Change::new();
            change.put(&Uses { token: token.clone(), used: 1, forget_at: spend.forget_at }, 0)?;
            match self.treasury.commit(&change) {
                Ok(()) => return Ok(true),
                // Somebody else took the first use.
                Err(TreasuryError::Store(StoreError::Conflict { .. })) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_what_time_brings() {
        let mut bucket = Bucket { tokens: BURST, at: Duration::ZERO };
        let start = Duration::from_secs(1_800_000_000);
        assert_eq!((0..100).filter(|_| bucket.take(start).is_ok()).count(), 60);
        assert_eq!(bucket.take(start), Err(1));
        assert_eq!(bucket.take(start + Duration::from_millis(900)), Err(1));
        assert_eq!(bucket.take(start + Duration::from_secs(2)), Ok(()));
        assert_eq!(bucket.take(start), Ok(()), "a clock that goes back takes nothing away");
        assert_eq!(bucket.take(start), Err(1));
        let later = start + Duration::from_secs(10_000);
        assert_eq!((0..100).filter(|_| bucket.take(later).is_ok()).count(), 60);
    }
}
