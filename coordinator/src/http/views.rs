//! What is shown of a run.

use std::collections::BTreeMap;

use watershed_commons::client::to_text;
use watershed_protocol::market::view::{
    MinerView, NewsView, RoundView, RoundWorkView, RunView, ShownView, SumsView, WorkView,
};
use watershed_protocol::market::{FinalState, Stepped};
use watershed_protocol::{AssignmentId, Envelope, Msat, PublicKey};

use crate::machine::{Phase, Run, Stage, Work, WorkStage};

/// As [`phase`] names them.
pub(super) const PHASES: [&str; 5] = ["funding", "preparing", "running", "closing", "ended"];

pub(super) fn phase(run: &Run) -> &'static str {
    match run.phase {
        Phase::Funding => "funding",
        Phase::Preparing => "preparing",
        Phase::Running => "running",
        Phase::Closing { .. } => "closing",
        Phase::Ended { .. } => "ended",
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Locking => "locking",
        Stage::Training => "training",
        Stage::Revealing => "revealing",
        Stage::Judging => "judging",
        Stage::Stepping => "stepping",
    }
}

fn work_stage(stage: &WorkStage) -> &'static str {
    match stage {
        WorkStage::Hashing => "hashing",
        WorkStage::Offering => "offering",
        WorkStage::Offered => "offered",
        WorkStage::Locking => "locking",
        WorkStage::Paid => "paid",
        WorkStage::Confirming => "confirming",
        WorkStage::Locked => "locked",
        WorkStage::Committed => "committed",
        WorkStage::Revealed => "revealed",
        WorkStage::Dropped { .. } => "dropped",
    }
}

fn round(run: &Run) -> Option<RoundView> {
    let round = run.round.as_ref()?;
    Some(RoundView {
        number: round.number,
        stage: stage(round.stage).to_owned(),
        until: round.until,
        randomness: run.randomness(),
    })
}

fn text(envelope: &Envelope) -> String {
    to_text(envelope).unwrap_or_default()
}

fn sums(run: &Run) -> SumsView {
    let t = &run.totals;
    SumsView {
        pledged: t.pledged,
        locked: t.locked,
        paid: t.paid,
        back: t.back,
        fees: t.fees,
        owed: if matches!(run.phase, Phase::Ended { .. }) { run.still_due() } else { run.owed() },
        left: t.left,
        accepted: t.accepted,
        rejected: t.rejected,
    }
}

/// Few bytes, whatever the size of the round.
pub(super) fn news(run: &Run) -> NewsView {
    let mut works = BTreeMap::new();
    for (_, work) in run.current() {
        *works.entry(work_stage(&work.stage).to_owned()).or_insert(0) += 1;
    }
    NewsView {
        version: run.version,
        phase: phase(run).to_owned(),
        round: round(run),
        works,
        rounds_done: run.next_round,
        miners: run.miners.values().filter(|m| m.active).count(),
        sums: sums(run),
    }
}

/// A run at `now`, of whose miners `live` were heard of lately.
pub(super) fn view(run: &Run, now: u64, live: &[PublicKey]) -> RunView {
    let end = match &run.phase {
        Phase::Closing { how, .. } | Phase::Ended { how } => match how {
            FinalState::Finished => "finished".to_owned(),
            FinalState::Exhausted => "the money for another round is spent".to_owned(),
            FinalState::Cancelled { reason } => format!("cancelled: {reason}"),
            FinalState::Idle { .. } => {
                format!(
                    "no round ended for {} seconds, which is all the time its terms give it",
                    run.spec.funding.idle_seconds
                )
            }
        },
        _ => run.cancelled.as_ref().map(|reason| format!("cancelled: {reason}")).unwrap_or_default(),
    };
    RunView {
        run: run.id,
        title: run.spec.title.clone(),
        phase: phase(run).to_owned(),
        end,
        paused: run.paused,
        trouble: run.trouble.clone().unwrap_or_default(),
        waits_for: run.wait_views(now, live),
        opened: run.opened,
        idle_at: run.idle_at(),
        rounds_done: run.next_round,
        rounds: run.spec.rounds.count,
        round: round(run),
        miners: run.miners.values().filter(|m| m.active).count(),
        sums: sums(run),
        checkpoints: run.checkpoints.iter().cloned().map(Into::into).collect(),
        spec: run.spec.clone(),
        signed: text(&run.signed),
    }
}

pub(super) fn work(run: &Run, id: AssignmentId, work: &Work) -> WorkView {
    let reason = match &work.stage {
        WorkStage::Dropped { reason } => reason.clone(),
        _ => String::new(),
    };
    WorkView {
        id,
        assignment: work.assignment.clone(),
        stage: work_stage(&work.stage).to_owned(),
        reason,
        holders: work.holders.clone(),
        hashed: work.hashes.keys().copied().collect(),
        lots: work.lots.clone(),
        commitment: work.commitment.clone(),
        reveal: work.reveal.as_ref().map(ShownView::from),
        openings: work.openings.iter().map(|(key, opening)| (*key, opening.clone())).collect(),
        opened: work.opened.values().cloned().collect(),
        sound: work.sound.iter().copied().collect(),
        verdicts: work.verdicts.values().map(|v| text(&v.envelope)).collect(),
        rulings: work.rulings.iter().map(|(key, upheld)| (*key, *upheld)).collect(),
        record: run.miners.get(&work.assignment.miner).map_or((0, 0), |m| m.record),
        judged: work.judged,
        accepted: work.judged && work.is_accepted(),
        escrow_open: work.escrow_open,
        receipts: work.receipts,
    }
}

/// Where a phase comes in the course of a run: part of the versions that polls compare.
fn phase_number(run: &Run) -> u64 {
    PHASES.iter().position(|name| *name == phase(run)).map_or(0, |at| at as u64)
}

/// Changes when there is something for a validator to do: a round or a stage begins, or a miner answers. Not with every event
/// of every task: the answer names all of them, and would be asked for again at once.
pub(super) fn work_version(run: &Run) -> u64 {
    let stage = run.round.as_ref().map_or(0, |r| 1 + r.stage as u64);
    let opened: usize = run.current().map(|(_, w)| w.opened.len()).sum();
    // Sequences are given out when a round begins, also one that is begun again under its number.
    run.next_sequence.wrapping_mul(1 << 24)
        ^ (opened as u64).wrapping_mul(1 << 4)
        ^ stage
        ^ phase_number(run) << 60
}

pub(super) fn round_work(run: &Run) -> RoundWorkView {
    // Before everybody is bound, nobody is shown what others are bound to.
    let hidden = matches!(run.round.as_ref().map(|r| r.stage), Some(Stage::Locking | Stage::Training));
    let works = run.current().map(|(id, w)| {
        let view = work(run, *id, w);
        if hidden { WorkView { commitment: None, ..view } } else { view }
    });
    RoundWorkView {
        version: work_version(run),
        round: round(run),
        checkpoint: run.checkpoint().cloned().map(Into::into),
        ended: matches!(run.phase, Phase::Ended { .. }),
        works: works.collect(),
    }
}

/// Changes with every event that concerns a miner.
pub(super) fn miner_version(run: &Run, key: &PublicKey) -> u64 {
    let works = run.works_of(key).map(|(_, w)| w.version).max();
    let stage = run.round.as_ref().map_or(0, |r| 1 + r.stage as u64 + u64::from(r.number) * 8);
    let channel = run.miners.get(key).map_or(0, |m| match &m.channel {
        None => 1,
        Some(Ok(())) => 2,
        Some(Err(_)) => 3,
    });
    // Any change of any part changes the whole: parts are far below what they are multiplied with.
    works.unwrap_or(0).wrapping_mul(1 << 24) ^ stage.wrapping_mul(1 << 4) ^ channel ^ phase_number(run) << 60
}

pub(super) fn miner(run: &Run, key: &PublicKey) -> MinerView {
    let known = run.miners.get(key);
    let channel = match known.map(|m| &m.channel) {
        Some(Some(Ok(()))) => "ready".to_owned(),
        Some(Some(Err(reason))) => reason.clone(),
        _ => "none yet".to_owned(),
    };
    let mut works: Vec<(&AssignmentId, &Work)> = run.works_of(key).collect();
    works.sort_by_key(|(_, w)| (w.assignment.round, w.assignment.window.first));
    MinerView {
        version: miner_version(run, key),
        active: known.is_some_and(|m| m.active),
        channel,
        ended: matches!(run.phase, Phase::Ended { .. }),
        phase: phase(run).to_owned(),
        round: round(run),
        // A list of all tasks for each of their miners would be most of what is sent.
        checkpoint: run.checkpoint().map(|c| Stepped { accepted: Vec::new(), ..c.clone() }.into()),
        record: known.map_or((0, 0), |m| m.record),
        good: known.map_or(0, |m| m.standing.good),
        held_back: known.map_or(Msat::ZERO, |m| m.standing.owed),
        due: known.map_or(Msat::ZERO, |m| m.standing.due(&run.spec.reward)),
        last: known.and_then(|m| m.last),
        works: works.into_iter().map(|(id, w)| work(run, *id, w)).collect(),
    }
}
