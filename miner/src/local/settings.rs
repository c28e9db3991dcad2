//! The settings a local run depends on, and nothing else: two runs with equal settings have equal checkpoints.

use serde::{Deserialize, Serialize};
use watershed_engine::model::{ModelConfig, Profile};
use watershed_engine::product::Precision;
use watershed_engine::train::{AdamwSettings, TrainSettings};

use super::corpus::Corpus;
use super::{Args, MomentsName, ProfileName};

/// Everything that the checkpoints of a run are a function of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) model: ModelConfig,
    pub(crate) train: TrainSettings,
    pub(crate) workers: u32,
    pub(crate) batch: usize,
    pub(crate) seq: usize,
    /// Values kept of every 4096; none for dense averaging.
    pub(crate) top_k: Option<usize>,
    pub(crate) rounds: u32,
    pub(crate) inner_steps: u32,
    pub(crate) seed: u64,
    /// Operand widths as text, or `native`.
    pub(crate) arithmetic: String,
    pub(crate) carried: bool,
    pub(crate) eight_bit: bool,
    pub(crate) outer_lr: f32,
    pub(crate) outer_momentum: f32,
    pub(crate) error_decay: f32,
    /// SHA-256 of the text, in hex.
    pub(crate) corpus: String,
    /// What the arithmetic is; not part of equality, which `arithmetic` decides.
    #[serde(skip, default = "native")]
    pub(crate) profile: Profile,
}

fn native() -> Profile {
    Profile::Native
}

/// Steps of warm-up: a twentieth of the run, at least one and at most a hundred.
fn warmup(total: u32) -> u32 {
    (total / 20).clamp(1, 100)
}

impl Settings {
    pub(crate) fn new(args: &Args, corpus: &Corpus) -> Self {
        let total = args.rounds.saturating_mul(args.inner_steps);
        let precision: Precision = args.precision;
        let (profile, arithmetic) = match args.profile {
            ProfileName::Exact => (Profile::Exact(precision), precision.to_string()),
            ProfileName::Native => (Profile::Native, "native".to_owned()),
        };
        let mut model = args.preset.config();
        // The window may be longer than the preset's positions: rotary positions have no table to outgrow.
        model.max_seq = model.max_seq.max(args.seq as usize);
        Self {
            model,
            train: TrainSettings {
                adamw: AdamwSettings::default(),
                peak_lr: args.lr,
                warmup_steps: warmup(total),
                total_steps: total,
                floor: 0.1,
            },
            workers: args.workers,
            batch: args.batch as usize,
            seq: args.seq as usize,
            top_k: (!args.dense).then_some(args.top_k as usize),
            rounds: args.rounds,
            inner_steps: args.inner_steps,
            seed: args.seed,
            arithmetic,
            carried: args.moments != MomentsName::Fresh,
            eight_bit: args.moments == MomentsName::Carried,
            outer_lr: args.outer_lr,
            outer_momentum: args.outer_momentum,
            error_decay: args.error_decay,
            corpus: hex::encode(corpus.digest),
            profile,
        }
    }

    /// The settings as JSON, without what does not matter to results.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
