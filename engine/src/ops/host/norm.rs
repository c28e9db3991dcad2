//! RMSNorm, forward and backward.

use multiversion::multiversion;

use super::rows::{for_rows, for_rows2};
use super::{flush, sum};
use crate::ops::LANES;
use crate::scalar;

/// `y [n,d]` and `r [n]` of `x [n,d]`, `w [d]`.
pub(crate) fn forward(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], r: &mut [f32]) {
    let d = w.len();
    for_rows2(y, d, r, 1, |first, y, r| forward_rows(&x[first * d..], w, eps, y, r));
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn forward_rows(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], r: &mut [f32]) {
    let d = w.len();
    let inverse = 1.0 / d as f32;
    for ((y, x), r) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(r) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = flush(*x * *x);
        }
        let mean = flush(flush(sum::lane_sum(y) * inverse) + eps);
        *r = scalar::rsqrt(mean);
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = flush(flush(*x * *r) * *w);
        }
    }
}

/// `dx [n,d]` and `dw [d]`.
pub(crate) fn backward(dy: &[f32], x: &[f32], w: &[f32], r: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    let d = w.len();
    for_rows(dx, d, |first, dx| backward_rows(&dy[first * d..], &x[first * d..], w, &r[first..], dx));
    sum::for_column_blocks(dw, |first, dw| weight_block(dy, x, r, d, first, dw));
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward_rows(dy: &[f32], x: &[f32], w: &[f32], r: &[f32], dx: &mut [f32]) {
    let d = w.len();
    let inverse = 1.0 / d as f32;
    let rows = dx.chunks_exact_mut(d).zip(dy.chunks_exact(d)).zip(x.chunks_exact(d)).zip(r);
    for (((dx, dy), x), r) in rows {
        for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
            *dx = flush(flush(*dy * *w) * flush(*x * *r));
        }
        let c = flush(sum::lane_sum(dx) * inverse);
        for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
            *dx = flush(flush(flush(*dy * *w) - flush(flush(*x * *r) * c)) * *r);
        }
    }
}

/// The columns `first..` of `dw`: sums of products that are made here once more rather than kept.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn weight_block(dy: &[f32], x: &[f32], r: &[f32], d: usize, first: usize, dw: &mut [f32]) {
    let n = dw.len();
    let mut lanes: sum::ColumnLanes = [[0f32; sum::COLUMN_BLOCK]; LANES];
    for (row, ((dy, x), r)) in dy.chunks_exact(d).zip(x.chunks_exact(d)).zip(r).enumerate() {
        let lane = &mut lanes[row % LANES][..n];
        for ((lane, dy), x) in lane.iter_mut().zip(&dy[first..first + n]).zip(&x[first..first + n]) {
            *lane = flush(*lane + flush(*dy * flush(*x * *r)));
        }
    }
    sum::column_tree(&mut lanes, dw);
}

/// `x = flush(x + y)`, elementwise; `y` repeats when it is shorter (a bias).
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    let d = y.len();
    if d == x.len() {
        for_rows(x, 1, |first, x| add_rows(x, &y[first..]));
    } else {
        for_rows(x, d, |_, x| x.chunks_exact_mut(d).for_each(|x| add_rows(x, y)));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_rows(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = flush(*x + *y);
    }
}
