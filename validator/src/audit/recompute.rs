//! Checkpoints and scores, computed again from blobs.

use std::collections::BTreeMap;

use watershed_commons::record::{RunTold, Told};
use watershed_engine::device::OpenDevice;
use watershed_engine::outer::OuterState;
use watershed_protocol::market::{Commitment, Outcome, Stepped};
use watershed_protocol::{AssignmentId, Digest, PublicKey, RunId};
use watershed_rounds::{OuterResult, Workbench, floats, sha256};
use watershed_shards::library::Store;

use super::draw::Drawn;
use super::fault::{Fault, unable};
use super::place::{Found, Place};
use super::replay::Chains;
use super::rulings;
use crate::judge::{self, FirstLook, Submitted};

/// How much was computed again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recomputed {
    pub(super) checkpoints: u32,
    pub(super) verdicts: u32,
    pub(super) rulings: u32,
    pub(super) replayed: u32,
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// Everything shown in a round.
fn submissions(told: &RunTold, round: u32, place: &Place, limit: usize) -> Result<Vec<Submitted>, Fault> {
    let of = told.works.iter().filter(|(_, w)| w.assignment.round.0 == round);
    let shown = of.filter_map(|(id, w)| Some((id, w, w.commitment.clone()?, w.reveal.clone()?)));
    shown
        .map(|(id, work, commitment, reveal)| {
            let previous = work.assignment.previous.and_then(|p| told.works.get(&p)?.commitment.clone());
            let encoded = match place.look(&format!("the submission of {id}"), reveal.blob, limit)? {
                Found::Bytes(bytes) => bytes,
                // What is too long to be a submission was none to the validators either.
                Found::TooLong => Vec::new(),
            };
            Ok(Submitted {
                id: *id,
                assignment: work.assignment.clone(),
                commitment,
                reveal,
                previous,
                encoded,
            })
        })
        .collect()
}

/// Whether a computed checkpoint is the recorded one.
fn compare(recorded: &Stepped, found: &OuterResult) -> Result<(), String> {
    let round = recorded.round.0;
    if found.checkpoint != recorded.checkpoint || sha256(&floats(&[&found.state.parameters])) != recorded.blob
    {
        return Err(format!(
            "the checkpoint after round {round} is {}, but its submissions give {}; signed by the coordinator",
            recorded.checkpoint, found.checkpoint
        ));
    }
    if found.loss.to_bits() != recorded.loss {
        let said = f32::from_bits(recorded.loss);
        return Err(format!(
            "the loss after round {round} is {}, not {said}; signed by the coordinator",
            found.loss
        ));
    }
    Ok(())
}

impl Recomputed {
    /// Everything of one run.
    pub(super) fn run(
        &mut self,
        run: RunId,
        told: &RunTold,
        store: &Store,
        device: &OpenDevice,
        place: &Place,
        drawn: &Drawn,
    ) -> Result<(), Fault> {
        let Some(first) = told.checkpoints.first() else { return Ok(()) };
        let mut bench = Workbench::new(&told.spec, store, device).map_err(unable)?;
        let n = bench.settings().parameters();
        let limit = 4 * n + (1 << 20);
        let mut chains = Chains::new(drawn);
        let state = OuterState { parameters: bench.initial(), velocity: Vec::new() };
        let mut now = bench.measured(state).map_err(text)?;
        compare(first, &now)?;
        self.checkpoints += 1;
        let mut checkpoints = told.checkpoints.iter().skip(1).peekable();
        for round in 0..told.spec.rounds.count {
            let shown = submissions(told, round, place, limit)?;
            if shown.is_empty() {
                continue;
            }
            eprintln!("run {run}: round {} is computed again", round);
            self.verdicts(&mut bench, told, &shown, &now.state.parameters)?;
            self.rulings += rulings::check(&mut bench, told, &shown, &now.state.parameters, place)?;
            self.replayed += chains.round(&mut bench, told, &shown, &now.state.parameters)?;
            if let Some(next) = checkpoints.next_if(|c| c.round.0 == round + 1) {
                let gain = |s: &Submitted| told.works.get(&s.id).map_or(0.0, Told::gain);
                let accepted: Vec<_> = shown
                    .iter()
                    .filter(|s| next.accepted.contains(&s.id))
                    .map(|s| (s.commitment.submission, gain(s), s.encoded.clone()))
                    .collect();
                for s in shown.iter().filter(|s| next.accepted.contains(&s.id)) {
                    if Commitment::submission_of(s.assignment.miner, &s.encoded) != s.commitment.submission {
                        let text = format!("the submission of {} is not the one that was committed", s.id);
                        return Err(text.into());
                    }
                }
                now = bench.outer(&now.state, &accepted).map_err(text)?;
                compare(next, &now)?;
                self.checkpoints += 1;
            }
        }
        match checkpoints.next() {
            Some(c) => Err(Fault::Computed(format!(
                "nothing leads to the checkpoint of round {}; signed by the coordinator",
                c.round.0
            ))),
            None => Ok(()),
        }
    }

    /// Scores and shares of a round's verdicts.
    fn verdicts(
        &mut self,
        bench: &mut Workbench,
        told: &RunTold,
        shown: &[Submitted],
        checkpoint: &[f32],
    ) -> Result<(), String> {
        let works: BTreeMap<AssignmentId, &Told> =
            shown.iter().filter_map(|s| Some((s.id, told.works.get(&s.id)?))).collect();
        let randomness: Option<Digest> =
            works.values().flat_map(|w| w.verdicts.values()).map(|v| v.randomness).next();
        let Some(randomness) = randomness else { return Ok(()) };
        let looks = judge::first_look(bench, shown, checkpoint, randomness)?;
        // Each validator measures what it holds lots of against one another.
        let held = |by: &PublicKey| {
            let held = looks.iter().filter(|(id, _)| works[*id].lots.iter().any(|l| l.validator == *by));
            judge::earned(bench, held.map(|(id, look)| (*id, look)))
        };
        let validators = told.spec.committee.iter().map(|m| m.key);
        let shares: BTreeMap<PublicKey, _> = validators.map(|by| (by, held(&by))).collect();
        for (id, work) in works.clone() {
            // Of what was overruled it is known that it is false, and whose it is.
            let standing = work.verdicts.iter().filter(|(v, _)| work.rulings.get(*v) != Some(&false));
            for (validator, verdict) in standing {
                let wrong = |what: String| {
                    Err(format!("the verdict on {id} is false: {what}; signed by {validator}"))
                };
                let look = looks.get(&id);
                match (&verdict.outcome, look) {
                    (Outcome::Earned { share, .. }, Some(FirstLook::Scored(score))) => {
                        if verdict.score != Some(*score) {
                            return wrong("the losses are other ones".to_owned());
                        }
                        let earned = shares.get(validator).and_then(|s| s.get(&id)).copied().unwrap_or(0);
                        if *share != earned {
                            return wrong(format!("{share} parts were given, {earned} are earned"));
                        }
                    }
                    (Outcome::Earned { .. }, Some(FirstLook::Faulty(fault))) => {
                        return wrong(fault.to_string());
                    }
                    (Outcome::Rejected(said), Some(FirstLook::Faulty(fault))) if said != fault => {
                        return wrong(format!("it says that {said}, but {fault}"));
                    }
                    _ => {}
                }
                self.verdicts += 1;
            }
        }
        Ok(())
    }
}
