//! SHA-256 with a domain for each thing that is hashed, as in BIP-340: `SHA256(SHA256(tag) || SHA256(tag) || message)`.
//!
//! A hash made for one purpose can so never stand for another.

use sha2::{Digest as _, Sha256};

use crate::bytes::{HexError, hex_text};

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

hex_text!(Digest, 32, HexError, |bytes| Ok::<_, HexError>(Digest(bytes)));

/// What a hash is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Domain {
    /// The message of a signature.
    Envelope,
    /// A run specification.
    Run,
    /// A data snapshot.
    Snapshot,
    /// A window of training data.
    Window,
    /// An encoded pseudo-gradient.
    Submission,
    /// The task of one miner in one round.
    Assignment,
    /// A deposit's manifest.
    Manifest,
    /// The parameters after a round.
    Checkpoint,
    /// A normalised text.
    Text,
    /// A tokenised snapshot.
    ShardSet,
    /// A tokenizer.
    Tokenizer,
    /// Which texts are held out for evaluation.
    HeldOut,
    /// The key of a pseudo-random order.
    Order,
    /// The states of a miner's inner steps.
    Trajectory,
    /// What checks of a round are drawn from.
    Randomness,
    /// A validator's secret for one lot.
    LotSecret,
    /// Which validators hold the secrets of a task.
    Holders,
    /// Who has a place in a round.
    Places,
}

impl Domain {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Envelope,
        Self::Run,
        Self::Snapshot,
        Self::Window,
        Self::Submission,
        Self::Assignment,
        Self::Manifest,
        Self::Checkpoint,
        Self::Text,
        Self::ShardSet,
        Self::Tokenizer,
        Self::HeldOut,
        Self::Order,
        Self::Trajectory,
        Self::Randomness,
        Self::LotSecret,
        Self::Holders,
        Self::Places,
    ];

    /// The tag that is hashed.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Envelope => "watershed/envelope/v1",
            Self::Run => "watershed/run/v1",
            Self::Snapshot => "watershed/snapshot/v1",
            Self::Window => "watershed/window/v1",
            Self::Submission => "watershed/submission/v1",
            Self::Assignment => "watershed/assignment/v1",
            Self::Manifest => "watershed/manifest/v1",
            Self::Checkpoint => "watershed/checkpoint/v1",
            Self::Text => "watershed/text/v1",
            Self::ShardSet => "watershed/shard-set/v1",
            Self::Tokenizer => "watershed/tokenizer/v1",
            Self::HeldOut => "watershed/held-out/v1",
            Self::Order => "watershed/order/v1",
            Self::Trajectory => "watershed/trajectory/v1",
            Self::Randomness => "watershed/randomness/v1",
            Self::LotSecret => "watershed/lot-secret/v1",
            Self::Holders => "watershed/holders/v1",
            Self::Places => "watershed/places/v1",
        }
    }

    /// Hashes a whole message.
    pub fn hash(self, message: &[u8]) -> Digest {
        let mut hasher = TaggedHasher::new(self);
        hasher.update(message);
        hasher.finish()
    }
}

/// Hashes a message that comes in parts.
#[derive(Clone, Debug)]
pub struct TaggedHasher(Sha256);

impl TaggedHasher {
    /// Nothing hashed yet but the tag.
    pub fn new(domain: Domain) -> Self {
        let tag = Sha256::digest(domain.tag());
        let mut hasher = Sha256::new();
        hasher.update(tag);
        hasher.update(tag);
        Self(hasher)
    }

    /// Appends to the message. Lengths of parts are not hashed: a message of parts that vary needs its own lengths.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The hash.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_domain_hashes_differently_and_parts_do_not_matter() {
        let mut all: Vec<Digest> = Domain::ALL.iter().map(|d| d.hash(b"same")).collect();
        all.push(Digest(Sha256::digest(b"same").into()));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), Domain::ALL.len() + 1);
        let mut parts = TaggedHasher::new(Domain::Run);
        parts.update(b"sa");
        parts.update(b"me");
        assert_eq!(parts.finish(), Domain::Run.hash(b"same"));
    }
}
