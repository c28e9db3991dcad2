//! A run's model on a device, with the run's text.

use watershed_engine::device::OpenDevice;
use watershed_engine::model::{Tokens, init};
use watershed_engine::train::{State, Trainer};
use watershed_protocol::market::{Assignment, RunSpec};
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;

use super::text::Text;
use super::{RoundError, Settings};

/// Everything that is needed to compute any part of a run.
pub struct Workbench {
    pub(crate) settings: Settings,
    pub(crate) text: Text,
    pub(crate) trainer: Trainer,
}

impl std::fmt::Debug for Workbench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workbench").field("settings", &self.settings.spec.title).finish_non_exhaustive()
    }
}

impl Workbench {
    /// Opens the run's shard set in `store` and puts its model on `device`.
    ///
    /// # Errors
    /// A specification that makes no sense, or shards that are not there or do not fit it.
    pub fn new(spec: &RunSpec, store: &Store, device: &OpenDevice) -> Result<Self, RoundError> {
        let settings = Settings::new(spec)?;
        let text = Text::new(OpenSet::open(store, spec.data.shards)?, spec)?;
        let state = State::fresh(init(&settings.layout, spec.seed));
        let trainer =
            Trainer::new(settings.layout.clone(), settings.profile, settings.train, &device.device, &state)?;
        Ok(Self { settings, text, trainer })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The parameters before the first round.
    pub fn initial(&self) -> Vec<f32> {
        init(&self.settings.layout, self.settings.spec.seed)
    }

    /// The tokens of step `step` of an assignment, from 0.
    ///
    /// # Errors
    /// A window that the shard set does not have.
    pub fn tokens(&self, assignment: &Assignment, step: u32) -> Result<Tokens, RoundError> {
        let skip = u64::from(step) * u64::from(assignment.batch);
        self.text.batch(&assignment.window, skip, assignment.batch)
    }

    /// The step's number in the schedule of the run.
    pub(crate) fn schedule_step(&self, assignment: &Assignment, step: u32) -> u32 {
        assignment.round.0.saturating_mul(self.settings.spec.inner.steps).saturating_add(step)
    }

    /// Loss of parameters on the run's held-out text.
    ///
    /// # Errors
    /// Those of the device.
    pub fn evaluate(&self, parameters: &[f32]) -> Result<f32, RoundError> {
        let batches = self.text.evaluation(self.settings.spec.seed)?;
        let [loss] = self.trainer.evaluate(parameters, [&batches])?;
        Ok(loss)
    }
}
