//! The instruction sets a product can run on, found at run time. All give the same bits; only speed differs.
//!
//! Each set has one file with its kernels. A kernel is a value that exists only where its instructions do, which is what
//! makes calling it safe.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod body;
mod portable;

use std::fmt;
use std::sync::OnceLock;

use super::output::Rect;
use super::pack::{BLOCK, LeftLayout, PANEL};
use super::view::Source;
use super::width::{Precision, Width};

/// Elements of a row up to which a product is faster without tiles.
const FEW_STEPS: usize = 32;

/// An instruction set this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(crate) Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Portable(portable::Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(avx2::AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(avx512::Avx512Vnni),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(amx::Amx),
}

impl Default for Isa {
    fn default() -> Self {
        Self::best()
    }
}

impl Isa {
    /// Every instruction set this machine has, slowest first. Never empty.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut sets = vec![Set::Portable(portable::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(avx2::Avx2::detect().map(Set::Avx2));
            sets.extend(avx2::AvxVnni::detect().map(Set::AvxVnni));
            sets.extend(avx512::Avx512::detect().map(Set::Avx512));
            sets.extend(avx512::Avx512Vnni::detect().map(Set::Avx512Vnni));
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        sets.extend(amx::Amx::detect().map(Set::Amx));
        sets.into_iter().map(Self).collect()
    }

    /// The fastest one, detected once.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self(Set::Portable(portable::Portable))))
    }

    /// The fastest one for rows of `k` elements.
    pub fn best_for(k: usize) -> Self {
        if k <= FEW_STEPS { Self::best().without_tiles() } else { Self::best() }
    }

    /// What a set falls back to for short rows, which would leave most of a tile empty.
    fn without_tiles(self) -> Self {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx(kernel) => Self(Set::Avx512Vnni(kernel.vectors())),
            set => Self(set),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Set::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni(_) => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni(_) => "avx512-vnni",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Set::Amx(_) => "amx",
        })
    }
}

/// Evaluates an expression with the kernel of an [`Isa`] bound to a name, compiled once for each kernel.
macro_rules! with_kernel {
    ($isa:expr, $kernel:ident => $body:expr) => {
        match $isa.0 {
            $crate::product::isa::Set::Portable($kernel) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::product::isa::Set::Avx2($kernel) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::product::isa::Set::AvxVnni($kernel) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::product::isa::Set::Avx512($kernel) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::product::isa::Set::Avx512Vnni($kernel) => $body,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            $crate::product::isa::Set::Amx($kernel) => $body,
        }
    };
}
pub(crate) use with_kernel;

/// One value for each column of a panel.
pub(crate) type Columns = [f32; PANEL];

/// The integers of one tile: some rows of the left operand against one panel of the right one, over some pairs. Where words
/// lie is said for all sets but AMX, whose order [`super::bytes`] has.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// Word of row `r` and pair `p`: `left[r * row_step + p * pair_step]`.
    pub(crate) left: &'a [u32],
    pub(crate) row_step: usize,
    pub(crate) pair_step: usize,
    /// One of [`Unit::ROWS`].
    pub(crate) rows: usize,
    /// Word of column `c` and pair `p`: `right[p * PANEL + c]`.
    pub(crate) right: &'a [u32],
    /// Columns that matter, at most [`PANEL`].
    pub(crate) columns: usize,
    /// Few enough that no 32-bit sum overflows.
    pub(crate) pairs: usize,
    /// Widths of the integers.
    pub(crate) precision: Precision,
}

impl Tile<'_> {
    /// Whether every word the tile names exists; kernels rely on it.
    #[inline(always)]
    pub(crate) fn fits(&self) -> bool {
        self.pairs > 0
            && self.rows > 0
            && (self.rows - 1) * self.row_step + (self.pairs - 1) * self.pair_step < self.left.len()
            && self.pairs * PANEL <= self.right.len()
            && self.columns <= PANEL
    }
}

/// How integers become f32: `sum * row * column`, then plus a bias.
#[derive(Clone, Copy)]
pub(crate) struct Scales<'a> {
    /// One power of two for each row of the tile.
    pub(crate) rows: &'a [f32],
    /// One for each column of the panel.
    pub(crate) columns: &'a Columns,
    /// Added to the rounded product with one more rounding.
    pub(crate) bias: Option<&'a Columns>,
}

/// How far sums may run before they must leave 32-bit lanes.
#[derive(Clone, Copy)]
pub(crate) struct Runs {
    /// In how many parts the right operand is kept: 1, or 2 for a high and a low one.
    pub(crate) parts: usize,
    /// Pairs whose sum no 32-bit lane can overflow.
    pub(crate) narrow: usize,
    /// Most pairs of one visit to the f64 sums.
    pub(crate) wide: usize,
}

/// The largest sum of widths that is multiplied in one pass. Above it the right operand is cut in two parts: two passes
/// cost less than emptying the 32-bit lanes every few pairs.
const UNCUT_BITS: u32 = 28;

/// Longest run of pairs between two visits to the accumulator, so that a panel's share stays in the second-level cache.
const MOST_PAIRS: usize = 4096;

/// What an instruction set provides: packing, and a multiplier for the thread that asks for it.
pub(crate) trait Kernel: Copy + Send + Sync {
    /// What multiplies.
    type Unit: Unit;

    /// The multiplier, made ready on this thread.
    fn unit(self) -> Self::Unit;

    /// How operands of a precision are kept and summed. One product is below `2^(a + b - 2)`, or at most `2^(a - 1) * 2^7` with
    /// a part of the right operand, minus at least one for each because `|qa| < 2^(a - 1)`; sums below `2^31` are safe.
    fn runs(precision: Precision) -> Runs {
        let cut = precision.total_bits() > UNCUT_BITS;
        let spare = if cut { 24 - precision.a.bits() } else { 32 - precision.total_bits() };
        let pairs = (1 << spare).min(MOST_PAIRS);
        Runs { parts: if cut { 2 } else { 1 }, narrow: pairs, wide: pairs }
    }

    /// Pairs a row of `k` elements is kept as, at least 1.
    fn pairs(k: usize) -> usize {
        k.div_ceil(2).max(1)
    }

    /// Where the left operand's words go; `row_major` if its elements lie together along the contraction axis.
    fn left_layout(rows: usize, k: usize, row_major: bool) -> LeftLayout {
        let (block, pairs) = (rows.clamp(1, BLOCK), Self::pairs(k));
        if row_major {
            let row_step = spread(pairs);
            LeftLayout { block, pairs, row_step, pair_step: 1, words: block * row_step }
        } else {
            LeftLayout { block, pairs, row_step: 1, pair_step: block, words: block * pairs }
        }
    }

    /// Packs one block of rows of the left operand, see [`super::pack::left_block`].
    fn pack_left(
        self,
        source: Source<'_>,
        width: Width,
        layout: &LeftLayout,
        to: &mut [u32],
        scales: &mut [f32],
    );

    /// Packs one panel of the right operand, see [`super::pack::right_panel`].
    fn pack_right(self, source: Source<'_>, width: Width, pairs: usize, to: &mut [u32], scales: &mut [f32]);
}

/// Words from one row to the next: rows exactly half a page of cache sets apart would evict each other.
fn spread(pairs: usize) -> usize {
    if pairs >= 256 && pairs.is_multiple_of(256) { pairs + 16 } else { pairs }
}

/// Multiplies tiles.
pub(crate) trait Unit {
    /// Numbers of rows a tile may have, descending, ending in 1.
    const ROWS: &'static [usize];

    /// The whole product of a tile whose results are zero or normal and whose `sum * row` is finite: one rounding of the
    /// 32-bit sum to f32, then exact scaling. `out` has the rows and columns of the tile.
    fn finish_narrow(&self, tile: &Tile<'_>, scales: &Scales<'_>, out: &mut Rect<'_>);

    /// Adds `weight` times the sums of a tile to `sums` (rows of [`PANEL`]), or sets them if `first`. Exact while the
    /// magnitudes stay below `2^53`.
    fn accumulate(&self, tile: &Tile<'_>, weight: f64, first: bool, sums: &mut [f64]);

    /// Rounds exact sums (rows of [`PANEL`]) into `out`; for every scale.
    fn finish_wide(&self, sums: &[f64], scales: &Scales<'_>, out: &mut Rect<'_>);
}
