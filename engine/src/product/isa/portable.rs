//! Kernels for any machine, in safe Rust.

use super::super::output::Rect;
use super::super::pack::{Lanes, LeftLayout, PANEL, Square, left_block, right_panel};
use super::super::round::magnitude;
use super::super::view::Source;
use super::super::width::Width;
use super::{Kernel, Scales, Tile, Unit, body};

/// Exists everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portable;

/// Columns computed together: few enough for the registers of any machine.
const GROUP: usize = 8;

/// Sums of `ROWS` rows and the columns `first .. first + GROUP`.
#[inline(always)]
fn sums<const ROWS: usize>(tile: &Tile<'_>, first: usize) -> [[i32; GROUP]; ROWS] {
    // both operands are seen in memory order, so it does not matter which half of a word comes first
    let left: &[[i16; 2]] = bytemuck::cast_slice(tile.left);
    let right: &[[i16; 2]] = bytemuck::cast_slice(tile.right);
    let mut sums = [[0i32; GROUP]; ROWS];
    for p in 0..tile.pairs {
        let right = &right[p * PANEL + first..][..GROUP];
        for r in 0..ROWS {
            let a = left[r * tile.row_step + p * tile.pair_step].map(i32::from);
            for c in 0..GROUP {
                let b = right[c].map(i32::from);
                // no overflow: `Runs` bounds the sum
                sums[r][c] += a[0] * b[0] + a[1] * b[1];
            }
        }
    }
    sums
}

/// Calls `take(row, first column, sums)` for every group of the tile.
#[inline(always)]
fn each_group(tile: &Tile<'_>, mut take: impl FnMut(usize, usize, &[i32; GROUP])) {
    assert!(tile.fits(), "tile outside its words");
    for first in (0..tile.columns).step_by(GROUP) {
        match tile.rows {
            4 => sums::<4>(tile, first).iter().enumerate().for_each(|(r, s)| take(r, first, s)),
            _ => sums::<1>(tile, first).iter().enumerate().for_each(|(r, s)| take(r, first, s)),
        }
    }
}

impl Lanes for Portable {
    fn magnitudes(self, row: &[f32]) -> [u32; 16] {
        let mut lanes = [0; 16];
        for chunk in row.chunks(16) {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane = magnitude(x).max(*lane);
            }
        }
        lanes
    }

    fn transpose(self, square: &Square, to: &mut [u32], step: usize) {
        for i in 0..16 {
            for (to, row) in to[i * step..][..16].iter_mut().zip(square) {
                *to = row[i];
            }
        }
    }
}

impl Kernel for Portable {
    type Unit = Self;

    fn unit(self) -> Self {
        self
    }

    fn pack_left(
        self,
        source: Source<'_>,
        width: Width,
        layout: &LeftLayout,
        to: &mut [u32],
        scales: &mut [f32],
    ) {
        left_block(self, source, width, layout, to, scales);
    }

    fn pack_right(self, source: Source<'_>, width: Width, pairs: usize, to: &mut [u32], scales: &mut [f32]) {
        right_panel(self, source, width, pairs, to, scales);
    }
}

impl Unit for Portable {
    const ROWS: &'static [usize] = &[4, 1];

    fn finish_narrow(&self, tile: &Tile<'_>, scales: &Scales<'_>, out: &mut Rect<'_>) {
        let mut rows = [[0f32; PANEL]; 4];
        each_group(tile, |r, first, sums| {
            for (c, &sum) in sums.iter().enumerate() {
                rows[r][first + c] = sum as f32 * scales.rows[r] * scales.columns[first + c];
            }
        });
        for (r, row) in rows.iter().enumerate().take(tile.rows) {
            body::write(row, scales.bias, out.row(r));
        }
    }

    fn accumulate(&self, tile: &Tile<'_>, weight: f64, first: bool, sums: &mut [f64]) {
        each_group(tile, |r, column, group| {
            for (to, &sum) in sums[r * PANEL + column..].iter_mut().zip(group) {
                let value = f64::from(sum) * weight;
                *to = if first { value } else { *to + value };
            }
        });
    }

    fn finish_wide(&self, sums: &[f64], scales: &Scales<'_>, out: &mut Rect<'_>) {
        body::finish_wide(sums, scales, out);
    }
}
