//! A miner's work: inner steps, and what it hands in.

use std::ops::ControlFlow;

use watershed_engine::scalar::flush;
use watershed_engine::train::{State, StepRecord, Trainer, Trajectory, inner_steps};
use watershed_engine::{moments, pseudo_gradient};
use watershed_protocol::market::{Assignment, StepClaim};

use super::carried::digest;
use super::{Carried, RoundError, Workbench};

/// What a round leads to for its miner.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// The encoded pseudo-gradient.
    pub encoded: Vec<u8>,
    /// What is carried into the next round, if this one is accepted.
    pub carried: Carried,
}

impl Workbench {
    /// Runs the inner steps `done..` of an assignment from `state`, the state after `done` of them. `progress` is told
    /// after every step, with the step's number from 0 and the trainer, which gives the state, and can stop there.
    ///
    /// # Errors
    /// Divergence, a failing device, a window that is not there.
    pub fn train(
        &mut self,
        assignment: &Assignment,
        state: &State,
        done: u32,
        progress: &mut dyn FnMut(u32, StepClaim, &Trainer) -> ControlFlow<()>,
    ) -> Result<Trajectory, RoundError> {
        let base = self.schedule_step(assignment, 0);
        let steps = base + done..self.schedule_step(assignment, self.settings.spec.inner.steps);
        let Self { text, trainer, .. } = self;
        let failed = std::cell::RefCell::new(None);
        let window = |step: u32| {
            let skip = u64::from(step - base) * u64::from(assignment.batch);
            text.step_tokens(&assignment.window, skip, assignment.batch, &failed)
        };
        let mut told =
            |record: &StepRecord, trainer: &Trainer| progress(record.step - base, claim(record), trainer);
        let result = inner_steps(trainer, state, steps, &window, &mut told);
        match failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(result?),
        }
    }

    /// Compresses what the inner steps led to.
    ///
    /// # Errors
    /// Values that are not finite.
    pub fn submit(
        &self,
        checkpoint: &[f32],
        end: &State,
        before: &Carried,
    ) -> Result<Submission, RoundError> {
        let delta = pseudo_gradient_of(checkpoint, &end.parameters);
        let compression = &self.settings.spec.compression;
        let mut feedback = before.feedback.clone();
        let (beta, k) = (compression.error_decay, compression.top_k as usize);
        let encoded = pseudo_gradient::compress(&mut feedback, &delta, beta, k)?;
        let carried = if self.settings.spec.inner.carried {
            let moments = moments::encode(&end.first, &end.second)?;
            Carried { feedback, moments, updates: end.updates }
        } else {
            Carried { feedback, moments: Vec::new(), updates: 0 }
        };
        Ok(Submission { encoded, carried })
    }
}

/// Checkpoint minus final parameters.
pub(crate) fn pseudo_gradient_of(checkpoint: &[f32], end: &[f32]) -> Vec<f32> {
    checkpoint.iter().zip(end).map(|(theta, end)| flush(*theta - *end, 0)).collect()
}

pub(crate) fn claim(record: &StepRecord) -> StepClaim {
    StepClaim { state: digest(record.digest), loss: record.loss.to_bits() }
}
