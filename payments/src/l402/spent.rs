//! Counting what a payment bought: the store that says whether one more use is left.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::{Future, ready};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::secret::TokenId;

/// One use of a token that is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend {
    /// Of which token. Tokens narrowed from one another share their id, and so their uses.
    pub token: TokenId,
    /// How many uses were bought.
    pub limit: NonZeroU32,
    /// The time now, in Unix seconds.
    pub now: u64,
    /// From this time on (Unix seconds) the token is refused as expired, so its count may be forgotten. It is the time
    /// that was sold, whatever a holder narrowed it to.
    pub forget_at: u64,
}

/// Counts the uses of tokens.
pub trait Spent: Clone + Send + Sync + 'static {
    /// Why it could not count.
    type Error: Display + Send;

    /// Takes one use, at once for all callers: of any number of simultaneous calls at most `limit` are told `true`.
    /// A use for which the answer was `true` must be remembered before the answer is given.
    ///
    /// # Errors
    /// When the use cannot be counted; it is then not granted, and the client is answered 503.
    fn take(&self, spend: Spend) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Counts in memory, so only for as long as the process lives: for tests, and for routes where that is enough.
#[derive(Clone, Debug)]
pub struct MemorySpent {
    capacity: usize,
    counts: Arc<Mutex<HashMap<TokenId, Count>>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    used: u32,
    forget_at: u64,
}

/// No more tokens can be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the uses of {capacity} unexpired tokens are remembered, which is the limit; raise it or sell shorter tokens"
)]
pub struct MemorySpentFull {
    /// How many can.
    pub capacity: usize,
}

impl MemorySpent {
    /// Remembers at most `capacity` tokens that have not expired, about 64 bytes each.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, counts: Arc::default() }
    }

    fn count(&self, spend: Spend) -> Result<bool, MemorySpentFull> {
        // a panic elsewhere cannot leave a count half written
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&spend.token) {
            let left = count.used < spend.limit.get();
            count.used = count.used.saturating_add(u32::from(left));
            return Ok(left);
        }
        if counts.len() >= self.capacity {
            counts.retain(|_, count| count.forget_at > spend.now);
        }
        if counts.len() >= self.capacity {
            return Err(MemorySpentFull { capacity: self.capacity });
        }
        counts.insert(spend.token, Count { used: 1, forget_at: spend.forget_at });
        Ok(true)
    }
}

impl Spent for MemorySpent {
    type Error = MemorySpentFull;

    fn take(&self, spend: Spend) -> impl Future<Output = Result<bool, MemorySpentFull>> + Send {
        ready(self.count(spend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(token: u8, limit: u32, now: u64, forget_at: u64) -> Spend {
        Spend { token: TokenId::from_bytes([token; 32]), limit: limit.try_into().unwrap(), now, forget_at }
    }

    #[test]
    fn no_more_uses_are_given_than_were_bought() {
        let spent = MemorySpent::new(2);
        let taken: Vec<_> = (0..4).map(|now| spent.count(spend(1, 2, now, 100))).collect();
        assert_eq!(taken, [Ok(true), Ok(true), Ok(false), Ok(false)]);
        assert_eq!(spent.count(spend(2, 1, 0, 100)), Ok(true));
    }

    #[test]
    fn a_full_store_forgets_only_expired_tokens_and_else_refuses() {
        let spent = MemorySpent::new(2);
        assert_eq!(spent.count(spend(1, 1, 0, 10)), Ok(true));
        assert_eq!(spent.count(spend(2, 1, 0, 20)), Ok(true));
        assert_eq!(spent.count(spend(3, 1, 9, 30)), Err(MemorySpentFull { capacity: 2 }));
        assert_eq!(spent.count(spend(1, 1, 9, 10)), Ok(false));
        assert_eq!(spent.count(spend(3, 1, 10, 30)), Ok(true));
        assert_eq!(spent.count(spend(2, 1, 10, 20)), Ok(false));
    }
}
