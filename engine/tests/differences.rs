//! Gradients agree with finite differences of a decoder written a second time, plainly and in f64.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know for tests

mod common;

use common::{gradient, shapes, start, tokens};
use watershed_engine::burn::tensor::Device;
use watershed_engine::model::{Layout, ParamKind, Profile, Tokens};

/// Parameters of the reference.
struct Plain<'a> {
    layout: &'a Layout,
    flat: &'a [f64],
}

impl Plain<'_> {
    fn get(&self, kind: ParamKind, layer: Option<usize>) -> &[f64] {
        &self.flat[self.layout.find(kind, layer).unwrap().range()]
    }
}

fn norm(x: &[f64], w: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(w).map(|(x, w)| x / (mean + eps).sqrt() * w).collect()
}

/// `w [out, in]` times `x [in]`.
fn linear(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn rotate(x: &[f64], t: usize, theta: f64) -> Vec<f64> {
    let half = x.len() / 2;
    let mut out = vec![0.0; x.len()];
    for j in 0..half {
        let angle = t as f64 * theta.powf(-2.0 * j as f64 / x.len() as f64);
        out[j] = x[j] * angle.cos() - x[j + half] * angle.sin();
        out[j + half] = x[j + half] * angle.cos() + x[j] * angle.sin();
    }
    out
}

/// Mean cross-entropy in f64.
fn loss(layout: &Layout, flat: &[f64], tokens: &Tokens) -> f64 {
    let (c, p) = (layout.config(), Plain { layout, flat });
    let (eps, theta, dh) = (f64::from(c.rms_eps), f64::from(c.rope_theta), c.head_dim);
    let mut total = 0.0;
    for ids in tokens.ids().chunks(tokens.seq() + 1) {
        let embed = p.get(ParamKind::Embed, None);
        let mut x: Vec<Vec<f64>> = ids[..tokens.seq()]
            .iter()
            .map(|id| embed[*id as usize * c.hidden..][..c.hidden].to_vec())
            .collect();
        for l in 0..c.layers {
            let l = Some(l);
            let mut qkv: Vec<Vec<f64>> = x
                .iter()
                .map(|x| linear(p.get(ParamKind::Qkv, l), &norm(x, p.get(ParamKind::Norm1, l), eps)))
                .collect();
            if c.qkv_bias {
                for row in &mut qkv {
                    row.iter_mut().zip(p.get(ParamKind::QkvBias, l)).for_each(|(a, b)| *a += b);
                }
            }
            let part = |t: usize, column: usize| &qkv[t][column * dh..][..dh];
            for t in 0..tokens.seq() {
                let mut merged = Vec::new();
                for h in 0..c.heads {
                    let kv = h / (c.heads / c.kv_heads);
                    let q = rotate(part(t, h), t, theta);
                    let e: Vec<f64> = (0..=t)
                        .map(|j| {
                            let k = rotate(part(j, c.heads + kv), j, theta);
                            (q.iter().zip(&k).map(|(a, b)| a * b).sum::<f64>() / (dh as f64).sqrt()).exp()
                        })
                        .collect();
                    let sum: f64 = e.iter().sum();
                    for i in 0..dh {
                        let v = |j: usize| part(j, c.heads + c.kv_heads + kv)[i];
                        merged.push((0..=t).map(|j| e[j] / sum * v(j)).sum::<f64>());
                    }
                }
                linear(p.get(ParamKind::O, l), &merged).iter().zip(&mut x[t]).for_each(|(a, x)| *x += a);
            }
            for x in &mut x {
                let gate_up = linear(p.get(ParamKind::GateUp, l), &norm(x, p.get(ParamKind::Norm2, l), eps));
                let (gate, up) = gate_up.split_at(c.ffn);
                let hidden: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                linear(p.get(ParamKind::Down, l), &hidden).iter().zip(x).for_each(|(a, x)| *x += a);
            }
        }
        let head = p.get(if c.tied_embeddings { ParamKind::Embed } else { ParamKind::Head }, None);
        for (x, target) in x.iter().zip(&ids[1..]) {
            let logits = linear(head, &norm(x, p.get(ParamKind::Norm, None), eps));
            let sum: f64 = logits.iter().map(|z| z.exp()).sum();
            total += sum.ln() - logits[*target as usize];
        }
    }
    total / (tokens.batch() * tokens.seq()) as f64
}

#[test]
fn gradients_are_those_of_an_f64_reference() {
    for (name, config) in shapes() {
        let (layout, state) = start(&config);
        // Away from the initial point, where norms are one and biases zero.
        let flat: Vec<f32> = state
            .parameters
            .iter()
            .enumerate()
            .map(|(i, p)| p + ((i * 37 % 101) as f32 - 50.0) * 1e-3)
            .collect();
        let tokens = tokens(&config, 2, 9, 1);
        let exact = Profile::Exact("16x16".parse().unwrap());
        let (value, gradient) = gradient(&layout, &flat, &tokens, exact, &Device::flex());
        let wide: Vec<f64> = flat.iter().map(|p| f64::from(*p)).collect();
        assert!((f64::from(value) - loss(&layout, &wide, &tokens)).abs() < 1e-4, "{name}: loss");
        for spec in layout.params() {
            // Along the sign of the gradient within one parameter tensor: a direction that no error can hide in.
            let h = 1e-4;
            let moved = |sign: f64| {
                let mut flat = wide.clone();
                for i in spec.range() {
                    flat[i] += sign * h * f64::from(gradient[i].signum());
                }
                loss(&layout, &flat, &tokens)
            };
            let difference = (moved(1.0) - moved(-1.0)) / (2.0 * h);
            let expected: f64 = gradient[spec.range()].iter().map(|g| f64::from(g.abs())).sum();
            let error = (difference - expected).abs() / expected.abs().max(1e-6);
            assert!(
                error < 2e-3,
                "{name} {}: {difference} by differences, {expected} by autodiff",
                spec.name
            );
        }
    }
}
