//! Quantises rows of f32 into tiles of bytes, for units that multiply bytes: the same integers as [`super::pack`] makes, each
//! cut into its high byte (signed) and its low byte (unsigned). Integers of 8 bits have one byte, signed.
//!
//! A *plane* holds one byte of 16 rows over 64 steps of the contraction axis, 1024 bytes. Rows of the left operand lie one
//! after the other; of the right operand, four steps of 16 rows (columns of the result) lie together. The planes of the same
//! steps are neighbours, high before low; there is room for two even if one is in use. Steps beyond the axis are zero.

use super::pack::{BLOCK, GROUP, Lanes, LeftLayout, PANEL, Square, column_scaling, group_scaling};
use super::round::{Rounder, part};
use super::view::Source;
use super::width::Width;

/// Steps of the contraction axis in one plane.
pub(crate) const STEPS: usize = 64;

/// Words of one plane.
pub(crate) const PLANE: usize = GROUP * STEPS / 4;

/// Bytes of an integer.
pub(crate) fn planes(width: Width) -> usize {
    if width == Width::W8 { 1 } else { 2 }
}

/// Pairs of steps a row of `k` elements is kept as: whole planes.
pub(crate) fn pairs(k: usize) -> usize {
    k.div_ceil(STEPS).max(1) * (STEPS / 2)
}

/// Rows in groups of 16; the planes of a group lie together.
pub(crate) fn left_layout(rows: usize, k: usize) -> LeftLayout {
    let block = rows.clamp(1, BLOCK).next_multiple_of(GROUP);
    let pairs = pairs(k);
    LeftLayout { block, pairs, row_step: pairs, pair_step: GROUP, words: block * pairs }
}

/// Where the planes of an operand lie.
#[derive(Clone, Copy)]
struct Place {
    /// Words from one 64 steps to the next.
    chunk: usize,
    /// Words from one 16 rows to the next.
    group: usize,
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
    let place = Place { chunk: 2 * PLANE, group: GROUP * layout.row_step };
    block::<true>(by, source, source.rows.min(layout.block), width, place, to, scales);
}

/// Packs up to [`PANEL`] rows of the right operand.
#[inline(always)]
pub(crate) fn right_panel(
    by: impl Lanes,
    source: Source<'_>,
    width: Width,
    to: &mut [u32],
    scales: &mut [f32],
) {
    scales.fill(1.0);
    let place = Place { chunk: 4 * PLANE, group: 2 * PLANE };
    block::<false>(by, source, source.rows.min(PANEL), width, place, to, scales);
}

/// The first `count` rows, at most [`BLOCK`].
#[inline(always)]
fn block<const LEFT: bool>(
    by: impl Lanes,
    source: Source<'_>,
    count: usize,
    width: Width,
    place: Place,
    to: &mut [u32],
    scales: &mut [f32],
) {
    if source.row_major() {
        for first in (0..count).step_by(GROUP) {
            let to = &mut to[first / GROUP * place.group..];
            rows::<LEFT>(by, source, (first, count.min(first + GROUP)), width, place.chunk, to, scales);
        }
    } else {
        columns::<LEFT>(by, source, count, width, place, to, scales);
    }
}

/// The rows `first..end` of one group, stored along the contraction axis.
#[inline(always)]
fn rows<const LEFT: bool>(
    by: impl Lanes,
    source: Source<'_>,
    (first, end): (usize, usize),
    width: Width,
    step: usize,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let (multipliers, group_scales) = group_scaling(by, source, (first, end), width);
    scales[first..end].copy_from_slice(&group_scales[..end - first]);
    let (rounder, planes) = (Rounder::new(width), planes(width));
    // rows beyond the matrix stay zero
    let mut cut: [Square; 2] = [[[0; 16]; 16]; 2];
    for chunk in 0..pairs(source.k) * 2 / STEPS {
        for r in first..end {
            let x = source.row(r).get(chunk * STEPS..).unwrap_or_default();
            let [high, low] = cut.each_mut().map(|plane| bytemuck::cast_mut(&mut plane[r - first]));
            match x.first_chunk::<STEPS>() {
                Some(x) => cut_row(rounder, planes, x, multipliers[r - first], high, low),
                None => {
                    let mut padded = [0f32; STEPS];
                    padded[..x.len()].copy_from_slice(x);
                    cut_row(rounder, planes, &padded, multipliers[r - first], high, low);
                }
            }
        }
        put(by, &cut, LEFT, planes, &mut to[chunk * step..]);
    }
}

/// Rows stored across the contraction axis.
#[inline(always)]
fn columns<const LEFT: bool>(
    by: impl Lanes,
    source: Source<'_>,
    count: usize,
    width: Width,
    place: Place,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let mut multipliers = [0f32; BLOCK];
    let mut first = 0;
    while first < count {
        let (multipliers, scales) = (&mut multipliers[first..], &mut scales[first..]);
        // fixed widths keep the running maxima in registers
        first += match count - first {
            48.. => scale_columns::<48>(source, first, width, multipliers, scales),
            32.. => scale_columns::<32>(source, first, width, multipliers, scales),
            16.. => scale_columns::<16>(source, first, width, multipliers, scales),
            4.. => scale_columns::<4>(source, first, width, multipliers, scales),
            _ => scale_columns::<1>(source, first, width, multipliers, scales),
        };
    }
    let (rounder, planes) = (Rounder::new(width), planes(width));
    for chunk in 0..pairs(source.k) * 2 / STEPS {
        for (group, multipliers) in
            multipliers[..count.next_multiple_of(GROUP)].as_chunks().0.iter().enumerate()
        {
            let (first, from) = (group * GROUP, chunk * STEPS);
            let cut = match count - first {
                GROUP.. => cut_columns::<true>(rounder, planes, source, (first, GROUP), from, multipliers),
                rows => cut_columns::<false>(rounder, planes, source, (first, rows), from, multipliers),
            };
            put(by, &cut, !LEFT, planes, &mut to[group * place.group + chunk * place.chunk..]);
        }
    }
}

/// Multipliers and scales of `W` rows from `first`. Returns `W`.
#[inline(always)]
fn scale_columns<const W: usize>(
    source: Source<'_>,
    first: usize,
    width: Width,
    multipliers: &mut [f32],
    scales: &mut [f32],
) -> usize {
    let (some, some_scales) = column_scaling::<W>(source, first, width);
    multipliers[..W].copy_from_slice(&some);
    scales[..W].copy_from_slice(&some_scales);
    W
}

/// 64 steps from `from` of the `rows` rows from `first`: the planes of a right operand. `ALL` promises 16 rows.
#[inline(always)]
fn cut_columns<const ALL: bool>(
    rounder: Rounder,
    planes: usize,
    source: Source<'_>,
    (first, rows): (usize, usize),
    from: usize,
    multipliers: &[f32; GROUP],
) -> [Square; 2] {
    let (mut highs, mut lows): (Square, Square) = ([[0; 16]; 16], [[0; 16]; 16]);
    for (quad, (to_high, to_low)) in highs.iter_mut().zip(&mut lows).enumerate() {
        // the bytes of a row lie together in one word
        let (mut high, mut low) = ([0u32; GROUP], [0u32; GROUP]);
        for step in 0..4 {
            let x = across::<ALL>(source, from + 4 * quad + step, first, rows);
            for i in 0..GROUP {
                let q = rounder.round::<{ part::WHOLE }>(x[i], multipliers[i]);
                high[i] |= (q >> 8 & 255) << (8 * step);
                low[i] |= (q & 255) << (8 * step);
            }
        }
        (*to_high, *to_low) = (if planes == 1 { low } else { high }, low);
    }
    [highs, lows]
}

/// Writes the planes as they are, or transposed.
#[inline(always)]
fn put(by: impl Lanes, cut: &[Square; 2], as_is: bool, planes: usize, to: &mut [u32]) {
    for (cut, to) in cut.iter().zip(to.as_chunks_mut::<PLANE>().0).take(planes) {
        if as_is {
            to.copy_from_slice(cut.as_flattened());
        } else {
            by.transpose(cut, to, 16);
        }
    }
}

/// 64 elements of one row.
#[inline(always)]
fn cut_row(
    rounder: Rounder,
    planes: usize,
    x: &[f32; STEPS],
    multiplier: f32,
    high: &mut [u8; STEPS],
    low: &mut [u8; STEPS],
) {
    if planes == 1 {
        for i in 0..STEPS {
            high[i] = rounder.round::<{ part::WHOLE }>(x[i], multiplier) as u8;
        }
    } else {
        for i in 0..STEPS {
            let q = rounder.round::<{ part::WHOLE }>(x[i], multiplier);
            low[i] = q as u8;
            high[i] = (q >> 8) as u8;
        }
    }
}

/// Step `k` of the rows from `first`; zeros beyond the matrix. `ALL` promises 16 rows and lets the compiler keep them in a
/// register.
#[inline(always)]
fn across<const ALL: bool>(source: Source<'_>, k: usize, first: usize, rows: usize) -> [f32; GROUP] {
    let mut x = [0f32; GROUP];
    if k < source.k {
        let rows = if ALL { GROUP } else { rows };
        x[..rows].copy_from_slice(source.across(k, first, rows));
    }
    x
}
