//! The shape of a model: sizes and the few numbers that change what its forward pass computes.
//!
//! Responsible for saying whether a shape is one this engine can hold, and how many parameters it has. A
//! configuration may come from a stranger, so [`ModelConfig::validate`] bounds every field and all sums are
//! checked. It never reads files, never allocates, and says nothing about the order of the parameters
//! (see `layout`).

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Largest vocabulary accepted (the largest in public use have about 2^18 entries).
pub const MAX_VOCAB: usize = 1 << 20;
/// Largest width of the residual stream accepted.
pub const MAX_HIDDEN: usize = 1 << 16;
/// Largest number of layers accepted.
pub const MAX_LAYERS: usize = 1 << 10;
/// Largest number of query heads accepted; there are never more key/value heads than query heads.
pub const MAX_HEADS: usize = 1 << 10;
/// Largest width of one head accepted.
pub const MAX_HEAD_DIM: usize = 1 << 10;
/// Largest width of the feed-forward block accepted.
pub const MAX_FFN: usize = 1 << 20;
/// Longest sequence accepted, in tokens.
pub const MAX_SEQ: usize = 1 << 20;
/// Largest number of parameters accepted: one flat f32 vector of 32 GiB.
pub const MAX_PARAMETERS: u64 = 1 << 33;
/// Range of the RoPE base. Below 1 the frequencies would grow instead of fall.
pub const ROPE_THETA_RANGE: (f32, f32) = (1.0, 1e12);
/// Range of the epsilon inside RMSNorm. The lower end stays far above f32's subnormals, which the exact
/// arithmetic flushes to zero.
pub const RMS_EPS_RANGE: (f32, f32) = (1e-12, 0.1);

/// The shape of one decoder-only transformer: RMSNorm, rotary positions (rotate-half), grouped-query
/// attention, SwiGLU feed-forward block.
///
/// The fields are plain so that presets and run specifications can be written as literals; nothing may be
/// built from a configuration before [`validate`](Self::validate) has accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// V: number of token ids; inputs are `0..vocab`.
    pub vocab: usize,
    /// D: width of the residual stream.
    pub hidden: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// H: number of query heads.
    pub heads: usize,
    /// KV: number of key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// dh: width of one head, even because RoPE turns pairs. `heads * head_dim` need not equal `hidden`.
    pub head_dim: usize,
    /// F: width of the feed-forward block.
    pub ffn: usize,
    /// Longest sequence the model is used with, in tokens.
    pub max_seq: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Epsilon added to the mean square inside RMSNorm.
    pub rms_eps: f32,
    /// Whether the output projection is the embedding matrix itself (then there is no `head` parameter).
    pub tied_embeddings: bool,
    /// Whether the query, key and value projections have a bias (Qwen2 does, Llama does not).
    pub qkv_bias: bool,
}

/// Why a [`ModelConfig`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum ConfigError {
    /// A size is zero or above what this engine accepts.
    #[error("`{field}` is {value}; it must be between 1 and {max}")]
    Size {
        /// Field of [`ModelConfig`].
        field: &'static str,
        /// What it holds.
        value: usize,
        /// The most it may hold.
        max: usize,
    },
    /// The query heads cannot be shared out evenly among the key/value heads.
    #[error("`heads` ({heads}) is not a multiple of `kv_heads` ({kv_heads})")]
    HeadGroups {
        /// Number of query heads.
        heads: usize,
        /// Number of key/value heads.
        kv_heads: usize,
    },
    /// RoPE rotates pairs of coordinates, so a head needs an even number of them.
    #[error("`head_dim` is {head_dim}; rotary positions need an even number")]
    OddHeadDim {
        /// Width of one head.
        head_dim: usize,
    },
    /// A number is not finite or outside its range.
    #[error("`{field}` is {value:e}; it must be between {min:e} and {max:e}")]
    Number {
        /// Field of [`ModelConfig`].
        field: &'static str,
        /// What it holds.
        value: f32,
        /// The least it may hold.
        min: f32,
        /// The most it may hold.
        max: f32,
    },
    /// Every size is acceptable, but not all of them together.
    #[error("the model has more than {max} parameters; choose smaller sizes")]
    TooLarge {
        /// [`MAX_PARAMETERS`].
        max: u64,
    },
}

impl ModelConfig {
    /// Accepts the configuration or says what is wrong with it (the first problem found).
    ///
    /// # Errors
    /// [`ConfigError`], with the field and its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value, max) in [
            ("vocab", self.vocab, MAX_VOCAB),
            ("hidden", self.hidden, MAX_HIDDEN),
            ("layers", self.layers, MAX_LAYERS),
            ("heads", self.heads, MAX_HEADS),
            ("kv_heads", self.kv_heads, MAX_HEADS),
            ("head_dim", self.head_dim, MAX_HEAD_DIM),
            ("ffn", self.ffn, MAX_FFN),
            ("max_seq", self.max_seq, MAX_SEQ),
        ] {
            if value == 0 || value > max {
                return Err(ConfigError::Size { field, value, max });
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ConfigError::HeadGroups { heads: self.heads, kv_heads: self.kv_heads });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::OddHeadDim { head_dim: self.head_dim });
        }
        for (field, value, (min, max)) in
            [("rope_theta", self.rope_theta, ROPE_THETA_RANGE), ("rms_eps", self.rms_eps, RMS_EPS_RANGE)]
        {
            // A NaN is in no range.
            if !(min..=max).contains(&value) {
                return Err(ConfigError::Number { field, value, min, max });
            }
        }
        self.parameters()?;
        Ok(())
    }

    /// Number of parameters, a tied embedding counted once.
    ///
    /// # Errors
    /// [`ConfigError::TooLarge`] above [`MAX_PARAMETERS`], however large the fields are.
    pub fn parameters(&self) -> Result<u64, ConfigError> {
        self.count().filter(|&n| n <= MAX_PARAMETERS).ok_or(ConfigError::TooLarge { max: MAX_PARAMETERS })
    }

    /// Number of rows of the stacked query, key and value projection: `(H + 2 KV) * dh`. Meaningful once
    /// [`validate`](Self::validate) has passed; saturates otherwise.
    pub const fn qkv_rows(&self) -> usize {
        self.heads.saturating_add(self.kv_heads.saturating_mul(2)).saturating_mul(self.head_dim)
    }

    /// Width of all query heads together: `H * dh`. Meaningful once [`validate`](Self::validate) has passed;
    /// saturates otherwise.
    pub const fn attention_width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// The parameter count, or `None` where it does not fit 64 bits.
    fn count(&self) -> Option<u64> {
        let wide = |n: usize| u64::try_from(n).ok();
        let (d, v, f) = (wide(self.hidden)?, wide(self.vocab)?, wide(self.ffn)?);
        let (h, kv, dh) = (wide(self.heads)?, wide(self.kv_heads)?, wide(self.head_dim)?);
        let qkv_rows = kv.checked_mul(2)?.checked_add(h)?.checked_mul(dh)?;
        let norms = d.checked_mul(2)?;
        let qkv = qkv_rows.checked_mul(d)?;
        let bias = if self.qkv_bias { qkv_rows } else { 0 };
        let o = d.checked_mul(h)?.checked_mul(dh)?;
        let ffn = f.checked_mul(3)?.checked_mul(d)?;
        let layer = [qkv, bias, o, ffn].into_iter().try_fold(norms, u64::checked_add)?;
        let matrices_of_vocab = if self.tied_embeddings { 1 } else { 2 };
        let vocab = v.checked_mul(d)?.checked_mul(matrices_of_vocab)?;
        layer.checked_mul(wide(self.layers)?)?.checked_add(vocab)?.checked_add(d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tiny() -> ModelConfig {
        ModelConfig {
            vocab: 10,
            hidden: 8,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            head_dim: 6,
            ffn: 5,
            max_seq: 16,
            rope_theta: 10_000.0,
            rms_eps: 1e-5,
            tied_embeddings: false,
            qkv_bias: true,
        }
    }

    #[test]
    fn counts_every_parameter_once() {
        let untied = tiny();
        // Written out by hand: norms 8 + 8, qkv (4 + 2 * 2) * 6 = 48 rows of 8, its bias, o 8 x 24, gate, up,
        // down.
        let layer = 8 + 8 + 48 * 8 + 48 + 8 * 24 + 3 * 5 * 8;
        assert_eq!(untied.parameters(), Ok(10 * 8 + 3 * layer + 8 + 10 * 8));
        let tied = ModelConfig { tied_embeddings: true, ..untied };
        assert_eq!(tied.parameters(), Ok(10 * 8 + 3 * layer + 8));
        let plain = ModelConfig { qkv_bias: false, ..tied };
        assert_eq!(plain.parameters(), Ok(10 * 8 + 3 * (layer - 48) + 8));
        assert_eq!((untied.qkv_rows(), untied.attention_width()), (48, 24));
    }

    #[test]
    fn accepts_a_sound_shape_and_names_the_field_of_an_unsound_one() {
        assert_eq!(tiny().validate(), Ok(()));
        let zero = ModelConfig { ffn: 0, ..tiny() };
        assert_eq!(zero.validate(), Err(ConfigError::Size { field: "ffn", value: 0, max: MAX_FFN }));
        let wide = ModelConfig { hidden: MAX_HIDDEN + 1, ..tiny() };
        assert!(wide.validate().unwrap_err().to_string().contains("`hidden` is 65537"));
        let groups = ModelConfig { kv_heads: 3, ..tiny() };
        assert_eq!(groups.validate(), Err(ConfigError::HeadGroups { heads: 4, kv_heads: 3 }));
        let more_kv = ModelConfig { kv_heads: 8, ..tiny() };
        assert_eq!(more_kv.validate(), Err(ConfigError::HeadGroups { heads: 4, kv_heads: 8 }));
        let odd = ModelConfig { head_dim: 7, ..tiny() };
        assert_eq!(odd.validate(), Err(ConfigError::OddHeadDim { head_dim: 7 }));
    }

    #[test]
    fn refuses_numbers_that_would_poison_the_arithmetic() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1.0, 1e-40] {
            let theta = ModelConfig { rope_theta: bad, ..tiny() };
            let eps = ModelConfig { rms_eps: bad, ..tiny() };
            assert!(
                matches!(theta.validate(), Err(ConfigError::Number { field: "rope_theta", .. })),
                "{bad}"
            );
            assert!(matches!(eps.validate(), Err(ConfigError::Number { field: "rms_eps", .. })), "{bad}");
        }
    }

    #[test]
    fn refuses_sizes_that_are_each_acceptable_but_not_together() {
        let huge = ModelConfig { hidden: MAX_HIDDEN, ffn: MAX_FFN, layers: 64, ..tiny() };
        assert_eq!(huge.validate(), Err(ConfigError::TooLarge { max: MAX_PARAMETERS }));
        // About 8.03 billion parameters, the shape of Llama 3 8B, are still accepted.
        let eight_billion = ModelConfig {
            vocab: 128_256,
            hidden: 4096,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            ffn: 14_336,
            qkv_bias: false,
            ..tiny()
        };
        assert_eq!(eight_billion.validate(), Ok(()));
        assert_eq!(eight_billion.parameters(), Ok(8_030_261_248));
    }

    #[test]
    fn serde_refuses_unknown_fields() {
        let text = serde_json::to_string(&tiny()).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), tiny());
        let more = text.replace("{\"vocab\"", "{\"rope_scaling\":2,\"vocab\"");
        assert!(serde_json::from_str::<ModelConfig>(&more).is_err());
    }

    proptest! {
        #[test]
        fn hostile_sizes_never_panic_and_what_passes_is_bounded(
            sizes in prop::array::uniform8(prop_oneof![any::<usize>(), 0usize..=64]),
            bits in any::<(u32, u32)>(),
            flags in any::<(bool, bool)>(),
        ) {
            let [vocab, hidden, layers, heads, kv_heads, head_dim, ffn, max_seq] = sizes;
            let config = ModelConfig {
                vocab, hidden, layers, heads, kv_heads, head_dim, ffn, max_seq,
                rope_theta: f32::from_bits(bits.0),
                rms_eps: f32::from_bits(bits.1),
                tied_embeddings: flags.0,
                qkv_bias: flags.1,
            };
            let _ = (config.qkv_rows(), config.attention_width());
            if config.validate().is_ok() {
                prop_assert!(config.parameters().unwrap() <= MAX_PARAMETERS);
            }
        }
    }
}
