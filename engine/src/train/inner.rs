//! The inner loop of local training, and its replay.
//!
//! A round of local training (DiLoCo, arXiv 2311.08105) is `H` AdamW steps from a checkpoint. Each step leaves a digest of
//! the whole state, and the list of digests is what a miner commits to: whoever has the state before a step and its
//! tokens can run it again and must find the same digest.

use std::ops::ControlFlow;
use std::ops::Range;

use super::{State, TrainError, Trainer};
use crate::merkle::StateDigest;
use crate::model::{TokenError, Tokens};

/// One step of a trajectory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// Index in the learning-rate schedule.
    pub step: u32,
    /// Mean cross-entropy before the update.
    pub loss: f32,
    /// Global gradient norm before clipping.
    pub gradient_norm: f32,
    /// Digest of parameters and moments after the update.
    pub digest: StateDigest,
}

/// The steps that were taken and the state they led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// In order.
    pub steps: Vec<StepRecord>,
    /// After the last of them.
    pub state: State,
    /// Whether the loop was stopped before its last step. Running the remaining steps from `state` gives the same
    /// trajectory as one run.
    pub stopped: bool,
}

/// Told after every step, with the record and the trainer, which gives the state it led to to whoever needs it; `Break`
/// stops the loop there.
pub type Progress<'a> = dyn FnMut(&StepRecord, &Trainer) -> ControlFlow<()> + 'a;

/// Runs the steps `steps` of the schedule from `start`; `window` gives the tokens of each.
///
/// # Errors
/// What [`Trainer::step`] refuses, and what `window` does.
pub fn inner_steps(
    trainer: &mut Trainer,
    start: &State,
    steps: Range<u32>,
    window: &dyn Fn(u32) -> Result<Tokens, TokenError>,
    progress: &mut Progress<'_>,
) -> Result<Trajectory, TrainError> {
    trainer.load(start)?;
    let mut trajectory = Trajectory { steps: Vec::new(), state: start.clone(), stopped: false };
    for step in steps.clone() {
        let outcome = trainer.step(step, &window(step)?)?;
        let record = StepRecord {
            step,
            loss: outcome.loss,
            gradient_norm: outcome.gradient_norm,
            digest: trainer.digest()?,
        };
        trajectory.steps.push(record);
        if progress(&record, trainer).is_break() {
            trajectory.stopped = step + 1 < steps.end;
            break;
        }
    }
    trainer.read_into(&mut trajectory.state)?;
    Ok(trajectory)
}

/// Runs the steps of `committed` again from `start`, and compares every digest.
///
/// # Errors
/// [`TrainError::Mismatch`] at the first step that leads elsewhere; otherwise as [`inner_steps`].
pub fn replay(
    trainer: &mut Trainer,
    start: &State,
    committed: &[StepRecord],
    window: &dyn Fn(u32) -> Result<Tokens, TokenError>,
) -> Result<State, TrainError> {
    trainer.load(start)?;
    for record in committed {
        trainer.step(record.step, &window(record.step)?)?;
        let found = trainer.digest()?;
        if found != record.digest {
            return Err(TrainError::Mismatch { step: record.step, found, committed: record.digest });
        }
    }
    trainer.state()
}
