//! L2 norms in a defined order, their median, and the clipping factor. The order of addition is part of the definition
//! and belongs to no thread:
//!
//! - a value's square is exact in f64;
//! - a chunk of [`CHUNK`] values (the last may be shorter) is added into 16 lanes, value j into lane j mod 16, by
//!   ascending j; the lanes are added pairwise, lane i and i + 8, then i and i + 4, i + 2, i + 1;
//! - the chunks of a block of [`BLOCK`] values are added by ascending position, starting from 0, and so
//!   are the blocks;
//! - the norm is the IEEE square root of that sum.
//!
//! No sum of squares of finite f32 overflows f64.

use rayon::prelude::*;

use super::{BLOCK, OuterError, Submission, source::read_finite};

/// Values that are added up in lanes before the lanes are joined.
const CHUNK: usize = 4096;

const LANES: usize = 16;

/// The norm of each submission, every one of `params` parameters.
///
/// If several are bad, the error is that of the first submission and its first parameter.
pub(super) fn norms(submissions: &[Submission<'_>], params: usize) -> Result<Vec<f64>, OuterError> {
    let blocks = params.div_ceil(BLOCK);
    let sums: Vec<Vec<Result<f64, OuterError>>> = submissions
        .par_iter()
        .enumerate()
        .map(|(submission, Submission { gradient, .. })| {
            (0..blocks)
                .into_par_iter()
                .map_init(Vec::new, |buffer, block| {
                    let start = block * BLOCK;
                    buffer.resize(BLOCK.min(params - start), 0.0);
                    read_finite(submission, *gradient, start, buffer)?;
                    Ok(buffer.chunks(CHUNK).map(chunk_sum).fold(0.0, |sum, chunk| sum + chunk))
                })
                .collect()
        })
        .collect();
    sums.into_iter()
        .map(|blocks| blocks.into_iter().try_fold(0.0, |sum, block| Ok(sum + block?)).map(f64::sqrt))
        .collect()
}

fn chunk_sum(chunk: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    for group in chunk.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(group) {
            let value = f64::from(*value);
            *lane += value * value;
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        let (low, high) = lanes.split_at_mut(width);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
    }
    lanes[0]
}

/// The smallest of these norms such that norms that are no larger have half of the weight of all, or more; 0 if there are none.
/// Norms are finite and not negative, weights finite and positive. Weights are added in f64 by ascending norm, those of equal
/// norms by ascending weight.
pub(super) fn weighted_median(mut norms: Vec<(f64, f32)>) -> f64 {
    norms.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut sum = 0.0;
    let sums: Vec<f64> = norms
        .iter()
        .map(|(_, weight)| {
            sum += f64::from(*weight);
            sum
        })
        .collect();
    let middle = sums.iter().position(|so_far| 2.0 * so_far >= sum);
    middle.and_then(|middle| norms.get(middle)).map_or(0.0, |(norm, _)| *norm)
}

/// The factor that brings `norm` down to `median`: one f64 division, rounded to f32; 1 for what is not larger.
pub(super) fn scale(norm: f64, median: f64) -> f32 {
    if norm > median { (median / norm) as f32 } else { 1.0 }
}
