//! A run specification in the engine's terms.

use watershed_engine::model::{Layout, ModelConfig, Profile};
use watershed_engine::outer;
use watershed_engine::product::{Precision, Width};
use watershed_engine::train::{AdamwSettings, TrainSettings};
use watershed_protocol::data::Mixture;
use watershed_protocol::market::{DataSpec, ModelSpec, RunSpec};
use watershed_shards::shard::OpenSet;

use super::RoundError;

/// Everything that a run's results depend on, but the text.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The specification.
    pub spec: RunSpec,
    /// The parameters.
    pub layout: Layout,
    /// The arithmetic.
    pub profile: Profile,
    /// The inner optimizer.
    pub train: TrainSettings,
}

/// A model as a specification has it.
pub fn model_spec(config: &ModelConfig) -> ModelSpec {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    ModelSpec {
        vocab: number(config.vocab),
        hidden: number(config.hidden),
        layers: number(config.layers),
        heads: number(config.heads),
        kv_heads: number(config.kv_heads),
        head_dim: number(config.head_dim),
        ffn: number(config.ffn),
        max_seq: number(config.max_seq),
        rope_theta: config.rope_theta,
        rms_eps: config.rms_eps,
        tied_embeddings: config.tied_embeddings,
        qkv_bias: config.qkv_bias,
    }
}

pub(crate) fn config(model: &ModelSpec) -> ModelConfig {
    ModelConfig {
        vocab: model.vocab as usize,
        hidden: model.hidden as usize,
        layers: model.layers as usize,
        heads: model.heads as usize,
        kv_heads: model.kv_heads as usize,
        head_dim: model.head_dim as usize,
        ffn: model.ffn as usize,
        max_seq: model.max_seq as usize,
        rope_theta: model.rope_theta,
        rms_eps: model.rms_eps,
        tied_embeddings: model.tied_embeddings,
        qkv_bias: model.qkv_bias,
    }
}

/// What a run reads of a shard set.
pub fn data_spec(set: &OpenSet, mixture: Mixture, sequence_length: u32, max_epochs: u32) -> DataSpec {
    let (shards, snapshot, tokenizer) = (set.id(), set.set().snapshot, set.set().tokenizer);
    DataSpec { shards, snapshot, tokenizer, mixture, sequence_length, max_epochs }
}

impl Settings {
    /// Of a specification.
    ///
    /// # Errors
    /// Numbers out of range, by name.
    pub fn new(spec: &RunSpec) -> Result<Self, RoundError> {
        spec.check()?;
        let layout = Layout::new(&config(&spec.model))?;
        let (a, b) = spec.inner.precision;
        let precision = Precision { a: Width::new(u32::from(a))?, b: Width::new(u32::from(b))? };
        let i = &spec.inner;
        let train = TrainSettings {
            adamw: AdamwSettings {
                beta1: i.beta1,
                beta2: i.beta2,
                eps: i.eps,
                weight_decay: i.weight_decay,
                clip: i.clip,
            },
            peak_lr: i.peak_lr,
            warmup_steps: i.warmup_steps,
            total_steps: spec.total_steps(),
            floor: i.floor,
        };
        Ok(Self { spec: spec.clone(), layout, profile: Profile::Exact(precision), train })
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.layout.total()
    }

    /// The outer optimizer.
    pub fn outer(&self) -> outer::OuterSpec {
        let outer = &self.spec.outer;
        outer::OuterSpec { rate: outer.rate, momentum: (outer.momentum > 0.0).then_some(outer.momentum) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use watershed_engine::pseudo_gradient;
    use watershed_protocol::SecretKey;
    use watershed_protocol::market::ModelSpec;

    use super::*;

    proptest! {
        /// What is asked for is checked without a model at hand: the numbers of the specification give the same count.
        #[test]
        fn a_specification_has_as_many_parameters_as_the_engine_lays_out(
            (vocab, hidden, layers, kv_heads) in (1u32..300, 1u32..40, 1u32..4, 1u32..4),
            (group, head_dim, ffn) in (1u32..4, 1u32..12, 1u32..40),
            (tied_embeddings, qkv_bias) in any::<(bool, bool)>(),
        ) {
            let key = SecretKey::from_entropy([1; 32]).unwrap().public();
            let (heads, head_dim) = (kv_heads * group, 2 * head_dim);
            let model = ModelSpec {
                vocab, hidden, layers, heads, kv_heads, head_dim, ffn, tied_embeddings, qkv_bias,
                ..RunSpec::smallest([key]).model
            };
            let laid_out = Layout::new(&config(&model)).unwrap().total() as u64;
            prop_assert_eq!(model.parameters(), Some(laid_out));
            prop_assert_eq!(model.chunks(), laid_out.div_ceil(pseudo_gradient::CHUNK as u64));
        }
    }
}
