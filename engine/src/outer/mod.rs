//! The outer step: the next checkpoint from the current one and a round's pseudo-gradients, bit for bit the same for
//! everybody who has the submissions. This module never decodes a submission, judges its quality or knows who sent it;
//! it asks each for a block of values at a time, so its memory does not grow with the number of submissions.
//!
//! Definition, for parameters `theta`, pseudo-gradients `g_1 .. g_N` sorted by submission id, their weights `w_1 .. w_N`, and
//! `flush`, which turns magnitudes below 2^-125 into zeros of the same sign (every operation is one IEEE operation, rounded to
//! nearest even):
//!
//! ```text
//! norm_i   = square root of the sum of squares of g_i in f64, in the order that `norm` defines
//! median   = the smallest norm_i such that submissions of no larger norm have half of the weight of all, or more
//! scale_i  = norm_i > median ? f32(median / norm_i) : 1
//! average  = flush(flush(sum of flush(g_i * scale_i), in order, flushed after each addition) / N)    in f32
//! velocity = flush(flush(momentum * velocity) + average)                                             if Nesterov
//! update   = flush(average + flush(momentum * velocity))                                             if Nesterov
//! theta'   = flush(theta - flush(rate * update))
//! ```
//!
//! Without momentum the update is the average. Clipping to the median norm is the defence of SparseLoCo (arXiv
//! 2508.15706) and its predecessors against one submission that outweighs the others; it says nothing of direction.
//!
//! Weights say what a submission is worth by a measure that its maker does not choose: in a run the loss reduction that was
//! measured on text nobody knew before. With equal weights the median is the middle norm, for even N the lower one of two. Then
//! half of the submissions could decide how large a step is: with norms near 0 they would clip all others away, and a rule that
//! took the upper one would let them make it huge. Weighted, a norm near 0 weighs next to nothing, as the loss moves in
//! proportion to it at first, so it clips nobody; a huge one decides only if it lowers the loss by more than all smaller ones
//! together, and then a part of the way to it lowers the loss too, as far as the loss is convex between the two.

mod norm;
mod source;

pub use source::{PseudoGradientSource, SourceError};

use rayon::prelude::*;

use crate::scalar::host::flush;

/// Most parameters that a source is asked for at a time, and the length of a working buffer (4 MiB): a segment of an
/// encoded pseudo-gradient, so that none is decoded twice in a pass. Blocks start at multiples of it.
pub const BLOCK: usize = 1 << 20;

/// Most submissions of a round: their number is exact in f32.
pub const MAX_SUBMISSIONS: usize = 1 << 24;

/// One miner's pseudo-gradient.
#[derive(Clone, Copy)]
pub struct Submission<'a> {
    /// What the submission is known by, for example its hash. Ids fix the order of summation and are unique.
    pub id: [u8; 32],
    /// The values: checkpoint minus the miner's final parameters.
    pub gradient: &'a (dyn PseudoGradientSource + Sync),
    /// What it is worth against the others when it is decided which norm is too large: finite and above 0. Not a factor of its
    /// values: all count alike in the average.
    pub weight: f32,
}

/// Settings of the outer optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OuterSpec {
    /// Learning rate, finite; 1 with plain averaging gives the mean of the miners' final parameters.
    pub rate: f32,
    /// Nesterov momentum in [0, 1), or `None` for plain gradient descent.
    pub momentum: Option<f32>,
}

/// What the outer step changes.
#[derive(Debug, Clone, PartialEq)]
pub struct OuterState {
    /// The parameters of the checkpoint.
    pub parameters: Vec<f32>,
    /// Velocity of Nesterov's momentum, as long as the parameters; empty without momentum, and before the first step
    /// with it, where it stands for zeros.
    pub velocity: Vec<f32>,
}

/// What the step did to each submission, in the caller's order.
#[derive(Debug, Clone, PartialEq)]
pub struct OuterReport {
    /// L2 norm of each pseudo-gradient.
    pub norms: Vec<f64>,
    /// The norm to which larger ones were clipped.
    pub median: f64,
    /// Factor by which each pseudo-gradient was multiplied, in [0, 1].
    pub scales: Vec<f32>,
}

/// Why there is no next checkpoint. Submissions are named by their position in the caller's list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OuterError {
    /// Nothing to average.
    #[error("the round has no submissions; keep the checkpoint")]
    EmptyRound,
    /// More than can be averaged.
    #[error("the round has {0} submissions, at most {MAX_SUBMISSIONS} can be averaged")]
    TooManySubmissions(usize),
    /// Two submissions have one id, so their order is not defined.
    #[error("submissions {first} and {second} have the same id; drop one")]
    DuplicateId {
        /// The one that comes first in the caller's list.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A pseudo-gradient of another model.
    #[error("submission {submission} has {got} parameters, the checkpoint has {expected}; drop it")]
    Length {
        /// Position of the submission.
        submission: usize,
        /// Parameters of the checkpoint.
        expected: usize,
        /// Parameters of the submission.
        got: usize,
    },
    /// A pseudo-gradient with an infinity or a NaN.
    #[error("submission {submission} is not finite at parameter {parameter}; drop it")]
    NotFinite {
        /// Position of the submission.
        submission: usize,
        /// First parameter at which it is not finite.
        parameter: usize,
    },
    /// A weight that is none.
    #[error("submission {submission} has the weight {weight}; it must be finite and above 0")]
    Weight {
        /// Position of the submission.
        submission: usize,
        /// The weight given.
        weight: f32,
    },
    /// A pseudo-gradient could not be read.
    #[error("submission {submission} cannot be read")]
    Source {
        /// Position of the submission.
        submission: usize,
        /// What its source says.
        #[source]
        error: SourceError,
    },
    /// The velocity is not that of this checkpoint.
    #[error("the velocity has {got} values, {expected} are needed (none without momentum)")]
    Velocity {
        /// Length that goes with the settings.
        expected: usize,
        /// Length given.
        got: usize,
    },
    /// The settings are not usable.
    #[error("outer rate {rate} and momentum {momentum:?} are not a finite rate and a momentum in [0, 1)")]
    Spec {
        /// The rate given.
        rate: f32,
        /// The momentum given.
        momentum: Option<f32>,
    },
    /// The checkpoint after the step would not be finite.
    #[error(
        "parameter {parameter} is not finite after the step; lower the outer rate or drop the largest submissions"
    )]
    Diverged {
        /// First parameter of which this holds.
        parameter: usize,
    },
}

/// Computes the next state from `state` and the round's submissions, reading each of these twice.
///
/// The result depends on the set of submissions only, not on their order in the list or the number of threads. Memory:
/// the new state, at most two blocks per task that runs, and one sum per block of each submission.
///
/// # Errors
/// Each [`OuterError`] names what to drop or change; `state` is never modified.
pub fn outer_step(
    state: &OuterState,
    submissions: &[Submission<'_>],
    spec: &OuterSpec,
) -> Result<(OuterState, OuterReport), OuterError> {
    let order = check(state, submissions, spec)?;
    let norms = norm::norms(submissions, state.parameters.len())?;
    let weights = submissions.iter().map(|s| s.weight);
    let median = norm::weighted_median(norms.iter().copied().zip(weights).collect());
    let scales: Vec<f32> = norms.iter().map(|&norm| norm::scale(norm, median)).collect();
    let ordered: Vec<Scaled<'_>> = order
        .iter()
        .filter_map(|&position| Some((position, submissions.get(position)?.gradient, *scales.get(position)?)))
        .collect();
    let next = update(state, &ordered, spec)?;
    Ok((next, OuterReport { norms, median, scales }))
}

/// Position in the caller's list, values, and the factor they are multiplied by.
type Scaled<'a> = (usize, &'a (dyn PseudoGradientSource + Sync), f32);

/// Refuses what has no defined result, and returns the positions of the submissions sorted by id.
fn check(
    state: &OuterState,
    submissions: &[Submission<'_>],
    spec: &OuterSpec,
) -> Result<Vec<usize>, OuterError> {
    let OuterSpec { rate, momentum } = *spec;
    if !rate.is_finite() || momentum.is_some_and(|momentum| !(0.0..1.0).contains(&momentum)) {
        return Err(OuterError::Spec { rate, momentum });
    }
    let expected = state.parameters.len();
    let velocity = state.velocity.len();
    if velocity != 0 && (momentum.is_none() || velocity != expected) {
        let expected = if momentum.is_some() { expected } else { 0 };
        return Err(OuterError::Velocity { expected, got: velocity });
    }
    if submissions.is_empty() {
        return Err(OuterError::EmptyRound);
    }
    if submissions.len() > MAX_SUBMISSIONS {
        return Err(OuterError::TooManySubmissions(submissions.len()));
    }
    for (submission, Submission { gradient, weight, .. }) in submissions.iter().enumerate() {
        if gradient.params() != expected {
            return Err(OuterError::Length { submission, expected, got: gradient.params() });
        }
        if !(weight.is_finite() && *weight > 0.0) {
            return Err(OuterError::Weight { submission, weight: *weight });
        }
    }
    let mut order: Vec<([u8; 32], usize)> = submissions.iter().map(|s| s.id).zip(0..).collect();
    order.sort_unstable();
    for pair in order.windows(2) {
        if let [(a, first), (b, second)] = pair
            && a == b
        {
            return Err(OuterError::DuplicateId { first: *first, second: *second });
        }
    }
    Ok(order.into_iter().map(|(_, position)| position).collect())
}

/// The second pass: averages block by block and moves the parameters.
fn update(state: &OuterState, ordered: &[Scaled<'_>], spec: &OuterSpec) -> Result<OuterState, OuterError> {
    let mut next = state.clone();
    if spec.momentum.is_some() {
        // an empty velocity stands for zeros
        next.velocity.resize(state.parameters.len(), 0.0);
    }
    let count = ordered.len() as f32;
    let average = |buffers: &mut Buffers, start: usize, len: usize| -> Result<(), OuterError> {
        let (sum, values) = buffers.of(len);
        sum.fill(0.0);
        for (submission, gradient, scale) in ordered {
            source::read_finite(*submission, *gradient, start, values)?;
            for (sum, value) in sum.iter_mut().zip(values.iter()) {
                *sum = flush(*sum + flush(value * scale, 0), 0);
            }
        }
        for sum in sum {
            *sum = flush(*sum / count, 0);
        }
        Ok(())
    };
    let rate = spec.rate;
    // the failure of the lowest block, whichever thread comes first
    let failure = match spec.momentum {
        None => next
            .parameters
            .par_chunks_mut(BLOCK)
            .enumerate()
            .map_init(Buffers::default, |buffers, (block, theta)| {
                average(buffers, block * BLOCK, theta.len())?;
                for (theta, average) in theta.iter_mut().zip(&buffers.sum) {
                    *theta = flush(*theta - flush(average * rate, 0), 0);
                }
                finite(block * BLOCK, theta)
            })
            .find_map_first(Result::err),
        Some(momentum) => next
            .parameters
            .par_chunks_mut(BLOCK)
            .zip(next.velocity.par_chunks_mut(BLOCK))
            .enumerate()
            .map_init(Buffers::default, |buffers, (block, (theta, velocity))| {
                average(buffers, block * BLOCK, theta.len())?;
                for ((theta, velocity), average) in
                    theta.iter_mut().zip(velocity.iter_mut()).zip(&buffers.sum)
                {
                    *velocity = flush(flush(*velocity * momentum, 0) + average, 0);
                    let update = flush(average + flush(*velocity * momentum, 0), 0);
                    *theta = flush(*theta - flush(update * rate, 0), 0);
                }
                finite(block * BLOCK, theta)?;
                finite(block * BLOCK, velocity)
            })
            .find_map_first(Result::err),
    };
    failure.map_or(Ok(next), Err)
}

fn finite(start: usize, values: &[f32]) -> Result<(), OuterError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(offset) => Err(OuterError::Diverged { parameter: start + offset }),
    }
}

/// Working memory of a thread: a running sum and the values of one submission, a block each.
#[derive(Default)]
struct Buffers {
    sum: Vec<f32>,
    values: Vec<f32>,
}

impl Buffers {
    /// Both buffers, cut to `len` values, which is at most [`BLOCK`].
    fn of(&mut self, len: usize) -> (&mut [f32], &mut [f32]) {
        self.sum.resize(len, 0.0);
        self.values.resize(len, 0.0);
        (&mut self.sum, &mut self.values)
    }
}

#[cfg(test)]
mod tests;
