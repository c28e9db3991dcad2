//! SwiGLU, forward and backward.

use cubecl::prelude::*;

use super::super::scalar::{flush, sigmoid_bits};

#[cube(launch_unchecked)]
pub(crate) fn swiglu(gate_up: &Tensor<f32>, h: &mut Tensor<f32>, n: usize, f: usize, zero: u32) {
    if ABSOLUTE_POS < n {
        let at = (ABSOLUTE_POS / f) * 2usize * f + ABSOLUTE_POS % f;
        let g = gate_up[at];
        let s = f32::from_bits(sigmoid_bits(g.to_bits(), zero));
        h[ABSOLUTE_POS] = flush(flush(g * s, zero) * gate_up[at + f], zero);
    }
}

#[cube(launch_unchecked)]
pub(crate) fn swiglu_backward(
    gate_up: &Tensor<f32>,
    dh: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    f: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let at = (ABSOLUTE_POS / f) * 2usize * f + ABSOLUTE_POS % f;
        let g = gate_up[at];
        let d = dh[ABSOLUTE_POS];
        let s = f32::from_bits(sigmoid_bits(g.to_bits(), zero));
        out[at + f] = flush(d * flush(g * s, zero), zero);
        let slope = flush(1.0f32 - s, zero);
        let slope = flush(1.0f32 + flush(g * slope, zero), zero);
        let slope = flush(s * slope, zero);
        out[at] = flush(flush(d * gate_up[at + f], zero) * slope, zero);
    }
}
