//! The optimizer's update of a block of parameters.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::ops::kernels::AdamwNumbers;
use crate::scalar;

/// Elements handed to a thread at a time.
const BLOCK: usize = 1 << 14;

/// Updates parameters and both moments in place.
pub(crate) fn update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], n: &AdamwNumbers) {
    if p.len() <= 2 * BLOCK {
        return update_block(p, g, m, v, n);
    }
    p.par_chunks_mut(BLOCK)
        .zip(g.par_chunks(BLOCK))
        .zip(m.par_chunks_mut(BLOCK))
        .zip(v.par_chunks_mut(BLOCK))
        .for_each(|(((p, g), m), v)| update_block(p, g, m, v, n));
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn update_block(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], n: &AdamwNumbers) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = scalar::flush(scalar::flush(*g, 0) * n.gradient_scale, 0);
        *m = scalar::adamw_first(*m, g, n.beta1, n.one_minus_beta1, 0);
        *v = scalar::adamw_second(*v, g, n.beta2, n.one_minus_beta2, 0);
        *p = scalar::adamw_parameter(*p, *m, *v, n.c1, n.c2, n.eps_squared, n.lr, n.lr_decay, 0);
    }
}
