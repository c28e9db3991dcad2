//! Quantises rows of f32 into the words the kernels read: abs-max, scale, rounding and layout in one visit.
//!
//! A *word* is a pair of 16-bit integers: the even step of the contraction axis in the low half, the odd one in the high
//! half. The bodies here are plain Rust, inlined into each instruction set's own functions and vectorised there.

use super::round::{Rounder, magnitude, part, scaling};
use super::view::Source;
use super::width::Width;

/// Columns of the result in one panel of the right operand.
pub(crate) const PANEL: usize = 32;

/// Rows of a transposed left operand that are interleaved.
pub(crate) const BLOCK: usize = 48;

/// Rows scaled together, so that the latency of finding one maximum hides behind the others.
pub(crate) const GROUP: usize = 16;

/// A tile of 16 x 16 words.
pub(crate) type Square = [[u32; 16]; 16];

/// The steps of packing that compilers do not turn into good vector code. (Nor do they vectorise closures here: a closure is
/// compiled without the instructions of the function it is inlined into.)
pub(crate) trait Lanes: Copy {
    /// The largest magnitudes (bits without sign) of the elements `i, i + 16, i + 32, ..` of a row, for 16 lanes `i`.
    fn magnitudes(self, row: &[f32]) -> [u32; 16];

    /// Writes column `i` of `square` to `to[i * step ..][..16]`, for 16 columns.
    fn transpose(self, square: &Square, to: &mut [u32], step: usize);
}

/// Where words of the left operand go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftLayout {
    /// Rows of one block.
    pub(crate) block: usize,
    /// Words of one row, padding of the last pair included.
    pub(crate) pairs: usize,
    /// Words from one row to the next.
    pub(crate) row_step: usize,
    /// Words from one pair to the next.
    pub(crate) pair_step: usize,
    /// Words of one block.
    pub(crate) words: usize,
}

/// Position of 16-bit element `i` within a slice of words seen as 16-bit elements.
#[inline(always)]
fn half(i: usize) -> usize {
    i ^ usize::from(cfg!(target_endian = "big"))
}

/// Packs up to `layout.block` rows of the left operand.
#[inline(always)]
pub(crate) fn left_block(
    by: impl Lanes,
    source: Source<'_>,
    width: Width,
    layout: &LeftLayout,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let rows = source.rows.min(layout.block);
    if source.row_major() {
        for first in (0..rows).step_by(GROUP) {
            left_rows(by, source, (first, rows.min(first + GROUP)), width, layout, to, scales);
        }
    } else {
        // Fixed widths keep the running maxima and multipliers in registers.
        let mut first = 0;
        while first < rows {
            let step = layout.pair_step;
            let (to, scales) = (&mut to[first..], &mut scales[first..]);
            first += match rows - first {
                48.. => columns::<48, { part::WHOLE }>(source, first, width, to, step, scales),
                32.. => columns::<32, { part::WHOLE }>(source, first, width, to, step, scales),
                16.. => columns::<16, { part::WHOLE }>(source, first, width, to, step, scales),
                4.. => columns::<4, { part::WHOLE }>(source, first, width, to, step, scales),
                _ => columns::<1, { part::WHOLE }>(source, first, width, to, step, scales),
            };
        }
    }
}

/// Fewer than 32 elements, filled up with zeros.
#[inline(always)]
fn padded(rest: &[f32]) -> [f32; 32] {
    let mut padded = [0f32; 32];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}

/// Multipliers and scales of the rows `first..end`, at most [`GROUP`]. Transposing the lanes turns sixteen reductions within
/// a register into one across registers.
#[inline(always)]
pub(crate) fn group_scaling(
    by: impl Lanes,
    source: Source<'_>,
    (first, end): (usize, usize),
    width: Width,
) -> ([f32; GROUP], [f32; GROUP]) {
    let (mut lanes, mut turned): (Square, Square) = ([[0; 16]; 16], [[0; 16]; 16]);
    for r in first..end {
        lanes[r - first] = by.magnitudes(source.row(r));
    }
    by.transpose(&lanes, turned.as_flattened_mut(), 16);
    let mut largest = [0u32; GROUP];
    for lane in &turned {
        for r in 0..GROUP {
            largest[r] = largest[r].max(lane[r]);
        }
    }
    let (mut multipliers, mut scales) = ([0f32; GROUP], [0f32; GROUP]);
    for r in 0..GROUP {
        let s = scaling(largest[r], width);
        (multipliers[r], scales[r]) = (s.multiplier, s.scale);
    }
    (multipliers, scales)
}

/// Rounds a row to 16-bit elements in memory order.
#[inline(always)]
fn round_row<const PART: u8>(rounder: Rounder, row: &[f32; 32], multiplier: f32, to: &mut [u16; 32]) {
    for i in 0..32 {
        to[half(i)] = rounder.round::<PART>(row[i], multiplier) as u16;
    }
}

/// The rows `first..end` of a block, at most [`GROUP`], stored along the contraction axis.
#[inline(always)]
fn left_rows(
    by: impl Lanes,
    source: Source<'_>,
    (first, end): (usize, usize),
    width: Width,
    layout: &LeftLayout,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let rounder = Rounder::new(width);
    let (multipliers, group_scales) = group_scaling(by, source, (first, end), width);
    scales[first..end].copy_from_slice(&group_scales[..end - first]);
    for r in first..end {
        let multiplier = multipliers[r - first];
        let words = &mut to[r * layout.row_step..][..layout.pairs];
        let (x, x_rest) = source.row(r).as_chunks::<32>();
        let (words, words_rest) = words.as_chunks_mut::<16>();
        for (x, words) in x.iter().zip(words.iter_mut()) {
            round_row::<{ part::WHOLE }>(rounder, x, multiplier, bytemuck::cast_mut(words));
        }
        if !words_rest.is_empty() || words.len() > x.len() {
            let mut rounded = [0u16; 32];
            round_row::<{ part::WHOLE }>(rounder, &padded(x_rest), multiplier, &mut rounded);
            let rounded: [u32; 16] = bytemuck::cast(rounded);
            match words.get_mut(x.len()) {
                // an odd last element of a chunk: 31 elements are 16 words
                Some(words) => *words = rounded,
                None => words_rest.copy_from_slice(&rounded[..words_rest.len()]),
            }
        }
    }
}

/// Packs up to [`PANEL`] rows of the right operand, once for each part in `to` (`pairs * PANEL` words each).
#[inline(always)]
pub(crate) fn right_panel(
    by: impl Lanes,
    source: Source<'_>,
    width: Width,
    pairs: usize,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let (first, second) = to.split_at_mut(pairs * PANEL);
    if second.is_empty() {
        right_part::<{ part::WHOLE }>(by, source, width, pairs, first, scales);
    } else {
        right_part::<{ part::HIGH }>(by, source, width, pairs, first, scales);
        right_part::<{ part::LOW }>(by, source, width, pairs, second, scales);
    }
}

/// One part of a panel.
#[inline(always)]
fn right_part<const PART: u8>(
    by: impl Lanes,
    source: Source<'_>,
    width: Width,
    pairs: usize,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let rows = source.rows.min(PANEL);
    scales.fill(1.0);
    if source.row_major() {
        for first in (0..rows).step_by(GROUP) {
            let scales = &mut scales[first..][..GROUP];
            right_rows::<PART>(by, source, (first, pairs), width, &mut to[first..], scales);
        }
    } else {
        if rows < PANEL {
            to.fill(0);
        }
        let mut first = 0;
        while first < rows {
            let (to, scales) = (&mut to[first..], &mut scales[first..]);
            first += match rows - first {
                32.. => columns::<32, PART>(source, first, width, to, PANEL, scales),
                16.. => columns::<16, PART>(source, first, width, to, PANEL, scales),
                4.. => columns::<4, PART>(source, first, width, to, PANEL, scales),
                _ => columns::<1, PART>(source, first, width, to, PANEL, scales),
            };
        }
    }
}

/// Up to [`GROUP`] rows stored along the contraction axis, into 16 columns of a panel.
#[inline(always)]
fn right_rows<const PART: u8>(
    by: impl Lanes,
    source: Source<'_>,
    (first, pairs): (usize, usize),
    width: Width,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let rows = (source.rows - first).min(GROUP);
    let rounder = Rounder::new(width);
    let (multipliers, group_scales) = group_scaling(by, source, (first, first + rows), width);
    scales[..rows].copy_from_slice(&group_scales[..rows]);
    // rows beyond the matrix stay zero
    let mut square: Square = [[0; 16]; 16];
    let whole = source.k / 32;
    for chunk in 0..whole {
        for r in 0..rows {
            let (chunks, _) = source.row(first + r).as_chunks::<32>();
            round_row::<PART>(rounder, &chunks[chunk], multipliers[r], bytemuck::cast_mut(&mut square[r]));
        }
        by.transpose(&square, &mut to[chunk * 16 * PANEL..], PANEL);
    }
    let rest = pairs - whole * 16;
    if rest > 0 {
        for r in 0..rows {
            let (_, x) = source.row(first + r).as_chunks::<32>();
            round_row::<PART>(rounder, &padded(x), multipliers[r], bytemuck::cast_mut(&mut square[r]));
        }
        for p in 0..rest {
            let to = &mut to[(whole * 16 + p) * PANEL..][..16];
            for r in 0..16 {
                to[r] = square[r][p];
            }
        }
    }
}

/// Multipliers and scales of `W` rows from `first`, stored across the contraction axis.
#[inline(always)]
pub(crate) fn column_scaling<const W: usize>(
    source: Source<'_>,
    first: usize,
    width: Width,
) -> ([f32; W], [f32; W]) {
    let mut largest = [0u32; W];
    for k in 0..source.k {
        let x = source.across(k, first, W);
        for i in 0..W {
            largest[i] = largest[i].max(magnitude(x[i]));
        }
    }
    let (mut multipliers, mut scales) = ([0f32; W], [0f32; W]);
    for i in 0..W {
        let s = scaling(largest[i], width);
        (multipliers[i], scales[i]) = (s.multiplier, s.scale);
    }
    (multipliers, scales)
}

/// `W` rows stored across the contraction axis, into `W` columns of words, `step` apart. Returns `W`.
#[inline(always)]
fn columns<const W: usize, const PART: u8>(
    source: Source<'_>,
    first: usize,
    width: Width,
    to: &mut [u32],
    step: usize,
    scales: &mut [f32],
) -> usize {
    let (multipliers, column_scales) = column_scaling::<W>(source, first, width);
    scales[..W].copy_from_slice(&column_scales);
    let rounder = Rounder::new(width);
    for pair in 0..source.k / 2 {
        let (even, odd) = (source.across(2 * pair, first, W), source.across(2 * pair + 1, first, W));
        let to = &mut to[pair * step..][..W];
        for i in 0..W {
            let low = rounder.round::<PART>(even[i], multipliers[i]) & 0xffff;
            to[i] = low | (rounder.round::<PART>(odd[i], multipliers[i]) << 16);
        }
    }
    if source.k % 2 == 1 || source.k == 0 {
        let to = &mut to[(source.k / 2) * step..][..W];
        to.fill(0);
        if source.k > 0 {
            let last = source.across(source.k - 1, first, W);
            for i in 0..W {
                to[i] = rounder.round::<PART>(last[i], multipliers[i]) & 0xffff;
            }
        }
    }
    W
}
