//! The product of two quantised operands: which tile is computed when, by which thread, and in how many steps.
//!
//! A tile is a few rows times one panel of columns. Its integer sums run in 32-bit lanes for as many pairs as cannot
//! overflow them; if that is the whole contraction axis they are rounded at once, else they are gathered in f64, where
//! sums below `2^53` are exact. Either way there is one rounding, so none of this shows in the result.

use super::causal::Causal;
use super::error::ProductError;
use super::isa::{Columns, Isa, Kernel, Scales, Tile, with_kernel};
use super::operand::{LeftOperand, RightOperand};
use super::output::{Output, Piece};
use super::pack::{BLOCK, PANEL};
use super::width::Precision;

/// What a product does beside multiplying.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// One number for each column, added to the f32 result with one IEEE rounding; a subnormal sum becomes a zero of the
    /// same sign. The same bits as adding it afterwards.
    pub bias: Option<&'a [f32]>,
    /// Work the caller knows to be useless.
    pub causal: Causal,
    /// Instruction set; changes speed only.
    pub isa: Isa,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { bias: None, causal: Causal::None, isa: Isa::best() }
    }
}

/// The largest sum of widths that is multiplied in one pass. Above it the right operand is cut in two parts: two passes
/// cost less than emptying the 32-bit lanes every few pairs.
const UNCUT_BITS: u32 = 28;

/// Longest run of pairs between two visits to the accumulator, so that a panel's share stays in the second-level cache.
const MOST_PAIRS: usize = 4096;

/// Multiply-adds below which another thread is not worth waking.
const PARALLEL_WORK: usize = 1 << 20;

/// Whether the right operand is kept as a high and a low part.
pub(crate) fn is_cut(precision: Precision) -> bool {
    precision.total_bits() > UNCUT_BITS
}

/// Pairs whose sum no 32-bit lane can overflow. One product is below `2^(a + b - 2)`, or at most `2^(a - 1) * 2^7` with a part
/// of the right operand, minus at least one for each because `|qa| < 2^(a - 1)`; sums below `2^31` are safe.
fn lane_pairs(precision: Precision) -> usize {
    let spare = if is_cut(precision) { 24 - precision.a.bits() } else { 32 - precision.total_bits() };
    (1 << spare).min(MOST_PAIRS)
}

/// Everything the pieces share.
struct Job<'a> {
    left: &'a LeftOperand,
    right: &'a RightOperand,
    bias: Option<&'a [f32]>,
    bias_is_finite: bool,
    causal: Causal,
    lane_pairs: usize,
}

/// `out[item, m, n] = sum_k A[item, m, k] * B[item, n, k]`, exact and rounded once as [`super`] defines.
///
/// Uses the current rayon pool if the product is large. Every element of `out` is written. Refused if shapes, batch counts,
/// precisions or the bias disagree.
pub fn product(
    left: &LeftOperand,
    right: &RightOperand,
    out: &mut Output<'_>,
    options: &Options<'_>,
) -> Result<(), ProductError> {
    let (a, b) = (&left.common, &right.common);
    let same = |what, left, right| {
        if left == right { Ok(()) } else { Err(ProductError::Mismatch { what, left, right }) }
    };
    if a.precision != b.precision {
        return Err(ProductError::Precisions { left: a.precision, right: b.precision });
    }
    same("contraction lengths", a.k, b.k)?;
    same("batch items of the operands", a.items, b.items)?;
    same("batch items of left operand and output", a.items, out.items())?;
    same("rows of left operand and output", a.rows, out.m())?;
    same("columns of right operand and output", b.rows, out.n())?;
    if let Some(bias) = options.bias {
        same("elements of the bias and columns", bias.len(), out.n())?;
    }
    options.causal.check(a.rows, b.rows, a.k)?;

    let job = Job {
        left,
        right,
        bias: options.bias,
        bias_is_finite: options.bias.is_none_or(|bias| bias.iter().all(|x| x.is_finite())),
        causal: options.causal,
        lane_pairs: lane_pairs(a.precision),
    };
    let work = (a.items * a.rows).saturating_mul(b.rows.saturating_mul(a.k.max(1)));
    let threads = rayon::current_num_threads();
    let block = left.layout.block;
    let (columns, pieces_per_job) = if threads < 2 || work < 2 * PARALLEL_WORK {
        (b.rows, None)
    } else {
        let pieces = a.items * a.rows.div_ceil(block);
        // rows are the natural cut; columns too if there are too few of them
        let cuts = (4 * threads).div_ceil(pieces).min(work / pieces / PARALLEL_WORK).max(1);
        let columns = b.rows.div_ceil(cuts).next_multiple_of(PANEL);
        let work_of_piece = work / (pieces * b.rows.div_ceil(columns));
        (columns, Some(PARALLEL_WORK / work_of_piece.max(1)))
    };
    with_kernel!(options.isa, kernel => {
        out.for_each_piece(block, columns.max(1), pieces_per_job, |piece| job.piece(kernel, piece));
    });
    Ok(())
}

/// Rows of the next tile when `left` rows are left: the largest that fits, but two of 8 instead of 12 and 4.
fn next_rows<K: Kernel>(left: usize) -> usize {
    let rows = K::ROWS.iter().copied().find(|&rows| rows <= left).unwrap_or(1);
    match (rows, left) {
        (12, 16) => 8,
        _ => rows,
    }
}

impl Job<'_> {
    /// One block of rows against some panels.
    fn piece<K: Kernel>(&self, kernel: K, mut piece: Piece<'_>) {
        let (rows, columns) = (piece.rect.rows(), piece.rect.columns());
        let (a, b) = (&self.left.common, &self.right.common);
        let layout = &self.left.layout;
        let block = piece.item * (a.padded_rows / layout.block) + piece.row / layout.block;
        let words = &self.left.words[block * layout.words..][..layout.words];
        let row_scales = &a.scales[piece.item * a.padded_rows + piece.row..][..rows];
        // 32-bit sums can be rounded directly if scaling them by the row cannot overflow and nothing gets subnormal
        let (least, most) = a.ranges[piece.item];
        let narrow = self.right.parts == 1
            && layout.pairs <= self.lane_pairs
            && most <= f32::from_bits((127 + 96) << 23)
            && f64::from(least) * f64::from(b.ranges[piece.item].0) >= f64::from(f32::MIN_POSITIVE);
        let mut sums = [0f64; BLOCK * PANEL];

        for first in (0..columns).step_by(PANEL) {
            let column = piece.column + first;
            let count = (columns - first).min(PANEL);
            let panel = piece.item * (b.padded_rows / PANEL) + column / PANEL;
            let right = &self.right.words[panel * self.right.chunk()..][..self.right.chunk()];
            let (scales, _) = b.scales[panel * PANEL..].as_chunks::<PANEL>();
            let Some(column_scales) = scales.first() else { continue };
            let bias = self.bias.map(|bias| {
                let mut padded: Columns = [0.0; PANEL];
                padded[..count].copy_from_slice(&bias[column..][..count]);
                padded
            });
            let useful = self.causal.rows_with_columns(piece.row, rows, column);
            let tile_of = |row: usize, tile_rows: usize, part: usize, pairs: std::ops::Range<usize>| Tile {
                left: &words[row * layout.row_step + pairs.start * layout.pair_step..],
                row_step: layout.row_step,
                pair_step: layout.pair_step,
                rows: tile_rows,
                right: &right[(part * layout.pairs + pairs.start) * PANEL..],
                columns: count,
                pairs: pairs.len(),
            };
            let scales_of = |row: usize, tile_rows: usize| Scales {
                rows: &row_scales[row..][..tile_rows],
                columns: column_scales,
                bias: bias.as_ref(),
            };

            if !useful {
                for r in 0..rows {
                    piece.rect.row(r)[first..][..count].fill(0.0);
                }
                continue;
            }
            if narrow {
                let mut row = 0;
                while row < rows {
                    let tile_rows = next_rows::<K>(rows - row);
                    let pairs = self.causal.pairs(piece.row + row, tile_rows, layout.pairs);
                    let mut out = piece.rect.part(row..row + tile_rows, first..first + count);
                    let tile = tile_of(row, tile_rows, 0, 0..pairs);
                    kernel.finish_narrow(&tile, &scales_of(row, tile_rows), &mut out);
                    row += tile_rows;
                }
            } else {
                for part in 0..self.right.parts {
                    let weight = if part + 1 == self.right.parts { 1.0 } else { 256.0 };
                    for start in (0..layout.pairs).step_by(self.lane_pairs) {
                        let mut row = 0;
                        while row < rows {
                            let tile_rows = next_rows::<K>(rows - row);
                            let pairs = self.causal.pairs(piece.row + row, tile_rows, layout.pairs);
                            let end = pairs.min(start + self.lane_pairs);
                            if start < end {
                                let tile = tile_of(row, tile_rows, part, start..end);
                                kernel.accumulate(&tile, weight, part + start == 0, &mut sums[row * PANEL..]);
                            }
                            row += tile_rows;
                        }
                    }
                }
                let mut out = piece.rect.part(0..rows, first..first + count);
                kernel.finish_wide(&sums[..rows * PANEL], &scales_of(0, rows), &mut out);
            }
        }
        self.mend(&mut piece);
    }

    /// Writes what the tiles leave to rarer cases: NaN of poisoned rows and columns, and zeros that the hint promises.
    fn mend(&self, piece: &mut Piece<'_>) {
        let (rows, columns) = (piece.rect.rows(), piece.rect.columns());
        let nan = f32::from_bits(super::CANONICAL_NAN);
        for r in self.left.common.poisoned_within(piece.item, piece.row, rows) {
            piece.rect.row(r).fill(nan);
        }
        for c in self.right.common.poisoned_within(piece.item, piece.column, columns) {
            for r in 0..rows {
                piece.rect.row(r)[c] = nan;
            }
        }
        if !self.bias_is_finite {
            for r in 0..rows {
                piece.rect.row(r).iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = nan);
            }
        }
        for r in 0..rows {
            if let Some(last) = self.causal.last_column(piece.row + r) {
                let from = (last + 1).saturating_sub(piece.column).min(columns);
                piece.rect.row(r)[from..].fill(0.0);
            }
        }
    }
}
