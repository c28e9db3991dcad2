//! The row-wise and elementwise kernels. What each computes is defined in [`crate::ops::kernels`].
//!
//! `zero` is a zero that the device's compiler cannot see: passing an intermediate through `flush(x, zero)` keeps it from
//! being contracted or reassociated.

pub(super) mod activation;
pub(super) mod adamw;
pub(super) mod blake3;
pub(super) mod embedding;
pub(super) mod heads;
pub(super) mod loss;
pub(super) mod norm;
pub(super) mod softmax;
pub(super) mod sum;
