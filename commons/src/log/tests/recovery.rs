//! Going on after a kill.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// The state after a kill: the files of a longer log with the checkpoint of a shorter one.
fn killed(published: u64, written: u64) -> tempfile::TempDir {
    let dir = filled(published);
    let old = fs::read(dir.path().join("checkpoint")).unwrap();
    writer(dir.path()).append(&batch(published, written)).unwrap();
    fs::write(dir.path().join("checkpoint"), old).unwrap();
    fs::write(dir.path().join(".next"), "half a fi").unwrap();
    dir
}

#[test]
fn the_checkpoint_is_what_counts_after_a_kill() {
    let sizes = [(0, 5), (3, 5), (3, 256), (3, 700), (256, 300), (300, 511), (300, 512), (513, 65_537)];
    for (published, written) in sizes {
        for next in [1, 200, 256, 600] {
            // The larger trees take long to write, and one step on shows enough.
            if written > 1000 && next != 256 {
                continue;
            }
            let dir = killed(published, written);
            let mut writer = writer(dir.path());
            assert_eq!(writer.size(), published);
            assert_eq!(all(&log(dir.path()).unwrap()).unwrap(), batch(0, published));
            let others = batch(1_000_000, 1_000_000 + next);
            assert_eq!(writer.append(&others).unwrap(), published..published + next);
            let expected = [batch(0, published), others].concat();
            let log = log(dir.path()).unwrap();
            assert_eq!(log.root(), root_of(&expected));
            assert!(all(&log).unwrap() == expected);
            assert!(recomputed(&log).unwrap() == expected);
            for old in [1, published, published + next] {
                log.check_extends(old, root_of(&expected[..old as usize])).unwrap();
            }
        }
    }
}

#[test]
fn what_was_published_never_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let mut older = Vec::new();
    for size in [1, 40, 255, 256, 300, 520] {
        writer.append(&batch(writer.size(), size)).unwrap();
        older.push(log(dir.path()).unwrap());
        for log in &older {
            assert_eq!(all(log).unwrap(), batch(0, log.size()));
        }
    }
}

#[test]
fn a_second_writer_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = writer(dir.path());
    assert!(matches!(Writer::open(dir.path(), key()).err(), Some(LogError::Locked(_))));
    drop(first);
    writer(dir.path());
}

#[test]
fn a_lost_checkpoint_does_not_begin_the_log_anew() {
    let dir = filled(3);
    fs::remove_file(dir.path().join("checkpoint")).unwrap();
    assert!(matches!(Writer::open(dir.path(), key()).err(), Some(LogError::CheckpointLost(_))));
}

#[test]
fn a_log_of_another_key_is_not_gone_on_with() {
    let dir = filled(3);
    let other = LogKey::new(ORIGIN, &[8; 32]).unwrap();
    assert!(matches!(Writer::open(dir.path(), other).err(), Some(LogError::NotSigned(_))));
}

#[test]
fn a_damaged_log_is_not_gone_on_with() {
    let dir = filled(3);
    alter(dir.path(), "tile/entries/000.p/3", |bytes| bytes[5] ^= 1);
    assert!(matches!(Writer::open(dir.path(), key()).err(), Some(LogError::Altered(_))));
    let dir = filled(3);
    alter(dir.path(), "tile/0/000.p/3", |bytes| bytes[5] ^= 1);
    assert!(matches!(Writer::open(dir.path(), key()).err(), Some(LogError::AlteredEdge)));
}

#[test]
fn a_failed_append_leaves_the_log_as_it_was() {
    let dir = filled(3);
    let mut writer = writer(dir.path());
    // A folder in a file's place makes the rename fail.
    let place = dir.path().join("tile/entries/000.p/5");
    fs::create_dir(&place).unwrap();
    assert!(matches!(writer.append(&batch(3, 5)), Err(LogError::Io { .. })));
    assert_eq!(writer.size(), 3);
    fs::remove_dir(&place).unwrap();
    assert_eq!(writer.append(&batch(3, 5)).unwrap(), 3..5);
    assert_eq!(all(&log(dir.path()).unwrap()).unwrap(), batch(0, 5));
}

#[test]
fn a_failed_checkpoint_ends_the_writer() {
    let dir = filled(3);
    let mut writer = writer(dir.path());
    let place = dir.path().join("checkpoint");
    let old = fs::read(&place).unwrap();
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    assert!(matches!(writer.append(&batch(3, 5)), Err(LogError::Io { .. })));
    fs::remove_dir(&place).unwrap();
    fs::write(&place, old).unwrap();
    assert!(matches!(writer.append(&batch(3, 5)), Err(LogError::Unsettled)));
    drop(writer);
    assert_eq!(super::writer(dir.path()).append(&batch(3, 4)).unwrap(), 3..4);
}

/// The paths, from the log's folder on, of all tiles and bundles.
fn files(dir: &Path, below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.join(below)).into_iter().flatten() {
        let entry = entry.unwrap();
        let path = format!("{below}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            found.extend(files(dir, &path));
        } else {
            found.push(PathBuf::from(path));
        }
    }
    found
}

fn copy(from: &Path, to: &Path, path: &Path) {
    fs::create_dir_all(to.join(path).parent().unwrap()).unwrap();
    fs::copy(from.join(path), to.join(path)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_part_of_a_batch_may_lie_there_after_a_kill(
        published in 0..600_u64,
        written in 1..600_u64,
        next in 1..600_u64,
        part in prop::collection::vec(any::<bool>(), 16),
    ) {
        let dir = filled(published);
        let longer = tempfile::tempdir().unwrap();
        let others = batch(2_000_000, 2_000_000 + written);
        writer(longer.path()).append(&[batch(0, published), others].concat()).unwrap();
        let new = files(longer.path(), "tile");
        for (path, _) in new.iter().zip(part.iter().cycle()).filter(|(_, copied)| **copied) {
            if !dir.path().join(path).exists() {
                copy(longer.path(), dir.path(), path);
            }
        }
        let mut writer = writer(dir.path());
        let before = log(dir.path()).unwrap();
        prop_assert!(all(&before).unwrap() == batch(0, published));
        writer.append(&batch(published, published + next)).unwrap();
        let expected = batch(0, published + next);
        prop_assert_eq!(writer.root(), root_of(&expected));
        prop_assert!(all(&before).unwrap() == batch(0, published));
        let after = log(dir.path()).unwrap();
        prop_assert!(all(&after).unwrap() == expected);
        prop_assert!(recomputed(&after).unwrap() == expected);
    }
}
