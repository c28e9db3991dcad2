//! Kernels for AMX: tiles of bytes, multiplied 16 rows by 16 columns by 64 steps in one instruction.
//!
//! An integer of up to 16 bits is `256 * high + low`, so a product is four products of bytes, each summed in its own tile and
//! put together at the end; with 8 bits on one side it is two, with 8 on both one. Needs Linux, which lets a process use
//! tiles only after it has asked for them. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1,
//! chapter 18.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::super::bytes::{self, PLANE, STEPS};
use super::super::output::Rect;
use super::super::pack::{LeftLayout, PANEL};
use super::super::view::Source;
use super::super::width::{Precision, Width};
use super::avx512::Avx512Vnni;
use super::{Kernel, Runs, Scales, Tile, Unit};

/// Rows and columns of one tile.
const SIDE: usize = 16;

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

/// Asks the system for the tiles; granted to all threads of the process (Linux, `Documentation/arch/x86/xstate.rst`).
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// The shape of the eight tiles: 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shape {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPE: Shape = {
    let mut shape = Shape { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut tile = 0;
    while tile < 8 {
        shape.row_bytes[tile] = STEPS as u16;
        shape.rows[tile] = SIDE as u8;
        tile += 1;
    }
    shape
};

thread_local! {
    /// Units that exist on this thread.
    static UNITS: Cell<usize> = const { Cell::new(0) };
}

/// Tiles of this thread, shaped; given back with the last unit of the thread.
pub(crate) struct Tiles {
    vectors: Avx512Vnni,
    /// Tiles belong to a thread.
    _thread: PhantomData<*const ()>,
}

impl Tiles {
    fn new(kernel: Amx) -> Self {
        UNITS.with(|units| {
            if units.replace(units.get() + 1) == 0 {
                // SAFETY: `kernel` exists, so the instructions do; they read 64 bytes of a legal shape.
                unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPE, options(nostack, readonly)) };
            }
        });
        Self { vectors: kernel.0, _thread: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        UNITS.with(|units| {
            units.set(units.get() - 1);
            if units.get() == 0 {
                // SAFETY: a unit exists, so the instruction does.
                unsafe { asm!("tilerelease", options(nomem, nostack)) };
            }
        });
    }
}

/// Sums of the products of bytes of 16 rows and 16 columns.
#[repr(C, align(64))]
struct Sums([MaybeUninit<[i32; SIDE * SIDE]>; 4]);

impl Sums {
    const EMPTY: Self = Self([MaybeUninit::uninit(); 4]);
}

/// The loop over the planes of `chunks` times 64 steps: `$left` and `$right` load and multiply, `$count` tiles are sums.
macro_rules! sum_planes {
    ($left:ident, $right:ident, $chunks:ident, $sums:ident, [$($zero:literal),+], [$($step:literal),+], [$($store:literal),+]) => {
        // SAFETY: promised by the caller of the function this is in. The tiles are nobody else's: the compiler does not use
        // them.
        unsafe {
            asm!(
                $($zero,)+
                "2:",
                $($step,)+
                "add {left}, 2048",
                "add {right}, 4096",
                "dec {chunks}",
                "jnz 2b",
                $($store,)+
                left = inout(reg) $left => _,
                right = inout(reg) $right => _,
                chunks = inout(reg) $chunks => _,
                stride = in(reg) 64usize,
                sums = in(reg) $sums,
                options(nostack),
            )
        }
    };
}

/// Sums the products of bytes of 16 rows and 16 columns, tile `i` being the `i`-th of: high with high, high with low, low with
/// high, low with low, of those that exist.
///
/// # Safety
/// Tiles are shaped on this thread; `chunks` is positive; so many planes can be read, the left ones 2048 bytes apart, the right
/// ones 4096, low ones 1024 behind high ones; `sums` has room.
unsafe fn sum_planes<const LEFT: usize, const RIGHT: usize>(
    left: *const u32,
    right: *const u32,
    chunks: usize,
    sums: *mut Sums,
) {
    match (LEFT, RIGHT) {
        (1, 1) => sum_planes!(
            left,
            right,
            chunks,
            sums,
            ["tilezero tmm0"],
            [
                "tileloadd tmm4, [{left} + {stride}]",
                "tileloadd tmm6, [{right} + {stride}]",
                "tdpbssd tmm0, tmm4, tmm6"
            ],
            ["tilestored [{sums} + {stride}], tmm0"]
        ),
        (1, _) => sum_planes!(
            left,
            right,
            chunks,
            sums,
            ["tilezero tmm0", "tilezero tmm1"],
            [
                "tileloadd tmm4, [{left} + {stride}]",
                "tileloadd tmm6, [{right} + {stride}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {stride} + 1024]",
                "tdpbsud tmm1, tmm4, tmm7"
            ],
            ["tilestored [{sums} + {stride}], tmm0", "tilestored [{sums} + {stride} + 1024], tmm1"]
        ),
        (_, 1) => sum_planes!(
            left,
            right,
            chunks,
            sums,
            ["tilezero tmm0", "tilezero tmm1"],
            [
                "tileloadd tmm4, [{left} + {stride}]",
                "tileloadd tmm6, [{right} + {stride}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{left} + {stride} + 1024]",
                "tdpbusd tmm1, tmm5, tmm6"
            ],
            ["tilestored [{sums} + {stride}], tmm0", "tilestored [{sums} + {stride} + 1024], tmm1"]
        ),
        _ => sum_planes!(
            left,
            right,
            chunks,
            sums,
            ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"],
            [
                "tileloadd tmm4, [{left} + {stride}]",
                "tileloadd tmm6, [{right} + {stride}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {stride} + 1024]",
                "tdpbsud tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{left} + {stride} + 1024]",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbuud tmm3, tmm5, tmm7"
            ],
            [
                "tilestored [{sums} + {stride}], tmm0",
                "tilestored [{sums} + {stride} + 1024], tmm1",
                "tilestored [{sums} + {stride} + 2048], tmm2",
                "tilestored [{sums} + {stride} + 3072], tmm3"
            ]
        ),
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
            unsafe {
                super::avx512::write(sum, r, (half, live), scales, start.add(r * stride + half * SIDE))
            };
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
    let weights = [65536.0, 256.0, 256.0, 1.0].map(|of_byte| _mm512_set1_pd(weight * of_byte));
    let weights = match (LEFT, RIGHT) {
        (1, 1) => [weights[3]; 4],
        (1, _) | (_, 1) => [weights[1], weights[3], weights[3], weights[3]],
        _ => weights,
    };
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
