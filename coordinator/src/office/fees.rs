//! Joining fees: sold with L402, one invoice for each miner and run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use sha2::{Digest as _, Sha256};
use watershed_payments::l402::{Cashier, Issued, MemorySpent, Price, Uses};
use watershed_payments::ledger::Account;
use watershed_payments::store::SqliteStore;
use watershed_payments::treasury::{Request, RequestState, Till, Treasury, TreasuryError};
use watershed_payments::wallet::ldk::LdkWallet;
use watershed_protocol::market::RunSpec;
use watershed_protocol::{Msat, PaymentHash, PublicKey, RunId};

use super::money::{MoneyError, Unpaid};
use super::treasury::{TreasuryMoney, budget, name, since_1970};

/// Most invoices for fees in an hour: whoever makes up keys asks for many and pays none.
const HOURLY: usize = 1_000;

/// An invoice is shown again while it can be paid for so long.
const FRESH: Duration = Duration::from_secs(600);

/// How long a token is good after its invoice could be paid.
const VALID: u32 = 30 * 86_400;

/// When invoices were made.
#[derive(Clone, Debug, Default)]
pub(super) struct Made(Arc<Mutex<VecDeque<Duration>>>);

impl Made {
    /// Counts one more, if it may be.
    fn count(&self, now: Duration) -> bool {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = Duration::from_secs(3600);
        while made.front().is_some_and(|at| now.saturating_sub(*at) > hour) {
            made.pop_front();
        }
        if made.len() >= HOURLY {
            return false;
        }
        made.push_back(now);
        true
    }
}

/// Makes the invoice of one miner for one run, once.
#[derive(Clone)]
struct FeeTill {
    till: Till<LdkWallet, SqliteStore>,
    treasury: Treasury<LdkWallet, SqliteStore>,
    credit: Account,
    made: Made,
}

#[derive(Debug, thiserror::Error)]
enum FeeError {
    #[error(transparent)]
    Treasury(#[from] TreasuryError),
    #[error("{HOURLY} invoices for joining fees were made within an hour, which is the limit")]
    TooMany,
}

impl Cashier for FeeTill {
    type Error = FeeError;

    async fn invoice(&self, amount: Msat, description: String, expiry_s: u32) -> Result<Issued, FeeError> {
        let now = since_1970();
        let fresh = |r: &Request| {
            r.memo == description
                && r.amount == amount
                && r.state == RequestState::Open
                && r.invoice.expires_at() > now + FRESH
        };
        if let Some(known) = self.treasury.requests(&self.credit)?.into_iter().find(fresh) {
            let payment_hash = known.hash.to_bytes();
            return Ok(Issued { bolt11: known.invoice.to_string(), payment_hash });
        }
        if !self.made.count(now) {
            return Err(FeeError::TooMany);
        }
        Ok(self.till.invoice(amount, description, expiry_s).await?)
    }

    async fn is_paid(&self, payment_hash: [u8; 32]) -> Result<bool, FeeError> {
        Ok(self.till.is_paid(payment_hash).await?)
    }
}

fn memo(run: RunId) -> String {
    format!("joining fee of the run {run}")
}

/// What a token is good for: this miner in this run.
fn capability(run: RunId, miner: PublicKey) -> String {
    let hash = Sha256::new().chain_update(b"watershed/join").chain_update(run.to_string());
    hex::encode(hash.chain_update(miner.to_string()).finalize())
}

impl TreasuryMoney {
    pub(super) async fn ask_joining_fee(
        &self,
        run: RunId,
        spec: &RunSpec,
        miner: PublicKey,
        headers: &HeaderMap,
    ) -> Result<Result<PaymentHash, Unpaid>, MoneyError> {
        let credit = Account::Miner(name(&miner.to_string())?);
        let (description, treasury) = (memo(run), self.treasury.clone());
        // Somebody else's wallet may have paid it, whose preimage the miner never sees. The invoice was given to the
        // miner's own signed message, and nobody else gains by paying it.
        let paid = |r: &Request| r.memo == description && matches!(r.state, RequestState::Paid { .. });
        if let Some(paid) = treasury.requests(&credit)?.iter().find(|r| paid(r)) {
            return Ok(Ok(paid.hash));
        }
        let price = Price {
            method: None,
            path: "/v1/runs/{run}/messages".to_owned(),
            amount: spec.funding.joining_fee,
            service: "watershed".to_owned(),
            tier: 0,
            capability: capability(run, miner),
            uses: Uses::Unlimited,
            valid_s: VALID,
            description,
        };
        let till = Till::new(treasury.clone(), credit.clone());
        let till = FeeTill { till, treasury, credit, made: self.made.clone() };
        let now = since_1970().as_secs();
        let sold = self.desk.sell(price, (till, MemorySpent::new(1)), now, headers).await;
        Ok(sold.map(|paid| PaymentHash::from_bytes(paid.payment_hash)))
    }

    pub(super) fn move_joining_fee(
        &self,
        run: RunId,
        spec: &RunSpec,
        miner: PublicKey,
    ) -> Result<(), MoneyError> {
        let from = Account::Miner(name(&miner.to_string())?);
        let key = format!("joining-fee/{run}/{miner}");
        let fee = spec.funding.joining_fee;
        Ok(self.treasury.transfer(&key, &from, &budget(run, spec)?, fee, &memo(run))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invoices_are_counted_by_the_hour() {
        let (made, now) = (Made::default(), Duration::from_secs(1_000_000));
        assert!((0..HOURLY).all(|_| made.count(now)));
        assert!(!made.count(now + Duration::from_secs(3600)));
        assert!(made.count(now + Duration::from_secs(3601)));
    }

    #[test]
    fn a_token_is_for_one_miner_and_run() {
        let key = |n: u8| watershed_protocol::SecretKey::from_entropy([n; 32]).unwrap().public();
        let run = |n: u8| RunId::from_bytes([n; 32]);
        let all = [capability(run(1), key(1)), capability(run(1), key(2)), capability(run(2), key(1))];
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
        assert!(all.iter().all(|c| c.len() == 64));
    }
}
