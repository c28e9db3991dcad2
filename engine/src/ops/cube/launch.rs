//! Allocation and launch geometry shared by the kernels.

use crate::burn::tensor::{DType, Shape};
use burn_backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise};

/// `[batch, rows, columns]` of a rank-3 tensor.
pub(crate) fn dims(t: &CubeTensor) -> [usize; 3] {
    t.shape().dims::<3>()
}

/// An uninitialised contiguous tensor on the device of `like`.
pub(crate) fn empty(like: &CubeTensor, shape: [usize; 3], dtype: DType) -> CubeTensor {
    burn_cubecl::ops::numeric::empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        Shape::new(shape),
        dtype,
    )
}

/// Geometry for one unit per element.
pub(crate) fn elementwise(like: &CubeTensor, n: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, n);
    (calculate_cube_count_elemwise(&like.client, n, dim), dim)
}

/// Geometry for one workgroup of 32 units per row. One dimension of a dispatch holds 65,535 workgroups.
pub(crate) fn rows_of_units(rows: usize) -> (CubeCount, CubeDim) {
    let x = rows.clamp(1, 32_768);
    (CubeCount::Static(x as u32, rows.div_ceil(x).max(1) as u32, 1), CubeDim::new_1d(32))
}
