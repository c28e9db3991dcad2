//! Sums in 32 lanes and a tree; see the contract in [`crate::ops`].

use multiversion::multiversion;

use super::flush;
use super::rows::for_rows;
use crate::ops::LANES;

/// Adds the lanes pairwise.
#[inline(always)]
pub(crate) fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] = flush(lanes[l] + lanes[l + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of a row.
#[inline(always)]
pub(crate) fn lane_sum(row: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut whole = row.chunks_exact(LANES);
    for chunk in &mut whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = flush(*lane + *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(whole.remainder()) {
        *lane = flush(*lane + *x);
    }
    tree(lanes)
}

/// Calls `work(first, out)` on blocks of at most [`COLUMN_BLOCK`] columns of `out`.
pub(crate) fn for_column_blocks(out: &mut [f32], work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let width = COLUMN_BLOCK.min(out.len().max(1));
    for_rows(out, width, |block, out| {
        for (i, out) in out.chunks_mut(COLUMN_BLOCK).enumerate() {
            work(block * width + i * COLUMN_BLOCK, out);
        }
    });
}

/// Column sums of `x [rows, width]` into `out [width]`, a block of columns at a time.
pub(crate) fn column_sum(x: &[f32], width: usize, out: &mut [f32]) {
    for_column_blocks(out, |first, out| column_block(x, width, first, out));
}

/// Columns handled together: 32 lanes of them fit in the first-level cache.
pub(crate) const COLUMN_BLOCK: usize = 64;

/// 32 lanes for each column of a block.
pub(crate) type ColumnLanes = [[f32; COLUMN_BLOCK]; LANES];

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn column_block(x: &[f32], width: usize, first: usize, out: &mut [f32]) {
    let n = out.len();
    let mut lanes: ColumnLanes = [[0f32; COLUMN_BLOCK]; LANES];
    for (row, values) in x.chunks_exact(width).enumerate() {
        let lane = &mut lanes[row % LANES][..n];
        for (lane, value) in lane.iter_mut().zip(&values[first..first + n]) {
            *lane = flush(*lane + *value);
        }
    }
    column_tree(&mut lanes, out);
}

/// Adds the lanes of each column pairwise.
#[inline(always)]
pub(crate) fn column_tree(lanes: &mut ColumnLanes, out: &mut [f32]) {
    let n = out.len();
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            let (low, high) = lanes.split_at_mut(half);
            for (a, b) in low[l].iter_mut().zip(&high[l]) {
                *a = flush(*a + *b);
            }
        }
        half /= 2;
    }
    out.copy_from_slice(&lanes[0][..n]);
}

/// Sums of rows of `width` (the last may be short) of the flushed input, squared or not.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn row_sums(x: &[f32], width: usize, square: bool, out: &mut [f32]) {
    for (out, row) in out.iter_mut().zip(x.chunks(width)) {
        let mut lanes = [0f32; LANES];
        for chunk in row.chunks(LANES) {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                let value = flush(*value);
                let value = if square { flush(value * value) } else { value };
                *lane = flush(*lane + value);
            }
        }
        *out = tree(lanes);
    }
}

/// Sum of squares of everything, by rows of `width`, then sums of those sums.
pub(crate) fn sum_of_squares(x: &[f32], width: usize) -> f32 {
    let mut level = vec![0f32; x.len().div_ceil(width).max(1)];
    for_rows(&mut level, 1, |first, out| row_sums(&x[first * width..], width, true, out));
    while level.len() > 1 {
        let mut next = vec![0f32; level.len().div_ceil(width)];
        row_sums(&level, width, false, &mut next);
        level = next;
    }
    level[0]
}

/// `flush(sum(x) * (1/n))`.
pub(crate) fn mean(x: &[f32]) -> f32 {
    flush(lane_sum(x) * (1.0 / x.len() as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_sum_is_that_of_the_contract() {
        let x: Vec<f32> = (0..100).map(|i| (i as f32 * 0.37).fract() * 1e3 + 1e-3).collect();
        let mut lanes = [0f32; 32];
        for (i, v) in x.iter().enumerate() {
            lanes[i % 32] += v;
        }
        for w in [16, 8, 4, 2, 1] {
            for l in 0..w {
                lanes[l] += lanes[l + w];
            }
        }
        assert_eq!(lane_sum(&x).to_bits(), lanes[0].to_bits());
        let mut column = [0f32];
        column_sum(&x, 1, &mut column);
        assert_eq!(column[0].to_bits(), lanes[0].to_bits());
    }

    #[test]
    fn sums_of_squares_do_not_depend_on_threads() {
        let x: Vec<f32> = (0..300_001).map(|i| ((i * 7919) % 1000) as f32 * 1e-3 - 0.5).collect();
        let here = sum_of_squares(&x, 4096);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| sum_of_squares(&x, 4096)).to_bits(), here.to_bits());
        let exact: f64 = x.iter().map(|v| *v as f64 * *v as f64).sum();
        assert!((here as f64 / exact - 1.0).abs() < 1e-6);
    }
}
