//! The operations of exact training, under Burn's autodiff, on CPU and GPU.
//!
//! [`kernels::ExactKernels`] names every primitive step and defines its result to the bit; `flex` computes it on
//! the CPU, `cube` in CubeCL kernels on a GPU. `blocks` joins the primitives into the four differentiable pieces a
//! decoder is made of, and `autodiff` puts those under Burn's autodiff. Nothing here knows of optimizers' schedules,
//! checkpoints or files.
//!
//! # The numeric contract
//!
//! * `+ - x` are IEEE-754 single operations, round to nearest even, and every result is *flushed*: what lies below
//!   2^-125 becomes a zero of the same sign, so devices that keep subnormals and devices that flush them, before or
//!   after rounding, agree. Nothing is contracted or reassociated.
//! * A **sum** of a row of `n` numbers runs in 32 lanes: lane `l` adds the elements `l, l+32, l+64, ..` in that order
//!   starting from `+0`; then lanes are added pairwise, `l` with `l+16`, then `+8`, `+4`, `+2`, `+1`. Every addition
//!   is flushed. A sum down a column does the same with rows in place of elements.
//! * **Matrix products** are defined in [`crate::product`], **exp, ln, reciprocal, reciprocal square root and
//!   sigmoid** in [`crate::scalar`].
//!
//! WGSL lets a device assume that infinities and NaNs do not occur, so the contract covers finite values; a training
//! step whose loss is not finite is refused on every device (see [`crate::train`]).

pub mod autodiff;
pub mod blocks;
mod cube;
mod flex;
pub(crate) mod host;
pub mod kernels;
pub(crate) mod pool;
pub mod tensor;

pub(crate) use cube::device_memory;

/// Lanes of the fixed-order sum, on every device.
pub const LANES: usize = 32;
