//! What can go wrong while training.

use thiserror::Error;

use crate::merkle::{MerkleError, StateDigest};
use crate::model::{LayoutError, TokenError};
use crate::schedule::ScheduleError;

/// A training step that was not taken, or a replay that did not agree.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TrainError {
    /// The tokens do not fit the model.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The parameters do not fit the model.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The loss or the gradient is no longer finite.
    #[error(
        "step {step} diverged: loss {loss}, gradient norm {gradient_norm}; lower the learning rate or start from an \
         earlier checkpoint"
    )]
    Diverged {
        /// The step that was tried.
        step: u32,
        /// Its loss.
        loss: f32,
        /// Norm of its gradient.
        gradient_norm: f32,
    },
    /// The state could not be hashed.
    #[error(transparent)]
    Digest(#[from] MerkleError),
    /// The learning-rate schedule is not one.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A parameter got no gradient.
    #[error("parameter {name} took no part in the loss")]
    NoGradient {
        /// Its name.
        name: String,
    },
    /// The device did not give back its data.
    #[error("the device failed: {0}; close other programs that use it, or choose another with --device")]
    Device(String),
    /// A replayed step has another state than the one committed to.
    #[error("step {step} gives state {found}, but {committed} was committed")]
    Mismatch {
        /// The first step that disagrees.
        step: u32,
        /// What was computed here.
        found: StateDigest,
        /// What was committed.
        committed: StateDigest,
    },
}
