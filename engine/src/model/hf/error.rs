//! Why a model folder cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config_json::ConfigJsonError;
use super::{INDEX_FILE, MAX_SHARDS, WEIGHTS_FILE};

/// Longest piece of a foreign name repeated in a message, in characters.
const SHOWN: usize = 120;

/// Why a model folder cannot be read or written.
#[derive(Debug, Error)]
pub enum HfError {
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that must be a plain file is something else.
    #[error("{} is not a plain file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// What git-lfs leaves in place of a file that it has not fetched.
    #[error("{} is a pointer of git-lfs and not the file itself; run `git lfs pull` in its folder", path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A JSON file or header is larger than any real one.
    #[error("the JSON of {} takes {bytes} bytes; at most {limit} are read", path.display())]
    JsonTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size, or the size its header claims.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// The configuration is malformed or asks for something this engine does not compute.
    #[error("config.json: {0}")]
    Config(#[from] ConfigJsonError),
    /// The folder has no weights under the names this module knows.
    #[error("{} holds neither {WEIGHTS_FILE} nor {INDEX_FILE}", dir.display())]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// The index is not the JSON it should be.
    #[error("{}: {reason}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The index names a file that is not directly inside the folder.
    #[error("the index names the shard {file}; a shard must be a plain file name inside the model's folder")]
    ShardPath {
        /// The name, escaped and shortened.
        file: String,
    },
    /// The index names more shards than are ever read, or the shard size asked for would write more.
    #[error("the model is split into {found} shards; at most {MAX_SHARDS} are supported")]
    TooManyShards {
        /// How many.
        found: usize,
    },
    /// A file's header is not valid safetensors, or does not describe exactly the bytes that follow it.
    #[error("{} is not a valid safetensors file: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The index and the shard's own header disagree about what the shard holds.
    #[error("the index and {} disagree about tensor {tensor}", path.display())]
    IndexMismatch {
        /// The shard.
        path: PathBuf,
        /// The tensor, escaped and shortened.
        tensor: String,
    },
    /// A tensor that the configuration calls for is absent.
    #[error("tensor {tensor} is missing; the configuration calls for it")]
    Missing {
        /// Its name.
        tensor: String,
    },
    /// A tensor that the configuration does not call for is present.
    #[error("{} holds tensor {tensor}, which the configuration does not call for", path.display())]
    Extra {
        /// The file.
        path: PathBuf,
        /// Its name, escaped and shortened.
        tensor: String,
    },
    /// A tensor has another shape than the configuration gives it.
    #[error("tensor {tensor} has {found}; the configuration gives it shape {expected:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// The shape in the file, in words.
        found: String,
        /// The shape that fits the configuration.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a type that cannot be widened to f32 exactly.
    #[error("tensor {tensor} is stored as {found}; only F32, F16 and BF16 are read")]
    Dtype {
        /// Its name.
        tensor: String,
        /// The type in the file.
        found: String,
    },
    /// A value is infinite or not a number. Nothing can be trained from it, and the bits of a NaN may differ
    /// between devices.
    #[error("tensor {tensor} has a value that is not finite, at index {index}")]
    NotFinite {
        /// Its name.
        tensor: String,
        /// Position within the tensor, row-major.
        index: usize,
    },
    /// The embeddings are tied, yet the file has an output projection of its own.
    #[error("tie_word_embeddings is true, but lm_head.weight differs from the embedding at index {index}")]
    HeadNotTied {
        /// Position of the first difference, row-major.
        index: usize,
    },
    /// There is not enough memory for the parameters.
    #[error("no memory for {values} parameters ({} bytes)", (*values as u64).saturating_mul(4))]
    NoMemory {
        /// Number of f32 values asked for.
        values: usize,
    },
    /// The vector to be saved does not belong to the configuration.
    #[error("{found} values were given; this configuration has {expected} parameters")]
    WrongLength {
        /// Length of the vector given.
        found: usize,
        /// Number of parameters.
        expected: usize,
    },
    /// The folder to be written already has something in it.
    #[error("{} is not empty; save to a new folder", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder to be written has no name (it is `/` or ends in `..`).
    #[error("{} cannot be the folder of a model: it has no name of its own", dir.display())]
    NoFolderName {
        /// The folder.
        dir: PathBuf,
    },
}

impl HfError {
    /// Wraps an [`io::Error`], for use with `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// A foreign name as it may appear in a message: quoted, escaped and shortened.
pub(super) fn shown(name: &str) -> String {
    format!("{:?}", shortened(name))
}

/// Foreign text cut to a length fit for a message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
