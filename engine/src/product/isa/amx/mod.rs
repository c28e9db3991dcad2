//! Kernels for AMX: tiles of bytes, multiplied 16 rows by 16 columns by 64 steps in one instruction.
//!
//! An integer of up to 16 bits is `256 * high + low`, so a product is four products of bytes, each summed in its own tile and
//! put together at the end; with 8 bits on one side it is two, with 8 on both one. Needs Linux, which lets a process use
//! tiles only after it has asked for them. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1,
//! chapter 18.
#![allow(unsafe_code)]

mod tiles;

use std::arch::x86_64::*;

use tiles::{SIDE, Sums, Tiles, permitted, sum_planes};

use super::avx512::{self, Avx512Vnni};
use super::{Kernel, Runs, Scales, Tile, Unit};
use crate::product::bytes::{self, PLANE, STEPS};
use crate::product::output::Rect;
use crate::product::pack::{LeftLayout, PANEL};
use crate::product::view::Source;
use crate::product::width::{Precision, Width};

/// Pairs between two visits to the f64 sums: what 16 columns take of a run stays in the first-level cache. Also keeps
/// sums of products of bytes far below `2^31`: they are at most `2 * 2^16` a pair.
const RUN: usize = 512;

/// AMX with 8-bit integers, next to AVX-512 with VNNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amx(Avx512Vnni);

impl Amx {
    /// The kernel, if this machine has its instructions and the system lets this process use tiles.
    pub(crate) fn detect() -> Option<Self> {
        let vectors = Avx512Vnni::detect()?;
        // CPUID leaf 7, which every processor with AVX-512 has: AMX-TILE and AMX-INT8 are bits 24 and 25 of EDX
        let has = |bit: u32| __cpuid_count(7, 0).edx >> bit & 1 == 1;
        (has(24) && has(25) && permitted()).then_some(Self(vectors))
    }

    /// The kernel for vectors beside it.
    pub(super) fn vectors(self) -> Avx512Vnni {
        self.0
    }
}

/// Calls a function with the numbers of planes of both operands as constants.
macro_rules! with_planes {
    ($precision:expr, $function:ident ( $($argument:expr),* )) => {
        match (bytes::planes($precision.a), bytes::planes($precision.b)) {
            (1, 1) => $function::<1, 1>($($argument),*),
            (1, _) => $function::<1, 2>($($argument),*),
            (_, 1) => $function::<2, 1>($($argument),*),
            _ => $function::<2, 2>($($argument),*),
        }
    };
}

/// 64 steps that a tile's pairs reach into.
fn chunks(tile: &Tile<'_>) -> usize {
    tile.pairs.div_ceil(STEPS / 2)
}

/// Whether every plane of the tile exists.
fn fits(tile: &Tile<'_>) -> bool {
    tile.pairs > 0
        && (1..=SIDE).contains(&tile.rows)
        && (1..=PANEL).contains(&tile.columns)
        && chunks(tile) * 2 * PLANE <= tile.left.len()
        && chunks(tile) * 4 * PLANE <= tile.right.len()
}

/// # Safety
/// As [`sum_planes`] for 16 columns from `half * 16`; the instructions exist.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
unsafe fn half_sums<const LEFT: usize, const RIGHT: usize>(tile: &Tile<'_>, half: usize, sums: &mut Sums) {
    let right = tile.right.as_ptr().wrapping_add(half * 2 * PLANE);
    // SAFETY: promised by the caller.
    unsafe { sum_planes::<LEFT, RIGHT>(tile.left.as_ptr(), right, chunks(tile), sums) };
}

/// # Safety
/// `fits(tile)`, tiles are shaped, the instructions exist; `out` has the rows and columns of the tile; a scale for each row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn finish_narrow<const LEFT: usize, const RIGHT: usize>(
    tile: &Tile<'_>,
    scales: &Scales<'_>,
    out: &mut Rect<'_>,
) {
    let mut both = [Sums::EMPTY; 2];
    let (start, stride) = out.raw();
    let halves = tile.columns.div_ceil(SIDE);
    // both first: the second one multiplies while the first one's sums are on their way through memory
    for (half, sums) in both.iter_mut().enumerate().take(halves) {
        // SAFETY: promised by the caller.
        unsafe { half_sums::<LEFT, RIGHT>(tile, half, sums) };
    }
    for (half, sums) in both.iter().enumerate().take(halves) {
        let live = (tile.columns - half * SIDE).min(SIDE);
        for r in 0..tile.rows {
            // SAFETY: each tile has 16 rows of 16 sums.
            let load = |i: usize| unsafe {
                _mm512_load_si512(sums.0[i].as_ptr().cast::<i32>().add(r * SIDE).cast())
            };
            let sum = match (LEFT, RIGHT) {
                (1, 1) => load(0),
                (1, _) | (_, 1) => _mm512_add_epi32(_mm512_slli_epi32::<8>(load(0)), load(1)),
                _ => {
                    let high = _mm512_slli_epi32::<16>(load(0));
                    let middle = _mm512_slli_epi32::<8>(_mm512_add_epi32(load(1), load(2)));
                    _mm512_add_epi32(_mm512_add_epi32(high, middle), load(3))
                }
            };
            // SAFETY: row r and `live` columns from half * 16 lie inside the rectangle.
            unsafe { avx512::write(sum, r, (half, live), scales, start.add(r * stride + half * SIDE)) };
        }
    }
}

/// # Safety
/// `fits(tile)`, tiles are shaped, the instructions exist; `to` holds [`PANEL`] numbers for each row of the tile.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn accumulate<const LEFT: usize, const RIGHT: usize>(
    tile: &Tile<'_>,
    weight: f64,
    first: bool,
    to: &mut [f64],
) {
    let mut sums = Sums::EMPTY;
    let of_bytes = match (LEFT, RIGHT) {
        (1, 1) => [1.0, 0.0, 0.0, 0.0],
        (1, _) | (_, 1) => [256.0, 1.0, 0.0, 0.0],
        _ => [65536.0, 256.0, 256.0, 1.0],
    };
    let weights = of_bytes.map(|of_byte| _mm512_set1_pd(weight * of_byte));
    for half in 0..tile.columns.div_ceil(SIDE) {
        // SAFETY: promised by the caller.
        unsafe { half_sums::<LEFT, RIGHT>(tile, half, &mut sums) };
        for r in 0..tile.rows {
            for quarter in 0..2 {
                // SAFETY: r < 16 rows of 32 numbers, half * 16 + quarter * 8 + 8 <= 32.
                let to = unsafe { to.as_mut_ptr().add(r * PANEL + half * SIDE + quarter * 8) };
                // SAFETY: as above.
                let mut value = if first { _mm512_setzero_pd() } else { unsafe { _mm512_loadu_pd(to) } };
                for (i, &weight) in weights.iter().enumerate().take(LEFT * RIGHT) {
                    // SAFETY: each tile has 16 rows of 16 sums.
                    let sum = unsafe {
                        _mm256_load_si256(sums.0[i].as_ptr().cast::<i32>().add(r * SIDE + quarter * 8).cast())
                    };
                    // exact: all sums and products are integers below 2^53
                    value = _mm512_fmadd_pd(_mm512_cvtepi32_pd(sum), weight, value);
                }
                // SAFETY: as above.
                unsafe { _mm512_storeu_pd(to, value) };
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pack_left(
    by: Avx512Vnni,
    source: Source<'_>,
    width: Width,
    layout: &LeftLayout,
    to: &mut [u32],
    scales: &mut [f32],
) {
    bytes::left_block(by, source, width, layout, to, scales);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pack_right(by: Avx512Vnni, source: Source<'_>, width: Width, to: &mut [u32], scales: &mut [f32]) {
    bytes::right_panel(by, source, width, to, scales);
}

impl Kernel for Amx {
    type Unit = Tiles;

    fn unit(self) -> Tiles {
        Tiles::new(self)
    }

    fn runs(precision: Precision) -> Runs {
        Runs { parts: 1, narrow: (1 << (32 - precision.total_bits())).min(RUN), wide: RUN }
    }

    fn pairs(k: usize) -> usize {
        bytes::pairs(k)
    }

    fn left_layout(rows: usize, k: usize, _row_major: bool) -> LeftLayout {
        bytes::left_layout(rows, k)
    }

    fn pack_left(
        self,
        source: Source<'_>,
        width: Width,
        layout: &LeftLayout,
        to: &mut [u32],
        scales: &mut [f32],
    ) {
        // SAFETY: `self` exists, so the instructions do.
        unsafe { pack_left(self.0, source, width, layout, to, scales) }
    }

    fn pack_right(self, source: Source<'_>, width: Width, _pairs: usize, to: &mut [u32], scales: &mut [f32]) {
        // SAFETY: `self` exists, so the instructions do.
        unsafe { pack_right(self.0, source, width, to, scales) }
    }
}

impl Unit for Tiles {
    const ROWS: &'static [usize] = &[16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

    fn finish_narrow(&self, tile: &Tile<'_>, scales: &Scales<'_>, out: &mut Rect<'_>) {
        assert!(fits(tile), "tile outside its words");
        assert!(out.rows() == tile.rows && out.columns() == tile.columns, "output unlike the tile");
        assert!(scales.rows.len() == tile.rows, "one scale for each row");
        // SAFETY: checked just above; a unit exists, so the instructions do and the tiles of this thread are shaped.
        unsafe { with_planes!(tile.precision, finish_narrow(tile, scales, out)) }
    }

    fn accumulate(&self, tile: &Tile<'_>, weight: f64, first: bool, sums: &mut [f64]) {
        assert!(fits(tile), "tile outside its words");
        assert!(sums.len() >= tile.rows * PANEL, "too few sums");
        // SAFETY: checked just above; a unit exists, so the instructions do and the tiles of this thread are shaped.
        unsafe { with_planes!(tile.precision, accumulate(tile, weight, first, sums)) }
    }

    fn finish_wide(&self, sums: &[f64], scales: &Scales<'_>, out: &mut Rect<'_>) {
        self.vectors.finish_wide(sums, scales, out);
    }
}
