//! Scenarios over real files in a temporary folder.

mod jsonl;
mod list;
mod markdown;
mod parquet;

use std::path::{Path, PathBuf};

use super::*;

/// Writes a file below `folder`, with the folders it needs.
fn write(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

/// The one file that is listed below `root`.
fn only_file(root: &Path) -> SourceFile {
    let listing = list(&[root.to_owned()]).unwrap();
    assert_eq!(listing.files.len(), 1, "{listing:?}");
    listing.files[0].clone()
}

/// All records and refusals of a file of this content.
fn read_all(name: &str, content: &[u8], mapping: &Mapping, limits: Limits) -> Vec<Result<Record, Refusal>> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), name, content);
    read(&only_file(folder.path()), mapping, limits, 0).unwrap().collect()
}

/// As [`read_all`], with nothing but the defaults.
fn read_plainly(name: &str, content: &[u8]) -> Vec<Result<Record, Refusal>> {
    read_all(name, content, &Mapping::default(), Limits::default())
}

/// The only item, which is a record.
fn only(items: Vec<Result<Record, Refusal>>) -> Record {
    let [item] = <[_; 1]>::try_from(items).unwrap();
    item.unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
