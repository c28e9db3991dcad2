//! RMSNorm, forward and backward.

use multiversion::multiversion;

use super::rows::{for_rows, for_rows2};
use super::{flush, sum};
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
    // The products whose column sums are dw; the same pass leaves dx.
    let mut products = vec![0f32; dx.len()];
    for_rows2(dx, d, &mut products, d, |first, dx, products| {
        backward_rows(&dy[first * d..], &x[first * d..], w, &r[first..], dx, products);
    });
    sum::column_sum(&products, d, dw);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward_rows(dy: &[f32], x: &[f32], w: &[f32], r: &[f32], dx: &mut [f32], products: &mut [f32]) {
    let d = w.len();
    let inverse = 1.0 / d as f32;
    let rows = dx.chunks_exact_mut(d).zip(products.chunks_exact_mut(d));
    for ((((dx, products), dy), x), r) in rows.zip(dy.chunks_exact(d)).zip(x.chunks_exact(d)).zip(r) {
        for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
            *dx = flush(flush(*dy * *w) * flush(*x * *r));
        }
        let c = flush(sum::lane_sum(dx) * inverse);
        for ((((dx, p), dy), x), w) in dx.iter_mut().zip(products.iter_mut()).zip(dy).zip(x).zip(w) {
            let h = flush(*x * *r);
            *p = flush(*dy * h);
            *dx = flush(flush(flush(*dy * *w) - flush(h * c)) * *r);
        }
    }
}

/// `flush(a + b)`, elementwise; `b` repeats when it is shorter (a bias).
pub(crate) fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    let d = b.len();
    if d == a.len() {
        for_rows(out, 1, |first, out| add_rows(&a[first..], &b[first..], out));
    } else {
        for_rows(out, d, |first, out| {
            for (out, a) in out.chunks_exact_mut(d).zip(a[first * d..].chunks_exact(d)) {
                add_rows(a, b, out);
            }
        });
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_rows(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = flush(*a + *b);
    }
}
