//! What is fuzzed: each parser of bytes that come from elsewhere, and what can be asked of a value it accepts. The fuzzer runs
//! these functions on new inputs, the test `fuzz_corpus` on those that were found before.

#![allow(dead_code)] // each fuzz target uses one of them

use watershed_protocol::data::{Deposit, Register, Split};
use watershed_shards::shard::{Index, ShardFile, ShardSet};
use watershed_shards::snapshot::Snapshot;

/// A signed manifest.
pub(crate) fn deposit(bytes: &[u8]) {
    if let Ok(deposit) = Deposit::open(bytes) {
        assert_eq!(deposit.bytes(), bytes);
        assert!(deposit.manifest().check().is_ok());
    }
}

/// A snapshot.
pub(crate) fn snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::parse(bytes.to_vec()) {
        let entries = snapshot.entries();
        assert!(
            entries
                .map(|e| snapshot.get(e.manifest).map(|found| found.manifest))
                .all(|found| found.is_some())
        );
    }
}

/// A shard set.
pub(crate) fn set(bytes: &[u8]) {
    if let Ok(set) = ShardSet::parse(bytes) {
        assert!(set.id().is_ok());
        for register in Register::ALL {
            let _ = set.tokens(*register, Split::Train);
        }
    }
}

/// An index.
pub(crate) fn index(bytes: &[u8]) {
    if let Ok(index) = Index::parse(bytes) {
        assert_eq!(index.entries().count(), index.len());
        for register in Register::ALL {
            let tokens = index.tokens(*register, Split::Train);
            let (first, count) = (tokens / 3, tokens / 2);
            let found: u64 = index.overlapping(*register, Split::Train, first, count).map(|(_, n)| n).sum();
            assert_eq!(found, count.min(tokens - first));
        }
    }
}

/// A shard.
pub(crate) fn shard(bytes: &[u8]) {
    if let Ok(shard) = ShardFile::parse(bytes) {
        let _ = shard.check_tokens();
        let mut tokens = Vec::with_capacity(4);
        shard.read(shard.len() / 2, 4, &mut tokens);
        assert!(tokens.len() <= 4);
    }
}
