//! The embedding table and its gradient.

use cubecl::prelude::*;

use super::super::scalar::flush;

#[cube(launch_unchecked)]
pub(crate) fn embedding(table: &Tensor<f32>, ids: &Tensor<i32>, out: &mut Tensor<f32>, n: usize, d: usize) {
    if ABSOLUTE_POS < n {
        let row = ids[ABSOLUTE_POS / d] as usize;
        out[ABSOLUTE_POS] = table[row * d + ABSOLUTE_POS % d];
    }
}

#[cube(launch_unchecked)]
pub(crate) fn embedding_backward(
    dy: &Tensor<f32>,
    order: &Tensor<i32>,
    offsets: &Tensor<i32>,
    out: &mut Tensor<f32>,
    n: usize,
    d: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let row = ABSOLUTE_POS / d;
        let column = ABSOLUTE_POS % d;
        let from = offsets[row] as usize;
        let to = offsets[row + 1usize] as usize;
        let mut sum = 0.0f32;
        for i in from..to {
            sum = flush(sum + dy[order[i] as usize * d + column], zero);
        }
        out[ABSOLUTE_POS] = sum;
    }
}
