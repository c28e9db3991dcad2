//! Taking a snapshot: a pure function of the deposits in force and the policy.

use std::collections::BTreeMap;

use watershed_protocol::data::{ConsentTier, Register, Split};
use watershed_protocol::{BasisPoints, Domain, ManifestId, SnapshotId, TextId};

use super::{Snapshot, SnapshotEntry, SnapshotError};
use crate::library::{Library, LibraryError, Store, write};
use crate::near::Keeper;

/// What is left out and what is held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Of near duplicates only the one with the smallest id is kept.
    pub leave_out_near: bool,
    /// Share of deposits that are held out.
    pub held_out: BasisPoints,
    /// Which ones.
    pub seed: u64,
}

/// A deposit that is not in a snapshot because a near duplicate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// The deposit.
    pub manifest: ManifestId,
    /// The one that is in the snapshot.
    pub kept: ManifestId,
    /// How alike they are, in basis points.
    pub similarity: u16,
}

/// A snapshot that was taken.
#[derive(Debug)]
pub struct Taken {
    /// It.
    pub snapshot: Snapshot,
    /// What was left out.
    pub left_out: Vec<LeftOut>,
}

/// Takes a snapshot of the library as it is now and stores it.
///
/// # Errors
/// [`SnapshotError`].
pub fn take(library: &Library, policy: &Policy) -> Result<Taken, SnapshotError> {
    let mut entries = Vec::new();
    let mut left_out = Vec::new();
    let mut keeper = Keeper::new(crate::library::NEAR);
    library.catalogue().each::<LibraryError>(|entry| {
        if entry.consent.tier == ConsentTier::None {
            return Ok(());
        }
        if policy.leave_out_near {
            let sketch = library.catalogue().sketch(entry.id)?;
            let near = sketch.and_then(|sketch| keeper.offer(entry.id.to_bytes(), &sketch));
            if let Some((kept, similarity)) = near {
                let kept = ManifestId::from_bytes(kept);
                left_out.push(LeftOut { manifest: entry.id, kept, similarity });
                return Ok(());
            }
        }
        entries.push(SnapshotEntry {
            manifest: entry.id,
            text: entry.text,
            bytes: entry.bytes,
            register: entry.register,
            consent: entry.consent,
            split: Split::Train,
        });
        Ok(())
    })?;
    hold_out(&mut entries, policy);
    let snapshot = Snapshot::parse(Snapshot::encode(policy, entries))?;
    write(&library.store().snapshot_path(snapshot.id()), snapshot.bytes.as_ref())?;
    Ok(Taken { snapshot, left_out })
}

/// Rank of a text: those below the share are held out.
fn rank(seed: u64, text: TextId) -> u64 {
    let mut message = seed.to_le_bytes().to_vec();
    message.extend_from_slice(&text.to_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&Domain::HeldOut.hash(&message).0[..8]);
    u64::from_be_bytes(first)
}

fn hold_out(entries: &mut [SnapshotEntry], policy: &Policy) {
    let whole = u128::from(BasisPoints::WHOLE.get());
    let limit = (1u128 << 64) * u128::from(policy.held_out.get()) / whole;
    if limit == 0 {
        return;
    }
    let mut registers: BTreeMap<Register, Vec<(u64, usize)>> = BTreeMap::new();
    for (i, entry) in entries.iter().enumerate().filter(|(_, e)| e.consent.tier.trains()) {
        registers.entry(entry.register).or_default().push((rank(policy.seed, entry.text), i));
    }
    for mut ranked in registers.into_values().filter(|r| r.len() > 1) {
        ranked.sort_unstable();
        let below = ranked.partition_point(|(rank, _)| u128::from(*rank) < limit);
        for (_, i) in ranked.iter().take(below.clamp(1, ranked.len() - 1)) {
            if let Some(entry) = entries.get_mut(*i) {
                entry.split = Split::HeldOut;
            }
        }
    }
}

impl Store {
    /// Reads a stored snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, SnapshotError> {
        Snapshot::open(&self.snapshot_path(id), id)
    }
}

#[cfg(test)]
mod tests {
    use watershed_protocol::data::Consent;

    use super::*;

    fn entries(n: u32, tier: ConsentTier) -> Vec<SnapshotEntry> {
        (0..n)
            .map(|i| SnapshotEntry {
                manifest: ManifestId::of(&i.to_le_bytes()),
                text: TextId::of(&i.to_le_bytes()),
                bytes: 1,
                register: if i % 10 == 0 { Register::Oral } else { Register::Lyric },
                consent: Consent::given(tier),
                split: Split::Train,
            })
            .collect()
    }

    fn held(entries: &[SnapshotEntry]) -> Vec<TextId> {
        entries.iter().filter(|e| e.split == Split::HeldOut).map(|e| e.text).collect()
    }

    fn policy(share: u16) -> Policy {
        Policy { leave_out_near: true, held_out: BasisPoints::try_from(share).unwrap(), seed: 3 }
    }

    #[test]
    fn about_the_share_is_held_out_and_more_deposits_change_nothing_for_the_others() {
        let mut few = entries(2000, ConsentTier::Train);
        let mut many = entries(4000, ConsentTier::Train);
        hold_out(&mut few, &policy(500));
        hold_out(&mut many, &policy(500));
        let (few, many) = (held(&few), held(&many));
        assert!((60..140).contains(&few.len()), "{}", few.len());
        assert!(few.iter().all(|text| many.contains(text)));
    }

    #[test]
    fn every_register_with_two_deposits_has_something_to_measure_with() {
        let mut some = entries(20, ConsentTier::Train);
        hold_out(&mut some, &policy(1));
        let registers: Vec<Register> =
            some.iter().filter(|e| e.split == Split::HeldOut).map(|e| e.register).collect();
        assert!(registers.contains(&Register::Oral) && registers.contains(&Register::Lyric));
        let mut one = entries(1, ConsentTier::Train);
        hold_out(&mut one, &policy(1));
        assert!(held(&one).is_empty());
        let mut all = entries(20, ConsentTier::Train);
        hold_out(&mut all, &policy(10_000));
        assert_eq!(held(&all).len(), 18, "one of each register is left to train on");
        let mut none = entries(20, ConsentTier::Train);
        hold_out(&mut none, &policy(0));
        assert!(held(&none).is_empty());
        let mut federated = entries(20, ConsentTier::Federated);
        hold_out(&mut federated, &policy(9999));
        assert!(held(&federated).is_empty());
    }

    #[test]
    fn a_snapshot_reads_back_in_any_order_of_entries_and_every_flipped_bit_is_noticed() {
        let given = entries(5, ConsentTier::Train);
        let mut backwards = given.clone();
        backwards.reverse();
        let bytes = Snapshot::encode(&policy(500), given.clone());
        assert_eq!(bytes, Snapshot::encode(&policy(500), backwards));
        let snapshot = Snapshot::parse(bytes.clone()).unwrap();
        assert_eq!((snapshot.len(), snapshot.policy()), (5, policy(500)));
        for entry in &given {
            assert_eq!(snapshot.get(entry.manifest), Some(*entry));
        }
        for length in 0..bytes.len() {
            assert!(Snapshot::parse(bytes[..length].to_vec()).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let other = Snapshot::parse(flipped).map(|s| s.id());
            assert!(other.is_err() || other.unwrap() != snapshot.id(), "bit {bit}");
        }
    }
}
