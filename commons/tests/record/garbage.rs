//! Bytes that nobody meant.

use proptest::prelude::*;
use watershed_commons::record::Runs;
use watershed_protocol::encode;

use crate::story::Story;

proptest! {
    #[test]
    fn no_bytes_make_it_panic(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..8)) {
        let mut runs = Runs::default();
        for mut bytes in entries {
            let _ = runs.follow(&bytes);
            // As an entry of this version, of each kind.
            if let [version, kind, ..] = bytes.as_mut_slice() {
                (*version, *kind) = (1, *kind % 9);
                let _ = runs.follow(&bytes);
            }
        }
        prop_assert!(runs.runs.is_empty());
    }

    #[test]
    fn no_damage_to_a_record_makes_it_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
        moved in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let mut entries: Vec<Vec<u8>> =
            Story::honest().told.iter().map(|(_, entry)| encode(entry).unwrap()).collect();
        for (entry, at, byte) in damage {
            let count = entries.len();
            let entry = &mut entries[entry.index(count)];
            let at = at.index(entry.len());
            entry[at] = byte;
        }
        let entry = entries.remove(moved.0.index(entries.len()));
        let to = moved.1.index(entries.len());
        entries.insert(to, entry);
        // Whoever goes on after a fault gets nonsense, but no panic either.
        let mut runs = Runs::default();
        for bytes in &entries {
            let _ = runs.follow(bytes);
        }
        prop_assert!(runs.entries <= entries.len() as u64);
    }
}
