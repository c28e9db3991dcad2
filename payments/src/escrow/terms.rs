//! What payer and payee of an escrow agree on before any money moves.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::{Msat, PaymentHash, Subject};

/// Most lots of one escrow: the HTLCs that BOLT 2 lets a channel carry in one direction.
pub const MAX_LOTS: usize = 483;

/// One HTLC to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotTerms {
    /// Whose preimage releases it.
    pub hash: PaymentHash,
    /// What it pays.
    pub amount: Msat,
}

/// An escrow: what for, how long, and its lots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// What it is for; names the escrow.
    pub subject: Subject,
    /// Blocks for which the payee must be able to hold every lot, from when it is locked.
    pub window: u32,
    /// The lots.
    pub lots: Vec<LotTerms>,
}

/// Terms that nobody should agree to.
#[derive(Debug, Error)]
pub enum TermsError {
    /// None, or too many.
    #[error("an escrow has 1 to {MAX_LOTS} lots, not {0}")]
    Count(usize),
    /// An HTLC of nothing.
    #[error("the lot {0} pays nothing")]
    Nothing(PaymentHash),
    /// One secret for two lots.
    #[error("the payment hash {0} is in two lots; each needs a secret of its own")]
    HashTwice(PaymentHash),
    /// More than there can be.
    #[error("the lots sum to more than can be counted")]
    TooMuch,
}

impl Terms {
    /// The sum of the lots, if the terms make sense; the window is for the node to judge.
    ///
    /// # Errors
    /// [`TermsError`].
    pub fn check(&self) -> Result<Msat, TermsError> {
        if !(1..=MAX_LOTS).contains(&self.lots.len()) {
            return Err(TermsError::Count(self.lots.len()));
        }
        let mut seen = BTreeSet::new();
        let mut sum = Msat::ZERO;
        for lot in &self.lots {
            if lot.amount == Msat::ZERO {
                return Err(TermsError::Nothing(lot.hash));
            }
            if !seen.insert(lot.hash) {
                return Err(TermsError::HashTwice(lot.hash));
            }
            sum = sum.checked_add(lot.amount).ok_or(TermsError::TooMuch)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(lots: &[(u8, u64)], window: u32) -> Terms {
        let lot =
            |&(hash, msat)| LotTerms { hash: PaymentHash::from_bytes([hash; 32]), amount: Msat::new(msat) };
        Terms { subject: Subject::from_bytes([1; 32]), window, lots: lots.iter().map(lot).collect() }
    }

    #[test]
    fn terms_that_make_no_sense_are_refused_by_name() {
        assert_eq!(terms(&[(1, 5), (2, 6)], 144).check().unwrap(), Msat::new(11));
        assert!(matches!(terms(&[], 144).check(), Err(TermsError::Count(0))));
        assert!(matches!(terms(&[(1, 0)], 144).check(), Err(TermsError::Nothing(_))));
        assert!(matches!(terms(&[(1, 5), (1, 6)], 144).check(), Err(TermsError::HashTwice(_))));
        assert!(matches!(terms(&[(1, u64::MAX), (2, 1)], 144).check(), Err(TermsError::TooMuch)));
    }
}
