//! What a contributor allows, and how that changes: only by their own signed statements, one after the other.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::kind::{UnknownName, names};
use crate::codec::Wire;
use crate::envelope::Verified;
use crate::id::ManifestId;
use crate::key::PublicKey;

names! {
    /// What a text may be used for.
    ConsentTier, "consent tier" {
        /// Trained on.
        Train = "train",
        /// Trained on, searched and shown.
        TrainIndex = "train+index",
        /// Trained on by its owner's own miner only; the text never leaves its owner.
        Federated = "federated",
        /// Nothing: withdrawn.
        None = "none",
    }
}

impl ConsentTier {
    /// Whether anybody's miner may train on it.
    pub fn trains(self) -> bool {
        matches!(self, Self::Train | Self::TrainIndex)
    }

    /// Whether the text itself may be shown to anybody.
    pub fn shows(self) -> bool {
        self == Self::TrainIndex
    }
}

/// A signed statement that changes the consent of one deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentChange {
    /// The deposit.
    pub manifest: ManifestId,
    /// 1 for the first change, then one more each time: an old statement cannot be replayed.
    pub sequence: u32,
    /// What holds from the next snapshot on.
    pub tier: ConsentTier,
}

impl Wire for ConsentChange {
    const NAME: &'static str = "watershed/consent-change";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 64;
}

/// A statement that changes nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsentError {
    /// Somebody else's.
    #[error("{signer} did not make this deposit; only {contributor} can change its consent")]
    NotTheDepositor {
        /// Who signed.
        signer: PublicKey,
        /// Who may.
        contributor: PublicKey,
    },
    /// About another deposit.
    #[error("the statement is about deposit {0}")]
    OtherDeposit(ManifestId),
    /// Old, repeated, or one is missing before it.
    #[error("this is statement {found} on the deposit, statement {expected} comes next")]
    Order {
        /// What comes next.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// Nothing comes after a withdrawal.
    #[error("the deposit is withdrawn, and its text deleted; deposit the text again if you want it used")]
    Withdrawn,
    /// From or to text that never left its owner.
    #[error("a change between federated and {0} needs the text itself: withdraw, then deposit it again")]
    Federated(ConsentTier),
    /// The tier it has already.
    #[error("the consent is {0} already")]
    Unchanged(ConsentTier),
}

/// The consent that holds for a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The tier.
    pub tier: ConsentTier,
    /// Number of the statement that set it; 0 for the manifest itself.
    pub sequence: u32,
}

impl Consent {
    /// What the manifest says.
    pub fn given(tier: ConsentTier) -> Self {
        Self { tier, sequence: 0 }
    }

    /// What holds after `change`, for the deposit `manifest` of `contributor`.
    ///
    /// # Errors
    /// [`ConsentError`]; the consent stays as it is.
    pub fn after(
        self,
        change: &Verified<ConsentChange>,
        manifest: ManifestId,
        contributor: PublicKey,
    ) -> Result<Self, ConsentError> {
        let next = change.value();
        if next.manifest != manifest {
            return Err(ConsentError::OtherDeposit(next.manifest));
        }
        if change.signer() != contributor {
            return Err(ConsentError::NotTheDepositor { signer: change.signer(), contributor });
        }
        if self.tier == ConsentTier::None {
            return Err(ConsentError::Withdrawn);
        }
        // The sequence cannot pass u32::MAX: there it has no next.
        let expected = self.sequence.saturating_add(1);
        if next.sequence != expected || self.sequence == u32::MAX {
            return Err(ConsentError::Order { expected, found: next.sequence });
        }
        match (self.tier, next.tier) {
            (old, new) if old == new => Err(ConsentError::Unchanged(old)),
            (_, ConsentTier::None) | (ConsentTier::Train, ConsentTier::TrainIndex) => {
                Ok(Self { tier: next.tier, sequence: expected })
            }
            (ConsentTier::TrainIndex, ConsentTier::Train) => Ok(Self { tier: next.tier, sequence: expected }),
            (ConsentTier::Federated, new) => Err(ConsentError::Federated(new)),
            (old, _) => Err(ConsentError::Federated(old)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Envelope, SecretKey};

    fn key(n: u8) -> SecretKey {
        SecretKey::from_entropy([n; 32]).unwrap()
    }

    fn change(signer: u8, sequence: u32, tier: ConsentTier) -> Verified<ConsentChange> {
        let change = ConsentChange { manifest: ManifestId::of(b"m"), sequence, tier };
        Envelope::sign(&change, &key(signer)).unwrap().open().unwrap()
    }

    #[test]
    fn only_the_depositor_changes_consent_and_only_forwards() {
        let (id, owner) = (ManifestId::of(b"m"), key(1).public());
        let start = Consent::given(ConsentTier::Train);
        let after = |from: Consent, c: &Verified<ConsentChange>| from.after(c, id, owner);
        assert!(matches!(
            after(start, &change(2, 1, ConsentTier::None)),
            Err(ConsentError::NotTheDepositor { .. })
        ));
        let shown = after(start, &change(1, 1, ConsentTier::TrainIndex)).unwrap();
        assert_eq!(shown, Consent { tier: ConsentTier::TrainIndex, sequence: 1 });
        // The same statement once more, and one out of turn.
        assert_eq!(
            after(shown, &change(1, 1, ConsentTier::Train)),
            Err(ConsentError::Order { expected: 2, found: 1 })
        );
        assert_eq!(
            after(shown, &change(1, 2, ConsentTier::TrainIndex)),
            Err(ConsentError::Unchanged(ConsentTier::TrainIndex))
        );
        let gone = after(shown, &change(1, 2, ConsentTier::None)).unwrap();
        assert_eq!(after(gone, &change(1, 3, ConsentTier::Train)), Err(ConsentError::Withdrawn));
        let other = start.after(&change(1, 1, ConsentTier::None), ManifestId::of(b"other"), owner);
        assert_eq!(other, Err(ConsentError::OtherDeposit(id)));
    }

    #[test]
    fn federated_text_cannot_be_turned_public_without_the_text() {
        let (id, owner) = (ManifestId::of(b"m"), key(1).public());
        let federated = Consent::given(ConsentTier::Federated);
        let refused = federated.after(&change(1, 1, ConsentTier::Train), id, owner);
        assert_eq!(refused, Err(ConsentError::Federated(ConsentTier::Train)));
        let public = Consent::given(ConsentTier::Train);
        let refused = public.after(&change(1, 1, ConsentTier::Federated), id, owner);
        assert_eq!(refused, Err(ConsentError::Federated(ConsentTier::Train)));
        assert!(federated.after(&change(1, 1, ConsentTier::None), id, owner).is_ok());
    }
}
