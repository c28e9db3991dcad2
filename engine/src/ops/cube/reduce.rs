//! The fixed-order sum and the maximum within a workgroup of 32 units.

use cubecl::prelude::*;

use super::scalar::flush;

/// Adds the 32 lanes pairwise; every unit gets the result.
#[cube]
pub(crate) fn lane_tree(value: f32, zero: u32) -> f32 {
    let mut lanes = Shared::<[f32]>::new_slice(32usize);
    let lane = UNIT_POS as usize;
    lanes[lane] = value;
    sync_cube();
    #[unroll]
    for step in 0..5u32 {
        let width = comptime!(16usize >> step as usize);
        if lane < width {
            lanes[lane] = flush(lanes[lane] + lanes[lane + width], zero);
        }
        sync_cube();
    }
    lanes[0usize]
}

/// The largest of the 32 lanes, +0 of zeros of both signs; every unit gets the result.
#[cube]
pub(crate) fn lane_max(value: f32) -> f32 {
    let mut lanes = Shared::<[f32]>::new_slice(32usize);
    let lane = UNIT_POS as usize;
    lanes[lane] = value;
    sync_cube();
    #[unroll]
    for step in 0..5u32 {
        let width = comptime!(16usize >> step as usize);
        if lane < width {
            let other = lanes[lane + width];
            if other > lanes[lane] {
                lanes[lane] = other;
            }
        }
        sync_cube();
    }
    let bits = lanes[0usize].to_bits();
    let mut out = bits;
    if (bits & 0x7fffffffu32) == 0u32 {
        out = 0u32;
    }
    f32::from_bits(out)
}

/// The largest of 32 unsigned numbers; every unit gets the result.
#[cube]
pub(crate) fn lane_max_u32(value: u32) -> u32 {
    let mut lanes = Shared::<[u32]>::new_slice(32usize);
    let lane = UNIT_POS as usize;
    lanes[lane] = value;
    sync_cube();
    #[unroll]
    for step in 0..5u32 {
        let width = comptime!(16usize >> step as usize);
        if lane < width {
            let other = lanes[lane + width];
            if other > lanes[lane] {
                lanes[lane] = other;
            }
        }
        sync_cube();
    }
    lanes[0usize]
}

/// The row a workgroup works on. Workgroups beyond the last row repeat it, which writes the same bits again: control
/// flow around the barriers stays uniform, as WGSL demands.
#[cube]
pub(crate) fn my_row(rows: usize) -> usize {
    let mut row = CUBE_POS;
    if row >= rows {
        row = rows - 1usize;
    }
    row
}
