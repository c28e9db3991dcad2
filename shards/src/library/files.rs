//! Files named by what is in them, below one folder. A file is written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

/// A file that could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl FileError {
    /// Names the file that an error is about.
    pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// `folder/ab/abcd…`: a million files do not lie in one folder.
pub(crate) fn sharded(folder: &Path, name: &str) -> PathBuf {
    folder.join(name.get(..2).unwrap_or(name)).join(name)
}

/// Writes a file so that it is there whole, and on the disk, or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_folder(folder)?;
    let wrap = FileError::at("write", path);
    let written = (|| {
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        persist(file, path)
    })();
    written.map_err(wrap)
}

/// Gives a finished temporary file its name.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_data()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Creates a folder and those above it.
pub(crate) fn create_folder(folder: &Path) -> Result<(), FileError> {
    fs::create_dir_all(folder).map_err(FileError::at("create", folder))
}

/// The bytes of a file, `None` if there is none. Reads at most `limit` bytes and one more, which tells the caller.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(FileError::at("open", path))?,
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(FileError::at("read", path))?;
    Ok(Some(bytes))
}

/// Removes a file if it is there; whether it was.
pub(crate) fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FileError::at("remove", path)(e)),
    }
}

/// Names of the files in a folder and the folders directly below it that have the form of 64 hex digits, with `suffix`,
/// sorted; no folder is an empty one.
pub(crate) fn names(folder: &Path, suffix: &str) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    let entries = walkdir::WalkDir::new(folder).min_depth(1).max_depth(2).follow_links(false);
    for entry in entries {
        let entry = match entry {
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => continue,
            Err(e) => return Err(FileError::at("list", folder)(e.into())),
            Ok(entry) => entry,
        };
        let name = entry.file_name().to_str().and_then(|n| n.strip_suffix(suffix));
        let is_hash = |n: &&str| n.len() == 64 && n.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if let Some(name) = name.filter(is_hash) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
