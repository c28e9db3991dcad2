//! Tiles of a thread: the permission to use them, their shape, and the one loop that multiplies.
#![allow(unsafe_code)]

use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::Amx;
use crate::product::bytes::STEPS;
use crate::product::isa::avx512::Avx512Vnni;

/// Rows and columns of one tile.
pub(super) const SIDE: usize = 16;

/// Asks the system for the tiles; granted to all threads of the process (Linux, `Documentation/arch/x86/xstate.rst`).
pub(super) fn permitted() -> bool {
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
    pub(super) vectors: Avx512Vnni,
    /// Tiles belong to a thread.
    _thread: PhantomData<*const ()>,
}

impl Tiles {
    pub(super) fn new(kernel: Amx) -> Self {
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
pub(super) struct Sums(pub(super) [MaybeUninit<[i32; SIDE * SIDE]>; 4]);

impl Sums {
    pub(super) const EMPTY: Self = Self([MaybeUninit::uninit(); 4]);
}

/// The loop over the planes of `$chunks` times 64 steps: `$zero` clears the tiles of sums, `$step` loads planes and adds their
/// products, `$store` writes the sums.
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
pub(super) unsafe fn sum_planes<const LEFT: usize, const RIGHT: usize>(
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
