//! The numbers of a training run that every worker must share.

use serde::{Deserialize, Serialize};

use crate::ops::kernels::AdamwNumbers;
use crate::schedule::{Schedule, ScheduleError, StepHyper};

/// AdamW (arXiv 1711.05101) with clipping by global norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamwSettings {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment (as `sqrt(v + eps^2)`).
    pub eps: f32,
    /// Decoupled weight decay of matrices; norms and biases have none.
    pub weight_decay: f32,
    /// Largest global gradient norm.
    pub clip: f32,
}

impl Default for AdamwSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1.0 }
    }
}

/// Optimizer and learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// The optimizer.
    pub adamw: AdamwSettings,
    /// Highest learning rate.
    pub peak_lr: f32,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// Steps after which the cosine has reached its floor.
    pub total_steps: u32,
    /// The floor, as a share of the peak.
    pub floor: f32,
}

impl TrainSettings {
    /// The schedule's numbers for the step with index `step` (from 0), whose moments have seen `updates` steps before it.
    ///
    /// `updates` differs from `step` when moments start fresh in every round.
    pub(crate) fn hyper(&self, step: u32, updates: u32) -> Result<StepHyper, ScheduleError> {
        let schedule = Schedule {
            peak: self.peak_lr,
            warmup: self.warmup_steps,
            total: self.total_steps,
            floor_ratio: self.floor,
            beta1: self.adamw.beta1,
            beta2: self.adamw.beta2,
        };
        schedule.at(u64::from(step) + 1, u64::from(updates) + 1)
    }

    /// The update's numbers. `norm` is the global gradient norm; clipping scales by `clip / norm` when that is below one.
    pub(crate) fn numbers(&self, hyper: StepHyper, norm: f32, decay: bool) -> AdamwNumbers {
        let a = &self.adamw;
        let scale = if norm > a.clip { a.clip / norm } else { 1.0 };
        AdamwNumbers {
            gradient_scale: scale,
            beta1: a.beta1,
            one_minus_beta1: 1.0 - a.beta1,
            beta2: a.beta2,
            one_minus_beta2: 1.0 - a.beta2,
            c1: hyper.c1,
            c2: hyper.c2,
            eps_squared: a.eps * a.eps,
            lr: hyper.lr,
            lr_decay: if decay { hyper.lr * a.weight_decay } else { 0.0 },
        }
    }
}
