//! Proofs of consent, carried to whoever has no library.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{change, shards, snapshot, store, words};
use watershed_protocol::data::{ConsentTier, Register};
use watershed_shards::consents::{ConsentsError, collect, install};
use watershed_shards::library::{Library, Store};
use watershed_shards::shard::OpenSet;
use watershed_shards::trace::trace_tokens;

/// Three deposits, one of which was allowed more later and then less again.
fn made(folder: &std::path::Path) -> (Library, OpenSet) {
    let mut library = Library::open(folder).unwrap();
    let first = store(&mut library, &words(1, 500), Register::Narrative, ConsentTier::Train);
    store(&mut library, &words(2, 500), Register::Technical, ConsentTier::TrainIndex);
    store(&mut library, &words(3, 500), Register::Technical, ConsentTier::Train);
    change(&mut library, first, ConsentTier::TrainIndex);
    change(&mut library, first, ConsentTier::Train);
    let (_, set) = shards(&library, &snapshot(&library));
    (library, set)
}

#[test]
fn whoever_has_the_proofs_traces_every_token_without_the_library() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (library, set) = made(folder.path());
    let bytes = collect(library.store(), &set).unwrap().unwrap();
    assert_eq!(collect(library.store(), &set).unwrap().unwrap(), bytes);
    let store = Store::new(elsewhere.path());
    let snapshot = install(&store, set.set(), &bytes).unwrap();
    let mut traced = 0;
    for entry in set.index().unwrap().entries() {
        assert_eq!(trace_tokens(&store, &snapshot, &entry).unwrap().id(), entry.manifest);
        traced += 1;
    }
    assert_eq!(traced, 3);
    // No text is among them.
    let text = words(1, 500);
    assert!(!bytes.windows(40).any(|w| w == &text.as_bytes()[100..140]));
}

#[test]
fn what_is_cut_or_altered_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (library, set) = made(folder.path());
    let bytes = collect(library.store(), &set).unwrap().unwrap();
    let proves = |bytes: &[u8]| {
        let elsewhere = tempfile::tempdir().unwrap();
        let store = Store::new(elsewhere.path());
        let snapshot = install(&store, set.set(), bytes).ok()?;
        let trace = |entry| trace_tokens(&store, &snapshot, &entry).ok();
        set.index().unwrap().entries().map(trace).collect::<Option<Vec<_>>>()
    };
    assert!(proves(&bytes).is_some());
    for length in (0..bytes.len()).step_by(7) {
        assert!(proves(&bytes[..length]).is_none(), "{length}");
    }
    for byte in (0..bytes.len()).step_by(13) {
        let mut altered = bytes.clone();
        altered[byte] ^= 1;
        assert!(proves(&altered).is_none(), "{byte}");
    }
    // Those of another set.
    let other = tempfile::tempdir().unwrap();
    let mut library = Library::open(other.path()).unwrap();
    store(&mut library, &words(9, 500), Register::Narrative, ConsentTier::Train);
    let (_, set) = shards(&library, &snapshot(&library));
    let found = install(&Store::new(other.path()), set.set(), &bytes).unwrap_err();
    assert!(matches!(found, ConsentsError::OtherSnapshot), "{found}");
}

#[test]
fn a_library_of_tokens_only_has_none() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (library, set) = made(folder.path());
    let store = Store::new(elsewhere.path());
    for (file, path) in watershed_shards::transfer::files(library.store(), set.id()).unwrap() {
        let copy = elsewhere.path().join("file");
        std::fs::copy(path, &copy).unwrap();
        watershed_shards::transfer::install_file(&store, set.id(), file, &copy).unwrap();
    }
    let set = OpenSet::open(&store, set.id()).unwrap();
    assert_eq!(collect(&store, &set).unwrap(), None);
}
