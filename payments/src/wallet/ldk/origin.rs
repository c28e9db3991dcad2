//! Copies of a wallet's folder: whoever starts an old one can lose everything that is in channels.
//!
//! Nothing in a folder can tell that the folder as a whole is older than another. So it remembers where it is and how often it
//! was started: a copy that is found elsewhere is held against the one it was made from, if that is on this machine, and the
//! newer one wins. A copy from another machine, or one put back in its own place, is seen only by a peer, who proves it when it is
//! connected to; LDK ends there, and from then on the folder is known to be an old copy (see [`condemn`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::private::write_private;
use crate::lock::{FolderLock, LockError};
use crate::wallet::WalletError;

/// Where the folder was last started, and how often it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    folder: PathBuf,
    starts: u64,
}

/// The name of the wallet's lock.
pub(super) const LOCK: &str = "lock";

fn path(data: &Path) -> PathBuf {
    data.join("origin.toml")
}

/// There if the folder is an old copy; says why that is known.
fn verdict(data: &Path) -> PathBuf {
    data.join("old-copy.txt")
}

fn read(data: &Path) -> Result<Option<Origin>, WalletError> {
    let path = path(data);
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map(Some)
            .map_err(|e| WalletError::Config { path, reason: e.message().to_owned() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WalletError::File { path, source }),
    }
}

/// Marks a folder as an old copy that is never started again.
///
/// # Errors
/// [`WalletError::File`].
pub(crate) fn condemn(data: &Path, why: &str) -> Result<(), WalletError> {
    write_private(&verdict(data), format!("{why}\n").as_bytes())
}

/// Whether both folders have the wallet of the same words.
fn is_same(one: &Path, other: &Path) -> bool {
    let words = |data: &Path| std::fs::read(data.join("seed.txt")).ok();
    words(one).is_some() && words(one) == words(other)
}

/// Notes a start of the wallet in `data`, whose lock the caller has, after it was held against the folder it was copied from.
///
/// # Errors
/// [`WalletError::OldCopy`] if this folder must not be started; [`WalletError::CopyInUse`] while the other one runs.
pub(super) fn note_start(data: &Path) -> Result<(), WalletError> {
    let condemned = verdict(data);
    match std::fs::read_to_string(&condemned) {
        Ok(why) => return Err(WalletError::OldCopy { folder: data.to_owned(), why: why.trim().to_owned() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(WalletError::File { path: condemned, source }),
    }
    let failed = |source| WalletError::File { path: data.to_owned(), source };
    let here = data.canonicalize().map_err(failed)?;
    let known = read(data)?;
    let starts = known.as_ref().map_or(0, |origin| origin.starts);
    if let Some(Origin { folder: there, .. }) = known.filter(|origin| origin.folder != here)
        && is_same(data, &there)
    {
        let _held = match FolderLock::take(&there, LOCK) {
            Ok(held) => held,
            Err(LockError::InUse { holder, .. }) => {
                return Err(WalletError::CopyInUse { folder: data.to_owned(), of: there, holder });
            }
            Err(LockError::File { path, source }) => return Err(WalletError::File { path, source }),
        };
        if read(&there)?.is_some_and(|origin| origin.starts > starts) {
            let why = format!("it is older than {}, which was used since it was copied", there.display());
            return Err(WalletError::OldCopy { folder: data.to_owned(), why });
        }
        condemn(&there, &format!("it was copied to {}, which was used since", here.display()))?;
    }
    let origin = Origin { folder: here, starts: starts.saturating_add(1) };
    let text = toml::to_string(&origin)
        .map_err(|e| WalletError::Config { path: path(data), reason: e.to_string() })?;
    write_private(&path(data), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }

    fn wallet(folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("seed.txt"), "words").unwrap();
        folder.to_owned()
    }

    #[test]
    fn of_a_wallet_and_its_copy_only_the_newer_starts() {
        let dir = tempfile::tempdir().unwrap();
        let (first, copied) = (wallet(&dir.path().join("first")), dir.path().join("copied"));
        note_start(&first).unwrap();
        copy(&first, &copied);
        note_start(&first).unwrap();
        let refused = note_start(&copied).unwrap_err();
        assert!(matches!(&refused, WalletError::OldCopy { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("never start") && text.contains(&*first.to_string_lossy()), "{text}");
        note_start(&first).unwrap();

        // Moved by copying, and used there: now the first is the old one, and stays it.
        let moved = dir.path().join("moved");
        copy(&first, &moved);
        note_start(&moved).unwrap();
        for _ in 0..2 {
            let refused = note_start(&first).unwrap_err().to_string();
            assert!(refused.contains(&*moved.to_string_lossy()), "{refused}");
        }
        note_start(&moved).unwrap();
    }

    #[test]
    fn a_copy_of_a_wallet_that_runs_is_told_so_and_one_that_was_moved_starts() {
        let dir = tempfile::tempdir().unwrap();
        let (first, copied) = (wallet(&dir.path().join("first")), dir.path().join("copied"));
        note_start(&first).unwrap();
        copy(&first, &copied);
        let held = FolderLock::take(&first, LOCK).unwrap();
        let refused = note_start(&copied).unwrap_err();
        assert!(matches!(&refused, WalletError::CopyInUse { .. }), "{refused}");
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(held);

        let renamed = dir.path().join("renamed");
        std::fs::rename(&first, &renamed).unwrap();
        note_start(&renamed).unwrap();
        // Another wallet in the old place says nothing of this one.
        std::fs::create_dir(&first).unwrap();
        std::fs::write(first.join("seed.txt"), "other words").unwrap();
        note_start(&renamed).unwrap();
    }

    #[test]
    fn what_a_peer_proved_to_be_old_is_never_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = wallet(dir.path());
        note_start(&first).unwrap();
        condemn(&first, "a peer proved it").unwrap();
        for _ in 0..2 {
            assert!(note_start(&first).unwrap_err().to_string().contains("a peer proved it"));
        }
    }
}
