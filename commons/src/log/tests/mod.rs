#![allow(clippy::unwrap_used)]

mod growth;
mod keys;
mod pins;
mod proofs;
mod recovery;
mod tampering;

use std::fs;
use std::path::Path;

use tlog_tiles::node_hash;

use super::*;

const ORIGIN: &str = "example.com/log";

fn key() -> LogKey {
    LogKey::new(ORIGIN, &[7; 32]).unwrap()
}

fn writer(dir: &Path) -> Writer {
    Writer::open(dir, key()).unwrap()
}

fn log(dir: &Path) -> Result<Log<Folder>, LogError> {
    Log::open(Folder(dir.to_owned()), &key().verifier())
}

/// A new folder with a log of `count` entries.
fn filled(count: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    writer(dir.path()).append(&batch(0, count)).unwrap();
    dir
}

fn batch(start: u64, end: u64) -> Vec<Vec<u8>> {
    (start..end).map(|index| format!("entry {index}").into_bytes()).collect()
}

fn all(log: &Log<Folder>) -> Result<Vec<Vec<u8>>, LogError> {
    log.entries(0..log.size())?.map(|entry| Ok(entry?.1)).collect()
}

/// The entries by way of the whole tree's recomputation.
fn recomputed(log: &Log<Folder>) -> Result<Vec<Vec<u8>>, LogError> {
    let mut entries = Vec::new();
    log.verify_entries(&mut |index, entry| {
        assert_eq!(index, entries.len() as u64);
        entries.push(entry.to_vec());
        Ok::<(), LogError>(())
    })?;
    Ok(entries)
}

/// The root hash as RFC 6962 defines it, by plain recursion.
fn root_of(entries: &[Vec<u8>]) -> Hash {
    match entries {
        [] => tlog_tiles::EMPTY_HASH,
        [entry] => leaf_hash(entry),
        _ => {
            let (left, right) = entries.split_at(entries.len().next_power_of_two() / 2);
            node_hash(root_of(left), root_of(right))
        }
    }
}

/// Changes the bytes of a file.
fn alter(dir: &Path, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(path);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
}
