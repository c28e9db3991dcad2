//! Where the elements of an operand lie: shape and strides over a borrowed slice, checked once. Reads nothing.

use super::error::ProductError;
use super::{MAX_ELEMENTS, MAX_K};

/// The items of a batch, in two levels such as (sequence, head): item `i` starts at
/// `(i / inner) * outer_stride + (i % inner) * inner_stride`. A stride of 0 uses the same elements for every item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Items of the outer level.
    pub outer: usize,
    /// Elements from one outer item to the next.
    pub outer_stride: usize,
    /// Items of the inner level.
    pub inner: usize,
    /// Elements from one inner item to the next.
    pub inner_stride: usize,
}

impl Batch {
    /// A single matrix.
    pub const ONE: Self = Self { outer: 1, outer_stride: 0, inner: 1, inner_stride: 0 };

    /// `count` matrices, `stride` elements apart.
    pub fn of(count: usize, stride: usize) -> Self {
        Self { outer: count, outer_stride: stride, inner: 1, inner_stride: 0 }
    }

    /// Number of items; `None` on overflow.
    pub(crate) fn count(&self) -> Option<usize> {
        self.outer.checked_mul(self.inner)
    }

    /// First element of item `i < count`.
    pub(crate) fn offset(&self, i: usize) -> usize {
        match self.inner {
            1 => i * self.outer_stride,
            inner => (i / inner) * self.outer_stride + (i % inner) * self.inner_stride,
        }
    }
}

/// Elements an array of the given `(count, stride)` axes reaches, 0 if it is empty.
pub(crate) fn reach(axes: &[(usize, usize)]) -> Result<usize, ProductError> {
    let too_large = ProductError::TooLarge { limit: MAX_ELEMENTS };
    let elements = axes.iter().try_fold(1usize, |n, &(count, _)| n.checked_mul(count)).ok_or(too_large)?;
    if elements > MAX_ELEMENTS {
        return Err(too_large);
    }
    if elements == 0 {
        return Ok(0);
    }
    let last = axes
        .iter()
        .try_fold(0usize, |last, &(count, stride)| last.checked_add((count - 1).checked_mul(stride)?));
    last.and_then(|last| last.checked_add(1)).ok_or(too_large)
}

/// A batch of matrices `[rows, k]`, `k` the axis the product sums over. For the right operand `rows` are the columns of
/// the result.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) k: usize,
    pub(crate) row_stride: usize,
    pub(crate) k_stride: usize,
    pub(crate) batch: Batch,
    pub(crate) items: usize,
}

impl<'a> View<'a> {
    /// Element `(item, row, k)` is `data[offset(item) + row * row_stride + k * k_stride]`. One of the two strides must be
    /// 1, `k` at most [`MAX_K`], and every element inside `data`.
    pub fn new(
        data: &'a [f32],
        rows: usize,
        k: usize,
        row_stride: usize,
        k_stride: usize,
        batch: Batch,
    ) -> Result<Self, ProductError> {
        if row_stride != 1 && k_stride != 1 {
            return Err(ProductError::Strides { row: row_stride, k: k_stride });
        }
        if k > MAX_K {
            return Err(ProductError::Contraction { k, limit: MAX_K });
        }
        let items = batch.count().ok_or(ProductError::TooLarge { limit: MAX_ELEMENTS })?;
        // an empty axis makes the other ones harmless only if they too are bounded
        reach(&[(items, 0), (rows, 0)])?;
        let needed = reach(&[
            (rows, row_stride),
            (k, k_stride),
            (batch.outer, batch.outer_stride),
            (batch.inner, batch.inner_stride),
        ])?;
        if needed > data.len() {
            return Err(ProductError::TooShort { needed, held: data.len() });
        }
        Ok(Self { data, rows, k, row_stride, k_stride, batch, items })
    }

    /// One contiguous matrix stored `[rows, k]`.
    pub fn row_major(data: &'a [f32], rows: usize, k: usize) -> Result<Self, ProductError> {
        Self::new(data, rows, k, k, 1, Batch::ONE)
    }

    /// One contiguous matrix stored `[k, rows]`.
    pub fn transposed(data: &'a [f32], rows: usize, k: usize) -> Result<Self, ProductError> {
        Self::new(data, rows, k, 1, rows, Batch::ONE)
    }

    /// Matrices in the batch.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Rows of each matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of the contraction axis.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Rows `first ..` of matrix `item`.
    pub(crate) fn source(&self, item: usize, first: usize) -> Source<'a> {
        let start = self.batch.offset(item) + first * self.row_stride;
        Source {
            data: self.data.get(start..).unwrap_or_default(),
            rows: self.rows - first,
            k: self.k,
            row_stride: self.row_stride,
            k_stride: self.k_stride,
        }
    }
}

/// Some rows of one matrix of a [`View`].
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) k: usize,
    row_stride: usize,
    k_stride: usize,
}

impl<'a> Source<'a> {
    /// Whether the elements of one row lie next to each other.
    #[inline(always)]
    pub(crate) fn row_major(&self) -> bool {
        self.k_stride == 1
    }

    /// Elements of row `r`; only if [`Self::row_major`].
    #[inline(always)]
    pub(crate) fn row(&self, r: usize) -> &'a [f32] {
        // an empty row has no place in the slice
        if self.k == 0 { &[] } else { &self.data[r * self.row_stride..][..self.k] }
    }

    /// Element `k` of the rows `first .. first + count`; only if not [`Self::row_major`].
    #[inline(always)]
    pub(crate) fn across(&self, k: usize, first: usize, count: usize) -> &'a [f32] {
        &self.data[k * self.k_stride + first..][..count]
    }
}
