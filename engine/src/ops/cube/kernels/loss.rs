//! Cross-entropy, forward and backward.

use cubecl::prelude::*;

use super::super::reduce::{lane_max, lane_tree, my_row};
use super::super::scalar::{exp_bits, flush, ln_bits, recip_bits};

#[cube(launch_unchecked)]
pub(crate) fn cross_entropy(
    x: &Tensor<f32>,
    targets: &Tensor<i32>,
    losses: &mut Tensor<f32>,
    stats: &mut Tensor<f32>,
    rows: usize,
    v: usize,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * v;
    let mut max = f32::from_bits(0xff7fffffu32);
    let mut at = lane;
    while at < v {
        if x[base + at] > max {
            max = x[base + at];
        }
        at += 32usize;
    }
    let max = lane_max(max);
    let mut sum = 0.0f32;
    let mut at = lane;
    while at < v {
        let e = f32::from_bits(exp_bits(flush(x[base + at] - max, zero).to_bits()));
        sum = flush(sum + e, zero);
        at += 32usize;
    }
    let total = lane_tree(sum, zero);
    if lane == 0usize {
        let z = flush(x[base + targets[row] as usize] - max, zero);
        losses[row] = flush(f32::from_bits(ln_bits(total.to_bits())) - z, zero);
        stats[2usize * row] = max;
        stats[2usize * row + 1usize] = f32::from_bits(recip_bits(total.to_bits()));
    }
}

#[cube(launch_unchecked)]
pub(crate) fn cross_entropy_backward(
    x: &Tensor<f32>,
    targets: &Tensor<i32>,
    stats: &Tensor<f32>,
    seed: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    v: usize,
    inverse: f32,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let row = ABSOLUTE_POS / v;
        let column = ABSOLUTE_POS % v;
        let scale = flush(seed[0usize] * inverse, zero);
        let z = flush(x[ABSOLUTE_POS] - stats[2usize * row], zero);
        let mut p = flush(f32::from_bits(exp_bits(z.to_bits())) * stats[2usize * row + 1usize], zero);
        if column == targets[row] as usize {
            p = flush(p - 1.0f32, zero);
        }
        out[ABSOLUTE_POS] = flush(p * scale, zero);
    }
}
