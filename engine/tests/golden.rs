//! Logits and gradients agree with `transformers` on models it made (`scripts/golden/make_golden.py`).

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know for tests

mod common;

use std::path::{Path, PathBuf};

use common::{gradient, relative, values};
use safetensors::SafeTensors;
use watershed_engine::burn::tensor::Device;
use watershed_engine::model::{Decoder, Layout, Profile, Tokens, hf};

struct Golden {
    layout: Layout,
    flat: Vec<f32>,
    tokens: Tokens,
    logits: Vec<f32>,
    loss: f32,
    gradient: Vec<f32>,
}

fn golden(name: &str) -> Golden {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let (config, flat) = hf::load(&dir).unwrap();
    let bytes = std::fs::read(dir.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let data = file.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let ids = |name: &str| -> Vec<u32> {
        let data = file.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(8).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let (inputs, targets) = (ids("input_ids"), ids("targets"));
    let seq = 17;
    // The last target follows each row of inputs; the others must be the inputs shifted by one.
    let rows = inputs.chunks(seq).zip(targets.chunks(seq)).flat_map(|(i, t)| {
        assert_eq!(i[1..], t[..seq - 1]);
        i.iter().chain(&t[seq - 1..]).copied().collect::<Vec<_>>()
    });
    let tokens = Tokens::new(rows.collect(), 2, seq).unwrap();
    Golden {
        layout: Layout::new(&config).unwrap(),
        flat,
        tokens,
        logits: floats("logits"),
        loss: floats("loss")[0],
        gradient: floats("grad"),
    }
}

/// Largest absolute error of the logits; relative errors of logits and gradient; error of the loss.
fn errors(g: &Golden, profile: Profile) -> (f32, f64, f64, f32) {
    let device = Device::flex();
    let decoder = Decoder::new(g.layout.clone(), profile, &device, &g.flat, false).unwrap();
    let logits = values(decoder.logits(&g.tokens).unwrap());
    let worst = logits.iter().zip(&g.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (loss, gradient) = gradient(&g.layout, &g.flat, &g.tokens, profile, &device);
    (worst, relative(&logits, &g.logits), relative(&gradient, &g.gradient), (loss - g.loss).abs())
}

#[test]
fn native_f32_agrees_to_1e_4_and_exact_to_what_its_widths_allow() {
    for name in ["llama", "qwen2", "smollm"] {
        let g = golden(name);
        let (worst, _, gradient, loss) = errors(&g, Profile::Native);
        println!("{name} native: logits within {worst:.1e}, gradient {gradient:.1e}, loss {loss:.1e}");
        assert!(worst < 1e-4 && gradient < 1e-4 && loss < 1e-5, "{name} native");
        // Each product errs by about 2^-(width-1) of its largest operand; a few layers add up to some times that.
        for (width, logit_bound, gradient_bound) in [("16x16", 2e-4, 5e-4), ("12x12", 4e-3, 8e-3)] {
            let (_, logits, gradient, loss) = errors(&g, Profile::Exact(width.parse().unwrap()));
            println!("{name} {width}: logits {logits:.1e}, gradient {gradient:.1e}, loss {loss:.1e}");
            assert!(logits < logit_bound && gradient < gradient_bound, "{name} {width}");
        }
    }
}

#[test]
fn a_written_model_reads_back_with_the_same_logits() {
    let g = golden("smollm");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    hf::save(&out, g.layout.config(), &g.flat, 20_000).unwrap();
    assert!(out.join("model.safetensors.index.json").exists(), "small files are asked for, so it is sharded");
    let (config, flat) = hf::load(&out).unwrap();
    assert_eq!(&config, g.layout.config());
    assert!(flat.iter().zip(&g.flat).all(|(a, b)| a.to_bits() == b.to_bits()));
}
