//! The exact matrix product on the CPU: the definition, quantised operands and fast kernels. No gradients, no tensors.
//!
//! # Definition
//!
//! `C[m,n] = sum_k A[m,k] * B[n,k]`, `k` the contraction axis, with operand widths `a` and `b` of 8 to 16 bits.
//!
//! * **Rows.** For each row of A and each row of B (a column of the second factor), over `k`: `emax` is the biased
//!   exponent of its largest magnitude. A row with `emax = 255` (it holds an infinity or NaN) is *poisoned*: every result
//!   it takes part in is the NaN `0x7fc00000`. A row with `emax < 27` is zero. Otherwise, for width `w`,
//!   `q = clamp(round_ties_even(x * 2^(125 + w - emax)), -(2^(w-1) - 1), 2^(w-1) - 1)`. Subnormal elements count as zero.
//! * **Result.** `S = sum_k qa * qb` is an exact integer, `value = S * 2^(ea + eb - 250 - a - b)`. If `|value| < 2^-126`
//!   before rounding, the result is `+0`; else it is `value` rounded to the nearest f32, ties to even, beyond the largest f32
//!   a signed infinity.
//! * **Bias**, if any: `result + bias[n]`, one IEEE addition, a subnormal sum flushed to a zero of the same sign, any NaN
//!   written as `0x7fc00000`.
//!
//! Nothing about order, tiles, parts or threads belongs to the definition; [`mod@reference`] computes it literally and every
//! other way must give the same bits.
//!
//! # Use
//!
//! [`View`] describes f32 in memory, [`LeftOperand`] and [`RightOperand`] hold it quantised for any number of products,
//! [`product`] multiplies. [`product_into`] does it all for two contiguous batches.

mod bytes;
mod causal;
mod contiguous;
mod error;
mod isa;
mod multiply;
mod operand;
mod output;
mod pack;
pub mod reference;
mod round;
#[cfg(test)]
mod tests;
mod view;
mod width;

pub use causal::Causal;
pub(crate) use contiguous::release;
pub use contiguous::{Factor, Size, product_into};
pub use error::ProductError;
pub use isa::Isa;
pub use multiply::{Options, product};
pub use operand::{LeftOperand, RightOperand};
pub use output::Output;
pub use view::{Batch, View};
pub use width::{Precision, Width, WidthError};

/// Longest contraction axis: sums of `2^20` products of 16-bit integers stay below `2^53`, exact in f64.
pub const MAX_K: usize = 1 << 20;

/// Most elements of an operand or output, padding included.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// The one NaN a product gives.
pub const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// Elements below which quantising stays on one thread.
pub(crate) const PARALLEL_ELEMENTS: usize = 1 << 16;
