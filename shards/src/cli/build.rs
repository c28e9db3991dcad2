//! `build` and `prune`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use watershed_protocol::{ShardSetId, SnapshotId, TokenizerId};
use watershed_shards::shard::{self, BuildError};
use watershed_shards::tokenizer::{Separator, Tokenizer};

use super::args::find_snapshot;
use super::{Context, Outcome, Stop, counted, progress};

#[derive(Args)]
pub(crate) struct BuildArgs {
    /// The snapshot, or the beginning of its id [default: the newest]
    snapshot: Option<String>,
    #[command(flatten)]
    tokenizer: TokenizerArgs,
}

/// Which tokenizer.
#[derive(Args)]
pub(crate) struct TokenizerArgs {
    /// bytes, or a tokenizer.json of Hugging Face
    #[arg(long, default_value = "bytes", value_name = "FILE")]
    tokenizer: String,
    /// The special token that ends a text: auto finds the usual ones, none writes nothing
    #[arg(long, default_value = "auto", value_name = "TOKEN")]
    separator: String,
}

impl TokenizerArgs {
    pub(crate) fn open(&self) -> Result<Tokenizer, Box<dyn std::error::Error>> {
        if self.tokenizer == "bytes" {
            return Ok(Tokenizer::bytes());
        }
        let path = Path::new(&self.tokenizer);
        let fail = |e: std::io::Error| format!("cannot read {}: {e}", path.display());
        if std::fs::metadata(path).map_err(fail)?.len() > Tokenizer::MAX_JSON {
            return Err(format!("{} is too large to be a tokenizer", path.display()).into());
        }
        let separator = match self.separator.as_str() {
            "auto" => Separator::Auto,
            "none" => Separator::None,
            token => Separator::Token(token.to_owned()),
        };
        let json = std::fs::read(path).map_err(fail)?;
        Ok(Tokenizer::from_json(&json, separator).map_err(|e| format!("{}: {e}", path.display()))?)
    }
}

#[derive(Serialize)]
struct Built {
    set: ShardSetId,
    snapshot: SnapshotId,
    tokenizer: TokenizerId,
    vocabulary: u32,
    tokens: u64,
    shards: usize,
    resumed: usize,
    lost_characters: u64,
    seconds: f64,
    streams: Vec<Stream>,
}

#[derive(Serialize)]
struct Stream {
    split: watershed_protocol::data::Split,
    register: watershed_protocol::data::Register,
    tokens: u64,
    shards: Vec<watershed_protocol::Digest>,
}

/// Builds a shard set.
pub(crate) fn run(context: &Context, args: &BuildArgs) -> Outcome {
    let library = context.library()?;
    let snapshot = library.store().snapshot(find_snapshot(context, args.snapshot.as_deref())?)?;
    let tokenizer = args.tokenizer.open()?;
    let bytes = snapshot.entries().filter(|e| e.consent.tier.trains()).map(|e| e.bytes).sum();
    let bar = progress(bytes, "tokenising");
    let started = std::time::Instant::now();
    let stop = Stop::on_signals()?;
    let built = shard::build(library.store(), &snapshot, &tokenizer, &|done| bar.inc(done), &|| stop.asked());
    bar.finish_and_clear();
    let built = match built {
        Err(e @ BuildError::Stopped) => {
            eprintln!("{e}");
            return Ok(ExitCode::from(2));
        }
        other => other?,
    };
    let shown = Built {
        set: built.id,
        snapshot: snapshot.id(),
        tokenizer: tokenizer.id(),
        vocabulary: tokenizer.vocab_size(),
        tokens: built.set.streams.iter().map(shard::Stream::tokens).sum(),
        shards: built.set.streams.iter().map(|s| s.shards.len()).sum(),
        resumed: built.resumed,
        lost_characters: built.lost,
        seconds: started.elapsed().as_secs_f64(),
        streams: built
            .set
            .streams
            .iter()
            .map(|s| Stream {
                split: s.split,
                register: s.register,
                tokens: s.tokens(),
                shards: s.shards.iter().map(|s| s.sha256).collect(),
            })
            .collect(),
    };
    context.print(&shown, |b| {
        let mut lines = vec![format!("shard set {}", b.set)];
        for stream in &b.streams {
            lines.push(format!(
                "{:<9} {:<15} {:>12} tokens in {}",
                stream.split,
                stream.register,
                stream.tokens,
                counted(stream.shards.len() as u64, "shard")
            ));
        }
        lines.push(format!("{} tokens of a vocabulary of {}, in {:.1} s", b.tokens, b.vocabulary, b.seconds));
        if b.lost_characters > 0 {
            lines.push(format!(
                "{} of the texts are NOT in the shards: this tokenizer has no token for them, nor for their bytes; \
                 `tokenizer show --text` shows what becomes of a text",
                counted(b.lost_characters, "character")
            ));
        }
        lines.push("to train on it: watershed-coordinator run new --validator KEY --set".to_owned());
        lines.push(format!("                {}", b.set));
        lines.push("to look at it: watershed-shards window".to_owned());
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes what is not needed.
pub(crate) fn prune(context: &Context) -> Outcome {
    let library = context.library()?;
    let pruned = shard::prune(&library)?;
    context.print(&pruned, |p| {
        let mut lines: Vec<String> =
            p.sets.iter().map(|id| format!("deleted shard set {id}: it held withdrawn text")).collect();
        lines.push(format!("deleted {}", counted(p.shards as u64, "shard")));
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}
