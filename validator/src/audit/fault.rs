//! What ends an audit early, and whose it is.

use watershed_commons::log::{LogError, SourceError};
use watershed_commons::record::RecordFault;
use watershed_protocol::market::Entry;
use watershed_protocol::{Digest, PublicKey, RunId, SystemTrouble, decode, told};

/// The first thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The log does not hold.
    #[error("the log: {0}")]
    Log(LogError),
    /// An entry does not follow from those before it.
    #[error("entry {index}{by}: {fault}")]
    Record { index: u64, by: String, fault: RecordFault },
    /// Something that the record names is not there, or is something else. Nobody that signed it is to blame for that.
    #[error(
        "{what}, the blob {name}, {why}: whoever serves this record must have it, so that others can compute it again"
    )]
    Blob { what: String, name: Digest, why: String },
    /// Another history than was shown before.
    #[error("{0}")]
    Rewritten(String),
    /// The record lacks what its coordinator promised to put there.
    #[error("{0}")]
    Promise(String),
    /// Sponsors' money should have come back.
    #[error(
        "the run {run} took pledges, no round ended for longer than its `funding.idle_seconds`, and it has not ended: signed by \
         the coordinator {coordinator}, who keeps what its sponsors should have back"
    )]
    Overdue { run: RunId, coordinator: PublicKey },
    /// Computing again gives something else.
    #[error("{0}")]
    Computed(String),
    /// It cannot be said: this machine or the network is in the way.
    #[error("{0}")]
    Unable(String),
}

impl Fault {
    /// For programs.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::Record { .. } => "record",
            Self::Blob { .. } => "blob",
            Self::Rewritten(_) => "rewritten",
            Self::Promise(_) => "promise",
            Self::Overdue { .. } => "overdue",
            Self::Computed(_) => "computed",
            Self::Unable(_) => "unable",
        }
    }
}

/// A file of the log that could not be read or fetched says nothing against the log.
impl From<LogError> for Fault {
    fn from(e: LogError) -> Self {
        match e {
            LogError::Io { .. } | LogError::Source { source: SourceError::Other(_), .. } => unable(told(&e)),
            e => Self::Log(e),
        }
    }
}

/// What is wrong with a computation is told as text, with who signed it; a refusal of the system is not what is wrong.
impl From<String> for Fault {
    fn from(text: String) -> Self {
        match SystemTrouble::said(&text) {
            Some(trouble) => unable(format!("{text}; {}", trouble.advice())),
            None => Self::Computed(text),
        }
    }
}

/// Who signed what is wrong.
pub(super) fn blame(bytes: &[u8]) -> String {
    match decode::<Entry>(bytes) {
        Ok(Entry::Message { envelope }) => {
            format!(", signed by {} and taken by the coordinator", envelope.claimed_signer())
        }
        Ok(_) => ", signed by the coordinator".to_owned(),
        Err(_) => String::new(),
    }
}

/// For what keeps the audit from going on.
pub(super) fn unable(e: impl std::fmt::Display) -> Fault {
    Fault::Unable(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_cannot_read_is_nobody_s_fault() {
        let full = std::io::Error::from_raw_os_error(24);
        let source = LogError::Source { path: "tile/0".to_owned(), source: SourceError::other(full) };
        assert_eq!(Fault::from(source).kind(), "unable");
        assert_eq!(Fault::from(LogError::NoCheckpoint).kind(), "log");
        let denied = std::io::Error::from_raw_os_error(13);
        assert_eq!(Fault::from(format!("the shard x: {denied}")).kind(), "unable");
        assert_eq!(Fault::from("other parameters".to_owned()).kind(), "computed");
    }
}
