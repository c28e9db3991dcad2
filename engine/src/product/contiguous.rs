//! The product of two contiguous batches of f32, for callers that use each operand once.

use std::sync::{Mutex, PoisonError};

use super::causal::Causal;
use super::error::ProductError;
use super::multiply::{Options, product};
use super::operand::{LeftOperand, RightOperand};
use super::output::Output;
use super::view::{Batch, View};
use super::width::Precision;

/// A contiguous batch of matrices.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Stored `[batch, k, rows]` instead of `[batch, rows, k]`.
    pub transposed: bool,
}

/// Shape of a batch of products `[m, k] x [n, k] -> [m, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Matrices.
    pub batch: usize,
    /// Rows of the left factor.
    pub m: usize,
    /// Rows of the right factor, columns of the result.
    pub n: usize,
    /// Length of the contraction axis.
    pub k: usize,
}

impl<'a> Factor<'a> {
    /// The factor as `batch` matrices of `rows` x `k`.
    pub fn view(&self, batch: usize, rows: usize, k: usize) -> Result<View<'a>, ProductError> {
        let (row_stride, k_stride) = if self.transposed { (1, rows) } else { (k, 1) };
        View::new(self.data, rows, k, row_stride, k_stride, Batch::of(batch, rows.saturating_mul(k)))
    }
}

/// Memory of quantised factors, used again by the next product: fresh memory costs page faults and zeroing. One pair is
/// kept; of products that run at once, the others allocate.
static KEPT: Mutex<Option<Box<(LeftOperand, RightOperand)>>> = Mutex::new(None);

/// Gives the kept memory back to the system.
pub(crate) fn release() {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Quantises both factors and writes their product to `out` (`[batch, m, n]`, contiguous), without what `causal` makes
/// useless.
pub fn product_into(
    left: &Factor<'_>,
    right: &Factor<'_>,
    size: Size,
    precision: Precision,
    causal: Causal,
    out: &mut [f32],
) -> Result<(), ProductError> {
    let Size { batch, m, n, k } = size;
    let mut out = Output::new(out, m, n, n, Batch::of(batch, m.saturating_mul(n)))?;
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut operands = kept().take().unwrap_or_default();
    operands.0.refill(&left.view(batch, m, k)?, precision)?;
    operands.1.refill(&right.view(batch, n, k)?, precision)?;
    let done = product(&operands.0, &operands.1, &mut out, &Options { causal, ..Options::default() });
    *kept() = Some(operands);
    done
}
