//! The exact scalar functions as plain Rust, for hosts. They hold no state, allocate nothing and never consult the
//! processor's features; loops over them may be vectorised freely, because no result depends on it.

// the adamw_parameter body takes its nine scalars one by one, as a kernel does
#![allow(clippy::too_many_arguments)]
// the bodies are written in the subset that kernel compilers accept: initialised mutable variables, no compound
// shift assignments, no `clamp`
#![allow(clippy::assign_op_pattern, clippy::manual_clamp, unused_assignments)]

/// High 32 bits of the product `a * b`.
#[inline(always)]
pub fn mulhi(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

/// Low 32 bits of the product `a * b`.
#[inline(always)]
pub fn mullo(a: u32, b: u32) -> u32 {
    a.wrapping_mul(b)
}

super::exact_scalar_functions!(#[inline(always)]);
