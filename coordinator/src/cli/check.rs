//! `run check`: whether a specification can be trained, and what that takes.

use std::path::Path;
use std::process::ExitCode;

use watershed_protocol::Msat;
use watershed_protocol::market::RunSpec;
use watershed_rounds::{Estimate, Unfit, faults_with_text};
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;

use super::{Failed, Outcome};

/// A specification from its file.
pub(super) fn read(file: &Path) -> Result<RunSpec, Failed> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(toml::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?)
}

/// Everything that is wrong with a specification. A text that is not in the library is one of these.
fn faults(spec: &RunSpec, library: &Path) -> Vec<Unfit> {
    match OpenSet::open(&Store::new(library), spec.data.shards) {
        Ok(set) => faults_with_text(spec, &set),
        Err(e) => {
            let mut faults = watershed_rounds::faults(spec);
            faults.push(Unfit {
                field: "data.shards".to_owned(),
                why: e.to_string(),
                remedy: format!(
                    "it was looked for in {}; `--library` names another place",
                    library.display()
                ),
            });
            faults
        }
    }
}

/// A span of time as people say it, rounded up.
pub(super) fn time(seconds: u64) -> String {
    match seconds {
        0..180 => format!("{seconds} s"),
        180..10_800 => format!("{} min", seconds.div_ceil(60)),
        10_800..259_200 => format!("{} h", seconds.div_ceil(3_600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

/// What it costs and takes, for people.
fn lines(spec: &RunSpec, e: &Estimate) -> Vec<String> {
    let members = e.validators;
    let mut lines = vec![
        format!("model     {} parameters", e.parameters),
        format!(
            "miners    {} at least, each of {} tokens per second or more (an assignment has {} tokens, and {} for them)",
            e.miners,
            e.least_speed,
            e.tokens,
            time(spec.rounds.train_seconds.into())
        ),
        format!("checked   by {members} validators, for {} a verdict", spec.reward.verdict_fee),
        format!(
            "time      {} a round at most, {} for all {} rounds; less when all are quick",
            time(e.round_seconds),
            time(e.round_seconds.saturating_mul(e.rounds.into())),
            e.rounds
        ),
        format!("cost      {} a round of the fewest miners at most, {} for all rounds", e.round_cost, e.cost),
        format!("          {} for all rounds of {} miners", e.most, spec.rounds.max_miners),
    ];
    match e.paid_rounds {
        Some(paid) => lines.push(format!(
            "goal      {}, which pays {paid} rounds of the fewest miners at least",
            spec.funding.goal
        )),
        None => lines.push("paid      by the operator".to_owned()),
    }
    match spec.funding.idle_seconds {
        0 => lines.push("ends      never by itself, if no round ends".to_owned()),
        idle => {
            let back = if spec.funding.goal > Msat::ZERO {
                ", and what is left goes back to the sponsors"
            } else {
                ""
            };
            lines.push(format!("ends      by itself if no round ends for {}{back}", time(idle.into())));
        }
    }
    lines
}

/// Prints it; an error if nobody can train it.
pub(super) fn check(json: bool, file: &Path, library: &Path) -> Outcome {
    let spec = read(file)?;
    let (faults, estimate) = (faults(&spec, library), Estimate::of(&spec));
    if json {
        let faults: Vec<_> = faults
            .iter()
            .map(|f| serde_json::json!({ "field": f.field, "why": f.why, "remedy": f.remedy }))
            .collect();
        let takes = estimate.map(|e| {
            serde_json::json!({
                "parameters": e.parameters, "tokens": e.tokens, "least_speed": e.least_speed, "miners": e.miners,
                "validators": e.validators, "round_seconds": e.round_seconds, "rounds": e.rounds,
                "round_cost": e.round_cost, "cost": e.cost, "most": e.most, "paid_rounds": e.paid_rounds,
            })
        });
        println!(
            "{}",
            serde_json::json!({ "trainable": faults.is_empty(), "faults": faults, "takes": takes })
        );
        return Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for line in estimate.iter().flat_map(|e| lines(&spec, e)) {
        println!("{line}");
    }
    super::template::refuse(&faults)?;
    println!("it can be trained; next: watershed-coordinator run open {}", file.display());
    Ok(ExitCode::SUCCESS)
}
