//! What L402 needs of a treasury: invoices that are booked when paid, and counts of uses that outlive the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, PaymentHash};

use super::{Request, RequestState, Treasury, TreasuryError};
use crate::l402::{Cashier, Issued, Spend, Spent};
use crate::ledger::Account;
use crate::store::{Change, Record, Store, StoreError};
use crate::wallet::Wallet;

/// A treasury that sells access; what comes in is credited to one account.
pub struct Till<W, S> {
    treasury: Treasury<W, S>,
    credit: Account,
}

impl<W, S> Clone for Till<W, S> {
    fn clone(&self) -> Self {
        Self { treasury: self.treasury.clone(), credit: self.credit.clone() }
    }
}

impl<W: Wallet, S: Store> Till<W, S> {
    /// Sells on account of `credit`.
    pub fn new(treasury: Treasury<W, S>, credit: Account) -> Self {
        Self { treasury, credit }
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
        (self.forget_at / 86_400).to_string()
    }
    fn is_open(&self) -> bool {
        false
    }
}

impl<W: Wallet, S: Store> Spent for Till<W, S> {
    type Error = TreasuryError;

    async fn take(&self, spend: Spend) -> Result<bool, TreasuryError> {
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
