//! The embedding table and its gradient.

use multiversion::multiversion;

use super::flush;
use super::rows::for_rows;

/// Rows `ids` of `table [v,d]`.
pub(crate) fn forward(table: &[f32], d: usize, ids: &[i32], out: &mut [f32]) {
    for_rows(out, d, |first, out| {
        for (out, id) in out.chunks_exact_mut(d).zip(&ids[first..]) {
            let row = *id as usize * d;
            out.copy_from_slice(&table[row..row + d]);
        }
    });
}

/// Gradient of the table: each row adds its positions in ascending order.
pub(crate) fn backward(dy: &[f32], d: usize, order: &[i32], offsets: &[i32], out: &mut [f32]) {
    for_rows(out, d, |first, rows| {
        for (i, out) in rows.chunks_exact_mut(d).enumerate() {
            let (from, to) = (offsets[first + i] as usize, offsets[first + i + 1] as usize);
            add_positions(dy, d, &order[from..to], out);
        }
    });
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_positions(dy: &[f32], d: usize, positions: &[i32], out: &mut [f32]) {
    out.fill(0.0);
    for position in positions {
        let row = *position as usize * d;
        for (out, g) in out.iter_mut().zip(&dy[row..row + d]) {
            *out = flush(*out + *g);
        }
    }
}
