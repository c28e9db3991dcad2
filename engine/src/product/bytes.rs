//! Quantises rows of f32 into tiles of bytes, for units that multiply bytes: the same integers as [`super::pack`] makes, each
//! cut into its high byte (signed) and its low byte (unsigned). Integers of 8 bits have one byte, signed.
//!
//! A *plane* holds one byte of 16 rows over 64 steps of the contraction axis, 1024 bytes. Rows of the left operand lie one
//! after the other; of the right operand, four steps of 16 rows (columns of the result) lie together. The planes of the same
//! steps are neighbours, high before low; there is room for two even if one is in use. Steps beyond the axis are zero.

use super::pack::{BLOCK, GROUP, Lanes, LeftLayout, PANEL, Square, group_scaling};
use super::round::{Rounder, magnitude, part, scaling};
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
    for first in (0..source.rows.min(layout.block)).step_by(GROUP) {
        let to = &mut to[first * layout.row_step..][..GROUP * layout.row_step];
        group::<true>(by, source, (first, 2 * PLANE), width, to, &mut scales[first..][..GROUP]);
    }
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
    for first in (0..source.rows.min(PANEL)).step_by(GROUP) {
        let to = &mut to[first / GROUP * 2 * PLANE..];
        group::<false>(by, source, (first, 4 * PLANE), width, to, &mut scales[first..][..GROUP]);
    }
}

/// The rows from `first`, at most [`GROUP`], into planes `step` words apart for each 64 steps.
#[inline(always)]
fn group<const LEFT: bool>(
    by: impl Lanes,
    source: Source<'_>,
    (first, step): (usize, usize),
    width: Width,
    to: &mut [u32],
    scales: &mut [f32],
) {
    match (source.row_major(), source.rows - first) {
        (true, _) => rows::<LEFT>(by, source, (first, step), width, to, scales),
        (false, GROUP..) => columns::<LEFT, true>(by, source, (first, step), width, to, scales),
        (false, _) => columns::<LEFT, false>(by, source, (first, step), width, to, scales),
    }
}

/// A group of rows stored along the contraction axis.
#[inline(always)]
fn rows<const LEFT: bool>(
    by: impl Lanes,
    source: Source<'_>,
    (first, step): (usize, usize),
    width: Width,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let rows = (source.rows - first).min(GROUP);
    let (multipliers, all) = group_scaling(by, source, (first, first + rows), width);
    scales[..rows].copy_from_slice(&all[..rows]);
    let (rounder, planes) = (Rounder::new(width), planes(width));
    // rows beyond the matrix stay zero
    let mut cut: [Square; 2] = [[[0; 16]; 16]; 2];
    for (chunk, to) in to.chunks_mut(step).enumerate() {
        for r in 0..rows {
            let x = source.row(first + r).get(chunk * STEPS..).unwrap_or_default();
            let [high, low] = &mut cut;
            let (high, low) = (bytemuck::cast_mut(&mut high[r]), bytemuck::cast_mut(&mut low[r]));
            match x.first_chunk::<STEPS>() {
                Some(x) => cut_row(rounder, planes, x, multipliers[r], high, low),
                None => {
                    let mut padded = [0f32; STEPS];
                    padded[..x.len()].copy_from_slice(x);
                    cut_row(rounder, planes, &padded, multipliers[r], high, low);
                }
            }
        }
        put(by, &cut, LEFT, planes, to);
    }
}

/// A group of rows stored across the contraction axis; `ALL` promises 16 of them.
#[inline(always)]
fn columns<const LEFT: bool, const ALL: bool>(
    by: impl Lanes,
    source: Source<'_>,
    (first, step): (usize, usize),
    width: Width,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let rows = if ALL { GROUP } else { source.rows - first };
    let mut largest = [0u32; GROUP];
    for k in 0..source.k {
        let x = across::<ALL>(source, k, first, rows);
        for i in 0..GROUP {
            largest[i] = largest[i].max(magnitude(x[i]));
        }
    }
    let (mut multipliers, mut all) = ([0f32; GROUP], [0f32; GROUP]);
    for i in 0..GROUP {
        let s = scaling(largest[i], width);
        (multipliers[i], all[i]) = (s.multiplier, s.scale);
    }
    scales[..rows].copy_from_slice(&all[..rows]);
    let (rounder, planes) = (Rounder::new(width), planes(width));
    let mut cut: [Square; 2] = [[[0; 16]; 16]; 2];
    for (chunk, to) in to.chunks_mut(step).enumerate() {
        for quad in 0..16 {
            let k = chunk * STEPS + 4 * quad;
            // the bytes of a row lie together in one word
            let (mut high, mut low) = ([0u32; GROUP], [0u32; GROUP]);
            for step in 0..4 {
                let x = across::<ALL>(source, k + step, first, rows);
                for i in 0..GROUP {
                    let q = rounder.round::<{ part::WHOLE }>(x[i], multipliers[i]);
                    high[i] |= (q >> 8 & 255) << (8 * step);
                    low[i] |= (q & 255) << (8 * step);
                }
            }
            (cut[0][quad], cut[1][quad]) = (if planes == 1 { low } else { high }, low);
        }
        put(by, &cut, !LEFT, planes, to);
    }
}

/// Writes the planes as they are, or transposed.
#[inline(always)]
fn put(by: impl Lanes, cut: &[Square; 2], as_is: bool, planes: usize, to: &mut [u32]) {
    for (cut, to) in cut.iter().zip(to.chunks_exact_mut(PLANE)).take(planes) {
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
