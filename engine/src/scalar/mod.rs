//! The scalar functions of the numeric contract: exp, reciprocal, reciprocal square root, logarithm, sigmoid, rounding
//! to and from the integers of exact matrix products, and the AdamW element update. Bits in, bits out, the same on
//! every machine. This module never calls the platform's mathematical library and knows nothing of tensors or devices.
//!
//! What each function computes is defined in `bodies.rs`, once, for hosts and for kernels; [`host`] is the instance for
//! hosts. The bits that the text there produces are the definition; the error bounds stated there are what the tests
//! here establish.

pub(crate) mod bodies;
mod float;
pub mod host;

pub(crate) use bodies::exact_scalar_functions;
pub use float::{adamw_first, adamw_parameter, adamw_second, exp, flush, ln, recip, rsqrt, sigmoid};

#[cfg(test)]
mod tests;
