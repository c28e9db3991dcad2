//! Whole assignments, done again from the record alone: a miner's state begins with zeros and each of its assignments says
//! which one it continues, so nobody has to be asked for anything.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use watershed_commons::record::RunTold;
use watershed_engine::train::Trainer;
use watershed_protocol::market::{Commitment, Fault, Outcome, StepClaim, TrajectoryHash};
use watershed_protocol::{AssignmentId, Digest};
use watershed_rounds::{Carried, Workbench};

use super::draw::Drawn;
use crate::judge::Submitted;

/// What drawn assignments carry.
pub(super) struct Chains<'a> {
    drawn: &'a Drawn,
    carried: BTreeMap<AssignmentId, Carried>,
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

impl<'a> Chains<'a> {
    pub(super) fn new(drawn: &'a Drawn) -> Self {
        Self { drawn, carried: BTreeMap::new() }
    }

    /// Does the drawn assignments of a round again; how many that were.
    pub(super) fn round(
        &mut self,
        bench: &mut Workbench,
        told: &RunTold,
        shown: &[Submitted],
        checkpoint: &[f32],
    ) -> Result<u32, String> {
        let mut done = 0;
        for s in shown.iter().filter(|s| self.drawn.needs(&s.id)) {
            let Some(work) = told.works.get(&s.id) else { continue };
            let before = match s.assignment.previous {
                None => Carried::zero(bench.settings().parameters()),
                Some(previous) => match self.carried.remove(&previous) {
                    Some(carried) => carried,
                    // It continues work that was not what it should be: that has been said of that work.
                    None => continue,
                },
            };
            let (right, carried) = redo(bench, s, checkpoint, &before)?;
            done += 1;
            // Of what was overruled it is known that it is false, and whose it is.
            let standing = work.verdicts.iter().filter(|(v, _)| work.rulings.get(*v) != Some(&false));
            for (validator, verdict) in standing {
                match (&verdict.outcome, right) {
                    // A verdict says that nothing was found in what was drawn, and that its scores are those. Of these the
                    // scores were computed again above; what is false here is what the miner committed to.
                    (Outcome::Earned { .. }, false) => {
                        return Err(format!(
                            "the submission of {} is false, and what validators drew did not show it: doing the work again \
                             gives something else; signed by its miner {}",
                            s.id, s.assignment.miner
                        ));
                    }
                    // Whether a miner answered cannot be computed.
                    (Outcome::Rejected(Fault::NoAnswer), _) => {}
                    (Outcome::Rejected(fault), true) => {
                        return Err(format!(
                            "the verdict on {} is false: it says that {fault}, but doing the work again gives the very same; \
                             signed by {validator}",
                            s.id
                        ));
                    }
                    _ => {}
                }
            }
            // A submission that was not accepted is not continued; its miner goes on from where it was.
            if work.is_accepted() {
                if self.drawn.continues(&s.id) {
                    self.carried.insert(s.id, carried);
                }
            } else if let Some(previous) = s.assignment.previous {
                self.carried.insert(previous, before);
            }
        }
        Ok(done)
    }
}

/// Does one assignment, and compares all that was committed.
fn redo(
    bench: &mut Workbench,
    s: &Submitted,
    checkpoint: &[f32],
    before: &Carried,
) -> Result<(bool, Carried), String> {
    let start = before.start(checkpoint).map_err(text)?;
    let begun = Digest(start.digest().map_err(text)?.0);
    let mut claims = Vec::new();
    let mut told = |_: u32, claim: StepClaim, _: &Trainer| {
        claims.push(claim);
        ControlFlow::Continue(())
    };
    let end = bench.train(&s.assignment, &start, 0, &mut told).map_err(text)?.state;
    let submission = bench.submit(checkpoint, &end, before).map_err(text)?;
    let commitment = Commitment {
        assignment: s.id,
        submission: Commitment::submission_of(s.assignment.miner, &submission.encoded),
        trajectory: TrajectoryHash::of(begun, &claims),
        error_feedback: submission.carried.feedback_digest().map_err(text)?,
        moments: submission.carried.moments_digest().map_err(text)?,
        updates: submission.carried.updates,
    };
    let right = commitment == s.commitment && submission.encoded == s.encoded;
    Ok((right, submission.carried))
}
