//! The named model shapes that ship with the engine.
//!
//! Responsible for the numbers behind each name, which never change once a run has used them: a different
//! shape gets a new name. It never touches weights.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::config::ModelConfig;

/// A named model shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// 0.8 million parameters over bytes: tests, demonstrations, a first run on any machine.
    Nano,
    /// 9.9 million parameters over bytes: a run worth watching on CPUs.
    Micro,
    /// 123 million parameters, the dimensions of GPT-2 small with SmolLM's vocabulary: for GPUs.
    Small,
}

/// A name that no preset has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no preset is called {given:?}; choose one of: nano, micro, small")]
pub struct UnknownPreset {
    /// The name as given.
    pub given: String,
}

impl Preset {
    /// Every preset, smallest first.
    pub const ALL: [Self; 3] = [Self::Nano, Self::Micro, Self::Small];

    /// The name, as [`FromStr`] reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nano => "nano",
            Self::Micro => "micro",
            Self::Small => "small",
        }
    }

    /// Windows of an inner step, and tokens of a window, where a person names neither: windows of a length that the
    /// preset is made for, and enough of them that hashing the state stays below 3 % of a step (docs/BENCHMARKS.md).
    pub const fn step(self) -> (u32, u32) {
        match self {
            Self::Nano => (8, 128),
            Self::Micro => (8, 512),
            Self::Small => (2, 1024),
        }
    }

    /// The shape. It always validates.
    pub const fn config(self) -> ModelConfig {
        match self {
            Self::Nano => ModelConfig {
                vocab: 256,
                hidden: 128,
                layers: 4,
                heads: 4,
                kv_heads: 2,
                head_dim: 32,
                ffn: 352,
                max_seq: 256,
                rope_theta: 10_000.0,
                rms_eps: 1e-5,
                tied_embeddings: false,
                qkv_bias: false,
            },
            Self::Micro => ModelConfig {
                vocab: 256,
                hidden: 384,
                layers: 6,
                heads: 6,
                kv_heads: 3,
                head_dim: 64,
                ffn: 1024,
                max_seq: 512,
                rope_theta: 10_000.0,
                rms_eps: 1e-5,
                tied_embeddings: false,
                qkv_bias: false,
            },
            Self::Small => ModelConfig {
                vocab: 49_152,
                hidden: 768,
                layers: 12,
                heads: 12,
                kv_heads: 12,
                head_dim: 64,
                ffn: 2048,
                max_seq: 1024,
                rope_theta: 10_000.0,
                rms_eps: 1e-5,
                tied_embeddings: true,
                qkv_bias: false,
            },
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(given: &str) -> Result<Self, UnknownPreset> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == given)
            .ok_or_else(|| UnknownPreset { given: given.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_behind_the_names_do_not_move() {
        let sizes = Preset::ALL.map(|preset| {
            let config = preset.config();
            assert_eq!(config.validate(), Ok(()), "{preset}");
            config.parameters().unwrap()
        });
        assert_eq!(sizes, [803_968, 9_933_696, 122_702_592]);
        for preset in Preset::ALL {
            assert!(preset.step().1 as usize <= preset.config().max_seq, "{preset}");
        }
    }

    #[test]
    fn names_round_trip_and_a_wrong_one_is_told_the_right_ones() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        let error = "Nano ".parse::<Preset>().unwrap_err();
        for preset in Preset::ALL {
            assert!(error.to_string().contains(preset.name()), "{error} does not list {preset}");
        }
    }
}
