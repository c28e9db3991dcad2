//! Exact training: the same bits on every device.
//!
//! A training assignment is a pure function of its inputs (checkpoint, token windows, settings, the worker's own carried
//! state), and this crate computes it so that a GPU and a CPU agree in every bit. It knows nothing of money, networks or
//! consent.
//!
//! From the bottom up:
//!
//! * [`scalar`] and [`product`]: the numbers. Integer-only scalar functions; matrix products of block-scaled integers.
//! * [`ops`]: operations under Burn's autodiff, on the CPU and in GPU kernels.
//! * [`model`]: a Llama-family decoder, its parameter layout, Hugging Face files.
//! * [`train`]: one AdamW step, the inner loop, its digests ([`merkle`]) and its replay.
//! * [`moments`], [`pseudo_gradient`], [`outer`]: what crosses from one round to the next.
//! * [`device`] and [`selftest`]: finding a device and having it prove itself.

pub mod burn;
pub mod device;
pub mod merkle;
pub mod model;
pub mod moments;
pub mod ops;
pub mod outer;
pub mod product;
pub mod pseudo_gradient;
pub mod scalar;
pub mod schedule;
pub mod selftest;
pub mod train;
