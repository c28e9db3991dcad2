//! Kernels for AVX2, with and without AVX-VNNI.
//!
//! A tile is 6 rows by 16 columns, visited twice for the 32 columns of a panel: 12 accumulators, 2 registers of the panel,
//! one broadcast pair.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::output::Rect;
use super::super::pack::{Lanes, LeftLayout, PANEL, Square, left_block, right_panel};
use super::super::view::Source;
use super::super::width::Width;
use super::{Kernel, Scales, Tile, Unit, body};

/// Columns in one register.
const LANES: usize = 8;
/// Registers of columns in one visit.
const VISIT: usize = 2;

macro_rules! avx2 {
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

            /// Sums of `R` rows and the 16 columns from `first`.
            ///
            /// # Safety
            /// `tile.fits()`, `R == tile.rows`, `first` is 0 or 16.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn sums<const R: usize>(tile: &Tile<'_>, first: usize) -> [[__m256i; VISIT]; R] {
                let mut sums = [[_mm256_setzero_si256(); VISIT]; R];
                let (mut left, mut right) = (tile.left.as_ptr(), tile.right[first..].as_ptr());
                for _ in 0..tile.pairs {
                    let mut columns = [_mm256_setzero_si256(); VISIT];
                    for v in 0..VISIT {
                        // SAFETY: pair p < pairs of the panel, 32 words each, which `fits` found to exist.
                        columns[v] = unsafe { _mm256_loadu_si256(right.add(v * LANES).cast()) };
                    }
                    for r in 0..R {
                        // SAFETY: row r < rows and pair p < pairs; `fits` checked the largest such index.
                        let $a = _mm256_set1_epi32(unsafe { *left.add(r * tile.row_step) } as i32);
                        for v in 0..VISIT {
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
            /// `tile.fits()`; `out` is `R` rows by `tile.columns`; `R` row scales.
            #[target_feature(enable = $features)]
            unsafe fn finish_narrow<const R: usize>(tile: &Tile<'_>, scales: &Scales<'_>, out: &mut Rect<'_>) {
                for first in (0..tile.columns).step_by(VISIT * LANES) {
                    // SAFETY: promised by the caller; columns <= 32.
                    let sums = unsafe { sums::<R>(tile, first) };
                    for v in 0..VISIT {
                        let from = first + v * LANES;
                        // SAFETY: from + 8 <= 32 column scales.
                        let columns = unsafe { _mm256_loadu_ps(scales.columns.as_ptr().add(from)) };
                        for r in 0..R {
                            let row = _mm256_set1_ps(scales.rows[r]);
                            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][v]), row);
                            let mut result = _mm256_mul_ps(scaled, columns);
                            if let Some(bias) = scales.bias {
                                // SAFETY: from + 8 <= 32 biases.
                                let bias = unsafe { _mm256_loadu_ps(bias.as_ptr().add(from)) };
                                result = flush(_mm256_add_ps(result, bias));
                            }
                            store(result, out.row(r).get_mut(from..).unwrap_or_default());
                        }
                    }
                }
            }

            /// Writes as many of the 8 numbers as `to` has room for.
            #[target_feature(enable = $features)]
            #[inline]
            fn store(x: __m256, to: &mut [f32]) {
                if to.len() >= LANES {
                    // SAFETY: room for 8 numbers.
                    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), x) };
                } else {
                    let mut all = [0f32; LANES];
                    // SAFETY: room for 8 numbers.
                    unsafe { _mm256_storeu_ps(all.as_mut_ptr(), x) };
                    to.copy_from_slice(&all[..to.len()]);
                }
            }

            /// # Safety
            /// `tile.fits()` and `sums` holds `R * PANEL` numbers.
            #[target_feature(enable = $features)]
            unsafe fn accumulate<const R: usize>(tile: &Tile<'_>, weight: f64, first: bool, to: &mut [f64]) {
                let weight = _mm256_set1_pd(weight);
                for column in (0..tile.columns).step_by(VISIT * LANES) {
                    // SAFETY: promised by the caller; columns <= 32.
                    let sums = unsafe { sums::<R>(tile, column) };
                    for r in 0..R {
                        for v in 0..VISIT {
                            let halves =
                                [_mm256_castsi256_si128(sums[r][v]), _mm256_extracti128_si256::<1>(sums[r][v])];
                            for h in 0..2 {
                                // SAFETY: r < R, and column + v * 8 + h * 4 + 4 <= 32.
                                let to = unsafe { to.as_mut_ptr().add(r * PANEL + column + v * LANES + h * 4) };
                                let mut value = _mm256_mul_pd(_mm256_cvtepi32_pd(halves[h]), weight);
                                // SAFETY: as above, for reading and writing 4 numbers.
                                unsafe {
                                    if !first {
                                        value = _mm256_add_pd(value, _mm256_loadu_pd(to));
                                    }
                                    _mm256_storeu_pd(to, value);
                                }
                            }
                        }
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn flush(x: __m256) -> __m256 {
                let sign_bit = _mm256_set1_ps(-0.0);
                let (sign, size) = (_mm256_and_ps(x, sign_bit), _mm256_andnot_ps(sign_bit, x));
                let small = _mm256_cmp_ps::<_CMP_LT_OQ>(size, _mm256_set1_ps(f32::MIN_POSITIVE));
                _mm256_blendv_ps(x, sign, small)
            }

            /// Works on bits: a magnitude is what remains without the sign.
            #[target_feature(enable = $features)]
            fn magnitudes(row: &[f32]) -> [u32; 16] {
                let unsigned = _mm256_set1_epi32(0x7fff_ffff);
                let mut largest = [_mm256_setzero_si256(); 2];
                let (chunks, rest) = row.as_chunks::<16>();
                let mut padded = [0f32; 16];
                padded[..rest.len()].copy_from_slice(rest);
                for chunk in chunks.iter().chain([&padded]) {
                    for v in 0..2 {
                        // SAFETY: v * 8 + 8 <= 16.
                        let x = unsafe { _mm256_loadu_si256(chunk.as_ptr().add(v * LANES).cast()) };
                        largest[v] = _mm256_max_epu32(largest[v], _mm256_and_si256(x, unsigned));
                    }
                }
                let mut lanes = [0; 16];
                for v in 0..2 {
                    // SAFETY: v * 8 + 8 <= 16.
                    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().add(v * LANES).cast(), largest[v]) };
                }
                lanes
            }

            /// Gathers lane `l` of rows `i` and `i + 4` into one register, then transposes 4 x 4 words within lanes.
            #[target_feature(enable = $features)]
            fn transpose(square: &Square, to: &mut [u32], step: usize) {
                assert!(to.len() >= 15 * step + 16, "no room for the transposed square");
                for (half, lane) in [(0, 0), (0, 1), (0, 2), (0, 3), (8, 0), (8, 1), (8, 2), (8, 3)] {
                    let mut rows = [_mm256_setzero_si256(); 4];
                    for i in 0..4 {
                        let quad = |r: usize| {
                            // SAFETY: rows have 16 words, lane * 4 + 4 <= 16.
                            unsafe { _mm_loadu_si128(square[r].as_ptr().add(lane * 4).cast()) }
                        };
                        rows[i] = _mm256_set_m128i(quad(half + i + 4), quad(half + i));
                    }
                    let low = [_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpacklo_epi32(rows[2], rows[3])];
                    let high = [_mm256_unpackhi_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[2], rows[3])];
                    let columns = [
                        _mm256_unpacklo_epi64(low[0], low[1]),
                        _mm256_unpackhi_epi64(low[0], low[1]),
                        _mm256_unpacklo_epi64(high[0], high[1]),
                        _mm256_unpackhi_epi64(high[0], high[1]),
                    ];
                    for (i, column) in columns.into_iter().enumerate() {
                        // SAFETY: checked above: lane * 4 + i <= 15 and half + 8 <= 16.
                        unsafe {
                            _mm256_storeu_si256(to.as_mut_ptr().add((lane * 4 + i) * step + half).cast(), column);
                        }
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
                const ROWS: &'static [usize] = &[6, 4, 2, 1];

                fn finish_narrow(&self, tile: &Tile<'_>, scales: &Scales<'_>, out: &mut Rect<'_>) {
                    let rows = tile.rows;
                    assert!(Self::ROWS.contains(&rows) && tile.fits(), "tile outside its words");
                    assert!(out.rows() == rows && out.columns() == tile.columns, "output unlike the tile");
                    assert!(scales.rows.len() == rows, "one scale for each row");
                    // SAFETY: checked just above; `self` exists, so the instructions do.
                    unsafe {
                        match rows {
                            6 => finish_narrow::<6>(tile, scales, out),
                            4 => finish_narrow::<4>(tile, scales, out),
                            2 => finish_narrow::<2>(tile, scales, out),
                            _ => finish_narrow::<1>(tile, scales, out),
                        }
                    }
                }

                fn accumulate(&self, tile: &Tile<'_>, weight: f64, first: bool, sums: &mut [f64]) {
                    let rows = tile.rows;
                    assert!(Self::ROWS.contains(&rows) && tile.fits(), "tile outside its words");
                    assert!(sums.len() >= rows * PANEL, "too few sums");
                    // SAFETY: checked just above; `self` exists, so the instructions do.
                    unsafe {
                        match rows {
                            6 => accumulate::<6>(tile, weight, first, sums),
                            4 => accumulate::<4>(tile, weight, first, sums),
                            2 => accumulate::<2>(tile, weight, first, sums),
                            _ => accumulate::<1>(tile, weight, first, sums),
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

avx2!(
    /// AVX2 without VNNI.
    Avx2, plain, ["avx2"], "avx2",
    |sum, a, b| _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
);

avx2!(
    /// AVX2 with the VNNI instructions of processors that lack AVX-512.
    AvxVnni, vnni, ["avx2", "avxvnni"], "avx2,avxvnni",
    |sum, a, b| _mm256_dpwssd_avx_epi32(sum, a, b)
);
