//! Arguments that several commands have.

use std::path::Path;

use clap::Args;
use watershed_protocol::data::{Mixture, Register, Split, WindowSpec};
use watershed_protocol::{ShardSetId, SnapshotId};
use watershed_shards::shard::OpenSet;

use super::Context;

type Failure = Box<dyn std::error::Error>;

/// What describes a text.
#[derive(Args)]
pub(crate) struct TextArgs {
    /// What it may be used for: train, train+index (also searched and shown), or federated (never leaves you)
    #[arg(long, default_value = "train")]
    pub(crate) tier: watershed_protocol::data::ConsentTier,
    /// Language tag (BCP 47), such as en or pt-BR
    #[arg(long, default_value = "und")]
    pub(crate) language: String,
    /// Who wrote it, if not you
    #[arg(long, default_value = "")]
    pub(crate) author: String,
    /// Where it comes from: an address or a citation
    #[arg(long, default_value = "")]
    pub(crate) source: String,
    /// CORE codes, finer kinds of text, such as NA,nb
    #[arg(long, value_delimiter = ',', value_name = "CODES")]
    pub(crate) core: Vec<watershed_protocol::data::CoreCode>,
    /// Refuse texts of more bytes
    #[arg(long, default_value_t = watershed_shards::text::MAX_TEXT, value_name = "BYTES")]
    pub(crate) max_bytes: u64,
}

impl TextArgs {
    /// The codes in their one order.
    pub(crate) fn core(&self) -> Vec<watershed_protocol::data::CoreCode> {
        let mut core = self.core.clone();
        core.sort();
        core.dedup();
        core
    }

    /// No text may be larger than the library reads.
    pub(crate) fn limit(&self) -> u64 {
        self.max_bytes.min(watershed_shards::text::MAX_TEXT)
    }
}

/// Which window.
#[derive(Args)]
pub(crate) struct WindowSelection {
    /// Shard set, or the beginning of its id [default: the newest]
    #[arg(long, value_name = "ID")]
    pub(crate) set: Option<String>,
    /// Shares of the registers in basis points, such as narrative=4000,technical=6000, or natural: by the text there is
    #[arg(long, default_value = "natural")]
    pub(crate) mixture: String,
    /// Chosen once for a run
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Tokens that a model is given at once
    #[arg(long, default_value_t = 256, value_name = "TOKENS")]
    pub(crate) sequence: u32,
    /// Batches to draw
    #[arg(long, default_value_t = 1)]
    pub(crate) batches: u32,
    /// Sequences in a batch
    #[arg(long, default_value_t = 8)]
    pub(crate) batch_size: u32,
    /// Number of the first sequence: windows of one order that do not overlap read different text
    #[arg(long, default_value_t = 0)]
    pub(crate) first: u64,
    /// Draw from what is trained on (train) or measured with (held-out)
    #[arg(long, default_value = "train")]
    pub(crate) split: Split,
    /// Refuse to read a register more often than this
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) max_epochs: u32,
}

impl WindowSelection {
    /// Opens the shard set and names the window.
    pub(crate) fn open(&self, context: &Context) -> Result<(OpenSet, WindowSpec), Failure> {
        let library = context.library()?;
        let set = OpenSet::open(library.store(), find_set(context, self.set.as_deref())?)?;
        let mixture = if self.mixture == "natural" {
            let mut tokens = [0; Register::ALL.len()];
            for (tokens, register) in tokens.iter_mut().zip(Register::ALL) {
                *tokens = set.set().tokens(*register, self.split);
            }
            Mixture::natural(tokens)?
        } else {
            self.mixture.parse()?
        };
        let sequences = self.batches.checked_mul(self.batch_size).ok_or("too many sequences")?;
        let spec = WindowSpec {
            shards: set.id(),
            split: self.split,
            mixture,
            seed: self.seed,
            sequence_length: self.sequence,
            first: self.first,
            sequences,
            max_epochs: self.max_epochs,
        };
        Ok((set, spec))
    }
}

/// The one entry of `folder` that begins with `prefix`, or the newest.
fn find(folder: &Path, prefix: Option<&str>, what: &str, made_by: &str) -> Result<String, Failure> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let whole = name.len() == 64 && (entry.path().is_file() || entry.path().join("set").exists());
        if whole && prefix.is_none_or(|p| name.starts_with(p)) {
            found.push((entry.metadata()?.modified()?, name));
        }
    }
    found.sort();
    match (prefix, found.len()) {
        (_, 1) | (None, 1..) => Ok(found.pop().map(|(_, name)| name).unwrap_or_default()),
        (None, _) => Err(format!("there is no {what} yet; `{made_by}` makes one").into()),
        (Some(prefix), 0) => Err(format!("there is no {what} whose id begins with {prefix}").into()),
        (Some(prefix), n) => Err(format!("{n} {what}s begin with {prefix}; give more of the id").into()),
    }
}

/// The snapshot that is meant.
pub(crate) fn find_snapshot(context: &Context, prefix: Option<&str>) -> Result<SnapshotId, Failure> {
    Ok(find(&context.data.join("snapshots"), prefix, "snapshot", "watershed-shards snapshot")?.parse()?)
}

/// The shard set that is meant.
pub(crate) fn find_set(context: &Context, prefix: Option<&str>) -> Result<ShardSetId, Failure> {
    Ok(find(&context.data.join("sets"), prefix, "shard set", "watershed-shards build")?.parse()?)
}
