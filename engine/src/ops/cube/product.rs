//! The exact matrix product on a GPU: quantise to 8-bit slices, multiply the slices with the stock f32 product, combine.
//!
//! Slices are integers below 2^8 and blocks of `k` are short enough that every partial sum stays below 2^24, so the
//! stock product is exact whatever its tiles and order; blocks and slices are then added as 32-bit integers and rounded
//! once.

use crate::burn::backend::ops::FloatTensorOps;
use crate::burn::tensor::{DType, Shape};
use burn_cubecl::Cube;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{dims, elementwise, empty, rows_of_units};
use super::reduce::{lane_max_u32, my_row};
use super::scalar::{quantise, round_sum};
use crate::ops::kernels::ProductJob;

/// Longest block of `k`: products of slices are at most 2^14, so 2^10 of them sum to at most 2^24.
const BLOCK: usize = 1024;

/// Biased exponent of the largest magnitude of each row; a workgroup for a row with contiguous `k`.
#[cube(launch_unchecked)]
fn row_exponents(x: &Tensor<f32>, out: &mut Tensor<u32>, rows: usize, k: usize) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let mut max = 0u32;
    let steps = (k + 31usize - lane) / 32usize;
    for i in 0..steps {
        let bits = x[row * k + lane + i * 32usize].to_bits() & 0x7fffffffu32;
        if bits > max {
            max = bits;
        }
    }
    let max = lane_max_u32(max);
    if lane == 0usize {
        out[row] = max >> 23u32;
    }
}

/// The same for rows whose elements are `rows` apart; a unit for a row.
#[cube(launch_unchecked)]
fn column_exponents(x: &Tensor<f32>, out: &mut Tensor<u32>, n: usize, rows: usize, k: usize) {
    if ABSOLUTE_POS < n {
        let batch = ABSOLUTE_POS / rows;
        let row = ABSOLUTE_POS % rows;
        let mut max = 0u32;
        for i in 0..k {
            let bits = x[(batch * k + i) * rows + row].to_bits() & 0x7fffffffu32;
            if bits > max {
                max = bits;
            }
        }
        out[ABSOLUTE_POS] = max >> 23u32;
    }
}

/// `x [batch, rows, k]` (or `[batch, k, rows]`) into slices `[batch * blocks, slices * rows, kb]`: high, then low.
#[cube(launch_unchecked)]
fn slices_kernel(
    x: &Tensor<f32>,
    exponents: &Tensor<u32>,
    out: &mut Tensor<f32>,
    n: usize,
    rows: usize,
    k: usize,
    kb: usize,
    blocks: usize,
    width: u32,
    #[comptime] transposed: bool,
    #[comptime] two: bool,
) {
    if ABSOLUTE_POS < n {
        let i = ABSOLUTE_POS % kb;
        let row = (ABSOLUTE_POS / kb) % rows;
        let block = (ABSOLUTE_POS / (kb * rows)) % blocks;
        let batch = ABSOLUTE_POS / (kb * rows * blocks);
        let at = block * kb + i;
        let mut q = 0i32;
        if at < k {
            let mut source = (batch * rows + row) * k + at;
            if comptime!(transposed) {
                source = (batch * k + at) * rows + row;
            }
            q = quantise(x[source].to_bits(), exponents[batch * rows + row], width);
        }
        let item = batch * blocks + block;
        if comptime!(two) {
            let high = (q + 128i32) >> 8i32;
            let low = q - high * 256i32;
            let base = item * 2usize * rows;
            out[(base + row) * kb + i] = high as f32;
            out[(base + rows + row) * kb + i] = low as f32;
        } else {
            out[(item * rows + row) * kb + i] = q as f32;
        }
    }
}

/// Adds blocks and slices as integers and rounds once.
#[cube(launch_unchecked)]
fn combine_kernel(
    c: &Tensor<f32>,
    left: &Tensor<u32>,
    right: &Tensor<u32>,
    out: &mut Tensor<f32>,
    total: usize,
    m: usize,
    n: usize,
    blocks: usize,
    width_sum: u32,
    #[comptime] two_left: bool,
    #[comptime] two_right: bool,
) {
    if ABSOLUTE_POS < total {
        let column = ABSOLUTE_POS % n;
        let row = (ABSOLUTE_POS / n) % m;
        let batch = ABSOLUTE_POS / (n * m);
        let left_slices = comptime!(if two_left { 2usize } else { 1usize });
        let right_slices = comptime!(if two_right { 2usize } else { 1usize });
        let columns = n * right_slices;
        let mut high = 0i32;
        let mut mid = 0i32;
        let mut low = 0i32;
        for block in 0..blocks {
            let base = (batch * blocks + block) * left_slices * m * columns + row * columns + column;
            let first = c[base] as i32;
            if comptime!(two_left && two_right) {
                high += first;
                mid += c[base + n] as i32;
                mid += c[base + m * columns] as i32;
                low += c[base + m * columns + n] as i32;
            } else if comptime!(two_left) {
                mid += first;
                low += c[base + m * columns] as i32;
            } else if comptime!(two_right) {
                mid += first;
                low += c[base + n] as i32;
            } else {
                low += first;
            }
        }
        let ea = left[batch * m + row];
        let eb = right[batch * n + column];
        let mut bits = round_sum(high, mid, low, ea + eb, width_sum);
        if ea == 255u32 || eb == 255u32 {
            bits = 0x7fc00000u32;
        }
        out[ABSOLUTE_POS] = f32::from_bits(bits);
    }
}

/// One factor in slices, with the exponents of its rows.
struct Sliced {
    slices: CubeTensor,
    exponents: CubeTensor,
    two: bool,
}

fn slice(x: CubeTensor, transposed: bool, width: u32, kb: usize, blocks: usize) -> Sliced {
    let [batch, d1, d2] = dims(&x);
    let (rows, k) = if transposed { (d2, d1) } else { (d1, d2) };
    let exponents = empty(&x, [1, batch, rows], DType::U32);
    let client = x.client.clone();
    if transposed {
        let (count, dim) = elementwise(&x, batch * rows);
        // SAFETY: the kernel checks its position against the number of rows, and reads only within `x`.
        unsafe {
            column_exponents::launch_unchecked(
                &client,
                count,
                dim,
                x.clone().into_tensor_arg(),
                exponents.clone().into_tensor_arg(),
                batch * rows,
                rows,
                k,
            );
        }
    } else {
        let (count, dim) = rows_of_units(batch * rows);
        // SAFETY: the row is clamped, lanes stop at `k`.
        unsafe {
            row_exponents::launch_unchecked(
                &client,
                count,
                dim,
                x.clone().into_tensor_arg(),
                exponents.clone().into_tensor_arg(),
                batch * rows,
                k,
            );
        }
    }
    let two = width > 8;
    let slices = empty(&x, [batch * blocks, if two { 2 * rows } else { rows }, kb], DType::F32);
    let n = batch * blocks * rows * kb;
    let (count, dim) = elementwise(&x, n);
    // SAFETY: positions are checked against `n`, which is the number of elements of one slice of `slices`.
    unsafe {
        slices_kernel::launch_unchecked(
            &client,
            count,
            dim,
            x.into_tensor_arg(),
            exponents.clone().into_tensor_arg(),
            slices.clone().into_tensor_arg(),
            n,
            rows,
            k,
            kb,
            blocks,
            width,
            transposed,
            two,
        );
    }
    Sliced { slices, exponents, two }
}

/// The product; see [`crate::ops::kernels::ExactKernels::exact_product`].
pub(crate) fn product(a: CubeTensor, b: CubeTensor, job: ProductJob) -> CubeTensor {
    let ([batch, a1, a2], [_, b1, b2]) = (dims(&a), dims(&b));
    let (m, k) = if job.left_transposed { (a2, a1) } else { (a1, a2) };
    let n = if job.right_transposed { b2 } else { b1 };
    let blocks = k.div_ceil(BLOCK).max(1);
    let kb = k.div_ceil(blocks).max(1);
    let (wa, wb) = (job.precision.a.bits(), job.precision.b.bits());
    let left = slice(a, job.left_transposed, wa, kb, blocks);
    let right = slice(b, job.right_transposed, wb, kb, blocks);
    let c = Cube::float_matmul(left.slices, Cube::float_swap_dims(right.slices, 1, 2));
    let c = burn_cubecl::kernel::into_contiguous(c);
    let out = empty(&c, [batch, m, n], DType::F32);
    let total = batch * m * n;
    let (count, dim) = elementwise(&c, total);
    let client = c.client.clone();
    // SAFETY: positions are checked against `total`; `c` holds every slice pair of every block.
    unsafe {
        combine_kernel::launch_unchecked(
            &client,
            count,
            dim,
            c.into_tensor_arg(),
            left.exponents.into_tensor_arg(),
            right.exponents.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            total,
            m,
            n,
            blocks,
            wa + wb,
            left.two,
            right.two,
        );
    }
    debug_assert_eq!(out.meta.shape(), &Shape::new([batch, m, n]));
    out
}
