//! What a round computes, as functions of public and committed inputs: a miner's work, its checking, its score, and the
//! next checkpoint. No network, no money, no clock.
//!
//! A [`Workbench`] is a run's model on a device with the run's text. Miner, validator, coordinator and audit all have one,
//! and all get the same bits.

mod carried;
mod check;
mod check_answer;
mod check_verdict;
mod error;
mod files;
mod opening;
mod outer;
mod plan;
mod score;
mod settings;
mod share;
mod text;
mod work;
mod workbench;

pub use carried::Carried;
pub use check::Claim;
pub use check_answer::Answer;
pub use check_verdict::{Asked, Findings};
pub use error::RoundError;
pub use files::{floats, floats_of, sha256};
pub use opening::{OpenedChunk, OpenedChunks, Part, open_chunks};
pub use outer::{OuterResult, checkpoint_digest};
pub use plan::{Estimate, Unfit, faults, faults_with_text};
pub use score::score_windows;
pub use settings::{Settings, data_spec, model_spec};
pub use share::{shares, whole};
pub use work::Submission;
pub use workbench::Workbench;
