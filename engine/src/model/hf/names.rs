//! Hugging Face tensor names and the part of the flat vector each one fills.
//!
//! Our stacked matrices are rows on top of rows, so every Hugging Face tensor is one contiguous range.

use std::ops::Range;

use crate::model::layout::{Layout, ParamKind, ParamSpec};

/// The output projection; absent from files of models with tied embeddings.
pub(super) const HEAD: &str = "lm_head.weight";

/// One tensor as transformers names and shapes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HfTensor {
    /// Name in the safetensors file.
    pub(super) name: String,
    /// Shape in the safetensors file.
    pub(super) shape: Vec<usize>,
    /// Its values' indices in the flat vector.
    pub(super) range: Range<usize>,
}

/// All tensors of a model in declared order. Their ranges tile the flat vector.
pub(super) fn tensors(layout: &Layout) -> Vec<HfTensor> {
    layout.params().iter().flat_map(|param| split(param, layout)).collect()
}

/// Whether transformers itself ignores a tensor of that name: old Llama files carry the rotary frequencies,
/// which follow from `rope_theta`.
pub(super) fn is_ignored(name: &str) -> bool {
    name.starts_with("model.layers.") && name.ends_with(".self_attn.rotary_emb.inv_freq")
}

/// The tensors that one parameter is stacked from, top to bottom.
fn split(param: &ParamSpec, layout: &Layout) -> Vec<HfTensor> {
    let config = layout.config();
    let whole = |name: &'static str| vec![(name, param.rows)];
    let kv_rows = config.kv_heads * config.head_dim;
    let parts = match param.kind {
        ParamKind::Embed => whole("model.embed_tokens.weight"),
        ParamKind::Norm => whole("model.norm.weight"),
        ParamKind::Head => whole(HEAD),
        ParamKind::Norm1 => whole("input_layernorm.weight"),
        ParamKind::O => whole("self_attn.o_proj.weight"),
        ParamKind::Norm2 => whole("post_attention_layernorm.weight"),
        ParamKind::Down => whole("mlp.down_proj.weight"),
        ParamKind::GateUp => {
            vec![("mlp.gate_proj.weight", config.ffn), ("mlp.up_proj.weight", config.ffn)]
        }
        ParamKind::Qkv => vec![
            ("self_attn.q_proj.weight", config.attention_width()),
            ("self_attn.k_proj.weight", kv_rows),
            ("self_attn.v_proj.weight", kv_rows),
        ],
        ParamKind::QkvBias => vec![
            ("self_attn.q_proj.bias", config.attention_width()),
            ("self_attn.k_proj.bias", kv_rows),
            ("self_attn.v_proj.bias", kv_rows),
        ],
    };
    let mut start = param.offset;
    let tensor = |(part, rows): (&str, usize)| {
        let name = match param.layer {
            Some(layer) => format!("model.layers.{layer}.{part}"),
            None => part.to_owned(),
        };
        let shape = if param.kind.is_matrix() { vec![rows, param.cols] } else { vec![rows] };
        let range = start..start + rows * param.cols;
        start = range.end;
        HfTensor { name, shape, range }
    };
    parts.into_iter().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::ModelConfig;
    use crate::model::preset::Preset;

    #[test]
    fn a_grouped_query_layer_with_bias_splits_into_the_rows_transformers_expects() {
        let config = ModelConfig { layers: 1, qkv_bias: true, ..Preset::Nano.config() };
        let layout = Layout::new(&config).unwrap();
        let found = tensors(&layout);
        let names: Vec<_> = found.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        let expected: [(&str, &[usize]); 15] = [
            ("model.embed_tokens.weight", &[256, 128]),
            ("model.layers.0.input_layernorm.weight", &[128]),
            ("model.layers.0.self_attn.q_proj.weight", &[128, 128]),
            ("model.layers.0.self_attn.k_proj.weight", &[64, 128]),
            ("model.layers.0.self_attn.v_proj.weight", &[64, 128]),
            ("model.layers.0.self_attn.q_proj.bias", &[128]),
            ("model.layers.0.self_attn.k_proj.bias", &[64]),
            ("model.layers.0.self_attn.v_proj.bias", &[64]),
            ("model.layers.0.self_attn.o_proj.weight", &[128, 128]),
            ("model.layers.0.post_attention_layernorm.weight", &[128]),
            ("model.layers.0.mlp.gate_proj.weight", &[352, 128]),
            ("model.layers.0.mlp.up_proj.weight", &[352, 128]),
            ("model.layers.0.mlp.down_proj.weight", &[128, 352]),
            ("model.norm.weight", &[128]),
            ("lm_head.weight", &[256, 128]),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_tensors_of_every_preset_tile_the_flat_vector() {
        for preset in Preset::ALL {
            let layout = Layout::new(&preset.config()).unwrap();
            let mut end = 0;
            for tensor in tensors(&layout) {
                assert_eq!(tensor.range.start, end, "{}", tensor.name);
                assert_eq!(tensor.range.len(), tensor.shape.iter().product::<usize>(), "{}", tensor.name);
                end = tensor.range.end;
            }
            assert_eq!(end, layout.total());
        }
    }

    #[test]
    fn only_rotary_frequencies_are_ignored() {
        assert!(is_ignored("model.layers.3.self_attn.rotary_emb.inv_freq"));
        assert!(!is_ignored("model.layers.3.self_attn.q_proj.weight"));
        assert!(!is_ignored("rotary_emb.inv_freq"));
    }
}
