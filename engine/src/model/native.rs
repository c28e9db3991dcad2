//! The same decoder in the backend's own f32 operations, for comparison: no promise about bits.

use crate::burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::ModelConfig;
use crate::ops::kernels::Heads;
use crate::ops::tensor::AttentionParameters;

/// Rows `ids` of `table [1,V,D]`.
pub(crate) fn embedding(table: Tensor<3>, ids: Tensor<1, Int>) -> Tensor<3> {
    let [_, v, d] = table.dims();
    let n = ids.dims()[0];
    table.reshape([v, d]).select(0, ids).reshape([1, n, d])
}

/// `[1,1,seq,seq]`: zero up to the diagonal, a large negative number beyond.
pub(crate) fn causal_mask(seq: usize, device: &Device) -> Tensor<4> {
    let mask: Vec<f32> = (0..seq * seq).map(|i| if i % seq > i / seq { -1e9 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(mask, [1, 1, seq, seq]), device)
}

fn linear(x: Tensor<3>, w: Tensor<3>) -> Tensor<3> {
    x.matmul(w.swap_dims(1, 2))
}

fn rms_norm(x: Tensor<3>, w: Tensor<3>, eps: f32) -> Tensor<3> {
    let r = (x.clone() * x.clone()).mean_dim(2).add_scalar(eps).sqrt().recip();
    x * r * w
}

/// Rotates `x [B,H,T,dh]` by `cos`, `sin` `[1,1,T,dh/2]`.
fn rotate(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let a = x.clone().narrow(3, 0, half);
    let b = x.narrow(3, half, half);
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = b * cos.clone() + a * sin.clone();
    Tensor::cat(vec![first, second], 3)
}

pub(crate) fn attention(
    x: Tensor<3>,
    w: AttentionParameters,
    rope: &Tensor<3>,
    mask: &Tensor<4>,
    h: Heads,
    eps: f32,
) -> Tensor<3> {
    let (b, t, dh, kv, hq) = (h.batch, h.seq, h.head_dim, h.kv_heads, h.query_heads());
    let mut qkv = linear(rms_norm(x.clone(), w.norm, eps), w.qkv);
    if let Some(bias) = w.bias {
        qkv = qkv + bias;
    }
    let qkv = qkv.reshape([b, t, hq + 2 * kv, dh]).swap_dims(1, 2);
    let rope = rope.clone().reshape([1, 1, t, dh]);
    let (cos, sin) = (rope.clone().narrow(3, 0, dh / 2), rope.narrow(3, dh / 2, dh / 2));
    let q = rotate(qkv.clone().narrow(1, 0, hq), &cos, &sin);
    let repeat = |x: Tensor<4>| -> Tensor<4> {
        if h.group == 1 {
            return x;
        }
        let x: Tensor<5> = x.reshape([b, kv, 1, t, dh]);
        x.repeat_dim(2, h.group).reshape([b, hq, t, dh])
    };
    let k = repeat(rotate(qkv.clone().narrow(1, hq, kv), &cos, &sin));
    let v = repeat(qkv.narrow(1, hq + kv, kv));
    let scores = q.matmul(k.swap_dims(2, 3)).div_scalar((dh as f32).sqrt()) + mask.clone();
    let o = activation::softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([1, b * t, hq * dh]);
    x + linear(o, w.out)
}

pub(crate) fn feed_forward(
    x: Tensor<3>,
    norm: Tensor<3>,
    gate_up: Tensor<3>,
    down: Tensor<3>,
    eps: f32,
) -> Tensor<3> {
    let gate_up = linear(rms_norm(x.clone(), norm, eps), gate_up);
    let f = gate_up.dims()[2] / 2;
    let gate = activation::silu(gate_up.clone().narrow(2, 0, f));
    x + linear(gate * gate_up.narrow(2, f, f), down)
}

pub(crate) fn logits(x: Tensor<3>, norm: Tensor<3>, head: Tensor<3>, config: &ModelConfig) -> Tensor<3> {
    linear(rms_norm(x, norm, config.rms_eps), head)
}

/// Mean cross-entropy `[1,1,1]`.
pub(crate) fn loss(
    x: Tensor<3>,
    norm: Tensor<3>,
    head: Tensor<3>,
    targets: Tensor<1, Int>,
    config: &ModelConfig,
) -> Tensor<3> {
    let n = targets.dims()[0];
    let rows = activation::log_softmax(logits(x, norm, head, config), 2);
    rows.gather(2, targets.reshape([1, n, 1])).mean().neg().reshape([1, 1, 1])
}
