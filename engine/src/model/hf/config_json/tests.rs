//! Configurations as transformers writes them, older spellings, and everything that must be refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::preset::Preset;

/// The least a Llama must state.
fn llama() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 3, "num_attention_heads": 8
    })
}

fn qwen2() -> Value {
    with(llama(), json!({"model_type": "qwen2", "num_key_value_heads": 2}))
}

/// `base` with the keys of `more` added or replaced.
fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

fn read(value: &Value) -> Result<ModelConfig, ConfigJsonError> {
    parse(value.to_string().as_bytes())
}

#[test]
fn absent_keys_mean_what_they_mean_in_transformers() {
    let config = read(&llama()).unwrap();
    let expected = ModelConfig {
        vocab: 100,
        hidden: 64,
        layers: 3,
        heads: 8,
        kv_heads: 8,
        head_dim: 8,
        ffn: 96,
        max_seq: 2048,
        rope_theta: 10_000.0,
        rms_eps: 1e-6,
        tied_embeddings: false,
        qkv_bias: false,
    };
    assert_eq!(config, expected);
    let qwen = ModelConfig { kv_heads: 2, max_seq: 32_768, qkv_bias: true, ..expected };
    assert_eq!(read(&qwen2()).unwrap(), qwen);
    // Qwen2 assumes 32 key/value heads where a Llama assumes as many as query heads; null means the latter in
    // both.
    let null = with(qwen2(), json!({"num_key_value_heads": null, "head_dim": null, "rope_scaling": null}));
    assert_eq!(read(&null).unwrap(), ModelConfig { kv_heads: 8, ..qwen });
    let mut absent = qwen2();
    absent.as_object_mut().unwrap().remove("num_key_value_heads");
    let error = read(&absent).unwrap_err();
    assert!(
        matches!(error, ConfigJsonError::Config(ConfigError::HeadGroups { heads: 8, kv_heads: 32 })),
        "{error}"
    );
}

#[test]
fn a_smollm_configuration_as_published_is_read() {
    let text = br#"{
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576,
        "initializer_range": 0.041666666666666664, "intermediate_size": 1536, "is_llama_config": true,
        "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 49152
    }"#;
    let config = parse(text).unwrap();
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.rope_theta, config.rms_eps, config.tied_embeddings), (100_000.0, 1e-5, true));
    assert_eq!(config.parameters(), Ok(134_515_008));
}

#[test]
fn the_rotary_base_is_found_wherever_transformers_has_put_it() {
    for more in [
        json!({"rope_theta": 5e5}),
        json!({"rope_theta": 500000, "rope_scaling": {"type": "default"}}),
        json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
        json!({"rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 1.0}}),
    ] {
        assert_eq!(read(&with(llama(), more.clone())).unwrap().rope_theta, 5e5, "{more}");
    }
    let both = with(llama(), json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}));
    assert!(matches!(
        read(&both),
        Err(ConfigJsonError::Conflict { first: "rope_theta", second: "rope_parameters" })
    ));
}

#[test]
fn what_would_compute_something_else_is_refused_by_its_key() {
    let refused = [
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("rope_interleaved", json!(true)),
        ("partial_rotary_factor", json!(0.5)),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4})),
        ("rope_parameters", json!({"full_attention": {"rope_type": "default", "rope_theta": 1e4}})),
        ("rope_parameters", json!({"rope_type": "default", "partial_rotary_factor": 0.25})),
        ("quantization_config", json!({"bits": 4})),
    ];
    for (key, value) in refused {
        let error = read(&with(llama(), json!({key: value}))).unwrap_err();
        assert!(matches!(error, ConfigJsonError::Unsupported { key: k, .. } if k == key), "{key}: {error}");
    }
    for other in ["mistral", "gpt2", "smollm3", "LLAMA", "qwen3"] {
        let error = read(&with(llama(), json!({"model_type": other}))).unwrap_err();
        assert!(matches!(&error, ConfigJsonError::ModelType { found } if found.contains(other)), "{error}");
    }
}

#[test]
fn a_sliding_window_is_refused_only_where_it_is_in_use() {
    let in_use = [
        json!({"use_sliding_window": true, "max_window_layers": 2}),
        json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 0}),
        json!({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
    ];
    for more in in_use {
        let error = read(&with(qwen2(), more.clone())).unwrap_err();
        assert!(matches!(error, ConfigJsonError::Unsupported { .. }), "{more}: {error}");
    }
    let idle = [
        json!({"use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 0}),
        json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0}),
        json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": 3}),
        json!({"layer_types": ["full_attention", "full_attention", "full_attention"]}),
    ];
    for more in idle {
        assert!(read(&with(qwen2(), more.clone())).is_ok(), "{more}");
    }
}

#[test]
fn malformed_values_are_named_with_what_was_expected() {
    for key in ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    {
        for bad in [json!(-1), json!(8.5), json!("8"), json!([8]), json!(1e30)] {
            let error = read(&with(llama(), json!({key: bad}))).unwrap_err();
            assert!(matches!(error, ConfigJsonError::Type { key: k, .. } if k == key), "{key}: {error}");
        }
        let error = read(&with(llama(), json!({key: null}))).unwrap_err();
        assert!(matches!(error, ConfigJsonError::Missing { key: k } if k == key), "{key}: {error}");
        assert!(read(&with(llama(), json!({key: 0}))).is_err(), "{key}");
        assert!(read(&with(llama(), json!({key: u64::MAX}))).is_err(), "{key}");
    }
    assert!(matches!(
        read(&with(llama(), json!({"num_attention_heads": 7}))),
        Err(ConfigJsonError::HeadDim { hidden: 64, heads: 7 })
    ));
    let long = with(llama(), json!({"hidden_act": ["x".repeat(10_000)]}));
    assert!(read(&long).unwrap_err().to_string().len() < 400);
    for text in ["", "[]", "null", "{\"model_type\":", &"[".repeat(100_000)] {
        assert!(matches!(parse(text.as_bytes()), Err(ConfigJsonError::Json(_))));
    }
    assert!(matches!(parse(b"{}"), Err(ConfigJsonError::Missing { key: "model_type" })));
}

#[test]
fn what_is_written_is_short_and_exact() {
    let text = render(&Preset::Nano.config()).unwrap();
    for line in [
        r#""model_type": "llama""#,
        r#""rms_norm_eps": 0.00001,"#,
        r#""dtype": "float32""#,
        r#""rope_theta": 10000.0"#,
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let qwen = render(&ModelConfig { qkv_bias: true, ..Preset::Nano.config() }).unwrap();
    assert!(qwen.contains(r#""Qwen2ForCausalLM""#) && !qwen.contains("attention_bias"), "{qwen}");
}

#[test]
fn a_llama_that_transformers_would_refuse_is_not_written() {
    let odd = ModelConfig { hidden: 130, ..Preset::Nano.config() };
    assert!(matches!(render(&odd), Err(ConfigJsonError::HeadDim { hidden: 130, heads: 4 })));
    assert!(render(&ModelConfig { qkv_bias: true, ..odd }).is_ok());
}

proptest! {
    #[test]
    fn every_configuration_written_is_read_back_exactly(
        sizes in (1usize..1000, 1usize..9, 1usize..40, 1usize..5, 1usize..4, 1usize..40, 1usize..500),
        max_seq in 1usize..10_000,
        floats in (1f32..1e9, 1e-12f32..0.1),
        flags in any::<(bool, bool)>(),
    ) {
        let (vocab, factor, layers, kv_heads, group, half_dim, ffn) = sizes;
        let heads = kv_heads * group;
        let config = ModelConfig {
            vocab, hidden: heads * factor, layers, heads, kv_heads, head_dim: 2 * half_dim, ffn, max_seq,
            rope_theta: floats.0, rms_eps: floats.1, tied_embeddings: flags.0, qkv_bias: flags.1,
        };
        prop_assert_eq!(parse(render(&config).unwrap().as_bytes()).unwrap(), config);
    }

    #[test]
    fn any_value_under_any_known_key_is_answered_without_panic(
        key in prop::sample::select(vec![
            "model_type", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
            "rope_theta",
            "rope_parameters", "rope_scaling", "layer_types", "sliding_window", "use_sliding_window",
            "max_window_layers", "rms_norm_eps", "tie_word_embeddings",
        ]),
        value in prop_oneof![
            any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from), ".{0,8}".prop_map(Value::from),
            Just(json!([])), Just(json!({"rope_theta": []})), Just(json!({"rope_type": 3})),
        ],
        family in prop::sample::select(vec![llama(), qwen2()]),
    ) {
        if let Ok(config) = read(&with(family, json!({key: value}))) {
            prop_assert_eq!(config.validate(), Ok(()));
        }
    }
}
