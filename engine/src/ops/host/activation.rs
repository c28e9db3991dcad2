//! SwiGLU, forward and backward.

use multiversion::multiversion;

use super::flush;
use super::rows::{for_rows, for_rows2};
use crate::scalar;

/// `h [n,f]` of `gate_up [n,2f]`, and the sigmoids of the gates `[n,f]`, which the backward pass needs again.
pub(crate) fn forward(gate_up: &[f32], f: usize, h: &mut [f32], sigmoids: &mut [f32]) {
    for_rows2(h, f, sigmoids, f, |first, h, s| forward_rows(&gate_up[first * 2 * f..], f, h, s));
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn forward_rows(gate_up: &[f32], f: usize, h: &mut [f32], sigmoids: &mut [f32]) {
    let rows = h.chunks_exact_mut(f).zip(sigmoids.chunks_exact_mut(f));
    for ((h, s), gu) in rows.zip(gate_up.chunks_exact(2 * f)) {
        let (gate, up) = gu.split_at(f);
        for (((h, s), g), u) in h.iter_mut().zip(s).zip(gate).zip(up) {
            *s = scalar::sigmoid(*g);
            *h = flush(flush(*g * *s) * *u);
        }
    }
}

/// Gradient of `gate_up` from that of `h`.
pub(crate) fn backward(gate_up: &[f32], sigmoids: &[f32], dh: &[f32], f: usize, out: &mut [f32]) {
    for_rows(out, 2 * f, |first, out| {
        backward_rows(&gate_up[first * 2 * f..], &sigmoids[first * f..], &dh[first * f..], f, out);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward_rows(gate_up: &[f32], sigmoids: &[f32], dh: &[f32], f: usize, out: &mut [f32]) {
    let rows = out.chunks_exact_mut(2 * f).zip(gate_up.chunks_exact(2 * f));
    for (((out, gu), s), dh) in rows.zip(sigmoids.chunks_exact(f)).zip(dh.chunks_exact(f)) {
        let (gate, up) = gu.split_at(f);
        let (d_gate, d_up) = out.split_at_mut(f);
        for (((((dg, du), g), u), s), dh) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(s).zip(dh) {
            *du = flush(*dh * flush(*g * *s));
            let slope = flush(*s * flush(1.0 + flush(*g * flush(1.0 - *s))));
            *dg = flush(flush(*dh * *u) * slope);
        }
    }
}
