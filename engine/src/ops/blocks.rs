//! The four differentiable pieces of a decoder, composed from [`ExactKernels`]: forward and hand-written backward.
//!
//! A piece takes the residual stream and gives it back, so every intermediate tensor has exactly one consumer and
//! autodiff never has to add gradients itself: its stock addition keeps or drops subnormals as the device pleases.
//! (The one exception, a tied embedding, is added by autodiff and flushed again before anything depends on it.)

use crate::burn::backend::tensor::{FloatTensor, IntTensor};

use super::kernels::{ExactKernels, Heads, ProductJob};
use crate::product::{Causal, Precision};

/// Fixed numbers of a decoder block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockNumbers {
    /// Epsilon of RMSNorm.
    pub eps: f32,
    /// Operand widths of every matrix product.
    pub precision: Precision,
}

impl BlockNumbers {
    /// Both factors as stored: `A [m,k]`, `B [n,k]`.
    fn plain(&self) -> ProductJob {
        ProductJob {
            left_transposed: false,
            right_transposed: false,
            precision: self.precision,
            causal: Causal::None,
        }
    }
    /// `A [m,k]`, `B [k,n]`.
    fn right(&self) -> ProductJob {
        ProductJob { right_transposed: true, ..self.plain() }
    }
    /// `A [k,m]`, `B [k,n]`.
    fn both(&self) -> ProductJob {
        ProductJob { left_transposed: true, right_transposed: true, ..self.plain() }
    }
}

impl ProductJob {
    /// Without the columns that causal attention hides.
    fn seen(self, heads: &Heads) -> Self {
        Self { causal: Causal::Output { seq: heads.seq }, ..self }
    }
    /// With a left factor of zeros wherever causal attention hides.
    fn of_seen(self, heads: &Heads) -> Self {
        Self { causal: Causal::Left { seq: heads.seq }, ..self }
    }
}

/// `1/sqrt(head_dim)`; both operations are exact IEEE on the host.
fn attention_scale(heads: &Heads) -> f32 {
    1.0 / (heads.head_dim as f32).sqrt()
}

/// What the attention block keeps for its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct AttentionSaved<B: ExactKernels> {
    x: FloatTensor<B>,
    normed: FloatTensor<B>,
    r: FloatTensor<B>,
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    p: FloatTensor<B>,
    merged: FloatTensor<B>,
}

/// Weights of the attention block: norm `[1,1,D]`, stacked projection `[1,W,D]`, its bias `[1,1,W]`, output `[1,D,H*dh]`.
#[derive(Clone, Debug)]
pub(crate) struct AttentionWeights<B: ExactKernels> {
    pub(crate) norm: FloatTensor<B>,
    pub(crate) qkv: FloatTensor<B>,
    pub(crate) bias: Option<FloatTensor<B>>,
    pub(crate) out: FloatTensor<B>,
    pub(crate) rope: FloatTensor<B>,
}

/// `x + O(attention(QKV(norm(x))))` for `x [1, tokens, D]`.
pub(crate) fn attention_forward<B: ExactKernels>(
    x: FloatTensor<B>,
    w: &AttentionWeights<B>,
    heads: Heads,
    n: BlockNumbers,
) -> (FloatTensor<B>, AttentionSaved<B>) {
    let (normed, r) = B::exact_rms_norm(x.clone(), w.norm.clone(), n.eps);
    let mut qkv = B::exact_product(normed.clone(), w.qkv.clone(), n.plain());
    if let Some(bias) = &w.bias {
        qkv = B::exact_add_bias(qkv, bias.clone());
    }
    let (q, k, v) = B::exact_heads_split(qkv, w.rope.clone(), heads);
    let s = B::exact_product(q.clone(), k.clone(), n.plain().seen(&heads));
    let p = B::exact_causal_softmax(s, attention_scale(&heads), heads);
    let o = B::exact_product(p.clone(), v.clone(), n.right().of_seen(&heads));
    let merged = B::exact_output_merge(o, heads);
    let y = B::exact_add(x.clone(), B::exact_product(merged.clone(), w.out.clone(), n.plain()));
    (y, AttentionSaved { x, normed, r, q, k, v, p, merged })
}

/// Gradients of the attention block, in the order of its inputs.
pub(crate) struct AttentionGradients<B: ExactKernels> {
    pub(crate) x: FloatTensor<B>,
    pub(crate) norm: FloatTensor<B>,
    pub(crate) qkv: FloatTensor<B>,
    pub(crate) bias: Option<FloatTensor<B>>,
    pub(crate) out: FloatTensor<B>,
}

pub(crate) fn attention_backward<B: ExactKernels>(
    dy: FloatTensor<B>,
    s: AttentionSaved<B>,
    w: AttentionWeights<B>,
    heads: Heads,
    n: BlockNumbers,
) -> AttentionGradients<B> {
    let d_merged = B::exact_product(dy.clone(), w.out, n.right());
    let d_out = B::exact_product(dy.clone(), s.merged, n.both());
    let d_o = B::exact_output_split(d_merged, heads);
    let dp = B::exact_product(d_o.clone(), s.v, n.plain().seen(&heads));
    let dv = B::exact_product(s.p.clone(), d_o, n.both());
    let ds = B::exact_causal_softmax_backward(s.p, dp, attention_scale(&heads), heads);
    let dq = B::exact_product(ds.clone(), s.k, n.right().of_seen(&heads));
    let dk = B::exact_product(ds, s.q, n.both());
    let dqkv = B::exact_heads_merge(dq, dk, dv, w.rope, heads);
    let bias = w.bias.map(|_| B::exact_column_sum(dqkv.clone()));
    let d_normed = B::exact_product(dqkv.clone(), w.qkv, n.right());
    let qkv = B::exact_product(dqkv, s.normed, n.both());
    let (dx, norm) = B::exact_rms_norm_backward(d_normed, s.x, w.norm, s.r);
    AttentionGradients { x: B::exact_add(dy, dx), norm, qkv, bias, out: d_out }
}

/// What the feed-forward block keeps for its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct FeedForwardSaved<B: ExactKernels> {
    x: FloatTensor<B>,
    normed: FloatTensor<B>,
    r: FloatTensor<B>,
    gate_up: FloatTensor<B>,
    /// What the device keeps of SwiGLU.
    activation: FloatTensor<B>,
    hidden: FloatTensor<B>,
}

/// Weights of the feed-forward block: norm `[1,1,D]`, stacked gate and up `[1,2F,D]`, down `[1,D,F]`.
#[derive(Clone, Debug)]
pub(crate) struct FeedForwardWeights<B: ExactKernels> {
    pub(crate) norm: FloatTensor<B>,
    pub(crate) gate_up: FloatTensor<B>,
    pub(crate) down: FloatTensor<B>,
}

/// `x + Down(swiglu(GateUp(norm(x))))`.
pub(crate) fn feed_forward_forward<B: ExactKernels>(
    x: FloatTensor<B>,
    w: &FeedForwardWeights<B>,
    n: BlockNumbers,
) -> (FloatTensor<B>, FeedForwardSaved<B>) {
    let (normed, r) = B::exact_rms_norm(x.clone(), w.norm.clone(), n.eps);
    let gate_up = B::exact_product(normed.clone(), w.gate_up.clone(), n.plain());
    let (hidden, activation) = B::exact_swiglu(gate_up.clone());
    let y = B::exact_add(x.clone(), B::exact_product(hidden.clone(), w.down.clone(), n.plain()));
    (y, FeedForwardSaved { x, normed, r, gate_up, activation, hidden })
}

/// Gradients of the feed-forward block, in the order of its inputs.
pub(crate) struct FeedForwardGradients<B: ExactKernels> {
    pub(crate) x: FloatTensor<B>,
    pub(crate) norm: FloatTensor<B>,
    pub(crate) gate_up: FloatTensor<B>,
    pub(crate) down: FloatTensor<B>,
}

pub(crate) fn feed_forward_backward<B: ExactKernels>(
    dy: FloatTensor<B>,
    s: FeedForwardSaved<B>,
    w: FeedForwardWeights<B>,
    n: BlockNumbers,
) -> FeedForwardGradients<B> {
    let d_hidden = B::exact_product(dy.clone(), w.down, n.right());
    let down = B::exact_product(dy.clone(), s.hidden, n.both());
    let d_gate_up = B::exact_swiglu_backward(s.gate_up, s.activation, d_hidden);
    let d_normed = B::exact_product(d_gate_up.clone(), w.gate_up, n.right());
    let gate_up = B::exact_product(d_gate_up, s.normed, n.both());
    let (dx, norm) = B::exact_rms_norm_backward(d_normed, s.x, w.norm, s.r);
    FeedForwardGradients { x: B::exact_add(dy, dx), norm, gate_up, down }
}

/// What the loss keeps for its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct LossSaved<B: ExactKernels> {
    x: FloatTensor<B>,
    normed: FloatTensor<B>,
    r: FloatTensor<B>,
    logits: FloatTensor<B>,
    stats: FloatTensor<B>,
    targets: IntTensor<B>,
}

/// Logits `[1, tokens, vocab]` of `head [1,V,D]` after the final norm `[1,1,D]`.
pub(crate) fn logits_forward<B: ExactKernels>(
    x: FloatTensor<B>,
    norm: FloatTensor<B>,
    head: FloatTensor<B>,
    n: BlockNumbers,
) -> FloatTensor<B> {
    let (normed, _) = B::exact_rms_norm(x, norm, n.eps);
    B::exact_product(normed, head, n.plain())
}

/// Mean cross-entropy `[1,1,1]` of the logits against `targets [tokens]`.
pub(crate) fn loss_forward<B: ExactKernels>(
    x: FloatTensor<B>,
    norm: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
    n: BlockNumbers,
) -> (FloatTensor<B>, LossSaved<B>) {
    let (normed, r) = B::exact_rms_norm(x.clone(), norm, n.eps);
    let logits = B::exact_product(normed.clone(), head, n.plain());
    let (rows, stats) = B::exact_cross_entropy(logits.clone(), targets.clone());
    (B::exact_mean(rows), LossSaved { x, normed, r, logits, stats, targets })
}

/// Gradients of the loss: residual stream, norm, head.
pub(crate) fn loss_backward<B: ExactKernels>(
    seed: FloatTensor<B>,
    s: LossSaved<B>,
    norm: FloatTensor<B>,
    head: FloatTensor<B>,
    n: BlockNumbers,
) -> [FloatTensor<B>; 3] {
    let d_logits = B::exact_cross_entropy_backward(s.logits, s.targets, s.stats, seed);
    let d_normed = B::exact_product(d_logits.clone(), head, n.right());
    let d_head = B::exact_product(d_logits, s.normed, n.both());
    let (dx, d_norm) = B::exact_rms_norm_backward(d_normed, s.x, norm, s.r);
    [dx, d_norm, d_head]
}
