//! What several test files share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use watershed_engine::burn::tensor::{Device, Tensor};
use watershed_engine::device;
use watershed_engine::model::{Decoder, Layout, ModelConfig, Profile, Tokens, init};
use watershed_engine::train::{AdamwSettings, State, TrainSettings};

/// The first device reached through wgpu. These tests prove agreement, so a machine without one fails them.
pub fn wgpu() -> Device {
    let found = device::list().into_iter().next();
    found.expect("a Vulkan device; `apt-get install mesa-vulkan-drivers` brings a software one").device
}

/// Three shapes: grouped-query and untied; tied; with bias, tied, one key/value head.
pub fn shapes() -> [(&'static str, ModelConfig); 3] {
    let base = ModelConfig {
        vocab: 61,
        hidden: 48,
        layers: 2,
        heads: 6,
        kv_heads: 2,
        head_dim: 8,
        ffn: 72,
        max_seq: 64,
        rope_theta: 10_000.0,
        rms_eps: 1e-5,
        tied_embeddings: false,
        qkv_bias: false,
    };
    [
        ("grouped-query", base),
        ("tied", ModelConfig { tied_embeddings: true, kv_heads: 6, hidden: 40, layers: 1, ..base }),
        (
            "biased",
            ModelConfig {
                qkv_bias: true,
                tied_embeddings: true,
                heads: 3,
                kv_heads: 1,
                head_dim: 10,
                ..base
            },
        ),
    ]
}

pub fn settings() -> TrainSettings {
    TrainSettings {
        adamw: AdamwSettings::default(),
        peak_lr: 3e-3,
        warmup_steps: 2,
        total_steps: 20,
        floor: 0.1,
    }
}

/// Tokens that repeat enough to be learned.
pub fn tokens(config: &ModelConfig, batch: usize, seq: usize, step: u32) -> Tokens {
    let ids = (0..batch * (seq + 1)).map(|i| ((i * i + 3 * i + step as usize * 17) % config.vocab) as u32);
    Tokens::new(ids.collect(), batch, seq).unwrap()
}

pub fn start(config: &ModelConfig) -> (Layout, State) {
    let layout = Layout::new(config).unwrap();
    let state = State::fresh(init(&layout, 11));
    (layout, state)
}

pub fn values(t: Tensor<3>) -> Vec<f32> {
    t.into_data().try_to_vec().unwrap()
}

/// Loss and the gradient of all parameters in the layout's order.
pub fn gradient(
    layout: &Layout,
    flat: &[f32],
    tokens: &Tokens,
    profile: Profile,
    device: &Device,
) -> (f32, Vec<f32>) {
    let decoder = Decoder::new(layout.clone(), profile, device, flat, true).unwrap();
    let loss = decoder.loss(tokens).unwrap();
    let gradients = loss.backward();
    let flat = decoder.parameters().iter().flat_map(|p| values(p.grad(&gradients).unwrap())).collect();
    (values(loss.inner())[0], flat)
}

/// Root mean square of `a - b` over that of `b`.
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let power: f64 = b.iter().map(|b| square(f64::from(*b))).sum();
    (error / power).sqrt()
}
