//! `stats`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use watershed_shards::library::{Counts, Listed};
use watershed_shards::measure::{self, Composition};
use watershed_shards::shard::OpenSet;

use super::args::{WindowSelection, find_set, find_snapshot};
use super::{Context, Outcome};

#[derive(Args)]
pub(crate) struct StatsArgs {
    /// Of what
    #[arg(value_enum, default_value_t = Of::Library)]
    of: Of,
    /// The snapshot, or the beginning of its id [default: the newest]
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// With `library`: list every deposit
    #[arg(long)]
    deposits: bool,
    #[command(flatten)]
    window: WindowSelection,
}

#[derive(Clone, Copy, ValueEnum)]
enum Of {
    Library,
    Snapshot,
    Set,
    Window,
}

#[derive(Serialize)]
struct LibraryStats {
    #[serde(flatten)]
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    deposits: Option<Vec<Listed>>,
}

#[derive(Serialize)]
struct Stats {
    of: String,
    #[serde(flatten)]
    composition: Composition,
}

/// Shows what something is made of.
pub(crate) fn run(context: &Context, args: &StatsArgs) -> Outcome {
    let library = context.library()?;
    let (of, composition) = match args.of {
        Of::Library => {
            let deposits = args.deposits.then(|| library.list()).transpose()?;
            let stats = LibraryStats { counts: library.counts()?, deposits };
            context.print(&stats, |s| {
                let mut lines = Vec::new();
                for d in s.deposits.iter().flatten() {
                    let id = &d.deposit.to_string()[..12];
                    let place = d.path.as_ref().map(|p| format!(" (in {p})")).unwrap_or_default();
                    lines.push(format!(
                        "{id}  {:<11} {:<15} {:>9} bytes  {}{place}",
                        d.tier, d.register, d.bytes, d.title
                    ));
                }
                lines.push(format!(
                    "{} deposits in force, {} withdrawn, {} conflicts between keys",
                    s.counts.in_force, s.counts.withdrawn, s.counts.conflicts
                ));
                lines
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        Of::Snapshot => {
            let snapshot = library.store().snapshot(find_snapshot(context, args.snapshot.as_deref())?)?;
            (format!("snapshot {}", snapshot.id()), measure::of_snapshot(&library, &snapshot)?)
        }
        Of::Set => {
            let set = OpenSet::open(library.store(), find_set(context, args.window.set.as_deref())?)?;
            (format!("shard set {}", set.id()), measure::of_set(&library, &set)?)
        }
        Of::Window => {
            let (set, spec) = args.window.open(context)?;
            (format!("window {}", spec.id()?), measure::of_window(&library, &set, &spec)?)
        }
    };
    context.print(&Stats { of, composition }, |s| {
        let c = &s.composition;
        let mut lines = vec![
            s.of.clone(),
            format!("{} {} from {} deposits", c.total, c.unit, c.deposits),
            format!(
                "provenance erasure rate {}: {} {} cannot be traced to a consent that was in force",
                c.provenance_erasure_rate, c.untraceable, c.unit
            ),
        ];
        if c.withdrawn_since > 0 {
            lines.push(format!("{} {} are of deposits that were withdrawn since", c.withdrawn_since, c.unit));
        }
        table(&mut lines, "register", &c.by_register, c.total);
        table(&mut lines, "language", &c.by_language, c.total);
        table(&mut lines, "licence", &c.by_license, c.total);
        table(&mut lines, "consent", &c.by_tier, c.total);
        table(&mut lines, "contributor", &c.by_contributor, c.total);
        lines.push(format!(
            "effective number of registers {:.2}, of contributors {:.2}",
            c.effective_registers, c.effective_contributors
        ));
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}

fn table(lines: &mut Vec<String>, what: &str, counts: &BTreeMap<String, u64>, total: u64) {
    for (name, count) in counts {
        lines.push(format!(
            "{what:<12} {name:<28} {count:>12}  {:>5.1} %",
            100.0 * *count as f64 / total.max(1) as f64
        ));
    }
}
