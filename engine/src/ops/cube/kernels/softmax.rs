//! The causal softmax, forward and backward; a workgroup for a row.

use cubecl::prelude::*;

use super::super::reduce::{lane_max, lane_tree, my_row};
use super::super::scalar::{exp_bits, flush, recip_bits};

#[cube(launch_unchecked)]
pub(crate) fn softmax(s: &Tensor<f32>, p: &mut Tensor<f32>, rows: usize, seq: usize, scale: f32, zero: u32) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * seq;
    let seen = row % seq + 1usize;
    let mut max = f32::from_bits(0xff7fffffu32);
    let mut at = lane;
    while at < seen {
        let z = flush(s[base + at] * scale, zero);
        if z > max {
            max = z;
        }
        at += 32usize;
    }
    let max = lane_max(max);
    let mut sum = 0.0f32;
    let mut at = lane;
    while at < seen {
        let z = flush(s[base + at] * scale, zero);
        let e = f32::from_bits(exp_bits(flush(z - max, zero).to_bits()));
        p[base + at] = e;
        sum = flush(sum + e, zero);
        at += 32usize;
    }
    let r = f32::from_bits(recip_bits(lane_tree(sum, zero).to_bits()));
    let mut at = lane;
    while at < seen {
        p[base + at] = flush(p[base + at] * r, zero);
        at += 32usize;
    }
    while at < seq {
        p[base + at] = 0.0f32;
        at += 32usize;
    }
}

#[cube(launch_unchecked)]
pub(crate) fn softmax_backward(
    p: &Tensor<f32>,
    dp: &Tensor<f32>,
    ds: &mut Tensor<f32>,
    rows: usize,
    seq: usize,
    scale: f32,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * seq;
    let seen = row % seq + 1usize;
    let mut sum = 0.0f32;
    let mut at = lane;
    while at < seen {
        sum = flush(sum + flush(dp[base + at] * p[base + at], zero), zero);
        at += 32usize;
    }
    let c = lane_tree(sum, zero);
    let mut at = lane;
    while at < seen {
        let inner = flush(dp[base + at] - c, zero);
        ds[base + at] = flush(flush(p[base + at] * inner, zero) * scale, zero);
        at += 32usize;
    }
    while at < seq {
        ds[base + at] = 0.0f32;
        at += 32usize;
    }
}
