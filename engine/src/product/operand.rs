//! Quantised operands: made once from f32, then used in any number of products. Multiplies nothing.

use rayon::prelude::*;

use super::error::ProductError;
use super::isa::{Isa, Kernel, with_kernel};
use super::pack::{LeftLayout, PANEL};
use super::view::View;
use super::width::Precision;
use super::{MAX_ELEMENTS, PARALLEL_ELEMENTS};

/// What both operands keep beside their words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    pub(crate) precision: Precision,
    /// Whose words these are: sets may arrange them differently.
    pub(crate) isa: Isa,
    pub(crate) items: usize,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    /// What an integer of each row is worth; each item padded to whole blocks or panels. May be longer than that.
    pub(crate) scales: Vec<f32>,
    pub(crate) padded_rows: usize,
    /// Smallest and largest scale of each item.
    pub(crate) ranges: Vec<(f32, f32)>,
    /// Rows `item * rows + row` that hold an infinity or NaN, ascending.
    pub(crate) poisoned: Vec<usize>,
}

impl Common {
    /// Takes the NaN marks out of the scales, noting the rows, and finds the ranges.
    fn settle(&mut self) {
        self.ranges.clear();
        self.poisoned.clear();
        for item in 0..self.items {
            // positive powers of two order like their bits, and NaN is above them all
            let bits = |scale: &f32| scale.to_bits();
            let rows = &mut self.scales[item * self.padded_rows..][..self.rows];
            let mut most = rows.iter().map(bits).fold(0, u32::max);
            if most > f32::INFINITY.to_bits() {
                for (row, scale) in rows.iter_mut().enumerate().filter(|(_, scale)| scale.is_nan()) {
                    *scale = 1.0;
                    self.poisoned.push(item * self.rows + row);
                }
                most = rows.iter().map(bits).fold(0, u32::max);
            }
            let least = rows.iter().map(bits).fold(f32::INFINITY.to_bits(), u32::min);
            self.ranges.push((f32::from_bits(least), f32::from_bits(most)));
        }
    }

    fn reset(&mut self, view: &View<'_>, precision: Precision, isa: Isa, padded_rows: usize) {
        (self.precision, self.isa) = (precision, isa);
        (self.items, self.rows, self.k) = (view.items, view.rows, view.k);
        self.padded_rows = padded_rows;
        grow(&mut self.scales, view.items * padded_rows, 1.0);
    }

    /// The poisoned rows of `item` within `first .. first + count`, counted from `first`.
    pub(crate) fn poisoned_within(
        &self,
        item: usize,
        first: usize,
        count: usize,
    ) -> impl Iterator<Item = usize> + '_ {
        let from = item * self.rows + first;
        let start = self.poisoned.partition_point(|&row| row < from);
        self.poisoned[start..].iter().map(move |row| row - from).take_while(move |&row| row < count)
    }
}

/// Words needed, or an error beyond [`MAX_ELEMENTS`].
fn bounded(factors: [usize; 3]) -> Result<usize, ProductError> {
    let words = factors.into_iter().try_fold(1usize, |n, factor| n.checked_mul(factor));
    words.filter(|&words| words <= MAX_ELEMENTS).ok_or(ProductError::TooLarge { limit: MAX_ELEMENTS })
}

/// Makes `kept` at least `len` long. It never shrinks: what is kept is overwritten, and only growth costs a fill.
fn grow<T: Copy>(kept: &mut Vec<T>, len: usize, fill: T) {
    if kept.len() < len {
        kept.resize(len, fill);
    }
}

/// Calls `work` for each chunk of words with its chunk of scales, in parallel if `elements` make that worthwhile.
fn for_each_chunk(
    (words, chunk): (&mut [u32], usize),
    (scales, rows): (&mut [f32], usize),
    elements: usize,
    work: impl Fn(usize, &mut [u32], &mut [f32]) + Sync,
) {
    if chunk == 0 || rows == 0 {
        return;
    }
    let count = words.len() / chunk;
    if elements < PARALLEL_ELEMENTS || count < 2 {
        for (i, (words, scales)) in words.chunks_mut(chunk).zip(scales.chunks_mut(rows)).enumerate() {
            work(i, words, scales);
        }
    } else {
        let least = (PARALLEL_ELEMENTS / 4).div_ceil(elements.div_ceil(count));
        words
            .par_chunks_mut(chunk)
            .zip(scales.par_chunks_mut(rows))
            .enumerate()
            .with_min_len(least)
            .for_each(|(i, (words, scales))| work(i, words, scales));
    }
}

/// The left operand `A [m, k]` of a product, quantised.
#[derive(Clone, Debug)]
pub struct LeftOperand {
    pub(crate) common: Common,
    pub(crate) words: Vec<u32>,
    pub(crate) layout: LeftLayout,
}

impl Default for LeftOperand {
    /// An operand without elements, to be filled by [`LeftOperand::refill`].
    fn default() -> Self {
        let layout = LeftLayout { block: 1, pairs: 1, row_step: 1, pair_step: 1, words: 0 };
        Self { common: Common::default(), words: Vec::new(), layout }
    }
}

impl LeftOperand {
    /// Quantises the rows of `view` to `precision.a` bits.
    pub fn quantise(view: &View<'_>, precision: Precision) -> Result<Self, ProductError> {
        let mut operand = Self::default();
        operand.refill(view, precision)?;
        Ok(operand)
    }

    /// As [`LeftOperand::quantise`], in the memory of an operand that is no longer needed. On an error nothing changes.
    pub fn refill(&mut self, view: &View<'_>, precision: Precision) -> Result<(), ProductError> {
        self.refill_with(view, precision, Isa::best_for(view.k))
    }

    /// As [`LeftOperand::refill`] with a chosen instruction set, which does not change the result.
    pub fn refill_with(
        &mut self,
        view: &View<'_>,
        precision: Precision,
        isa: Isa,
    ) -> Result<(), ProductError> {
        with_kernel!(isa, kernel => self.refill_by(kernel, view, precision, isa))
    }

    fn refill_by<K: Kernel>(
        &mut self,
        kernel: K,
        view: &View<'_>,
        precision: Precision,
        isa: Isa,
    ) -> Result<(), ProductError> {
        let layout = K::left_layout(view.rows, view.k, view.k_stride == 1);
        let blocks = view.rows.div_ceil(layout.block);
        let words = bounded([view.items, blocks, layout.words])?;
        self.layout = layout;
        grow(&mut self.words, words, 0);
        self.common.reset(view, precision, isa, blocks * layout.block);
        for_each_chunk(
            (&mut self.words[..words], layout.words),
            (&mut self.common.scales, layout.block),
            words * 2,
            |i, words, scales| {
                let source = view.source(i / blocks, (i % blocks) * layout.block);
                kernel.pack_left(source, precision.a, &layout, words, scales);
            },
        );
        self.common.settle();
        Ok(())
    }
}

/// The right operand `B [n, k]` of a product, quantised: its rows give the columns of the result.
#[derive(Clone, Debug, Default)]
pub struct RightOperand {
    pub(crate) common: Common,
    pub(crate) words: Vec<u32>,
    pub(crate) pairs: usize,
    /// 1, or 2 when the integers are kept as a high and a low part.
    pub(crate) parts: usize,
}

impl RightOperand {
    /// Quantises the rows of `view` to `precision.b` bits.
    pub fn quantise(view: &View<'_>, precision: Precision) -> Result<Self, ProductError> {
        let mut operand = Self::default();
        operand.refill(view, precision)?;
        Ok(operand)
    }

    /// As [`RightOperand::quantise`], in the memory of an operand that is no longer needed. On an error nothing changes.
    pub fn refill(&mut self, view: &View<'_>, precision: Precision) -> Result<(), ProductError> {
        self.refill_with(view, precision, Isa::best_for(view.k))
    }

    /// As [`RightOperand::refill`] with a chosen instruction set, which does not change the result.
    pub fn refill_with(
        &mut self,
        view: &View<'_>,
        precision: Precision,
        isa: Isa,
    ) -> Result<(), ProductError> {
        with_kernel!(isa, kernel => self.refill_by(kernel, view, precision, isa))
    }

    fn refill_by<K: Kernel>(
        &mut self,
        kernel: K,
        view: &View<'_>,
        precision: Precision,
        isa: Isa,
    ) -> Result<(), ProductError> {
        let (pairs, parts) = (K::pairs(view.k), K::runs(precision).parts);
        let panels = view.rows.div_ceil(PANEL);
        let words = bounded([view.items, panels, parts * PANEL * pairs])?;
        (self.pairs, self.parts) = (pairs, parts);
        grow(&mut self.words, words, 0);
        self.common.reset(view, precision, isa, panels * PANEL);
        for_each_chunk(
            (&mut self.words[..words], parts * pairs * PANEL),
            (&mut self.common.scales, PANEL),
            words * 2,
            |i, words, scales| {
                let source = view.source(i / panels, (i % panels) * PANEL);
                kernel.pack_right(source, precision.b, pairs, words, scales);
            },
        );
        self.common.settle();
        Ok(())
    }

    /// Words of one panel, all parts.
    pub(crate) fn chunk(&self) -> usize {
        self.parts * self.pairs * PANEL
    }
}
