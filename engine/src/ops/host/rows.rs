//! Splitting rows over threads.

use rayon::prelude::*;

/// Below this many elements a job stays on the calling thread: handing it over costs more than it saves.
const SMALL: usize = 1 << 15;

/// Rows in one piece of work, so that each thread gets a few pieces.
fn rows_per_piece(rows: usize, width: usize) -> usize {
    if rows * width < SMALL {
        return rows.max(1);
    }
    rows.div_ceil(rayon::current_num_threads() * 4).max(1)
}

/// Calls `work(first_row, rows)` on blocks of rows of `out`, which is cut into rows of `width`.
pub(crate) fn for_rows<F>(out: &mut [f32], width: usize, work: F)
where
    F: Fn(usize, &mut [f32]) + Sync + Send,
{
    if width == 0 || out.is_empty() {
        return;
    }
    let piece = rows_per_piece(out.len() / width, width);
    if piece * width >= out.len() {
        return work(0, out);
    }
    out.par_chunks_mut(piece * width).enumerate().for_each(|(i, rows)| work(i * piece, rows));
}

/// The same with two outputs that share their rows.
pub(crate) fn for_rows2<F>(a: &mut [f32], a_width: usize, b: &mut [f32], b_width: usize, work: F)
where
    F: Fn(usize, &mut [f32], &mut [f32]) + Sync + Send,
{
    if a_width == 0 || b_width == 0 || a.is_empty() {
        return;
    }
    let piece = rows_per_piece(a.len() / a_width, a_width);
    if piece * a_width >= a.len() {
        return work(0, a, b);
    }
    a.par_chunks_mut(piece * a_width)
        .zip(b.par_chunks_mut(piece * b_width))
        .enumerate()
        .for_each(|(i, (a, b))| work(i * piece, a, b));
}
