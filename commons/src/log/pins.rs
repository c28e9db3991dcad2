//! What was seen of a log before, so that whoever looks twice notices a history that was rewritten.
//!
//! A log signs its checkpoints. One that shows a history to one reader and another history to the next, or forgets what it
//! showed, has signed two checkpoints that do not belong together: these two texts alone prove it to anybody who has its key.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::checkpoint;
use super::error::{KeyError, LogError};
use super::key::LogVerifier;
use super::reader::Log;
use super::source::Source;

/// What is wrong with a log that was seen before.
#[derive(Debug, Error)]
pub enum PinError {
    /// The log is not the one it was.
    #[error(
        "two checkpoints of one log that do not belong together; keep them, they prove it:\n--- before\n{before}--- now\n{now}---\n\
         the log {origin} has rewritten its history: {what}; both signed by {key}"
    )]
    Rewritten {
        /// The log's origin, which names its coordinator.
        origin: String,
        /// The log's key.
        key: String,
        /// In what way.
        what: String,
        /// The signed checkpoint that was kept.
        before: String,
        /// The signed checkpoint that was read now.
        now: String,
    },
    /// Another key for a log of the same name.
    #[error("the log {origin} is signed with the key {now}, and was signed with {before} before")]
    OtherKey {
        /// The log's origin, which names its coordinator.
        origin: String,
        /// The key it had.
        before: String,
        /// The key it has.
        now: String,
    },
    /// No key.
    #[error("the log's key: {0}")]
    Key(#[from] KeyError),
    /// The log itself.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file that keeps what was seen.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that holds something else.
    #[error("{0} does not hold what was seen of a log; if you know why, delete it")]
    Damaged(PathBuf),
}

impl PinError {
    /// Whether the log, and not this machine or the network, is to blame.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Rewritten { .. } | Self::OtherKey { .. })
    }
}

/// A folder that keeps the last checkpoint of every log that was looked at.
#[derive(Clone, Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// In a folder, which need not exist.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn path(&self, origin: &str) -> PathBuf {
        let name: String = Sha256::digest(origin).iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.join(name)
    }

    /// Holds a log against what was seen of it before, and keeps what is seen now. The number of entries it had then.
    ///
    /// # Errors
    /// [`PinError::Rewritten`] and [`PinError::OtherKey`] if it is not the same log any more: then what is kept stays.
    /// [`PinError::Log`] if its tiles do not show whether it is.
    pub fn check<S: Source>(&self, log: &Log<S>, verifier: &LogVerifier) -> Result<u64, PinError> {
        let path = self.path(verifier.origin());
        let io = |source| PinError::Io { path: path.clone(), source };
        let kept = match fs::read_to_string(&path) {
            Ok(kept) => Some(kept),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(io(e)),
        };
        let seen = match &kept {
            Some(kept) => self.extends(log, verifier, kept)?,
            None => 0,
        };
        let now = format!("{verifier}\n{}", log.checkpoint());
        if kept.as_ref() != Some(&now) {
            fs::create_dir_all(&self.0).map_err(io)?;
            let partial = path.with_extension(format!("{}.partial", std::process::id()));
            let written = fs::File::create(&partial).and_then(|mut file| {
                file.write_all(now.as_bytes())?;
                file.sync_all()
            });
            written.and_then(|()| fs::rename(&partial, &path)).map_err(io)?;
        }
        Ok(seen)
    }

    fn extends<S: Source>(&self, log: &Log<S>, verifier: &LogVerifier, kept: &str) -> Result<u64, PinError> {
        let origin = verifier.origin().to_owned();
        let damaged = || PinError::Damaged(self.path(&origin));
        let (key, text) = kept.split_once('\n').ok_or_else(damaged)?;
        if key != verifier.to_string() {
            return Err(PinError::OtherKey { origin, before: key.to_owned(), now: verifier.to_string() });
        }
        let before = checkpoint::verify(text.as_bytes().to_vec(), verifier).map_err(|_| damaged())?;
        let rewritten = |what: String| PinError::Rewritten {
            origin: origin.clone(),
            key: key.to_owned(),
            what,
            before: text.to_owned(),
            now: log.checkpoint().to_owned(),
        };
        if log.size() < before.size {
            let what = format!("it has {} entries, and had {}", log.size(), before.size);
            return Err(rewritten(what));
        }
        // Two roots of one size need no proof.
        let same_size = log.size() == before.size && log.root() != before.root;
        match log.check_extends(before.size, before.root) {
            Ok(()) if !same_size => Ok(before.size),
            Ok(()) | Err(LogError::NotConsistent { .. }) => {
                Err(rewritten(format!("its first {} entries are other ones than before", before.size)))
            }
            Err(e) => Err(e.into()),
        }
    }
}
