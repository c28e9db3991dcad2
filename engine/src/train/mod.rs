//! Training: the state of a worker, one step, and the inner loop whose trajectory a miner commits to.

mod digest;
mod error;
mod inner;
mod memory;
mod settings;
mod state;
mod trainer;

pub use error::TrainError;
pub use inner::{Progress, StepRecord, Trajectory, inner_steps, replay};
pub use settings::{AdamwSettings, TrainSettings};
pub use state::State;
pub use trainer::{StepOutcome, Trainer};
