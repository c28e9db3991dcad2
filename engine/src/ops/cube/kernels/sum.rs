//! Additions: elementwise, down columns, along rows.

use cubecl::prelude::*;

use super::super::reduce::{lane_tree, my_row};
use super::super::scalar::flush;

/// `flush(a + b)`; `b` repeats every `period` elements.
#[cube(launch_unchecked)]
pub(crate) fn add(
    a: &Tensor<f32>,
    b: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    period: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        out[ABSOLUTE_POS] = flush(a[ABSOLUTE_POS] + b[ABSOLUTE_POS % period], zero);
    }
}

/// One lane of a column sum: unit `lane * width + column` adds the rows `lane, lane + 32, ..`.
#[cube(launch_unchecked)]
pub(crate) fn column_lanes(
    x: &Tensor<f32>,
    lanes: &mut Tensor<f32>,
    n: usize,
    rows: usize,
    width: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let lane = ABSOLUTE_POS / width;
        let column = ABSOLUTE_POS % width;
        let mut sum = 0.0f32;
        let steps = (rows + 31usize - lane) / 32usize;
        for i in 0..steps {
            sum = flush(sum + x[(lane + i * 32usize) * width + column], zero);
        }
        lanes[ABSOLUTE_POS] = sum;
    }
}

/// Adds the 32 lanes of each column pairwise; a workgroup for a column.
#[cube(launch_unchecked)]
pub(crate) fn column_tree(lanes: &Tensor<f32>, out: &mut Tensor<f32>, width: usize, zero: u32) {
    let column = my_row(width);
    let sum = lane_tree(lanes[UNIT_POS as usize * width + column], zero);
    if UNIT_POS == 0u32 {
        out[column] = sum;
    }
}

/// Sums of rows of `width` elements of `x [n]`, the last row may be short; squared or not; scaled.
#[cube(launch_unchecked)]
pub(crate) fn row_sums(
    x: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    rows: usize,
    width: usize,
    scale: f32,
    zero: u32,
    #[comptime] square: bool,
    #[comptime] scaled: bool,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let from = row * width;
    let mut end = from + width;
    if end > n {
        end = n;
    }
    let mut at = from + lane;
    let mut sum = 0.0f32;
    while at < end {
        let mut value = flush(x[at], zero);
        if comptime!(square) {
            value = flush(value * value, zero);
        }
        sum = flush(sum + value, zero);
        at += 32usize;
    }
    let sum = lane_tree(sum, zero);
    if lane == 0usize {
        if comptime!(scaled) {
            out[row] = flush(sum * scale, zero);
        } else {
            out[row] = sum;
        }
    }
}
