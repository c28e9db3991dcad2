//! Files that are not those that were signed.

use proptest::prelude::*;
use tlog_tiles::Tile;

use super::*;

/// Opens the log and reads all of it in every way.
fn read(dir: &Path) -> Result<(), LogError> {
    let log = log(dir)?;
    all(&log)?;
    recomputed(&log)?;
    for index in 0..log.size() {
        log.inclusion_proof(index)?;
    }
    Ok(())
}

fn signed(size: u64, origin: &str) -> Vec<u8> {
    let root = leaf_hash(b"root");
    let note = tlog_tiles::Checkpoint::new(origin, size, root, "").unwrap();
    let mut note = signed_note::Note::new(&note.to_bytes(), &[]).unwrap();
    note.add_sigs(&[&key()]).unwrap();
    note.to_bytes()
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let paths = [
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/8",
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/8",
        "tile/1/000.p/2",
        "checkpoint",
    ];
    let dir = filled(520);
    read(dir.path()).unwrap();
    for path in paths {
        let place = dir.path().join(path);
        let whole = fs::read(&place).unwrap();
        for at in [0, 3, whole.len() / 2, whole.len() - 2] {
            alter(dir.path(), path, |bytes| bytes[at] ^= 2);
            assert!(read(dir.path()).is_err(), "{path} at {at}");
            fs::write(&place, &whole).unwrap();
        }
        alter(dir.path(), path, |bytes| bytes.truncate(whole.len() - 1));
        assert!(read(dir.path()).is_err(), "{path} cut");
        alter(dir.path(), path, |bytes| bytes.extend([0, 0]));
        assert!(read(dir.path()).is_err(), "{path} drawn out");
        fs::remove_file(&place).unwrap();
        assert!(read(dir.path()).is_err(), "{path} gone");
        fs::write(&place, &whole).unwrap();
    }
    read(dir.path()).unwrap();
}

#[test]
fn errors_say_what_is_wrong() {
    let dir = filled(300);
    let at = |path: &str| dir.path().join(path);
    let fails = |path: &str, bytes: &[u8], expected: fn(&LogError) -> bool| {
        let whole = fs::read(at(path)).unwrap();
        fs::write(at(path), bytes).unwrap();
        let error = read(dir.path()).unwrap_err();
        assert!(expected(&error), "{path}: {error:?}");
        fs::write(at(path), whole).unwrap();
    };
    let bundle = fs::read(at("tile/entries/001.p/44")).unwrap();
    let too_long =
        |error: &LogError| matches!(error, LogError::Source { source: SourceError::TooLong { .. }, .. });
    fails("tile/0/000", &[0; 31], |error| matches!(error, LogError::TileLength { expected: 8192, .. }));
    fails("tile/0/000", &[0; 8192], |error| matches!(error, LogError::Altered(path) if path == "tile/0/000"));
    fails("tile/0/000", &[0; 8193], too_long);
    fails("tile/0/001.p/44", &[0; 44 * 32], |error| matches!(error, LogError::AlteredEdge));
    fails("tile/entries/001.p/44", &bundle[..bundle.len() - 1], |error| {
        matches!(error, LogError::BundleCut { entry: 43, .. })
    });
    fails("tile/entries/001.p/44", &bundle[..1], |error| {
        matches!(error, LogError::BundleCut { entry: 0, .. })
    });
    fails("tile/entries/001.p/44", &[&bundle[..], &[0]].concat(), |error| {
        matches!(error, LogError::BundleRest { extra: 1, .. })
    });
    fails("tile/entries/001.p/44", &vec![0; 44 * 65_537 + 1], too_long);
    fails(
        "tile/entries/001.p/44",
        &[&bundle[..2], b"x", &bundle[3..]].concat(),
        |error| matches!(error, LogError::Altered(path) if path == "tile/entries/001.p/44"),
    );
    fails("checkpoint", b"<html></html>", |error| matches!(error, LogError::MalformedCheckpoint));
    fails("checkpoint", &[], |error| matches!(error, LogError::MalformedCheckpoint));
    fails("checkpoint", &vec![b'a'; MAX_CHECKPOINT + 1], too_long);
    fails("checkpoint", &signed(3, "example.org/log"), |error| matches!(error, LogError::WrongOrigin { .. }));
    fails("checkpoint", &signed(3, ORIGIN), |error| matches!(error, LogError::AlteredEdge));
    fails("checkpoint", &signed(0, ORIGIN), |error| matches!(error, LogError::MalformedCheckpoint));
    fails("checkpoint", &signed(MAX_SIZE + 1, ORIGIN), |error| matches!(error, LogError::TooLarge(_)));
    fails("checkpoint", &signed(u64::MAX, ORIGIN), |error| matches!(error, LogError::TooLarge(_)));
    fails("checkpoint", &signed(MAX_SIZE, ORIGIN), |error| matches!(error, LogError::Missing(_)));
    let text = fs::read_to_string(at("checkpoint")).unwrap();
    fails("checkpoint", text.replace("\n300\n", "\n299\n").as_bytes(), |error| {
        matches!(error, LogError::FalseSignature(_))
    });
    fails("checkpoint", text.replace(&format!(" {ORIGIN} "), " example.org ").as_bytes(), |error| {
        matches!(error, LogError::NotSigned(_))
    });
    fs::remove_file(at("tile/0/000")).unwrap();
    assert!(matches!(read(dir.path()), Err(LogError::Missing(path)) if path == "tile/0/000"));
    fs::remove_file(at("checkpoint")).unwrap();
    assert!(matches!(read(dir.path()), Err(LogError::NoCheckpoint)));
}

#[test]
fn entries_alone_are_held_against_the_root() {
    let dir = filled(300);
    fs::remove_dir_all(dir.path().join("tile/0")).unwrap();
    fs::remove_dir_all(dir.path().join("tile/1")).unwrap();
    assert_eq!(recomputed(&log(dir.path()).unwrap()).unwrap(), batch(0, 300));
    alter(dir.path(), "tile/entries/000", |bytes| bytes[4] ^= 1);
    assert!(matches!(recomputed(&log(dir.path()).unwrap()), Err(LogError::AlteredEntries)));
}

/// Forges an entry with all the full tiles above it, which only the right edge of the tree can refute.
///
/// With 65539 entries that edge has three nodes in two tiles.
#[test]
fn tiles_forged_to_fit_one_another_are_found() {
    let dir = filled(65_539);
    let forged = b"evil! 0";
    alter(dir.path(), "tile/entries/000", |bytes| bytes[2..9].copy_from_slice(forged));
    alter(dir.path(), "tile/0/000", |bytes| bytes[..32].copy_from_slice(&leaf_hash(forged).0));
    let tile = fs::read(dir.path().join("tile/0/000")).unwrap();
    let parent = Tile::subtree_hash(&tile).0;
    alter(dir.path(), "tile/1/000", |bytes| bytes[..32].copy_from_slice(&parent));
    let log = log(dir.path()).unwrap();
    let altered = |error| matches!(error, Some(LogError::Altered(path)) if path == "tile/1/000");
    assert!(altered(log.entries(0..1).unwrap().next().and_then(Result::err)));
    assert!(altered(log.inclusion_proof(0).err()));
    assert!(altered(log.inclusion_proof(300).err()));
    assert!(altered(log.consistency_proof(1).err()));
    log.inclusion_proof(65_538).unwrap();
}

#[test]
fn a_folder_gives_only_its_own_files() {
    let dir = filled(1);
    let folder = Folder(dir.path().join("tile"));
    assert!(folder.get("../checkpoint", 1000).is_err());
    assert!(folder.get(dir.path().join("checkpoint").to_str().unwrap(), 1000).is_err());
    assert!(folder.get("entries", 1000).is_err());
    assert!(folder.get("entries/001", 1000).unwrap().is_none());
}

/// A source with the same bytes for every path, which heeds no limit.
struct Noise(Vec<u8>, Vec<u8>);

impl Source for Noise {
    fn get(&self, path: &str, _limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(Some(if path == "checkpoint" { self.0.clone() } else { self.1.clone() }))
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        size in prop_oneof![0..600_u64, any::<u64>(), Just(MAX_SIZE)],
        noise in prop::collection::vec(any::<u8>(), 0..9000),
        index: u64,
    ) {
        prop_assert!(Log::open(Noise(noise.clone(), vec![]), &key().verifier()).is_err());
        if let Ok(log) = Log::open(Noise(signed(size, ORIGIN), noise), &key().verifier()) {
            prop_assert!(log.inclusion_proof(index % (size + 1)).is_err());
            prop_assert!(log.entries(0..size).is_err());
            prop_assert!(log.check_extends(index % size, leaf_hash(b"old")).is_err());
            prop_assert!(log.verify_entries::<LogError>(&mut |_, _| Ok(())).is_err());
        }
    }
}
