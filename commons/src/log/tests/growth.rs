//! Appending in whatever portions gives one and the same tree.

use proptest::prelude::*;

use super::*;

fn check(dir: &Path, entries: &[Vec<u8>]) {
    let log = log(dir).unwrap();
    assert_eq!(log.size(), entries.len() as u64);
    assert_eq!(log.root(), root_of(entries));
    assert!(all(&log).unwrap() == entries);
    assert!(recomputed(&log).unwrap() == entries);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batches_give_the_tree_of_one_append(
        sizes in prop::collection::vec((0..300_u64, any::<bool>()), 1..6)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        for (size, reopen) in sizes {
            let start = writer.size();
            let range = writer.append(&batch(start, start + size)).unwrap();
            prop_assert_eq!(range, start..start + size);
            if reopen {
                drop(writer);
                writer = super::writer(dir.path());
            }
        }
        let size = writer.size();
        drop(writer);
        check(dir.path(), &batch(0, size));
        let once = filled(size);
        prop_assert_eq!(
            fs::read(once.path().join("checkpoint")).unwrap(),
            fs::read(dir.path().join("checkpoint")).unwrap()
        );
    }

    #[test]
    fn entries_come_back_as_they_went_in(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..40)
    ) {
        let dir = tempfile::tempdir().unwrap();
        writer(dir.path()).append(&entries).unwrap();
        check(dir.path(), &entries);
    }
}

#[test]
fn sizes_around_a_full_tile_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    for size in [1, 2, 254, 255, 256, 257, 511, 512, 513] {
        writer.append(&batch(writer.size(), size)).unwrap();
        check(dir.path(), &batch(0, size));
        assert_eq!(writer.root(), root_of(&batch(0, size)));
    }
}

#[test]
fn sizes_around_a_full_second_level_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    for size in [65_535, 65_536, 65_537, 65_800] {
        writer.append(&batch(writer.size(), size)).unwrap();
        check(dir.path(), &batch(0, size));
    }
    drop(writer);
    assert!(dir.path().join("tile/1/000").exists());
    assert!(dir.path().join("tile/2/000.p/1").exists());
    assert!(!dir.path().join("tile/1/000.p").exists());
    let mut writer = super::writer(dir.path());
    writer.append(&batch(65_800, 65_801)).unwrap();
    check(dir.path(), &batch(0, 65_801));
    let log = log(dir.path()).unwrap();
    for index in [0, 255, 256, 65_535, 65_536, 65_799, 65_800] {
        let entry = format!("entry {index}").into_bytes();
        let proof = log.inclusion_proof(index).unwrap();
        check_inclusion(&proof, log.size(), log.root(), index, &entry).unwrap();
    }
    for old in [1, 255, 256, 257, 65_535, 65_536, 65_537, 65_800] {
        log.check_extends(old, root_of(&batch(0, old))).unwrap();
    }
}

#[test]
fn the_files_are_those_of_the_format() {
    let dir = filled(300);
    let bundle = fs::read(dir.path().join("tile/entries/000")).unwrap();
    assert_eq!(bundle[..9], *b"\0\x07entry 0");
    assert_eq!(fs::read(dir.path().join("tile/0/000")).unwrap().len(), 256 * 32);
    assert_eq!(fs::read(dir.path().join("tile/0/001.p/44")).unwrap().len(), 44 * 32);
    assert_eq!(fs::read(dir.path().join("tile/1/000.p/1")).unwrap().len(), 32);
    assert!(dir.path().join("tile/entries/001.p/44").exists());
    let text = fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    let root = root_of(&batch(0, 300));
    assert!(text.starts_with(&format!("{ORIGIN}\n300\n{root}\n\n\u{2014} {ORIGIN} ")));
}

#[test]
fn partial_files_go_once_the_full_one_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    writer.append(&batch(0, 10)).unwrap();
    let old = log(dir.path()).unwrap();
    writer.append(&batch(10, 20)).unwrap();
    assert!(dir.path().join("tile/entries/000.p/10").exists());
    writer.append(&batch(20, 256)).unwrap();
    assert!(!dir.path().join("tile/entries/000.p").exists());
    assert!(!dir.path().join("tile/0/000.p").exists());
    // Who read the checkpoint before that goes on with the full files.
    assert_eq!(all(&old).unwrap(), batch(0, 10));
    assert_eq!(recomputed(&old).unwrap(), batch(0, 10));
}

#[test]
fn a_new_log_is_empty_and_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir.path().join("a/b"));
    assert_eq!(writer.append(&[]).unwrap(), 0..0);
    check(&dir.path().join("a/b"), &[]);
}

#[test]
fn entries_of_a_refused_length_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let bad = writer.append(&[vec![1], vec![]]);
    assert!(matches!(bad, Err(LogError::EmptyEntry { position: 1 })));
    let bad = writer.append(&[vec![1; MAX_ENTRY + 1]]);
    assert!(matches!(bad, Err(LogError::LongEntry { position: 0, length: 65_536 })));
    assert!(!dir.path().join("tile").exists());
    let entries = [vec![1; MAX_ENTRY], vec![2]];
    writer.append(&entries).unwrap();
    check(dir.path(), &entries);
}

#[test]
fn a_range_gives_its_entries_only() {
    let dir = filled(600);
    let log = log(dir.path()).unwrap();
    let some: Vec<_> = log.entries(250..520).unwrap().map(Result::unwrap).collect();
    assert_eq!(some.first().unwrap(), &(250, b"entry 250".to_vec()));
    assert_eq!(some.last().unwrap(), &(519, b"entry 519".to_vec()));
    assert_eq!(some.len(), 270);
    assert_eq!(log.entries(600..600).unwrap().count(), 0);
    assert!(matches!(log.entries(0..601).err(), Some(LogError::OutOfRange { size: 600, .. })));
    assert!(matches!(log.entries(u64::MAX..u64::MAX).err(), Some(LogError::OutOfRange { .. })));
}

#[test]
fn what_a_visitor_refuses_ends_the_reading() {
    let dir = filled(5);
    let mut seen = 0;
    let result = log(dir.path()).unwrap().verify_entries(&mut |_, _| {
        seen += 1;
        if seen == 3 { Err(LogError::Unsettled) } else { Ok(()) }
    });
    assert!(matches!(result, Err(LogError::Unsettled)));
    assert_eq!(seen, 3);
}
