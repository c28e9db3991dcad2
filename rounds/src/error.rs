//! What can go wrong in computing a round, apart from a miner's fault.

use thiserror::Error;
use watershed_engine::merkle::MerkleError;
use watershed_engine::model::{ConfigError, TokenError};
use watershed_engine::moments;
use watershed_engine::outer::OuterError;
use watershed_engine::product::WidthError;
use watershed_engine::pseudo_gradient;
use watershed_engine::train::TrainError;
use watershed_protocol::EncodeError;
use watershed_protocol::data::MixtureError;
use watershed_protocol::market::SpecError;
use watershed_shards::shard::OpenError;
use watershed_shards::window::WindowError;

/// Why something was not computed.
#[derive(Debug, Error)]
pub enum RoundError {
    /// The specification.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The precision.
    #[error(transparent)]
    Width(#[from] WidthError),
    /// The shard set.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A window.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// A shard set of something else than the specification says.
    #[error("the shard set is of the {what} {found}, and the specification names {wanted}")]
    OtherText {
        /// `snapshot` or `tokenizer`.
        what: &'static str,
        /// In the shard set.
        found: String,
        /// In the specification.
        wanted: String,
    },
    /// No held-out text.
    #[error(
        "the shard set has too little held-out text to judge by; take the snapshot with --held-out 500 or more"
    )]
    NoHeldOut(#[source] MixtureError),
    /// Tokens that do not fit the model.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// A step.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A digest.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// Moments that cannot be kept.
    #[error(transparent)]
    Moments(#[from] moments::EncodeError),
    /// Moments that cannot be read.
    #[error("kept moments cannot be read: {0}")]
    MomentsRead(#[from] moments::DecodeError),
    /// Compression.
    #[error(transparent)]
    Compress(#[from] pseudo_gradient::EncodeError),
    /// A submission that cannot be read.
    #[error(transparent)]
    Decode(#[from] pseudo_gradient::DecodeError),
    /// The outer step.
    #[error(transparent)]
    Outer(#[from] OuterError),
    /// An encoding.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A file of another length.
    #[error("{what} has {found} bytes, not {wanted}")]
    Length {
        /// Which.
        what: &'static str,
        /// Bytes.
        found: usize,
        /// Bytes.
        wanted: usize,
    },
    /// The tokenizer and the model do not fit.
    #[error("the shard set has a vocabulary of {tokens}, the model one of {model}")]
    Vocabulary {
        /// Of the shards.
        tokens: u32,
        /// Of the model.
        model: u32,
    },
    /// Too little text for all rounds.
    #[error(
        "the text has {found} sequences before one is read more than data.max_epochs times, and all rounds of the fewest miners \
         read {wanted}"
    )]
    TooShort {
        /// Sequences.
        found: u64,
        /// Needed.
        wanted: u64,
    },
    /// A chunk that there is not.
    #[error("there is no chunk {0}")]
    NoChunk(u64),
}
