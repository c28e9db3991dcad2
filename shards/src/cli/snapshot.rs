//! `snapshot`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use watershed_protocol::data::Split;
use watershed_protocol::{BasisPoints, SnapshotId};
use watershed_shards::snapshot::{LeftOut, Policy, take};

use super::{Context, Outcome};

#[derive(Args)]
pub(crate) struct SnapshotArgs {
    /// Of texts that are nearly the same, keep all or only the one with the smallest id
    #[arg(long, value_enum, default_value_t = Near::Skip)]
    near_duplicates: Near,
    /// Share of the deposits that is kept for evaluation, in basis points; each register of two or more keeps one at least
    #[arg(long, default_value_t = 500, value_name = "BASIS POINTS")]
    held_out: u16,
    /// Decides which deposits are held out
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Near {
    Skip,
    Keep,
}

#[derive(Serialize)]
struct Snapped {
    snapshot: SnapshotId,
    deposits: usize,
    bytes: u64,
    held_out: usize,
    federated: usize,
    left_out: Vec<LeftOut>,
}

/// Takes a snapshot.
pub(crate) fn run(context: &Context, args: &SnapshotArgs) -> Outcome {
    let library = context.library()?;
    let policy = Policy {
        leave_out_near: matches!(args.near_duplicates, Near::Skip),
        held_out: BasisPoints::try_from(args.held_out)?,
        seed: args.seed,
    };
    let taken = take(&library, &policy)?;
    let count = |f: fn(&watershed_shards::snapshot::SnapshotEntry) -> bool| {
        taken.snapshot.entries().filter(f).count()
    };
    let snapped = Snapped {
        snapshot: taken.snapshot.id(),
        deposits: taken.snapshot.len(),
        bytes: taken.snapshot.entries().map(|e| e.bytes).sum(),
        held_out: count(|e| e.split == Split::HeldOut),
        federated: count(|e| !e.consent.tier.trains()),
        left_out: taken.left_out,
    };
    context.print(&snapped, |s| {
        let mut lines = vec![
            format!("snapshot {}", s.snapshot),
            format!(
                "{} deposits of {} bytes; {} held out, {} federated",
                s.deposits, s.bytes, s.held_out, s.federated
            ),
        ];
        for left in s.left_out.iter().take(20) {
            let alike = f64::from(left.similarity) / 100.0;
            lines.push(format!("left out {}: {alike:.0} % alike to {}", left.manifest, left.kept));
        }
        if s.left_out.len() > 20 {
            lines.push(format!("{} near duplicates are left out in all", s.left_out.len()));
        }
        lines.push("next: watershed-shards build".to_owned());
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}
