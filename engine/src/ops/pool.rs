//! Memory that the CPU's operations use again: a training step needs the same buffers every time, and fresh ones cost
//! page faults and zeroing. Holds nothing that a result may depend on: whoever takes a buffer writes all of it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_flex::FlexTensor;

/// Elements below which the allocator is quick enough by itself.
const SMALL: usize = 1 << 10;

/// Most elements kept, 1 GiB of them. What is kept was in use at once before, so it adds nothing to a step's peak.
const MOST: usize = 1 << 28;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: VecDeque::new(), elements: 0 });

struct Pool {
    /// Buffers nobody uses, the oldest first.
    free: VecDeque<Vec<f32>>,
    /// In all of them.
    elements: usize,
}

impl Pool {
    /// A kept buffer of that length. The one given back last is the likeliest to be in a cache.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let i = self.free.iter().rposition(|buffer| buffer.len() == len)?;
        self.elements -= len;
        self.free.remove(i)
    }

    /// Keeps a buffer, and forgets the oldest ones beyond `most` elements.
    fn give(&mut self, buffer: Vec<f32>, most: usize) {
        self.elements += buffer.len();
        self.free.push_back(buffer);
        while self.elements > most {
            self.elements -= self.free.pop_front().map_or(0, |oldest| oldest.len());
        }
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `len` elements with arbitrary values.
pub(crate) fn take(len: usize) -> Vec<f32> {
    let kept = if len < SMALL { None } else { pool().take(len) };
    #[allow(unused_mut)]
    let mut buffer = kept.unwrap_or_else(|| vec![0.0; len]);
    #[cfg(test)]
    tests::spoil(&mut buffer);
    buffer
}

/// Keeps `buffer` for later.
pub(crate) fn give(buffer: Vec<f32>) {
    if buffer.len() >= SMALL {
        pool().give(buffer, MOST);
    }
}

/// Keeps the memory of a tensor that nobody else holds.
pub(crate) fn give_tensor(tensor: FlexTensor) {
    if tensor.is_unique()
        && tensor.is_contiguous()
        && let Ok(buffer) = tensor.into_data().into_parts().0.try_into_vec::<f32>()
    {
        give(buffer);
    }
}

/// Gives all memory back to the system.
pub(crate) fn clear() {
    let mut pool = pool();
    pool.elements = 0;
    pool.free = VecDeque::new();
    crate::product::release();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::burn::backend::Flex;
    use crate::burn::tensor::Device;

    use super::*;
    use crate::model::{Layout, ModelConfig, Profile, Tokens, init};
    use crate::product::Precision;
    use crate::train::{AdamwSettings, State, TrainSettings, Trainer};

    /// Whether every buffer is handed out full of NaN.
    static SPOILED: AtomicBool = AtomicBool::new(false);

    pub(super) fn spoil(buffer: &mut [f32]) {
        if SPOILED.load(Ordering::Relaxed) {
            buffer.fill(f32::NAN);
        }
    }

    #[test]
    fn a_buffer_comes_back_to_whoever_needs_its_length_and_the_oldest_are_forgotten() {
        let mut pool = Pool { free: VecDeque::new(), elements: 0 };
        for length in [3, 4, 5, 4] {
            pool.give(vec![length as f32; length], 13);
        }
        assert_eq!((pool.elements, pool.take(3)), (13, None));
        assert_eq!(pool.take(4), Some(vec![4.0; 4]));
        assert_eq!(pool.take(6), None);
        assert_eq!((pool.take(4), pool.take(4)), (Some(vec![4.0; 4]), None));
        pool.give(vec![0.0; 14], 13);
        assert_eq!((pool.elements, pool.free.len()), (0, 0));
    }

    fn trainer() -> Trainer {
        let config = ModelConfig {
            vocab: 300,
            hidden: 96,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 24,
            ffn: 160,
            max_seq: 80,
            rope_theta: 10_000.0,
            rms_eps: 1e-5,
            tied_embeddings: true,
            qkv_bias: true,
        };
        let layout = Layout::new(&config).unwrap();
        let settings = TrainSettings {
            adamw: AdamwSettings::default(),
            peak_lr: 1e-3,
            warmup_steps: 1,
            total_steps: 10,
            floor: 0.1,
        };
        let start = State::fresh(init(&layout, 3));
        let profile = Profile::Exact(Precision::default());
        Trainer::new(layout, profile, settings, &Device::flex(), &start).unwrap()
    }

    fn step(trainer: &mut Trainer, step: u32) {
        let ids = (0..4 * 78).map(|i| (i * 7919 + i / 13 + step) % 300).collect();
        trainer.step(step, &Tokens::new(ids, 4, 77).unwrap()).unwrap();
    }

    fn trained() -> Vec<State> {
        let mut trainer = trainer();
        (0..3)
            .map(|i| {
                step(&mut trainer, i);
                let state = trainer.state().unwrap();
                assert_eq!(trainer.digest().unwrap(), state.digest().unwrap());
                state
            })
            .collect()
    }

    #[test]
    fn what_a_buffer_held_before_changes_nothing() {
        let clean = trained();
        SPOILED.store(true, Ordering::Relaxed);
        let spoiled = trained();
        let checked = crate::selftest::check(&Device::flex());
        SPOILED.store(false, Ordering::Relaxed);
        assert!(checked.is_ok());
        assert!(clean == spoiled && clean[0] != clean[1]);
    }

    /// Where the parameters lie.
    fn places(trainer: &Trainer) -> Vec<*const f32> {
        let parameters = trainer.decoder().parameters().iter();
        parameters
            .map(|p| p.clone().inner().try_into_primitive::<Flex>().unwrap().storage::<f32>().as_ptr())
            .collect()
    }

    #[test]
    fn parameters_are_updated_where_they_lie() {
        let mut trainer = trainer();
        // the first step may move them from where they came from
        step(&mut trainer, 0);
        let before = places(&trainer);
        step(&mut trainer, 1);
        assert_eq!(places(&trainer), before);
    }
}
