//! RMSNorm, forward and backward; a workgroup for a row.

use cubecl::prelude::*;

use super::super::reduce::{lane_tree, my_row};
use super::super::scalar::{flush, rsqrt_bits};

#[cube(launch_unchecked)]
pub(crate) fn rms_norm(
    x: &Tensor<f32>,
    w: &Tensor<f32>,
    y: &mut Tensor<f32>,
    r: &mut Tensor<f32>,
    rows: usize,
    d: usize,
    inverse: f32,
    eps: f32,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * d;
    let steps = (d + 31usize - lane) / 32usize;
    let mut sum = 0.0f32;
    for i in 0..steps {
        let v = x[base + lane + i * 32usize];
        sum = flush(sum + flush(v * v, zero), zero);
    }
    let sum = lane_tree(sum, zero);
    let mean = flush(flush(sum * inverse, zero) + eps, zero);
    let scale = f32::from_bits(rsqrt_bits(mean.to_bits()));
    for i in 0..steps {
        let at = lane + i * 32usize;
        y[base + at] = flush(flush(x[base + at] * scale, zero) * w[at], zero);
    }
    if lane == 0usize {
        r[row] = scale;
    }
}

#[cube(launch_unchecked)]
pub(crate) fn rms_norm_backward(
    dy: &Tensor<f32>,
    x: &Tensor<f32>,
    w: &Tensor<f32>,
    r: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    products: &mut Tensor<f32>,
    rows: usize,
    d: usize,
    inverse: f32,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * d;
    let steps = (d + 31usize - lane) / 32usize;
    let scale = r[row];
    let mut sum = 0.0f32;
    for i in 0..steps {
        let at = lane + i * 32usize;
        let h = flush(x[base + at] * scale, zero);
        let g = flush(dy[base + at] * w[at], zero);
        sum = flush(sum + flush(g * h, zero), zero);
    }
    let c = flush(lane_tree(sum, zero) * inverse, zero);
    for i in 0..steps {
        let at = lane + i * 32usize;
        let h = flush(x[base + at] * scale, zero);
        let g = flush(dy[base + at] * w[at], zero);
        products[base + at] = flush(dy[base + at] * h, zero);
        dx[base + at] = flush(flush(g - flush(h * c, zero), zero) * scale, zero);
    }
}
