//! Getting at the elements of tensors.

use crate::burn::backend::Flex;
use crate::burn::tensor::Tensor;
use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;

use super::TrainError;
use crate::ops::tensor::elements;

/// The tensor if it lies on the CPU with its elements, and nothing else, in order in its memory.
pub(super) fn on_cpu(t: &Tensor<3>) -> Option<FlexTensor> {
    t.clone().try_into_primitive::<Flex>().ok().filter(|t| {
        t.is_contiguous()
            && t.layout().start_offset() == 0
            && t.bytes().len() == t.shape().num_elements() * size_of::<f32>()
    })
}

/// The elements of a tensor on any device.
pub(super) fn read(t: Tensor<3>) -> Result<Vec<f32>, TrainError> {
    elements(t.try_into_data()).map_err(TrainError::Device)
}
