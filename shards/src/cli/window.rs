//! `window` and `attribution`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use watershed_protocol::data::{Manifest, Mixture, Register, Split};
use watershed_protocol::{Digest, ManifestId, ShardSetId, SnapshotId, WindowId};
use watershed_shards::shard::Range;
use watershed_shards::window::{Drawing, attribution};

use super::args::WindowSelection;
use super::{Context, Outcome};

#[derive(Args)]
pub(crate) struct WindowArgs {
    #[command(flatten)]
    window: WindowSelection,
    /// List the token ranges too
    #[arg(long)]
    ranges: bool,
    /// Write the tokens, as little-endian 32-bit numbers, sequence after sequence
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct AttributionArgs {
    #[command(flatten)]
    window: WindowSelection,
}

#[derive(Serialize)]
struct Drawn {
    window: WindowId,
    set: ShardSetId,
    snapshot: SnapshotId,
    split: Split,
    mixture: Mixture,
    seed: u64,
    sequence_length: u32,
    first: u64,
    sequences: u32,
    max_epochs: u32,
    /// Tokens read: a sequence reads one more than its length.
    tokens: u64,
    /// SHA-256 of the tokens as little-endian 32-bit numbers.
    tokens_sha256: Digest,
    /// Sequences by register.
    sequences_by_register: BTreeMap<Register, u64>,
    /// Sequences that this order has before a register is read too often.
    capacity: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranges: Option<Vec<Range>>,
}

/// Draws a window.
pub(crate) fn window(context: &Context, args: &WindowArgs) -> Outcome {
    let (set, spec) = args.window.open(context)?;
    let drawing = Drawing::new(set.set(), &spec)?;
    let capacity = drawing.capacity();
    let create =
        |path: &PathBuf| File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()));
    let mut out = args.out.as_ref().map(create).transpose()?.map(BufWriter::new);
    let mut hasher = Sha256::new();
    let (mut tokens, mut bytes) = (Vec::new(), Vec::new());
    let mut by_register = BTreeMap::new();
    let mut ranges = Vec::new();
    let mut total = 0;
    for range in drawing.window() {
        let range = range?;
        tokens.clear();
        set.tokens(&range, &mut tokens)?;
        bytes.clear();
        bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
        hasher.update(&bytes);
        if let Some(out) = &mut out {
            out.write_all(&bytes)?;
        }
        *by_register.entry(range.register).or_insert(0) += 1;
        total += range.tokens;
        if args.ranges {
            ranges.push(range);
        }
    }
    if let Some(mut out) = out {
        out.flush()?;
    }
    let drawn = Drawn {
        window: spec.id()?,
        set: set.id(),
        snapshot: set.set().snapshot,
        split: spec.split,
        mixture: spec.mixture,
        seed: spec.seed,
        sequence_length: spec.sequence_length,
        first: spec.first,
        sequences: spec.sequences,
        max_epochs: spec.max_epochs,
        tokens: total,
        tokens_sha256: Digest(hasher.finalize().into()),
        sequences_by_register: by_register,
        capacity,
        ranges: args.ranges.then_some(ranges),
    };
    context.print(&drawn, |d| {
        let mut lines = vec![
            format!("window {}", d.window),
            format!(
                "{} sequences of {} tokens, from number {} on; {} tokens read",
                d.sequences, d.sequence_length, d.first, d.tokens
            ),
            format!("mixture {}", d.mixture),
            format!("tokens have SHA-256 {}", d.tokens_sha256),
        ];
        lines.extend(d.sequences_by_register.iter().map(|(r, n)| format!("{r:<15} {n} sequences")));
        for range in d.ranges.iter().flatten() {
            lines.push(format!(
                "{} {} {}..{}",
                range.split,
                range.register,
                range.first,
                range.first + range.tokens
            ));
        }
        lines.push(format!(
            "this order has {} sequences before a register is read more than {} times",
            d.capacity, d.max_epochs
        ));
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Attributed {
    window: WindowId,
    tokens: u64,
    deposits: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    deposit: ManifestId,
    register: Register,
    tokens: u64,
    /// `None` if the manifest cannot be read.
    title: Option<String>,
    author: Option<String>,
    contributor: Option<watershed_protocol::PublicKey>,
}

/// Attributes a window.
pub(crate) fn attribute(context: &Context, args: &AttributionArgs) -> Outcome {
    let (set, spec) = args.window.open(context)?;
    let library = context.library()?;
    let found = attribution(&set, &spec)?;
    let line = |share: &watershed_shards::window::Share| {
        let deposit = library.store().manifest(share.deposit).ok();
        let manifest: Option<&Manifest> = deposit.as_ref().map(|d| d.manifest());
        Line {
            deposit: share.deposit,
            register: share.register,
            tokens: share.tokens,
            title: manifest.map(|m| m.title.clone()),
            author: manifest.map(|m| m.author.clone()),
            contributor: manifest.map(|m| m.contributor),
        }
    };
    let mut deposits: Vec<Line> = found.shares.iter().map(line).collect();
    deposits.sort_by_key(|l| (std::cmp::Reverse(l.tokens), l.deposit));
    let attributed = Attributed { window: spec.id()?, tokens: found.tokens, deposits };
    context.print(&attributed, |a| {
        let mut lines =
            vec![format!("window {}: {} tokens from {} deposits", a.window, a.tokens, a.deposits.len())];
        for line in &a.deposits {
            let share = 100.0 * line.tokens as f64 / a.tokens.max(1) as f64;
            let title = line.title.as_deref().unwrap_or("(manifest missing)");
            let id = &line.deposit.to_string()[..12];
            lines.push(format!("{:>9} {share:>5.1} %  {id}  {:<15} {title}", line.tokens, line.register));
        }
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}
