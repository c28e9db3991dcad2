//! Writing a log's folder so that a kill or a power cut at any moment leaves whole files only.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::LogError;

const LOCK: &str = ".lock";

// One name for all files under way: there is one writer, and what a kill leaves is overwritten.
const NEXT: &str = ".next";

/// A folder that only this process writes to.
pub(super) struct Files {
    root: PathBuf,
    unsynced: BTreeSet<PathBuf>,
    // Unlocked when closed, also by a kill.
    _lock: File,
}

impl Files {
    /// Opens or makes the folder and locks it against other writers.
    pub(super) fn open(root: &Path) -> Result<Files, LogError> {
        make_folder(root)?;
        let path = root.join(LOCK);
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(|source| failed("open", &path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::Locked(root.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path, source)),
        }
        // What a killed writer renamed may be seen before it is on the disk; it is to be relied on from here.
        sync_folder(root)?;
        Ok(Files { root: root.to_owned(), unsynced: BTreeSet::new(), _lock: lock })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a file or folder is there.
    pub(super) fn has(&self, path: &str) -> Result<bool, LogError> {
        let path = self.root.join(path);
        path.try_exists().map_err(|source| failed("look at", &path, source))
    }

    /// Writes a whole file in place of any old one; [`Files::sync`] makes sure that it stays.
    pub(super) fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), LogError> {
        let path = self.root.join(path);
        let folder = path.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let next = self.root.join(NEXT);
        let mut file = File::create(&next).map_err(|source| failed("make", &next, source))?;
        file.write_all(bytes).map_err(|source| failed("write", &next, source))?;
        file.sync_all().map_err(|source| failed("sync", &next, source))?;
        drop(file);
        fs::rename(&next, &path).map_err(|source| failed("write", &path, source))?;
        self.unsynced.insert(folder.to_owned());
        Ok(())
    }

    /// Brings all names written so far to the disk.
    pub(super) fn sync(&mut self) -> Result<(), LogError> {
        for folder in &self.unsynced {
            sync_folder(folder)?;
        }
        self.unsynced.clear();
        Ok(())
    }

    /// Deletes a folder if it is there.
    pub(super) fn remove_folder(&self, path: &str) -> Result<(), LogError> {
        let path = self.root.join(path);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(failed("delete", &path, source)),
            _ => Ok(()),
        }
    }
}

fn make_folder(path: &Path) -> Result<(), LogError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    };
    if parent != path {
        make_folder(parent)?;
    }
    match fs::create_dir(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(failed("make", path, source))
        }
        _ => sync_folder(parent),
    }
}

// Elsewhere a folder cannot be opened as a file, and renames are not known to need this.
fn sync_folder(path: &Path) -> Result<(), LogError> {
    if cfg!(unix) {
        let folder = File::open(path).map_err(|source| failed("open", path, source))?;
        folder.sync_all().map_err(|source| failed("sync", path, source))?;
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> LogError {
    LogError::Io { action, path: path.to_owned(), source }
}
