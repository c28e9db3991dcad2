//! The scalar functions of the contract, instantiated for GPU kernels.
//!
//! The bodies are those of [`crate::scalar`]; only the two helpers that need 64-bit products differ.

// The bodies are written in the subset that kernel compilers accept; see `crate::scalar::host`.
#![allow(
    unreachable_pub,
    unused_assignments,
    clippy::assign_op_pattern,
    clippy::manual_clamp,
    clippy::too_many_arguments
)]

use cubecl::prelude::*;

/// High 32 bits of `a * b`, without any intermediate above 32 bits.
#[cube]
pub(crate) fn mulhi(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu32;
    let ah = a >> 16u32;
    let bl = b & 0xffffu32;
    let bh = b >> 16u32;
    let low = al * bl;
    let t = ah * bl + (low >> 16u32);
    let u = al * bh + (t & 0xffffu32);
    ah * bh + (t >> 16u32) + (u >> 16u32)
}

/// Low 32 bits of `a * b`, without an overflowing product.
#[cube]
pub(crate) fn mullo(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu32;
    let ah = a >> 16u32;
    let bl = b & 0xffffu32;
    let bh = b >> 16u32;
    let low = al * bl;
    let mid = ((ah * bl) & 0xffffu32) + ((al * bh) & 0xffffu32) + (low >> 16u32);
    ((mid & 0xffffu32) << 16u32) | (low & 0xffffu32)
}

crate::scalar::exact_scalar_functions!(#[cube]);
