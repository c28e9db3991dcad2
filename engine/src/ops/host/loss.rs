//! Cross-entropy, forward and backward.

use multiversion::multiversion;

use super::attention::row_max;
use super::rows::{for_rows, for_rows2};
use super::{flush, sum};
use crate::ops::LANES;
use crate::scalar;

/// Losses `[n]` and `(maximum, reciprocal of the sum)` `[n,2]` of `logits [n,v]`.
pub(crate) fn forward(logits: &[f32], v: usize, targets: &[i32], losses: &mut [f32], stats: &mut [f32]) {
    for_rows2(losses, 1, stats, 2, |first, losses, stats| {
        forward_rows(&logits[first * v..], v, &targets[first..], losses, stats);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn forward_rows(logits: &[f32], v: usize, targets: &[i32], losses: &mut [f32], stats: &mut [f32]) {
    let rows = logits.chunks_exact(v).zip(targets).zip(losses).zip(stats.chunks_exact_mut(2));
    for (((x, target), loss), stats) in rows {
        let max = row_max(x);
        let mut lanes = [0f32; LANES];
        let mut whole = x.chunks_exact(LANES);
        for x in &mut whole {
            for (lane, x) in lanes.iter_mut().zip(x) {
                *lane = flush(*lane + scalar::exp(flush(*x - max)));
            }
        }
        for (lane, x) in lanes.iter_mut().zip(whole.remainder()) {
            *lane = flush(*lane + scalar::exp(flush(*x - max)));
        }
        let total = sum::tree(lanes);
        *loss = flush(scalar::ln(total) - flush(x[*target as usize] - max));
        stats[0] = max;
        stats[1] = scalar::recip(total);
    }
}

/// Gradient of the logits for a mean over all `n` rows, seeded with `seed`.
pub(crate) fn backward(logits: &[f32], v: usize, targets: &[i32], stats: &[f32], seed: f32, out: &mut [f32]) {
    let scale = flush(seed * (1.0 / targets.len() as f32));
    for_rows(out, v, |first, out| {
        backward_rows(&logits[first * v..], v, &targets[first..], &stats[first * 2..], scale, out);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward_rows(logits: &[f32], v: usize, targets: &[i32], stats: &[f32], scale: f32, out: &mut [f32]) {
    let rows = out.chunks_exact_mut(v).zip(logits.chunks_exact(v)).zip(targets).zip(stats.chunks_exact(2));
    for (((out, x), target), stats) in rows {
        let (max, r) = (stats[0], stats[1]);
        for (out, x) in out.iter_mut().zip(x) {
            *out = flush(flush(scalar::exp(flush(*x - max)) * r) * scale);
        }
        let t = *target as usize;
        let p = flush(scalar::exp(flush(x[t] - max)) * r);
        out[t] = flush(flush(p - 1.0) * scale);
    }
}
