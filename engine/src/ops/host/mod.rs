//! The primitives of [`super::kernels::ExactKernels`] on slices, for the CPU.
//!
//! Each function works on a block of rows and is compiled for several instruction sets; what it computes is fixed by
//! the contract, so neither the instruction set nor the number of threads can be seen in a result.

pub(crate) mod activation;
pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod rows;
pub(crate) mod sum;

/// Makes magnitudes below 2^-125 a zero of the same sign; see [`crate::scalar`].
#[inline(always)]
pub(crate) fn flush(x: f32) -> f32 {
    crate::scalar::flush(x, 0)
}
