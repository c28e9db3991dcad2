//! The leaf hashes of a state on a GPU.

use crate::burn::tensor::DType;
use burn_backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::blake3::{CHUNK_VALUES, PARENT, ROOT, WORDS, chunks, pairs};
use super::launch::{dims, elementwise, empty};
use crate::merkle::CHUNK_ELEMENTS;

/// The hashes; see [`crate::ops::kernels::ExactKernels::exact_leaf_hashes`].
pub(crate) fn hashes(x: CubeTensor) -> CubeTensor {
    let leaves = dims(&x)[1];
    let mut nodes = CHUNK_ELEMENTS / CHUNK_VALUES;
    let mut level = empty(&x, [1, leaves * nodes, WORDS], DType::U32);
    let (count, dim) = elementwise(&x, leaves * nodes);
    // SAFETY: positions are checked against the number of chunks in `x`.
    unsafe {
        chunks::launch_unchecked(
            &level.client,
            count,
            dim,
            x.clone().into_tensor_arg(),
            level.clone().into_tensor_arg(),
            leaves * nodes,
        );
    }
    while nodes > 1 {
        nodes /= 2;
        let above = empty(&level, [1, leaves * nodes, WORDS], DType::U32);
        let flags = if nodes == 1 { PARENT | ROOT } else { PARENT };
        let (count, dim) = elementwise(&level, leaves * nodes);
        // SAFETY: positions are checked against the number of nodes above; below there are twice as many.
        unsafe {
            pairs::launch_unchecked(
                &above.client,
                count,
                dim,
                level.into_tensor_arg(),
                above.clone().into_tensor_arg(),
                leaves * nodes,
                flags,
            );
        }
        level = above;
    }
    debug_assert_eq!(level.shape().num_elements(), leaves * WORDS);
    level
}
