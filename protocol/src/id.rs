//! Names of things: content hashes that the compiler keeps apart, and small numbers with meaning.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bytes::{HexError, hex_text};
use crate::hash::{Digest, Domain};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident of $domain:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Digest);

        impl $name {
            /// The id of `content`.
            pub fn of(content: &[u8]) -> Self {
                Self(Domain::$domain.hash(content))
            }

            /// An id whose bytes are known.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(Digest(bytes))
            }

            /// The bytes.
            pub fn to_bytes(self) -> [u8; 32] {
                self.0.0
            }
        }

        hex_text!($name, 32, HexError, |bytes| Ok::<_, HexError>($name::from_bytes(bytes)));
    )*};
}

ids! {
    /// A run, by its specification.
    RunId of Run;
    /// The deposits in force at one moment.
    SnapshotId of Snapshot;
    /// The training data of an assignment.
    WindowId of Window;
    /// A miner's encoded pseudo-gradient.
    SubmissionId of Submission;
    /// A miner's task in a round.
    AssignmentId of Assignment;
    /// A deposit.
    ManifestId of Manifest;
    /// The parameters after a round.
    CheckpointId of Checkpoint;
    /// A normalised text.
    TextId of Text;
    /// A tokenised snapshot.
    ShardSetId of ShardSet;
    /// A tokenizer with its rules for separators and pieces.
    TokenizerId of Tokenizer;
}

/// A round of a run, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoundNumber(pub u32);

/// A share in hundredths of a percent, 0 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct BasisPoints(u16);

/// A share above the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} basis points are more than the whole, which is 10000")]
pub struct BasisPointsError(pub u16);

impl BasisPoints {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const WHOLE: Self = Self(10_000);
    /// A quarter.
    pub const QUARTER: Self = Self(2_500);
    /// One half.
    pub const HALF: Self = Self(5_000);

    /// The number, 0 to 10,000.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for BasisPoints {
    type Error = BasisPointsError;
    fn try_from(n: u16) -> Result<Self, BasisPointsError> {
        if n <= Self::WHOLE.0 { Ok(Self(n)) } else { Err(BasisPointsError(n)) }
    }
}

impl From<BasisPoints> for u16 {
    fn from(b: BasisPoints) -> Self {
        b.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_say_what_is_wrong() {
        let id = RunId::of(b"spec");
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        assert_ne!(id.to_bytes(), WindowId::of(b"spec").to_bytes());
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<RunId>(&json).unwrap(), id);
        let text = id.to_string();
        assert_eq!(text[1..].parse::<RunId>(), Err(HexError::Length { expected: 64, found: 63 }));
        let upper = format!("{}G", &text[..63]);
        assert_eq!(upper.parse::<RunId>(), Err(HexError::Digit { position: 63 }));
        assert!(text.to_uppercase().parse::<RunId>().is_err(), "one value has one text");
    }

    #[test]
    fn more_than_the_whole_is_no_share() {
        assert_eq!(BasisPoints::try_from(10_001), Err(BasisPointsError(10_001)));
        assert!(serde_json::from_str::<BasisPoints>("10001").is_err());
        assert_eq!(serde_json::from_str::<BasisPoints>("10000").unwrap(), BasisPoints::WHOLE);
    }
}
