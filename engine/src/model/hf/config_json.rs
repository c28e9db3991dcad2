//! transformers' `config.json` to and from [`ModelConfig`].
//!
//! Reading follows transformers 5.23 (`LlamaConfig`, `Qwen2Config`), including what it assumes for keys that
//! are absent; the older spelling of the rotary parameters is understood too. The five sizes that decide the
//! tensor shapes must be stated. A key that changes what the model computes into something this engine does
//! not compute is refused; keys without such an effect (dropout, token ids, cache settings) are passed over.
//! Pure functions of text.

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::error::{shortened, shown};
use crate::model::config::{ConfigError, ModelConfig};

/// Why a `config.json` is refused.
#[derive(Debug, Error)]
pub enum ConfigJsonError {
    /// It is not a JSON object.
    #[error("not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// A key that must be stated is absent.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key holds the wrong kind of value.
    #[error("`{key}` must be {expected}, not {found}")]
    Type {
        /// The key.
        key: &'static str,
        /// What it must hold.
        expected: &'static str,
        /// What it holds, shortened.
        found: String,
    },
    /// The model is of a type whose forward pass this engine does not have.
    #[error("model_type {found} is not supported; only `llama` and `qwen2` are")]
    ModelType {
        /// The type, quoted and shortened.
        found: String,
    },
    /// A key asks for something this engine does not compute.
    #[error("`{key}` is {found}: {reason}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value, shortened.
        found: String,
        /// Why that is refused.
        reason: &'static str,
    },
    /// Two keys contradict each other.
    #[error("`{first}` and `{second}` contradict each other")]
    Conflict {
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// `head_dim` is absent and does not follow from the other sizes.
    #[error("hidden_size {hidden} is not a multiple of num_attention_heads {heads}")]
    HeadDim {
        /// `hidden_size`.
        hidden: usize,
        /// `num_attention_heads`.
        heads: usize,
    },
    /// The sizes are readable but not acceptable.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The architectures whose forward pass this engine has.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Llama,
    Qwen2,
}

/// Reads the text of a `config.json` into a configuration that [validates](ModelConfig::validate).
///
/// # Errors
/// [`ConfigJsonError`]: the key, what it holds and what is supported.
pub fn parse(text: &[u8]) -> Result<ModelConfig, ConfigJsonError> {
    let map: Map<String, Value> = serde_json::from_slice(text)?;
    let keys = Keys(&map);
    let family = match keys.text("model_type")?.ok_or(ConfigJsonError::Missing { key: "model_type" })? {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        other => return Err(ConfigJsonError::ModelType { found: shown(other) }),
    };
    let required = |key| keys.size(key)?.ok_or(ConfigJsonError::Missing { key });
    let layers = required("num_hidden_layers")?;
    refuse_unsupported(&keys, family, layers)?;
    let (hidden, heads) = (required("hidden_size")?, required("num_attention_heads")?);
    let (max_seq, absent_kv_heads) = match family {
        Family::Llama => (2048, heads),
        Family::Qwen2 => (32_768, 32),
    };
    let config = ModelConfig {
        vocab: required("vocab_size")?,
        hidden,
        layers,
        heads,
        kv_heads: match keys.size("num_key_value_heads")? {
            Some(stated) => stated,
            None if map.contains_key("num_key_value_heads") => heads,
            None => absent_kv_heads,
        },
        head_dim: match keys.size("head_dim")? {
            Some(stated) => stated,
            None => divide(hidden, heads)?,
        },
        ffn: required("intermediate_size")?,
        max_seq: keys.size("max_position_embeddings")?.unwrap_or(max_seq),
        rope_theta: rope_theta(&keys)?,
        rms_eps: keys.number("rms_norm_eps")?.unwrap_or(1e-6),
        tied_embeddings: keys.flag("tie_word_embeddings")?.unwrap_or(false),
        qkv_bias: family == Family::Qwen2,
    };
    config.validate()?;
    Ok(config)
}

/// Writes the `config.json` that makes transformers compute what this engine computes: a Qwen2 with biases, a
/// Llama without.
///
/// # Errors
/// [`ConfigJsonError`] if the configuration does not validate, or if it is a Llama whose `hidden` is not a
/// multiple of `heads`, which transformers refuses.
pub fn render(config: &ModelConfig) -> Result<String, ConfigJsonError> {
    config.validate()?;
    let qwen2 = config.qkv_bias;
    if !qwen2 {
        divide(config.hidden, config.heads)?;
    }
    let written = Written {
        architectures: [if qwen2 { "Qwen2ForCausalLM" } else { "LlamaForCausalLM" }],
        model_type: if qwen2 { "qwen2" } else { "llama" },
        vocab_size: config.vocab,
        hidden_size: config.hidden,
        intermediate_size: config.ffn,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        num_key_value_heads: config.kv_heads,
        head_dim: config.head_dim,
        max_position_embeddings: config.max_seq,
        hidden_act: "silu",
        rms_norm_eps: config.rms_eps,
        rope_theta: config.rope_theta,
        rope_parameters: RopeParameters { rope_type: "default", rope_theta: config.rope_theta },
        tie_word_embeddings: config.tied_embeddings,
        attention_bias: (!qwen2).then_some(false),
        mlp_bias: (!qwen2).then_some(false),
        use_sliding_window: qwen2.then_some(false),
        attention_dropout: 0.0,
        bos_token_id: None,
        eos_token_id: None,
        torch_dtype: "float32",
        dtype: "float32",
    };
    Ok(serde_json::to_string_pretty(&written)? + "\n")
}

/// The keys written. The f32 fields stay f32 so that 1e-5 is written as `1e-5` and not as its f64 neighbour.
/// `rope_theta` and the dtype are written twice because transformers moved them between versions 4 and 5.
#[derive(Serialize)]
struct Written {
    architectures: [&'static str; 1],
    model_type: &'static str,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    max_position_embeddings: usize,
    hidden_act: &'static str,
    rms_norm_eps: f32,
    rope_theta: f32,
    rope_parameters: RopeParameters,
    tie_word_embeddings: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mlp_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_sliding_window: Option<bool>,
    attention_dropout: f32,
    /// Written as null: left out, transformers would assume ids 1 and 2, which mean nothing for our
    /// tokenizers.
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    torch_dtype: &'static str,
    dtype: &'static str,
}

#[derive(Serialize)]
struct RopeParameters {
    rope_type: &'static str,
    rope_theta: f32,
}

/// Refuses every key that would make transformers compute something else than this engine.
fn refuse_unsupported(keys: &Keys<'_>, family: Family, layers: usize) -> Result<(), ConfigJsonError> {
    match keys.text("hidden_act")? {
        None | Some("silu") => {}
        Some(_) => return keys.unsupported("hidden_act", "only silu is computed"),
    }
    for (key, reason) in [
        (
            "attention_bias",
            "it puts a bias on o_proj too, which is not computed; only qwen2's q, k, v biases are",
        ),
        ("mlp_bias", "feed-forward layers with biases are not computed"),
        ("rope_interleaved", "only the rotate-half form of rotary positions is computed"),
    ] {
        // Qwen2 does not have the first two keys: there they mean nothing.
        let means_something = family == Family::Llama || key == "rope_interleaved";
        if means_something && keys.flag(key)?.unwrap_or(false) {
            return keys.unsupported(key, reason);
        }
    }
    if keys.present("quantization_config").is_some() {
        return keys.unsupported(
            "quantization_config",
            "quantised weights are not read; save the model in F32 or BF16",
        );
    }
    if family == Family::Qwen2 {
        let window = keys.flag("use_sliding_window")?.unwrap_or(false)
            && (keys.present("sliding_window").is_some() || !keys.0.contains_key("sliding_window"))
            && keys.size("max_window_layers")?.unwrap_or(28) < layers;
        if window && keys.present("layer_types").is_none() {
            return keys.unsupported(
                "use_sliding_window",
                "attention over a window is not computed, only full attention",
            );
        }
        if let Some(types) = keys.present("layer_types") {
            let full = |t: &Value| t.as_str() == Some("full_attention");
            if !types.as_array().is_some_and(|types| types.iter().all(full)) {
                return keys.unsupported("layer_types", "only full_attention is computed");
            }
        }
    }
    Ok(())
}

/// The RoPE base, after refusing every scaling of the rotary positions. It may stand at the top level or in
/// `rope_parameters` (transformers 5) or `rope_scaling` (4).
fn rope_theta(keys: &Keys<'_>) -> Result<f32, ConfigJsonError> {
    const REASON: &str =
        "scaled, partial or per-layer rotary positions are not computed, only the default ones";
    let mut theta = keys.number("rope_theta")?;
    if keys.number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return keys.unsupported("partial_rotary_factor", REASON);
    }
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(value) = keys.present(key) else { continue };
        let Value::Object(nested) = value else {
            return Err(ConfigJsonError::Type {
                key,
                expected: "an object",
                found: shortened(&value.to_string()),
            });
        };
        let nested = Keys(nested);
        let is_default = |name| Ok::<_, ConfigJsonError>(nested.text(name)?.is_none_or(|t| t == "default"));
        let known = |name: &String| {
            ["rope_type", "type", "rope_theta", "partial_rotary_factor"].contains(&name.as_str())
        };
        let whole = nested.number("partial_rotary_factor")?.is_none_or(|factor| factor == 1.0);
        if !is_default("rope_type")? || !is_default("type")? || !whole || !nested.0.keys().all(known) {
            return keys.unsupported(key, REASON);
        }
        if let Some(inner) = nested.number("rope_theta")? {
            if theta.is_some_and(|outer| outer != inner) {
                return Err(ConfigJsonError::Conflict { first: "rope_theta", second: key });
            }
            theta = Some(inner);
        }
    }
    Ok(theta.unwrap_or(10_000.0))
}

/// `hidden / heads`, if that is a whole number.
fn divide(hidden: usize, heads: usize) -> Result<usize, ConfigJsonError> {
    match hidden.checked_div(heads) {
        Some(head_dim) if head_dim.checked_mul(heads) == Some(hidden) => Ok(head_dim),
        _ => Err(ConfigJsonError::HeadDim { hidden, heads }),
    }
}

/// A JSON object whose values are asked for by type. A null counts as absent, as in transformers.
struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    fn present(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Reads a value with `read`, which gives `None` for a value of the wrong kind.
    fn read<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigJsonError> {
        self.present(key)
            .map(|value| {
                let wrong = || ConfigJsonError::Type { key, expected, found: shortened(&value.to_string()) };
                read(value).ok_or_else(wrong)
            })
            .transpose()
    }

    fn size(&self, key: &'static str) -> Result<Option<usize>, ConfigJsonError> {
        self.read(key, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn number(&self, key: &'static str) -> Result<Option<f32>, ConfigJsonError> {
        self.read(key, "a number", |value| value.as_f64().map(|x| x as f32))
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigJsonError> {
        self.read(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &'static str) -> Result<Option<&'a str>, ConfigJsonError> {
        self.read(key, "a string", Value::as_str)
    }

    fn unsupported<T>(&self, key: &'static str, reason: &'static str) -> Result<T, ConfigJsonError> {
        let found = shortened(&self.present(key).map(Value::to_string).unwrap_or_default());
        Err(ConfigJsonError::Unsupported { key, found, reason })
    }
}

#[cfg(test)]
mod tests;
