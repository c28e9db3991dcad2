//! The product of two quantised operands: which tile is computed when, by which thread, and in how many steps.
//!
//! A tile is a few rows times one panel of columns. Its integer sums run in 32-bit lanes for as many pairs as cannot
//! overflow them; if that is the whole contraction axis they are rounded at once, else they are gathered in f64, where
//! sums below `2^53` are exact. Either way there is one rounding, so none of this shows in the result.

use std::ops::Range;

use super::causal::Causal;
use super::error::ProductError;
use super::isa::{Columns, Kernel, Scales, Tile, Unit, with_kernel};
use super::operand::{LeftOperand, RightOperand};
use super::output::{Output, Piece, Rect};
use super::pack::{BLOCK, LeftLayout, PANEL};
use super::width::Precision;

/// What a product does beside multiplying.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// One number for each column, added to the f32 result with one IEEE rounding; a subnormal sum becomes a zero of the
    /// same sign. The same bits as adding it afterwards.
    pub bias: Option<&'a [f32]>,
    /// Work the caller knows to be useless.
    pub causal: Causal,
}

/// Multiply-adds below which another thread is not worth waking.
const PARALLEL_WORK: usize = 1 << 20;

/// Everything the pieces share.
struct Job<'a> {
    left: &'a LeftOperand,
    right: &'a RightOperand,
    bias: Option<&'a [f32]>,
    bias_is_finite: bool,
    causal: Causal,
}

/// `out[item, m, n] = sum_k A[item, m, k] * B[item, n, k]`, exact and rounded once as [`super`] defines.
///
/// Uses the current rayon pool if the product is large. Every element of `out` is written. Refused if shapes, batch counts,
/// precisions, instruction sets or the bias disagree.
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
    if a.isa != b.isa {
        return Err(ProductError::InstructionSets { left: a.isa, right: b.isa });
    }
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
    with_kernel!(a.isa, kernel => {
        out.for_each_piece(block, columns.max(1), pieces_per_job, |piece| job.piece(kernel, piece));
    });
    Ok(())
}

/// Rows of the next tile when `left` rows are left: the largest that fits, but two of 8 instead of 12 and 4.
fn next_rows<U: Unit>(left: usize) -> usize {
    let rows = U::ROWS.iter().copied().find(|&rows| rows <= left).unwrap_or(1);
    match (rows, left) {
        (12, 16) => 8,
        _ => rows,
    }
}

/// One block of rows of the left operand against one panel of the right one.
struct Strip<'a> {
    layout: &'a LeftLayout,
    left: &'a [u32],
    row_scales: &'a [f32],
    /// All parts of the panel.
    right: &'a [u32],
    column_scales: &'a Columns,
    bias: Option<Columns>,
    /// Columns of the panel that exist.
    columns: usize,
    precision: Precision,
}

impl Strip<'_> {
    fn tile(&self, rows: &Range<usize>, part: usize, pairs: Range<usize>) -> Tile<'_> {
        let LeftLayout { row_step, pair_step, pairs: all, .. } = *self.layout;
        Tile {
            left: &self.left[rows.start * row_step + pairs.start * pair_step..],
            row_step,
            pair_step,
            rows: rows.len(),
            right: &self.right[(part * all + pairs.start) * PANEL..],
            columns: self.columns,
            pairs: pairs.len(),
            precision: self.precision,
        }
    }

    fn scales(&self, rows: &Range<usize>) -> Scales<'_> {
        Scales { rows: &self.row_scales[rows.clone()], columns: self.column_scales, bias: self.bias.as_ref() }
    }
}

/// Cuts `rows` into tiles.
fn tiles<U: Unit>(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let end = start + next_rows::<U>(rows - start);
        (start < rows).then(|| std::mem::replace(&mut start, end)..end)
    })
}

impl Job<'_> {
    /// One block of rows against some panels.
    fn piece<K: Kernel>(&self, kernel: K, mut piece: Piece<'_>) {
        let (rows, columns) = (piece.rect.rows(), piece.rect.columns());
        let (a, b) = (&self.left.common, &self.right.common);
        let layout = &self.left.layout;
        let (unit, runs) = (kernel.unit(), K::runs(a.precision));
        let block = piece.item * (a.padded_rows / layout.block) + piece.row / layout.block;
        // 32-bit sums can be rounded directly if scaling them by the row cannot overflow and nothing gets subnormal
        let (least, most) = a.ranges[piece.item];
        let narrow = self.right.parts == 1
            && layout.pairs <= runs.narrow
            && most <= f32::from_bits((127 + 96) << 23)
            && f64::from(least) * f64::from(b.ranges[piece.item].0) >= f64::from(f32::MIN_POSITIVE);

        for first in (0..columns).step_by(PANEL) {
            let column = piece.column + first;
            let count = (columns - first).min(PANEL);
            let mut out = piece.rect.part(0..rows, first..first + count);
            if !self.causal.rows_with_columns(piece.row, rows, column) {
                (0..rows).for_each(|r| out.row(r).fill(0.0));
                continue;
            }
            let panel = piece.item * (b.padded_rows / PANEL) + column / PANEL;
            let (column_scales, _) = b.scales[panel * PANEL..].as_chunks::<PANEL>();
            let strip = Strip {
                layout,
                left: &self.left.words[block * layout.words..][..layout.words],
                row_scales: &a.scales[piece.item * a.padded_rows + piece.row..][..rows],
                right: &self.right.words[panel * self.right.chunk()..][..self.right.chunk()],
                column_scales: &column_scales[0],
                bias: self.bias.map(|bias| {
                    let mut padded: Columns = [0.0; PANEL];
                    padded[..count].copy_from_slice(&bias[column..][..count]);
                    padded
                }),
                columns: count,
                precision: a.precision,
            };
            if narrow {
                self.narrow(&unit, &strip, piece.row, &mut out);
            } else {
                self.wide(&unit, &strip, runs.wide, piece.row, &mut out);
            }
        }
        self.mend(&mut piece);
    }

    /// Results of a strip whose sums fit 32 bits; `row` is its first row in the matrix.
    fn narrow<U: Unit>(&self, unit: &U, strip: &Strip<'_>, row: usize, out: &mut Rect<'_>) {
        for rows in tiles::<U>(out.rows()) {
            let pairs = self.causal.pairs(row + rows.start, rows.len(), strip.layout.pairs);
            let mut out = out.part(rows.clone(), 0..strip.columns);
            unit.finish_narrow(&strip.tile(&rows, 0, 0..pairs), &strip.scales(&rows), &mut out);
        }
    }

    /// Results of any strip. A run of pairs visits all rows before the next run, so that its share of the panel stays near.
    fn wide<U: Unit>(&self, unit: &U, strip: &Strip<'_>, run: usize, row: usize, out: &mut Rect<'_>) {
        let mut sums = [0f64; BLOCK * PANEL];
        let all = strip.layout.pairs;
        for part in 0..self.right.parts {
            let weight = if part + 1 == self.right.parts { 1.0 } else { 256.0 };
            for start in (0..all).step_by(run) {
                for rows in tiles::<U>(out.rows()) {
                    let pairs = self.causal.pairs(row + rows.start, rows.len(), all);
                    let pairs = start..pairs.min(start + run);
                    if !pairs.is_empty() {
                        let sums = &mut sums[rows.start * PANEL..];
                        unit.accumulate(&strip.tile(&rows, part, pairs), weight, part + start == 0, sums);
                    }
                }
            }
        }
        let rows = 0..out.rows();
        unit.finish_wide(&sums[..rows.len() * PANEL], &strip.scales(&rows), out);
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
