//! Any single flipped byte is detected, and named.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{change, shards, snapshot, store, words};
use watershed_protocol::data::{ConsentTier, Register};
use watershed_shards::library::Library;
use watershed_shards::verify::{Severity, verify};

/// Every file of the library but the catalogue, which SQLite keeps, and the keys.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("keys") {
            files.extend(self::files(&path));
        } else if path.is_file() && !path.file_name().unwrap().to_string_lossy().starts_with("catalogue") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A library with a few short texts, a change of consent, a withdrawal, a snapshot and shards.
fn small() -> (tempfile::TempDir, Library) {
    let folder = tempfile::tempdir().unwrap();
    let mut library = Library::open(folder.path()).unwrap();
    for (i, register) in
        [Register::Oral, Register::Oral, Register::Lyric, Register::Technical].iter().enumerate()
    {
        let id = store(&mut library, &words(i as u64, 12), *register, ConsentTier::Train);
        if i == 1 {
            change(&mut library, id, ConsentTier::TrainIndex);
        }
    }
    let gone = store(&mut library, &words(9, 12), Register::Lyric, ConsentTier::Train);
    let taken = snapshot(&library);
    shards(&library, &taken);
    change(&mut library, gone, ConsentTier::None);
    assert!(verify(&library, true, &|_| ()).unwrap().findings.is_empty());
    (folder, library)
}

#[test]
fn every_flipped_byte_is_detected_and_its_file_named() {
    let (folder, library) = small();
    let (mut flips, mut kinds) = (0, std::collections::BTreeSet::new());
    for path in files(folder.path()) {
        let good = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        kinds.insert(
            path.strip_prefix(folder.path()).unwrap().components().next().unwrap().as_os_str().to_owned(),
        );
        // What names the file: its own name, or for parts of a set the set's.
        let set = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            // Files of a library are never written in place: this one is mapped.
            fs::remove_file(&path).unwrap();
            fs::write(&path, &bad).unwrap();
            let found = verify(&library, false, &|_| ()).unwrap();
            let names = |text: &str| text.contains(&name) || (set.len() == 64 && text.contains(&set));
            let named = found.findings.iter().any(|f| {
                f.severity == Severity::Damage && (names(&f.path.to_string_lossy()) || names(&f.problem))
            });
            assert!(named, "{} byte {at}: {:?}", path.display(), found.findings);
            flips += 1;
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(verify(&library, false, &|_| ()).unwrap().findings.is_empty());
    assert_eq!(kinds.len(), 5, "manifests, texts, snapshots, sets, shards: {kinds:?}");
    assert!(flips > 3000, "{flips}");
}

#[test]
fn a_missing_file_is_detected_and_named() {
    let (folder, library) = small();
    for path in files(folder.path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let found = verify(&library, false, &|_| ()).unwrap();
        // A whole snapshot or set can be deleted; what then lacks it is named.
        let whole = path.parent().unwrap().ends_with("snapshots") || name == "set";
        assert!(whole || !found.sound(), "{}", path.display());
        fs::write(&path, &good).unwrap();
    }
    assert!(verify(&library, false, &|_| ()).unwrap().findings.is_empty());
}

#[test]
fn tokens_that_are_not_of_the_text_are_found_by_tokenising_again() {
    let (folder, library) = small();
    // A forger who can write files makes a set whose hashes all fit, with other tokens: exchange the tokens of two deposits
    // of equal length in the shard, and name everything anew.
    let open = files(folder.path()).into_iter().find(|p| p.ends_with("set")).unwrap();
    let id: watershed_protocol::ShardSetId =
        open.parent().unwrap().file_name().unwrap().to_string_lossy().parse().unwrap();
    let forged = common_forge(&library, id);
    let found = verify(&library, false, &|_| ()).unwrap();
    assert!(found.findings.is_empty(), "hashes alone cannot tell: {:?}", found.findings);
    let found = verify(&library, true, &|_| ()).unwrap();
    assert!(found.findings.iter().any(|f| f.path.to_string_lossy().contains(&forged.to_string())));
}

/// Writes a set like `id` whose first shard has its tokens reversed.
fn common_forge(library: &Library, id: watershed_protocol::ShardSetId) -> watershed_protocol::ShardSetId {
    use sha2::{Digest as _, Sha256};
    use watershed_protocol::{Digest, encode};
    use watershed_shards::shard::OpenSet;
    let root = library.store().root();
    let place = |sha256: Digest| {
        let name = sha256.to_string();
        root.join("shards").join(&name[..2]).join(&name)
    };
    let mut set = OpenSet::open(library.store(), id).unwrap().set().clone();
    let mut bytes = fs::read(place(set.streams[0].shards[0].sha256)).unwrap();
    let tokens: Vec<u8> = bytes[64..].as_chunks::<2>().0.iter().rev().flatten().copied().collect();
    bytes.splice(64.., tokens);
    let sha256 = Digest(Sha256::digest(&bytes).into());
    fs::create_dir_all(place(sha256).parent().unwrap()).unwrap();
    fs::write(place(sha256), &bytes).unwrap();
    set.streams[0].shards[0].sha256 = sha256;
    let forged = set.id().unwrap();
    let folder = root.join("sets").join(forged.to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::copy(root.join("sets").join(id.to_string()).join("index"), folder.join("index")).unwrap();
    fs::write(folder.join("set"), encode(&set).unwrap()).unwrap();
    forged
}
