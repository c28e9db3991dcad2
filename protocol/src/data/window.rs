//! The name of a piece of training data: everything needed to expand it to token ranges, and nothing else.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::kind::Split;
use super::mixture::Mixture;
use crate::codec::{EncodeError, Wire, encode};
use crate::id::{ShardSetId, WindowId};

/// A window: `sequences` sequences of the endless order that shard set, mixture, seed and length define, from `first` on.
///
/// Two windows of one order whose numbers do not overlap read no token twice before a register is used up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// The tokenised snapshot.
    pub shards: ShardSetId,
    /// Trained on or measured with.
    pub split: Split,
    /// Shares of the registers.
    pub mixture: Mixture,
    /// Chosen once for a run.
    pub seed: u64,
    /// Tokens that a model is given at once; one more is read, as the last target.
    pub sequence_length: u32,
    /// Number of the first sequence.
    pub first: u64,
    /// How many sequences.
    pub sequences: u32,
    /// How often a register's text may be read in the whole order up to here.
    pub max_epochs: u32,
}

impl Wire for WindowSpec {
    const NAME: &'static str = "watershed/window";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 128;
}

/// Numbers that make no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WindowSpecError {
    /// A length out of range.
    #[error("a sequence length of {0} is not in 1..=1048576")]
    SequenceLength(u32),
    /// None, or too many.
    #[error("{0} sequences are not in 1..=16777216")]
    Sequences(u32),
    /// Never reading anything.
    #[error("a text must be allowed to be read at least once")]
    Epochs,
    /// The number of the last sequence.
    #[error("sequence numbers end at 2^63")]
    Overflow,
}

impl WindowSpec {
    /// Most tokens in a sequence.
    pub const MAX_LENGTH: u32 = 1 << 20;
    /// Most sequences in a window.
    pub const MAX_SEQUENCES: u32 = 1 << 24;

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`WindowSpecError`].
    pub fn check(&self) -> Result<(), WindowSpecError> {
        if !(1..=Self::MAX_LENGTH).contains(&self.sequence_length) {
            return Err(WindowSpecError::SequenceLength(self.sequence_length));
        }
        if !(1..=Self::MAX_SEQUENCES).contains(&self.sequences) {
            return Err(WindowSpecError::Sequences(self.sequences));
        }
        if self.max_epochs == 0 {
            return Err(WindowSpecError::Epochs);
        }
        if self.first >= (1 << 63) - u64::from(self.sequences) {
            return Err(WindowSpecError::Overflow);
        }
        Ok(())
    }

    /// Its name.
    ///
    /// # Errors
    /// None in practice: the encoding has a fixed size.
    pub fn id(&self) -> Result<WindowId, EncodeError> {
        Ok(WindowId::of(&encode(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_named_and_every_field_counts() {
        let spec = WindowSpec {
            shards: ShardSetId::of(b"set"),
            split: Split::Train,
            mixture: "oral=10000".parse().unwrap(),
            seed: 1,
            sequence_length: 128,
            first: 0,
            sequences: 4,
            max_epochs: 4,
        };
        assert_eq!(spec.check(), Ok(()));
        let refused = |change: fn(&mut WindowSpec)| {
            let mut other = spec.clone();
            change(&mut other);
            assert_ne!(other.id(), spec.id());
            other.check().unwrap_err()
        };
        assert_eq!(refused(|s| s.sequence_length = 0), WindowSpecError::SequenceLength(0));
        assert_eq!(refused(|s| s.sequences = u32::MAX), WindowSpecError::Sequences(u32::MAX));
        assert_eq!(refused(|s| s.max_epochs = 0), WindowSpecError::Epochs);
        assert_eq!(refused(|s| s.first = u64::MAX), WindowSpecError::Overflow);
    }
}
