//! What can go wrong with a log.

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why an origin name or a verifier key was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The origin is empty, too long, or has characters that a signed note cannot carry.
    #[error(
        "the origin {0:?} cannot name a log: use 1 to 255 bytes with no blanks, no plus sign and no control \
         characters, such as example.com/log"
    )]
    Origin(String),
    /// The text is no Ed25519 verifier key.
    #[error(
        "this is no verifier key ({0}): give the log's whole line, origin+hash+key, as its operator gives it"
    )]
    Verifier(#[source] signed_note::VerifierError),
}

/// Why a source could not give a file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file has more bytes than were asked for.
    #[error("it has more than the {limit} bytes that such a file may have")]
    TooLong {
        /// The most bytes that were allowed.
        limit: usize,
    },
    /// The file could not be read or fetched.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl SourceError {
    /// Wraps any error met while reading or fetching.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> SourceError {
        SourceError::Other(error.into())
    }
}

/// Why a log could not be written, read or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file operation of the writer failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another writer holds the folder.
    #[error("another writer has the log in {} open: stop it, or wait until it is done", .0.display())]
    Locked(PathBuf),
    /// The folder has tiles but no checkpoint, so going on could contradict what was once published.
    #[error(
        "{} has tiles but no checkpoint: put the newest published checkpoint back, or begin the log in an \
         empty folder", .0.display()
    )]
    CheckpointLost(PathBuf),
    /// An earlier append failed while its checkpoint was being published.
    #[error(
        "an earlier append failed while publishing its checkpoint: open the log again to see if it counts"
    )]
    Unsettled,
    /// An entry to append is empty.
    #[error("entry {position} of the batch is empty: give each entry at least 1 byte")]
    EmptyEntry {
        /// Its place in the batch, from 0.
        position: usize,
    },
    /// An entry to append is longer than its length field can say.
    #[error("entry {position} of the batch has {length} bytes: give each entry at most 65535 bytes")]
    LongEntry {
        /// Its place in the batch, from 0.
        position: usize,
        /// Its bytes.
        length: usize,
    },
    /// The log would grow, or claims to have grown, beyond what the tiles can hold.
    #[error("a log of {0} entries is beyond the 2^48 - 1 that its tiles can hold: begin a new log")]
    TooLarge(u64),
    /// The key could not sign a checkpoint.
    #[error("the checkpoint could not be signed: {0}")]
    Signing(#[source] signed_note::NoteError),
    /// The source has no checkpoint.
    #[error("there is no checkpoint here: check the address of the log")]
    NoCheckpoint,
    /// The checkpoint is no signed note of a tree.
    #[error("the checkpoint is malformed: check that the address leads to a log and not to some other page")]
    MalformedCheckpoint,
    /// The checkpoint bears no signature by the expected key.
    #[error("the checkpoint is not signed by {0}: check that this verifier key belongs to this log")]
    NotSigned(String),
    /// The checkpoint's signature in the name of the expected key is false.
    #[error("the checkpoint's signature by {0} is false: do not trust this copy of the log")]
    FalseSignature(String),
    /// The checkpoint is signed by the expected key but made out for another log.
    #[error("the checkpoint is that of {found:?} and not of {expected:?}: check the address and the key")]
    WrongOrigin {
        /// The origin of the verifier key.
        expected: String,
        /// The origin that the checkpoint names.
        found: String,
    },
    /// The source failed to give a file.
    #[error("cannot read {path}: {source}")]
    Source {
        /// The file's path in the log.
        path: String,
        /// Why it was not read.
        source: SourceError,
    },
    /// A file that the checkpoint calls for is not there.
    #[error("{0} is missing though the signed checkpoint calls for it: get a whole copy of the log")]
    Missing(String),
    /// A tile is shorter than the checkpoint calls for.
    #[error("{path} has {found} bytes instead of {expected}: get a whole copy of the log")]
    TileLength {
        /// The tile's path in the log.
        path: String,
        /// The bytes it must have.
        expected: usize,
        /// The bytes it has.
        found: usize,
    },
    /// A bundle ends before its last entry does.
    #[error("{path} ends within entry {entry}: get a whole copy of the log")]
    BundleCut {
        /// The bundle's path in the log.
        path: String,
        /// The entry's place in the bundle, from 0.
        entry: usize,
    },
    /// A bundle goes on after its last entry.
    #[error("{path} has {extra} bytes after its last entry: do not trust this copy of the log")]
    BundleRest {
        /// The bundle's path in the log.
        path: String,
        /// The bytes after the last entry.
        extra: usize,
    },
    /// A tile or bundle is not what the signed root vouches for.
    #[error("{0} is not what the signed checkpoint vouches for: do not trust this copy of the log")]
    Altered(String),
    /// The incomplete tiles at the tree's right edge do not lead to the signed root.
    #[error("the last tiles do not lead to the signed root hash: do not trust this copy of the log")]
    AlteredEdge,
    /// The entries, hashed anew, do not lead to the signed root.
    #[error("the entries do not lead to the signed root hash: do not trust this copy of the log")]
    AlteredEntries,
    /// Entries were asked for that the log does not have.
    #[error("entries {start} to {end} are not in a log of {size}: ask for no entry beyond its end")]
    OutOfRange {
        /// The first entry asked for.
        start: u64,
        /// One more than the last entry asked for.
        end: u64,
        /// The log's size.
        size: u64,
    },
    /// The log has fewer entries than it once had.
    #[error(
        "the log has {size} entries but once had {old_size}: its operator, or this copy, went back on it"
    )]
    Shrunk {
        /// The size it once had.
        old_size: u64,
        /// The size it has now.
        size: u64,
    },
    /// An inclusion proof does not hold.
    #[error("the proof does not show entry {index} to be in the log of {size}: do not rely on that entry")]
    NotIncluded {
        /// The entry's index.
        index: u64,
        /// The size of the log.
        size: u64,
    },
    /// A consistency proof does not hold.
    #[error(
        "the log of {size} entries is not shown to begin with the log of {old_size} known before: keep both \
         checkpoints and ask the operator"
    )]
    NotConsistent {
        /// The size of the older log.
        old_size: u64,
        /// The size of the newer log.
        size: u64,
    },
    /// The tree arithmetic failed on input that was already checked.
    #[error("the tree could not be computed ({0}): this is a fault in this program, please report it")]
    Tree(#[source] tlog_tiles::Error),
}
