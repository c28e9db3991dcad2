//! Kernels for AVX-512 (BW, DQ, VL), with and without VNNI.
//!
//! A tile is 12 rows by 32 columns: 24 accumulators, 2 registers of the panel, one broadcast pair. VNNI multiplies pairs and
//! adds to the accumulator in one instruction, without it that takes two.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::output::Rect;
use super::super::pack::{Lanes, LeftLayout, PANEL, Square, left_block, right_panel};
use super::super::view::Source;
use super::super::width::Width;
use super::{Kernel, Scales, Tile, Unit, body};

/// Columns in one register.
const LANES: usize = 16;

/// Rounds the sums of row `r` of a tile and the `live` columns from `v * 16` to f32 and writes them to `to`.
///
/// # Safety
/// A scale for row `r`; `v` is 0 or 1; `to` has room for `live <= 16` numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
pub(super) unsafe fn write(
    sums: __m512i,
    r: usize,
    (v, live): (usize, usize),
    scales: &Scales<'_>,
    to: *mut f32,
) {
    let mask = (0xffff_u32 >> (LANES - live)) as __mmask16;
    // SAFETY: 32 column scales.
    let columns = unsafe { _mm512_loadu_ps(scales.columns.as_ptr().add(v * LANES)) };
    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scales.rows[r]));
    let mut result = _mm512_mul_ps(scaled, columns);
    if let Some(bias) = scales.bias {
        // SAFETY: 32 biases.
        let bias = unsafe { _mm512_loadu_ps(bias.as_ptr().add(v * LANES)) };
        result = flush(_mm512_add_ps(result, bias));
    }
    // SAFETY: promised by the caller.
    unsafe { _mm512_mask_storeu_ps(to, mask, result) };
}

/// A subnormal becomes a zero of the same sign.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn flush(x: __m512) -> __m512 {
    let sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0));
    let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(x), _mm512_set1_ps(f32::MIN_POSITIVE));
    _mm512_mask_mov_ps(x, small, sign)
}

macro_rules! avx512 {
    ($(#[$doc:meta])* $name:ident, $module:ident, [$($feature:tt),+], $features:literal,
     |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(());

        impl $name {
            /// The kernel, if this machine has its instructions.
            pub(crate) fn detect() -> Option<Self> {
                let found = $(std::arch::is_x86_feature_detected!($feature))&&+;
                found.then_some(Self(()))
            }
        }

        mod $module {
            use super::*;

            /// Sums of `R` rows and `V` registers of columns.
            ///
            /// # Safety
            /// `tile.fits()`, `R == tile.rows`.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn sums<const R: usize, const V: usize>(tile: &Tile<'_>) -> [[__m512i; V]; R] {
                let mut sums = [[_mm512_setzero_si512(); V]; R];
                let (mut left, mut right) = (tile.left.as_ptr(), tile.right.as_ptr());
                for _ in 0..tile.pairs {
                    let mut columns = [_mm512_setzero_si512(); V];
                    for v in 0..V {
                        // SAFETY: pair p < pairs of the panel, 32 words each, which `fits` found to exist.
                        columns[v] = unsafe { _mm512_loadu_si512(right.add(v * LANES).cast()) };
                    }
                    for r in 0..R {
                        // SAFETY: row r < rows and pair p < pairs; `fits` checked the largest such index.
                        let $a = _mm512_set1_epi32(unsafe { *left.add(r * tile.row_step) } as i32);
                        for v in 0..V {
                            let ($sum, $b) = (sums[r][v], columns[v]);
                            sums[r][v] = $step;
                        }
                    }
                    // wrapping: the step after the last pair may leave the allocation
                    left = left.wrapping_add(tile.pair_step);
                    right = right.wrapping_add(PANEL);
                }
                sums
            }

            /// # Safety
            /// `tile.fits()`; `out` is `R` rows by `tile.columns`, more than 16 of them if `V` is 2; `R` row scales.
            #[target_feature(enable = $features)]
            unsafe fn finish_narrow<const R: usize, const V: usize>(
                tile: &Tile<'_>,
                scales: &Scales<'_>,
                out: &mut Rect<'_>,
            ) {
                // SAFETY: promised by the caller.
                let sums = unsafe { sums::<R, V>(tile) };
                let (start, stride) = out.raw();
                for v in 0..V {
                    let live = (tile.columns - v * LANES).min(LANES);
                    for r in 0..R {
                        // SAFETY: row r and `live` columns lie inside the rectangle.
                        unsafe { write(sums[r][v], r, (v, live), scales, start.add(r * stride + v * LANES)) };
                    }
                }
            }

            /// # Safety
            /// `tile.fits()` and `sums` holds `R * PANEL` numbers.
            #[target_feature(enable = $features)]
            unsafe fn accumulate<const R: usize, const V: usize>(
                tile: &Tile<'_>,
                weight: f64,
                first: bool,
                to: &mut [f64],
            ) {
                // SAFETY: promised by the caller.
                let sums = unsafe { sums::<R, V>(tile) };
                let weight = _mm512_set1_pd(weight);
                for r in 0..R {
                    for v in 0..V {
                        let halves = [
                            _mm512_castsi512_si256(sums[r][v]),
                            _mm512_extracti64x4_epi64::<1>(sums[r][v]),
                        ];
                        for h in 0..2 {
                            // SAFETY: r < R, and v * 16 + h * 8 + 8 <= 32.
                            let to = unsafe { to.as_mut_ptr().add(r * PANEL + v * LANES + h * 8) };
                            let mut value = _mm512_mul_pd(_mm512_cvtepi32_pd(halves[h]), weight);
                            // SAFETY: as above, for reading and writing 8 numbers.
                            unsafe {
                                if !first {
                                    value = _mm512_add_pd(value, _mm512_loadu_pd(to));
                                }
                                _mm512_storeu_pd(to, value);
                            }
                        }
                    }
                }
            }

            /// Works on bits: a magnitude is what remains without the sign.
            #[target_feature(enable = $features)]
            #[inline]
            fn magnitudes(row: &[f32]) -> [u32; 16] {
                let unsigned = _mm512_set1_epi32(0x7fff_ffff);
                let mut largest = [_mm512_setzero_si512(); 4];
                let (chunks, rest) = row.as_chunks::<64>();
                for chunk in chunks {
                    for v in 0..4 {
                        // SAFETY: v * 16 + 16 <= 64.
                        let x = unsafe { _mm512_loadu_si512(chunk.as_ptr().add(v * LANES).cast()) };
                        largest[v] = _mm512_max_epu32(largest[v], _mm512_and_si512(x, unsigned));
                    }
                }
                let (chunks, rest) = rest.as_chunks::<LANES>();
                for chunk in chunks {
                    // SAFETY: 16 elements.
                    let x = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
                    largest[0] = _mm512_max_epu32(largest[0], _mm512_and_si512(x, unsigned));
                }
                if !rest.is_empty() {
                    let mask = (0xffff_u32 >> (LANES - rest.len())) as __mmask16;
                    // SAFETY: only as many elements as are left are read.
                    let x = unsafe { _mm512_maskz_loadu_epi32(mask, rest.as_ptr().cast()) };
                    largest[1] = _mm512_max_epu32(largest[1], _mm512_and_si512(x, unsigned));
                }
                let low = _mm512_max_epu32(largest[0], largest[1]);
                let high = _mm512_max_epu32(largest[2], largest[3]);
                let mut lanes = [0; 16];
                // SAFETY: room for 16 words.
                unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), _mm512_max_epu32(low, high)) };
                lanes
            }

            /// Gathers lane `l` of rows `i, i+4, i+8, i+12` into one register, so that transposing 4 x 4 words within lanes
            /// finishes the job with half the shuffles of a transposition from whole rows.
            #[target_feature(enable = $features)]
            fn transpose(square: &Square, to: &mut [u32], step: usize) {
                assert!(to.len() >= 15 * step + 16, "no room for the transposed square");
                for lane in 0..4 {
                    let mut rows = [_mm512_setzero_si512(); 4];
                    for i in 0..4 {
                        let quad = |r: usize| {
                            // SAFETY: rows have 16 words, lane * 4 + 4 <= 16.
                            unsafe { _mm_loadu_si128(square[r].as_ptr().add(lane * 4).cast()) }
                        };
                        let mut row = _mm512_castsi128_si512(quad(i));
                        row = _mm512_mask_broadcast_i32x4(row, 0x00f0, quad(i + 4));
                        row = _mm512_mask_broadcast_i32x4(row, 0x0f00, quad(i + 8));
                        rows[i] = _mm512_mask_broadcast_i32x4(row, 0xf000, quad(i + 12));
                    }
                    let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
                    let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
                    let columns = [
                        _mm512_unpacklo_epi64(low[0], low[1]),
                        _mm512_unpackhi_epi64(low[0], low[1]),
                        _mm512_unpacklo_epi64(high[0], high[1]),
                        _mm512_unpackhi_epi64(high[0], high[1]),
                    ];
                    for (i, column) in columns.into_iter().enumerate() {
                        // SAFETY: checked above: (lane * 4 + i) <= 15.
                        unsafe { _mm512_storeu_si512(to.as_mut_ptr().add((lane * 4 + i) * step).cast(), column) };
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn pack_left(this: $name, source: Source<'_>, width: Width, layout: &LeftLayout, to: &mut [u32], scales: &mut [f32]) {
                left_block(this, source, width, layout, to, scales);
            }

            #[target_feature(enable = $features)]
            fn pack_right(this: $name, source: Source<'_>, width: Width, pairs: usize, to: &mut [u32], scales: &mut [f32]) {
                right_panel(this, source, width, pairs, to, scales);
            }

            #[target_feature(enable = $features)]
            fn finish_wide(sums: &[f64], scales: &Scales<'_>, out: &mut Rect<'_>) {
                body::finish_wide(sums, scales, out);
            }

            impl Lanes for $name {
                #[inline(always)]
                fn magnitudes(self, row: &[f32]) -> [u32; 16] {
                    // SAFETY: `self` exists, so the instructions do.
                    unsafe { magnitudes(row) }
                }

                #[inline(always)]
                fn transpose(self, square: &Square, to: &mut [u32], step: usize) {
                    // SAFETY: `self` exists, so the instructions do.
                    unsafe { transpose(square, to, step) }
                }
            }

            impl Kernel for $name {
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
                    // SAFETY: `self` exists, so the instructions do.
                    unsafe { pack_left(self, source, width, layout, to, scales) }
                }

                fn pack_right(
                    self,
                    source: Source<'_>,
                    width: Width,
                    pairs: usize,
                    to: &mut [u32],
                    scales: &mut [f32],
                ) {
                    // SAFETY: `self` exists, so the instructions do.
                    unsafe { pack_right(self, source, width, pairs, to, scales) }
                }
            }

            impl Unit for $name {
                const ROWS: &'static [usize] = &[12, 8, 4, 2, 1];

                fn finish_narrow(&self, tile: &Tile<'_>, scales: &Scales<'_>, out: &mut Rect<'_>) {
                    let rows = tile.rows;
                    assert!(Self::ROWS.contains(&rows) && tile.fits(), "tile outside its words");
                    assert!(out.rows() == rows && out.columns() == tile.columns, "output unlike the tile");
                    assert!(scales.rows.len() == rows, "one scale for each row");
                    // SAFETY: checked just above; `self` exists, so the instructions do.
                    unsafe {
                        match (rows, tile.columns > LANES) {
                            (12, true) => finish_narrow::<12, 2>(tile, scales, out),
                            (12, false) => finish_narrow::<12, 1>(tile, scales, out),
                            (8, true) => finish_narrow::<8, 2>(tile, scales, out),
                            (8, false) => finish_narrow::<8, 1>(tile, scales, out),
                            (4, true) => finish_narrow::<4, 2>(tile, scales, out),
                            (4, false) => finish_narrow::<4, 1>(tile, scales, out),
                            (2, true) => finish_narrow::<2, 2>(tile, scales, out),
                            (2, false) => finish_narrow::<2, 1>(tile, scales, out),
                            (_, true) => finish_narrow::<1, 2>(tile, scales, out),
                            (_, false) => finish_narrow::<1, 1>(tile, scales, out),
                        }
                    }
                }

                fn accumulate(&self, tile: &Tile<'_>, weight: f64, first: bool, sums: &mut [f64]) {
                    let rows = tile.rows;
                    assert!(Self::ROWS.contains(&rows) && tile.fits(), "tile outside its words");
                    assert!(sums.len() >= rows * PANEL, "too few sums");
                    // SAFETY: checked just above; `self` exists, so the instructions do.
                    unsafe {
                        match (rows, tile.columns > LANES) {
                            (12, true) => accumulate::<12, 2>(tile, weight, first, sums),
                            (12, false) => accumulate::<12, 1>(tile, weight, first, sums),
                            (8, true) => accumulate::<8, 2>(tile, weight, first, sums),
                            (8, false) => accumulate::<8, 1>(tile, weight, first, sums),
                            (4, true) => accumulate::<4, 2>(tile, weight, first, sums),
                            (4, false) => accumulate::<4, 1>(tile, weight, first, sums),
                            (2, true) => accumulate::<2, 2>(tile, weight, first, sums),
                            (2, false) => accumulate::<2, 1>(tile, weight, first, sums),
                            (_, true) => accumulate::<1, 2>(tile, weight, first, sums),
                            (_, false) => accumulate::<1, 1>(tile, weight, first, sums),
                        }
                    }
                }

                fn finish_wide(&self, sums: &[f64], scales: &Scales<'_>, out: &mut Rect<'_>) {
                    // SAFETY: `self` exists, so the instructions do.
                    unsafe { finish_wide(sums, scales, out) }
                }
            }
        }
    };
}

avx512!(
    /// AVX-512 without VNNI.
    Avx512, plain, ["avx512f", "avx512bw", "avx512dq", "avx512vl"], "avx512f,avx512bw,avx512dq,avx512vl",
    |sum, a, b| _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
);

avx512!(
    /// AVX-512 with VNNI.
    Avx512Vnni, vnni, ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"],
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
    |sum, a, b| _mm512_dpwssd_epi32(sum, a, b)
);
