//! A folder that one process has at a time, and which process that is.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Longest note of a holder that is read.
const NOTE: u64 = 200;

/// Held for as long as it lives; let go of with the process, however that ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Who has a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { f.write_str("another process") } else { f.write_str(&self.0) }
    }
}

/// Why a folder was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {holder}; stop that first, or choose another folder with --data", folder.display())]
    InUse {
        /// Which folder.
        folder: PathBuf,
        /// By whom.
        holder: Holder,
    },
    /// The file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// This process, as the others are told of it.
fn me() -> String {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    format!("process {} ({})", std::process::id(), name.unwrap_or_else(|| "watershed".to_owned()))
}

impl FolderLock {
    /// Takes `folder`, which must be there, by the file `name` in it.
    ///
    /// # Errors
    /// [`LockError`]; it never waits.
    pub fn take(folder: &Path, name: &str) -> Result<Self, LockError> {
        let path = folder.join(name);
        let failed = |source| LockError::File { path: path.clone(), source };
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // Only to be told to others: a disk that is full does not keep anybody from what is his.
                let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", me()));
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut note = String::new();
                let _ = file.take(NOTE).read_to_string(&mut note);
                let readable = note.starts_with("process ") && !note.chars().any(char::is_control);
                let holder = Holder(if readable { note } else { String::new() });
                Err(LockError::InUse { folder: folder.to_owned(), holder })
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_at_once_who_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let held = FolderLock::take(dir.path(), "lock").unwrap();
        let refused = FolderLock::take(dir.path(), "lock").unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(refused.contains("--data"), "{refused}");
        // Of an older program, which wrote nothing.
        std::fs::write(dir.path().join("lock"), "").unwrap();
        let refused = FolderLock::take(dir.path(), "lock").unwrap_err().to_string();
        assert!(refused.contains("another process"), "{refused}");
        drop(held);
        FolderLock::take(dir.path(), "lock").unwrap();
        let missing = FolderLock::take(&dir.path().join("none"), "lock").unwrap_err();
        assert!(matches!(missing, LockError::File { .. }));
    }
}
