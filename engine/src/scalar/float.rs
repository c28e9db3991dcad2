//! The same functions on `f32` values instead of bits, for host code.

pub use super::host::{adamw_first, adamw_parameter, adamw_second, flush};
use super::host::{exp_bits, ln_bits, recip_bits, rsqrt_bits, sigmoid_bits};

/// `e^x`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    f32::from_bits(exp_bits(x.to_bits()))
}

/// `1/x`.
#[inline(always)]
pub fn recip(x: f32) -> f32 {
    f32::from_bits(recip_bits(x.to_bits()))
}

/// `1/sqrt(x)` for `x >= 0`.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    f32::from_bits(rsqrt_bits(x.to_bits()))
}

/// The natural logarithm of `x >= 0`.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    f32::from_bits(ln_bits(x.to_bits()))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    f32::from_bits(sigmoid_bits(x.to_bits(), 0))
}
