//! Where results go, and how threads share it: an output is cut into rectangles that cannot overlap.
//!
//! Strided outputs (heads side by side in one row of tokens) cannot be cut with `chunks_mut`, so this file hands out
//! raw rectangles; [`Output::new`] proves from the strides that they are disjoint.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::MAX_ELEMENTS;
use super::error::ProductError;
use super::view::{Batch, reach};

/// A batch of matrices `[m, n]` to write; columns lie next to each other.
#[derive(Debug)]
pub struct Output<'a> {
    data: &'a mut [f32],
    m: usize,
    n: usize,
    row_stride: usize,
    batch: Batch,
    items: usize,
}

impl<'a> Output<'a> {
    /// Element `(item, row, column)` is `data[offset(item) + row * row_stride + column]`. Refused if an element lies outside
    /// `data`, or if, ordering the axes by stride, one stride is smaller than what the axes inside it cover.
    pub fn new(
        data: &'a mut [f32],
        m: usize,
        n: usize,
        row_stride: usize,
        batch: Batch,
    ) -> Result<Self, ProductError> {
        let items = batch.count().ok_or(ProductError::TooLarge { limit: MAX_ELEMENTS })?;
        let mut axes =
            [(n, 1), (m, row_stride), (batch.outer, batch.outer_stride), (batch.inner, batch.inner_stride)];
        for pair in [[m, n], [items, m], [items, n]] {
            reach(&pair.map(|count| (count, 0)))?;
        }
        let needed = reach(&axes)?;
        if needed > data.len() {
            return Err(ProductError::TooShort { needed, held: data.len() });
        }
        if needed > 0 {
            axes.sort_by_key(|axis| axis.1);
            let mut extent = 1;
            for (count, stride) in axes.into_iter().filter(|axis| axis.0 > 1) {
                if stride < extent {
                    return Err(ProductError::Overlap { stride, extent });
                }
                extent += (count - 1) * stride;
            }
        }
        Ok(Self { data, m, n, row_stride, batch, items })
    }

    /// One contiguous matrix `[m, n]`.
    pub fn row_major(data: &'a mut [f32], m: usize, n: usize) -> Result<Self, ProductError> {
        Self::new(data, m, n, n, Batch::ONE)
    }

    /// Rows of each matrix.
    pub(crate) fn m(&self) -> usize {
        self.m
    }

    /// Columns of each matrix.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Matrices in the batch.
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// Calls `work` with rectangles of at most `rows` x `columns` that together cover the output once, on this thread, or
    /// with `pieces_per_job` on the threads of the current rayon pool. `rows` and `columns` are positive.
    pub(crate) fn for_each_piece(
        &mut self,
        rows: usize,
        columns: usize,
        pieces_per_job: Option<usize>,
        work: impl Fn(Piece<'_>) + Sync,
    ) {
        if self.items == 0 || self.m == 0 || self.n == 0 {
            return;
        }
        let (down, across) = (self.m.div_ceil(rows), self.n.div_ceil(columns));
        let (m, n, row_stride, batch) = (self.m, self.n, self.row_stride, self.batch);
        let start = Start(self.data.as_mut_ptr());
        let piece = |i: usize| {
            let (item, block) = (i / (down * across), i % (down * across));
            let (row, column) = ((block / across) * rows, (block % across) * columns);
            let offset = batch.offset(item) + row * row_stride + column;
            let rect = Rect {
                // SAFETY: `new` checked that every (item, row, column) of the shape lies inside the slice, which is
                // borrowed mutably for the whole call.
                start: unsafe { start.get().add(offset) },
                row_stride,
                rows: rows.min(m - row),
                columns: columns.min(n - column),
                _lifetime: PhantomData,
            };
            // Distinct `i` are distinct blocks of rows, columns and items, and `new` checked that distinct
            // (item, row, column) are distinct elements: no two rectangles share one.
            work(Piece { item, row, column, rect });
        };
        let count = self.items * down * across;
        match pieces_per_job {
            Some(least) => (0..count).into_par_iter().with_min_len(least.max(1)).for_each(piece),
            None => (0..count).for_each(piece),
        }
    }
}

/// The start of the borrowed slice, which may be shared since the rectangles made from it are disjoint.
#[derive(Clone, Copy)]
struct Start(*mut f32);

// SAFETY: only `for_each_piece` uses it, to derive disjoint rectangles of a slice it has borrowed mutably.
unsafe impl Send for Start {}
// SAFETY: as above.
unsafe impl Sync for Start {}

impl Start {
    fn get(self) -> *mut f32 {
        self.0
    }
}

/// One rectangle and its place in the output.
pub(crate) struct Piece<'a> {
    pub(crate) item: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) rect: Rect<'a>,
}

/// A rectangle of the output, borrowed exclusively.
pub(crate) struct Rect<'a> {
    start: *mut f32,
    row_stride: usize,
    rows: usize,
    columns: usize,
    _lifetime: PhantomData<&'a mut f32>,
}

impl Rect<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The rectangle of some of its rows and columns.
    pub(crate) fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> Rect<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows outside the rectangle");
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns outside the rectangle");
        Rect {
            start: self.start.wrapping_add(rows.start * self.row_stride + columns.start),
            row_stride: self.row_stride,
            rows: rows.len(),
            columns: columns.len(),
            _lifetime: PhantomData,
        }
    }

    /// Row `r`.
    #[inline(always)]
    pub(crate) fn row(&mut self, r: usize) -> &mut [f32] {
        assert!(r < self.rows, "row outside the rectangle");
        // SAFETY: rows and columns of a rectangle lie inside the output and belong to this rectangle alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(r * self.row_stride), self.columns) }
    }

    /// The first element and the elements from one row to the next. Only `rows() x columns()` may be written.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn raw(&mut self) -> (*mut f32, usize) {
        (self.start, self.row_stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_side_by_side_are_disjoint() {
        let (seq, heads, dh) = (5, 3, 4);
        let mut data = vec![0.0; 2 * seq * heads * dh];
        let batch = Batch { outer: 2, outer_stride: seq * heads * dh, inner: heads, inner_stride: dh };
        let mut out = Output::new(&mut data, seq, dh, heads * dh, batch).unwrap();
        out.for_each_piece(2, 3, Some(1), |mut piece| {
            for r in 0..piece.rect.rows() {
                piece.rect.row(r).iter_mut().for_each(|x| *x += 1.0);
            }
        });
        assert!(data.iter().all(|&x| x == 1.0), "every element is visited exactly once");
    }

    #[test]
    fn overlapping_or_outside_is_refused() {
        let mut data = vec![0.0; 100];
        assert!(matches!(Output::new(&mut data, 4, 8, 7, Batch::ONE), Err(ProductError::Overlap { .. })));
        assert!(matches!(
            Output::new(&mut data, 4, 8, 8, Batch::of(2, 31)),
            Err(ProductError::Overlap { .. })
        ));
        assert!(matches!(
            Output::new(&mut data, 4, 8, 8, Batch::of(2, 0)),
            Err(ProductError::Overlap { .. })
        ));
        assert!(matches!(
            Output::new(&mut data, 4, 8, 8, Batch::of(4, 32)),
            Err(ProductError::TooShort { .. })
        ));
        let huge = usize::MAX / 2;
        assert!(matches!(Output::new(&mut data, 4, 8, huge, Batch::ONE), Err(ProductError::TooLarge { .. })));
        assert!(Output::new(&mut data, huge, 0, 1, Batch::of(huge, huge)).is_err());
        assert!(Output::new(&mut data, 0, 8, 0, Batch::ONE).is_ok());
    }
}
