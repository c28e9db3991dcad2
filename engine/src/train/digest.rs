//! The digest of a state where it lies.

use std::ops::Range;

use crate::burn::tensor::{Int, Tensor};
use burn_flex::FlexTensor;

use super::memory::{on_cpu, read};
use super::{State, TrainError};
use crate::merkle::{self, CHUNK_ELEMENTS, Hash, StateDigest, Tree, leaf_hash};
use crate::ops::tensor::{elements, leaf_hashes};

/// Values that a device hashes at a time (64 MiB): they are copied there, because chunks reach from tensor to tensor.
const WINDOW: usize = 1 << 24;

/// The digest of a state of `n` parameters whose parameters, first and second moments lie in tensors, in declared order.
pub(super) fn digest(n: u64, sections: &[Vec<Tensor<3>>; 3]) -> Result<StateDigest, TrainError> {
    let layout = State::layout(n)?;
    let held: Option<Vec<Vec<FlexTensor>>> =
        sections.iter().map(|section| section.iter().map(on_cpu).collect()).collect();
    if let Some(held) = held {
        let pieces: Vec<Vec<&[f32]>> =
            held.iter().map(|section| section.iter().map(FlexTensor::storage::<f32>).collect()).collect();
        return Ok(merkle::state_digest_of_pieces(&layout, &pieces)?);
    }
    let mut leaves = Vec::new();
    for section in sections {
        leaves.extend(leaves_on_device(section, WINDOW)?);
    }
    Ok(Tree::new(&layout, leaves)?.digest())
}

/// The leaf hashes of a section, computed on its device `window` values at a time (a multiple of a chunk), but for a shorter
/// chunk at its end.
fn leaves_on_device(section: &[Tensor<3>], window: usize) -> Result<Vec<Hash>, TrainError> {
    let lengths: Vec<usize> = section.iter().map(|t| t.dims().iter().product()).collect();
    let flat: Vec<Tensor<3>> =
        section.iter().zip(&lengths).map(|(t, n)| t.clone().reshape([1, 1, *n])).collect();
    let total: usize = lengths.iter().sum();
    let whole = total - total % CHUNK_ELEMENTS;
    let together = |run: Range<usize>| -> Tensor<3> {
        let mut parts: Vec<Tensor<3>> = parts(&lengths, run)
            .into_iter()
            .map(|(tensor, range)| flat[tensor].clone().slice([0..1, 0..1, range]))
            .collect();
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 2) }
    };
    let hashes: Vec<Tensor<3, Int>> = (0..whole)
        .step_by(window)
        .map(|start| {
            let run = start..whole.min(start + window);
            let leaves = run.len() / CHUNK_ELEMENTS;
            leaf_hashes(together(run).reshape([1, leaves, CHUNK_ELEMENTS]))
        })
        .collect();
    let mut leaves = Vec::with_capacity(whole / CHUNK_ELEMENTS + 1);
    for window in hashes {
        leaves.extend(read_hashes(window)?);
    }
    if whole < total {
        leaves.push(leaf_hash(&read(together(whole..total))?));
    }
    Ok(leaves)
}

/// Hashes as words `[1,n,8]`, little-endian.
fn read_hashes(words: Tensor<3, Int>) -> Result<Vec<Hash>, TrainError> {
    let words: Vec<u32> = elements(words.try_into_data()).map_err(TrainError::Device)?;
    let bytes: Vec<[u8; 4]> = words.into_iter().map(u32::to_le_bytes).collect();
    Ok(bytemuck::cast_slice(&bytes).to_vec())
}

/// Which ranges of tensors of these lengths make up a run of the values of all of them.
fn parts(lengths: &[usize], run: Range<usize>) -> Vec<(usize, Range<usize>)> {
    let mut start = 0;
    let mut parts = Vec::new();
    for (tensor, length) in lengths.iter().enumerate() {
        let (from, to) = (run.start.max(start), run.end.min(start + length));
        if from < to {
            parts.push((tensor, from - start..to - start));
        }
        start += length;
    }
    parts
}

#[cfg(test)]
mod tests {
    use crate::burn::tensor::{Device, Tensor, TensorData};

    use super::{CHUNK_ELEMENTS, leaves_on_device, parts};
    use crate::merkle::leaf_hash;

    #[test]
    fn windows_that_reach_over_tensors_give_the_hashes_of_the_whole() {
        let values: Vec<f32> = (0..5 * CHUNK_ELEMENTS as u32 + 7).map(|i| i as f32).collect();
        let expected: Vec<_> = values.chunks(CHUNK_ELEMENTS).map(leaf_hash).collect();
        for cuts in [vec![], vec![1], vec![3000, 5000, 5001, 12_288], vec![4096, 8192, 20_480]] {
            let ends = cuts.iter().copied().chain([values.len()]);
            let mut start = 0;
            let section: Vec<Tensor<3>> = ends
                .map(|end| {
                    let piece = values[start..end].to_vec();
                    let shape = [1, 1, end - start];
                    start = end;
                    Tensor::from_data(TensorData::new(piece, shape), &Device::flex())
                })
                .collect();
            for chunks in [1, 2, 5, 100] {
                let found = leaves_on_device(&section, chunks * CHUNK_ELEMENTS).unwrap();
                assert_eq!(found, expected, "cut at {cuts:?}, {chunks} chunks at a time");
            }
        }
    }

    #[test]
    fn a_run_is_cut_at_the_ends_of_tensors() {
        let lengths = [5, 0, 3, 1, 4];
        assert_eq!(parts(&lengths, 0..13), [(0, 0..5), (2, 0..3), (3, 0..1), (4, 0..4)]);
        assert_eq!(parts(&lengths, 4..9), [(0, 4..5), (2, 0..3), (3, 0..1)]);
        assert_eq!(parts(&lengths, 6..7), [(2, 1..2)]);
        assert_eq!(parts(&lengths, 5..5), []);
        for (from, to) in (0..13).flat_map(|from| (from..=13).map(move |to| (from, to))) {
            assert_eq!(parts(&lengths, from..to).iter().map(|(_, r)| r.len()).sum::<usize>(), to - from);
        }
    }
}
