//! Heads, rotary positions and the causal softmax.

use multiversion::multiversion;

use super::rows::for_rows;
use super::{flush, sum};
use crate::ops::kernels::Heads;
use crate::scalar;

/// Where head `column` (query heads, then keys, then values) of token `(b, t)` lives: `(which, row)` with `which` 0, 1, 2
/// for queries, keys and values, and `row` in units of `head_dim`.
fn place(heads: &Heads, b: usize, t: usize, column: usize) -> (usize, usize) {
    let (kv, g, seq) = (heads.kv_heads, heads.group, heads.seq);
    if column < kv * g {
        (0, ((b * kv + column / g) * g + column % g) * seq + t)
    } else if column < kv * g + kv {
        (1, (b * kv + column - kv * g) * seq + t)
    } else {
        (2, (b * kv + column - kv * g - kv) * seq + t)
    }
}

/// The inverse of [`place`]: the token, its position `t` and the head's column that row `row` of queries, keys or values (0,
/// 1, 2) comes from.
fn source(heads: &Heads, which: usize, row: usize) -> (usize, usize, usize) {
    let (kv, g, seq) = (heads.kv_heads, heads.group, heads.seq);
    let (item, t) = (row / seq, row % seq);
    let (b, column) = match which {
        0 => (item / (kv * g), item % (kv * g)),
        1 => (item / kv, kv * g + item % kv),
        _ => (item / kv, kv * g + kv + item % kv),
    };
    (b * seq + t, t, column)
}

/// Rotates one head by the angle (`direction` 1) or back (`-1`).
#[inline(always)]
fn rotate(x: &[f32], cos_sin: &[f32], direction: f32, out: &mut [f32]) {
    let half = x.len() / 2;
    let ((cos, sin), (x, y)) = (cos_sin.split_at(half), x.split_at(half));
    let (to_x, to_y) = out.split_at_mut(half);
    for (((((to_x, to_y), a), b), c), s) in to_x.iter_mut().zip(to_y).zip(x).zip(y).zip(cos).zip(sin) {
        let s = *s * direction;
        *to_x = flush(flush(*a * *c) - flush(*b * s));
        *to_y = flush(flush(*b * *c) + flush(*a * s));
    }
}

/// `qkv [tokens, width]` into rotated queries and keys, and values.
pub(crate) fn split(qkv: &[f32], rope: &[f32], heads: &Heads, q: &mut [f32], k: &mut [f32], v: &mut [f32]) {
    let dh = heads.head_dim;
    for (which, out) in [q, k, v].into_iter().enumerate() {
        for_rows(out, dh, |first, rows| split_rows(qkv, rope, heads, which, first, rows));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn split_rows(qkv: &[f32], rope: &[f32], heads: &Heads, which: usize, first: usize, rows: &mut [f32]) {
    let (dh, width) = (heads.head_dim, heads.qkv_width());
    for (i, out) in rows.chunks_exact_mut(dh).enumerate() {
        let (token, t, column) = source(heads, which, first + i);
        let x = &qkv[token * width + column * dh..][..dh];
        match which {
            2 => out.copy_from_slice(x),
            _ => rotate(x, &rope[t * dh..][..dh], 1.0, out),
        }
    }
}

/// The adjoint of [`split`].
pub(crate) fn merge(q: &[f32], k: &[f32], v: &[f32], rope: &[f32], heads: &Heads, qkv: &mut [f32]) {
    let width = heads.qkv_width();
    for_rows(qkv, width, |first, rows| merge_rows([q, k, v], rope, heads, first, rows));
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn merge_rows(parts: [&[f32]; 3], rope: &[f32], heads: &Heads, first: usize, rows: &mut [f32]) {
    let (dh, width) = (heads.head_dim, heads.qkv_width());
    for (i, out) in rows.chunks_exact_mut(width).enumerate() {
        let (b, t) = ((first + i) / heads.seq, (first + i) % heads.seq);
        let cos_sin = &rope[t * dh..][..dh];
        for (column, out) in out.chunks_exact_mut(dh).enumerate() {
            let (which, row) = place(heads, b, t, column);
            let x = &parts[which][row * dh..][..dh];
            match which {
                2 => out.copy_from_slice(x),
                _ => rotate(x, cos_sin, -1.0, out),
            }
        }
    }
}

/// Outputs by head into rows of tokens.
pub(crate) fn merge_outputs(o: &[f32], heads: &Heads, out: &mut [f32]) {
    let (dh, width) = (heads.head_dim, heads.query_heads() * heads.head_dim);
    for_rows(out, width, |first, rows| {
        for (i, out) in rows.chunks_exact_mut(width).enumerate() {
            let (b, t) = ((first + i) / heads.seq, (first + i) % heads.seq);
            for (column, out) in out.chunks_exact_mut(dh).enumerate() {
                let (_, row) = place(heads, b, t, column);
                out.copy_from_slice(&o[row * dh..][..dh]);
            }
        }
    });
}

/// The inverse of [`merge_outputs`].
pub(crate) fn split_outputs(merged: &[f32], heads: &Heads, o: &mut [f32]) {
    let (dh, width) = (heads.head_dim, heads.query_heads() * heads.head_dim);
    for_rows(o, dh, |first, rows| {
        for (i, out) in rows.chunks_exact_mut(dh).enumerate() {
            let (token, _, column) = source(heads, 0, first + i);
            out.copy_from_slice(&merged[token * width + column * dh..][..dh]);
        }
    });
}

/// Causal softmax of scores; rows of `seq`.
pub(crate) fn softmax(s: &[f32], scale: f32, seq: usize, p: &mut [f32]) {
    for_rows(p, seq, |first, p| softmax_rows(&s[first * seq..], scale, seq, first, p));
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn softmax_rows(s: &[f32], scale: f32, seq: usize, first: usize, p: &mut [f32]) {
    for (i, (p, s)) in p.chunks_exact_mut(seq).zip(s.chunks_exact(seq)).enumerate() {
        let seen = (first + i) % seq + 1;
        let (p, hidden) = p.split_at_mut(seen);
        hidden.fill(0.0);
        let s = &s[..seen];
        for (p, s) in p.iter_mut().zip(s) {
            *p = flush(*s * scale);
        }
        let max = row_max(p);
        for p in p.iter_mut() {
            *p = scalar::exp(flush(*p - max));
        }
        let r = scalar::recip(sum::lane_sum(p));
        for p in p.iter_mut() {
            *p = flush(*p * r);
        }
    }
}

/// The largest element; +0 of zeros of both signs. So it does not depend on order, and lanes may be used freely.
#[inline(always)]
pub(crate) fn row_max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = row.chunks_exact(16);
    for chunk in &mut chunks {
        for (m, x) in lanes.iter_mut().zip(chunk) {
            *m = if *x > *m { *x } else { *m };
        }
    }
    let mut max = f32::NEG_INFINITY;
    for x in lanes.iter().chain(chunks.remainder()) {
        max = if *x > max { *x } else { max };
    }
    if max == 0.0 { 0.0 } else { max }
}

/// Gradient of the scores.
pub(crate) fn softmax_backward(p: &[f32], dp: &[f32], scale: f32, seq: usize, ds: &mut [f32]) {
    for_rows(ds, seq, |first, ds| {
        softmax_backward_rows(&p[first * seq..], &dp[first * seq..], scale, seq, first, ds);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn softmax_backward_rows(p: &[f32], dp: &[f32], scale: f32, seq: usize, first: usize, ds: &mut [f32]) {
    let rows = ds.chunks_exact_mut(seq).zip(p.chunks_exact(seq)).zip(dp.chunks_exact(seq));
    for (i, ((ds, p), dp)) in rows.enumerate() {
        let seen = (first + i) % seq + 1;
        let (ds, hidden) = ds.split_at_mut(seen);
        hidden.fill(0.0);
        for ((ds, p), dp) in ds.iter_mut().zip(p).zip(dp) {
            *ds = flush(*dp * *p);
        }
        let c = sum::lane_sum(ds);
        for ((ds, p), dp) in ds.iter_mut().zip(p).zip(dp) {
            *ds = flush(flush(*p * flush(*dp - c)) * scale);
        }
    }
}
