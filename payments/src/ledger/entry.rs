//! An entry: postings to accounts that sum to zero, under a key that makes it happen once.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::Msat;

use super::account::Account;

/// A signed amount on one account, in msat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// Where.
    pub account: Account,
    /// How much; negative takes away.
    pub msat: i64,
}

/// Why postings are no entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// They create or destroy money.
    #[error("entry {key:?} does not balance: its postings sum to {sum} msat")]
    Unbalanced {
        /// The key.
        key: String,
        /// The sum.
        sum: i128,
    },
    /// More than 2^63 msat.
    #[error("{0} is more than the ledger can count")]
    TooLarge(Msat),
    /// Nothing to book.
    #[error("entry {0:?} has no postings")]
    Empty(String),
}

/// Balanced postings. The only way to one is [`Entry::new`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    key: String,
    memo: String,
    postings: Vec<Posting>,
}

impl Entry {
    /// Checks that the postings sum to zero.
    ///
    /// `key` names the event that is booked: booking it again changes nothing. `memo` is for people.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn new(
        key: impl Into<String>,
        memo: impl Into<String>,
        postings: Vec<Posting>,
    ) -> Result<Self, EntryError> {
        let (key, memo) = (key.into(), memo.into());
        if postings.is_empty() {
            return Err(EntryError::Empty(key));
        }
        let sum: i128 = postings.iter().map(|p| i128::from(p.msat)).sum();
        if sum != 0 {
            return Err(EntryError::Unbalanced { key, sum });
        }
        Ok(Self { key, memo, postings })
    }

    /// What is booked.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// For people.
    pub fn memo(&self) -> &str {
        &self.memo
    }

    /// The amounts.
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }
}

/// Postings that move money along one or more legs.
#[derive(Clone, Debug, Default)]
pub struct Legs(Vec<Posting>);

impl Legs {
    /// No leg yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `amount` from one account to another; nothing for an amount of zero.
    ///
    /// # Errors
    /// [`EntryError::TooLarge`].
    pub fn leg(mut self, from: &Account, to: &Account, amount: Msat) -> Result<Self, EntryError> {
        let msat = i64::try_from(amount.msat()).map_err(|_| EntryError::TooLarge(amount))?;
        if msat != 0 {
            self.0.push(Posting { account: from.clone(), msat: -msat });
            self.0.push(Posting { account: to.clone(), msat });
        }
        Ok(self)
    }

    /// The entry of these legs; none if nothing moves.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn entry(self, key: impl Into<String>, memo: impl Into<String>) -> Result<Option<Entry>, EntryError> {
        if self.0.is_empty() { Ok(None) } else { Entry::new(key, memo, self.0).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_balance_is_no_entry() {
        let post = |account, msat| Posting { account, msat };
        let good = Entry::new("k", "", vec![post(Account::Channels, -5), post(Account::Escrow, 5)]);
        assert!(good.is_ok());
        let bad = Entry::new("k", "", vec![post(Account::Channels, -5), post(Account::Escrow, 4)]);
        assert_eq!(bad, Err(EntryError::Unbalanced { key: "k".into(), sum: -1 }));
        assert_eq!(Entry::new("k", "", vec![]), Err(EntryError::Empty("k".into())));
        let large = vec![post(Account::Channels, i64::MAX), post(Account::Escrow, i64::MAX)];
        assert!(matches!(Entry::new("k", "", large), Err(EntryError::Unbalanced { .. })));
        let huge = Legs::new().leg(&Account::Channels, &Account::Escrow, Msat::new(u64::MAX));
        assert!(matches!(huge, Err(EntryError::TooLarge(_))));
    }
}
