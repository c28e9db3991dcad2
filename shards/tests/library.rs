//! Consent: who can give it, who can take it back, and what is left of a text then.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fs;

use common::{change, key, offer, policy, shards, snapshot, store, words};
use proptest::prelude::*;
use watershed_protocol::data::{ConsentChange, ConsentError, ConsentTier, Deposit, Receipt, Register, Split};
use watershed_protocol::{Envelope, ManifestId, TextId};
use watershed_shards::library::{Library, LibraryError, Outcome};
use watershed_shards::shard::{Range, prune, sets_with};
use watershed_shards::snapshot::take;
use watershed_shards::verify::{Severity, verify};

/// Whether any file below the folder contains these bytes.
fn anywhere(folder: &std::path::Path, needle: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).any(|path| {
        if path.is_dir() {
            anywhere(&path, needle)
        } else {
            fs::read(&path).unwrap().windows(needle.len()).any(|w| w == needle)
        }
    })
}

#[test]
fn a_withdrawn_text_is_gone_and_its_history_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    let text = "a poem that its poet regrets, and would rather have burnt than read";
    let id = store(&mut library, text, Register::Lyric, ConsentTier::TrainIndex);
    for i in 0..3 {
        store(&mut library, &words(i, 300), Register::Lyric, ConsentTier::Train);
    }
    let before = snapshot(&library);
    let (old, _) = shards(&library, &before);
    assert!(anywhere(folder.path(), b"rather"));
    change(&mut library, id, ConsentTier::None);
    let after = snapshot(&library);
    assert!(before.get(id).is_some() && after.get(id).is_none());
    assert!(matches!(library.store().text(TextId::of(text.as_bytes())), Err(LibraryError::NoText(_))));
    // The manifest and the statement are kept; what the old snapshot said stays provable.
    let deposit = library.store().manifest(id).unwrap();
    assert_eq!(library.store().consent_at(&deposit, 0).unwrap().tier, ConsentTier::TrainIndex);
    assert_eq!(library.store().consent_at(&deposit, 1).unwrap().tier, ConsentTier::None);
    // The tokens of the old set are named, and deleted on request.
    assert_eq!(sets_with(library.store(), id).unwrap(), [old.id]);
    shards(&library, &after);
    let pruned = prune(&library).unwrap();
    assert_eq!(pruned.sets, [old.id]);
    assert!(pruned.shards >= 1);
    assert!(!anywhere(folder.path(), b"rather"), "not a byte of the text is left");
    assert!(verify(&library, true, &|_| ()).unwrap().findings.is_empty());
}

#[test]
fn a_withdrawal_that_a_crash_cut_short_is_finished_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    let text = words(1, 50);
    let id = store(&mut library, &text, Register::Oral, ConsentTier::Train);
    let name = TextId::of(text.as_bytes()).to_string();
    let path = folder.path().join("texts").join(&name[..2]).join(&name);
    // As after a crash between the statement's commit and the deletion: the file is there again.
    change(&mut library, id, ConsentTier::None);
    fs::write(&path, &text).unwrap();
    drop(library);
    let connection = rusqlite::Connection::open(folder.path().join("catalogue.sqlite")).unwrap();
    assert_eq!(connection.execute("update deposit set state = 2", []).unwrap(), 1);
    drop(connection);
    let library = Library::open(folder.path()).unwrap();
    assert!(!path.exists());
    assert!(verify(&library, false, &|_| ()).unwrap().findings.is_empty());
}

#[test]
fn nobody_else_changes_consent_and_no_statement_counts_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    let id = store(&mut library, &words(1, 50), Register::Oral, ConsentTier::TrainIndex);
    let statement = |signer, sequence, tier| {
        Envelope::sign(&ConsentChange { manifest: id, sequence, tier }, &key(signer)).unwrap()
    };
    let refused = library.change_consent(&statement(2, 1, ConsentTier::None));
    assert!(matches!(refused, Err(LibraryError::Consent(ConsentError::NotTheDepositor { .. }))));
    let lower = statement(1, 1, ConsentTier::Train);
    library.change_consent(&lower).unwrap();
    library.change_consent(&statement(1, 2, ConsentTier::TrainIndex)).unwrap();
    let replayed = library.change_consent(&lower);
    assert!(matches!(replayed, Err(LibraryError::Consent(ConsentError::Order { expected: 3, found: 1 }))));
    assert_eq!(library.consent(id).unwrap().tier, ConsentTier::TrainIndex);
}

#[test]
fn one_text_is_one_deposit_and_another_claim_to_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    let text = words(5, 80);
    let mine = offer(&text, Register::Narrative, ConsentTier::Train, &key(1));
    let theirs = offer(&text, Register::Oral, ConsentTier::TrainIndex, &key(2));
    // All in one call, and once more.
    let offered = [mine.clone(), mine.clone(), theirs.clone()];
    let first = library.deposit(&offered, 9).unwrap();
    let Outcome::Stored { receipt, .. } = &first[0] else { panic!("{first:?}") };
    let opened = receipt.open::<Receipt>().unwrap();
    assert_eq!((opened.value().stored_at, opened.signer()), (9, library.public_key()));
    assert_eq!(first[1], Outcome::Known { id: mine.0.id(), receipt: receipt.clone() });
    assert_eq!(first[2], Outcome::Conflict { first: mine.0.id() });
    let second = library.deposit(&offered, 10).unwrap();
    assert_eq!(second[0], first[1], "the receipt is the first one");
    let counts = library.counts().unwrap();
    assert_eq!((counts.in_force, counts.conflicts), (1, 1));
    // Even a withdrawal does not hand the text to the other.
    change(&mut library, mine.0.id(), ConsentTier::None);
    assert!(matches!(library.deposit(&[theirs], 11).unwrap()[0], Outcome::Conflict { .. }));
}

#[test]
fn what_does_not_fit_its_manifest_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    let (deposit, _) = offer("one text", Register::Oral, ConsentTier::Train, &key(1));
    let (_, other) = offer("another!", Register::Oral, ConsentTier::Train, &key(1));
    assert_eq!(library.deposit(&[(deposit.clone(), other)], 1).unwrap(), [Outcome::Mismatch]);
    let (_, local) = offer("one text", Register::Oral, ConsentTier::Federated, &key(1));
    assert_eq!(library.deposit(&[(deposit, local)], 1).unwrap(), [Outcome::Mismatch]);
    let mut later = common::manifest("one text", Register::Oral, ConsentTier::Train, &key(1));
    later.revision = 3;
    let later = Deposit::sign(later, &key(1)).unwrap();
    let content = offer("one text", Register::Oral, ConsentTier::Train, &key(1)).1;
    assert_eq!(library.deposit(&[(later, content)], 1).unwrap(), [Outcome::Mismatch]);
    assert_eq!(library.counts().unwrap().in_force, 0);
}

#[test]
fn federated_text_never_enters_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    let id = store(
        &mut library,
        "a diary of bananas and other secrets",
        Register::Narrative,
        ConsentTier::Federated,
    );
    store(&mut library, &words(1, 300), Register::Narrative, ConsentTier::Train);
    let taken = snapshot(&library);
    assert_eq!(taken.get(id).unwrap().consent.tier, ConsentTier::Federated);
    let (_, open) = shards(&library, &taken);
    assert!(open.index().unwrap().entries().all(|e| e.manifest != id));
    assert!(!anywhere(folder.path(), b"bananas"));
    assert!(verify(&library, true, &|_| ()).unwrap().findings.is_empty());
}

#[test]
fn of_near_duplicates_one_is_kept_whatever_came_first() {
    let texts: Vec<String> = (0..4).map(|i| format!("{} changed here {i}", words(7, 500))).collect();
    let mut kept = Vec::new();
    for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
        let folder = tempfile::tempdir().unwrap();
        let mut library = Library::open(folder.path()).unwrap();
        for i in order {
            store(&mut library, &texts[i], Register::Oral, ConsentTier::Train);
        }
        let taken = take(&library, &policy()).unwrap();
        assert_eq!((taken.snapshot.len(), taken.left_out.len()), (1, 3));
        kept.push(taken.snapshot.id());
    }
    assert_eq!(kept[0], kept[1]);
}

#[test]
fn leftovers_of_an_interrupted_deposit_are_named_and_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    store(&mut library, &words(1, 50), Register::Oral, ConsentTier::Train);
    let text = words(2, 50);
    let name = TextId::of(text.as_bytes()).to_string();
    let path = folder.path().join("texts").join(&name[..2]).join(&name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &text).unwrap();
    let found = verify(&library, false, &|_| ()).unwrap();
    assert_eq!((found.findings.len(), found.findings[0].severity), (1, Severity::Leftover));
    store(&mut library, &text, Register::Oral, ConsentTier::Train);
    assert!(verify(&library, false, &|_| ()).unwrap().findings.is_empty());
}

/// A text of the property test: register, tier, whether it is withdrawn.
fn any_text() -> impl Strategy<Value = (u8, u8, bool)> {
    (0u8..3, 0u8..3, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_token_of_a_window_is_its_deposits_and_was_allowed(
        texts in prop::collection::vec(any_text(), 1..20), seed: u64, length in 1u32..60
    ) {
        use watershed_protocol::data::{Mixture, WindowSpec};
        use watershed_shards::window::{Drawing, attribution};
        let folder = tempfile::tempdir().unwrap();
        let mut library = Library::open(folder.path()).unwrap();
        let mut allowed: std::collections::BTreeMap<ManifestId, String> = Default::default();
        for (i, (register, tier, withdrawn)) in texts.iter().enumerate() {
            let register = Register::from_number(*register).unwrap();
            let tier = ConsentTier::from_number(*tier).unwrap();
            let text = words(1000 + i as u64, 40);
            let id = store(&mut library, &text, register, tier);
            if *withdrawn {
                change(&mut library, id, ConsentTier::None);
            } else if tier.trains() {
                allowed.insert(id, text);
            }
        }
        let taken = snapshot(&library);
        if allowed.is_empty() {
            return Ok(());
        }
        let (built, open) = shards(&library, &taken);
        let index = open.index().unwrap();
        // Every deposit's tokens are its text and a separator, and they fill the streams.
        let mut tokens = Vec::new();
        for entry in index.entries() {
            let text = &allowed[&entry.manifest];
            tokens.clear();
            let range = Range { register: entry.register, split: entry.split, first: entry.first, tokens: entry.tokens };
            open.tokens(&range, &mut tokens).unwrap();
            let bytes: Vec<u32> = text.bytes().chain([0]).map(u32::from).collect();
            prop_assert_eq!(&tokens, &bytes);
        }
        let streams: u64 = built.set.streams.iter().map(|s| s.tokens()).sum();
        prop_assert_eq!(streams, index.entries().map(|e| e.tokens).sum::<u64>());
        // A window reads training text only, and its attribution adds up.
        let mut counts = [0; Register::ALL.len()];
        for (count, register) in counts.iter_mut().zip(Register::ALL) {
            let tokens = built.set.tokens(*register, Split::Train);
            *count = if tokens >= 2 * u64::from(length) { tokens } else { 0 };
        }
        let Ok(mixture) = Mixture::natural(counts) else { return Ok(()) };
        let spec = WindowSpec {
            shards: built.id, split: Split::Train, mixture, seed, sequence_length: length, first: seed % 50,
            sequences: 40, max_epochs: u32::MAX,
        };
        let ranges: Vec<Range> = Drawing::new(&built.set, &spec).unwrap().window().collect::<Result<_, _>>().unwrap();
        for range in &ranges {
            tokens.clear();
            open.tokens(range, &mut tokens).unwrap();
            prop_assert_eq!(tokens.len() as u64, u64::from(length) + 1);
            let mut at = 0;
            for (entry, count) in index.overlapping(range.register, range.split, range.first, range.tokens) {
                prop_assert_eq!(entry.split, Split::Train);
                prop_assert_eq!(taken.get(entry.manifest).unwrap().split, Split::Train);
                let bytes: Vec<u32> = allowed[&entry.manifest].bytes().chain([0]).map(u32::from).collect();
                let from = (range.first + at - entry.first) as usize;
                prop_assert_eq!(&tokens[at as usize..(at + count) as usize], &bytes[from..from + count as usize]);
                at += count;
            }
            prop_assert_eq!(at, range.tokens);
        }
        let found = attribution(&open, &spec).unwrap();
        prop_assert_eq!(found.tokens, 40 * (u64::from(length) + 1));
        prop_assert_eq!(found.shares.iter().map(|s| s.tokens).sum::<u64>(), found.tokens);
    }
}
