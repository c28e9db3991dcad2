//! The four pieces of a decoder as operations of Burn's autodiff.

use crate::burn;
use crate::burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use crate::burn::backend::tensor::{FloatTensor, IntTensor};
use crate::burn::backend::{Backend, Flex, backend_extension};
use burn_backend::TensorMetadata;
use burn_cubecl::Cube;

use super::blocks::{
    AttentionSaved, AttentionWeights, BlockNumbers, FeedForwardSaved, FeedForwardWeights, LossSaved,
    attention_backward, attention_forward, feed_forward_backward, feed_forward_forward, logits_forward,
    loss_backward, loss_forward,
};
use super::kernels::{ExactKernels, Heads};

/// Differentiable pieces; see [`super::blocks`] for the mathematics.
#[backend_extension(Cube, Flex, Autodiff)]
pub trait ExactBlocks: Backend {
    /// Rows `ids` of `table [1,V,D]`; `order` and `offsets` list the positions of every id for the gradient.
    fn block_embedding(
        table: FloatTensor<Self>,
        ids: IntTensor<Self>,
        order: IntTensor<Self>,
        offsets: IntTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `x + O(attention(QKV(norm(x)) + bias))`. Without a bias, `has_bias` is false and `bias` is ignored.
    #[allow(clippy::too_many_arguments)]
    fn block_attention(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        out: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        has_bias: bool,
        heads: Heads,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self>;

    /// `x + Down(swiglu(GateUp(norm(x))))`.
    fn block_feed_forward(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        gate_up: FloatTensor<Self>,
        down: FloatTensor<Self>,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self>;

    /// Mean cross-entropy `[1,1,1]`.
    fn block_loss(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self>;

    /// Logits `[1,tokens,V]`, for reading: no gradient flows through them.
    fn block_logits(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        head: FloatTensor<Self>,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self>;
}

macro_rules! inner_blocks {
    ($backend:ty) => {
        impl ExactBlocks for $backend {
            fn block_embedding(
                table: FloatTensor<Self>,
                ids: IntTensor<Self>,
                _order: IntTensor<Self>,
                _offsets: IntTensor<Self>,
            ) -> FloatTensor<Self> {
                Self::exact_embedding(table, ids)
            }
            fn block_attention(
                x: FloatTensor<Self>,
                norm: FloatTensor<Self>,
                qkv: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                out: FloatTensor<Self>,
                rope: FloatTensor<Self>,
                has_bias: bool,
                heads: Heads,
                numbers: BlockNumbers,
            ) -> FloatTensor<Self> {
                let w = AttentionWeights { norm, qkv, bias: has_bias.then_some(bias), out, rope };
                attention_forward::<Self>(x, &w, heads, numbers).0
            }
            fn block_feed_forward(
                x: FloatTensor<Self>,
                norm: FloatTensor<Self>,
                gate_up: FloatTensor<Self>,
                down: FloatTensor<Self>,
                numbers: BlockNumbers,
            ) -> FloatTensor<Self> {
                feed_forward_forward::<Self>(x, &FeedForwardWeights { norm, gate_up, down }, numbers).0
            }
            fn block_loss(
                x: FloatTensor<Self>,
                norm: FloatTensor<Self>,
                head: FloatTensor<Self>,
                targets: IntTensor<Self>,
                numbers: BlockNumbers,
            ) -> FloatTensor<Self> {
                loss_forward::<Self>(x, norm, head, targets, numbers).0
            }
            fn block_logits(
                x: FloatTensor<Self>,
                norm: FloatTensor<Self>,
                head: FloatTensor<Self>,
                numbers: BlockNumbers,
            ) -> FloatTensor<Self> {
                logits_forward::<Self>(x, norm, head, numbers)
            }
        }
    };
}
inner_blocks!(Cube);
inner_blocks!(Flex);

#[derive(Debug)]
struct EmbeddingBackward;
impl<B: ExactKernels> Backward<B, 1> for EmbeddingBackward {
    /// Positions by id, their offsets, and the size of the vocabulary.
    type State = (IntTensor<B>, IntTensor<B>, usize);
    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [table] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (order, offsets, vocab) = ops.state;
        if let Some(node) = table {
            grads.register::<B>(node.id, B::exact_embedding_backward(dy, order, offsets, vocab));
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;
impl<B: ExactKernels> Backward<B, 5> for AttentionBackward {
    type State = (AttentionSaved<B>, AttentionWeights<B>, Heads, BlockNumbers);
    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x, norm, qkv, bias, out] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (saved, weights, heads, numbers) = ops.state;
        let g = attention_backward::<B>(dy, saved, weights, heads, numbers);
        let pairs =
            [(x, Some(g.x)), (norm, Some(g.norm)), (qkv, Some(g.qkv)), (bias, g.bias), (out, Some(g.out))];
        for (node, gradient) in pairs {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct FeedForwardBackward;
impl<B: ExactKernels> Backward<B, 4> for FeedForwardBackward {
    type State = (FeedForwardSaved<B>, FeedForwardWeights<B>, BlockNumbers);
    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (saved, weights, numbers) = ops.state;
        let g = feed_forward_backward::<B>(dy, saved, weights, numbers);
        for (node, gradient) in ops.parents.into_iter().zip([g.x, g.norm, g.gate_up, g.down]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct LossBackward;
impl<B: ExactKernels> Backward<B, 3> for LossBackward {
    type State = (LossSaved<B>, FloatTensor<B>, FloatTensor<B>, BlockNumbers);
    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let seed = grads.consume::<B>(&ops.node);
        let (saved, norm, head, numbers) = ops.state;
        let gradients = loss_backward::<B>(seed, saved, norm, head, numbers);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: ExactKernels + ExactBlocks, C: CheckpointStrategy> ExactBlocks for Autodiff<B, C> {
    fn block_embedding(
        table: FloatTensor<Self>,
        ids: IntTensor<Self>,
        order: IntTensor<Self>,
        offsets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let inner = table.primitive().clone();
        let vocab = inner.shape()[1];
        match EmbeddingBackward.prepare::<C>([table.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((order, offsets, vocab), B::exact_embedding(inner, ids)),
            OpsKind::UnTracked(prep) => prep.finish(B::exact_embedding(inner, ids)),
        }
    }

    fn block_attention(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        out: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        has_bias: bool,
        heads: Heads,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self> {
        let weights = AttentionWeights::<B> {
            norm: norm.primitive().clone(),
            qkv: qkv.primitive().clone(),
            bias: has_bias.then(|| bias.primitive().clone()),
            out: out.primitive().clone(),
            rope: rope.primitive().clone(),
        };
        let (y, saved) = attention_forward::<B>(x.primitive().clone(), &weights, heads, numbers);
        let parents = [x.node(), norm.node(), qkv.node(), bias.node(), out.node()];
        match AttentionBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((saved, weights, heads, numbers), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn block_feed_forward(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        gate_up: FloatTensor<Self>,
        down: FloatTensor<Self>,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self> {
        let weights = FeedForwardWeights::<B> {
            norm: norm.primitive().clone(),
            gate_up: gate_up.primitive().clone(),
            down: down.primitive().clone(),
        };
        let (y, saved) = feed_forward_forward::<B>(x.primitive().clone(), &weights, numbers);
        let parents = [x.node(), norm.node(), gate_up.node(), down.node()];
        match FeedForwardBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((saved, weights, numbers), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn block_loss(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self> {
        let (inner_norm, inner_head) = (norm.primitive().clone(), head.primitive().clone());
        let (loss, saved) = loss_forward::<B>(
            x.primitive().clone(),
            inner_norm.clone(),
            inner_head.clone(),
            targets,
            numbers,
        );
        match LossBackward.prepare::<C>([x.node(), norm.node(), head.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((saved, inner_norm, inner_head, numbers), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        }
    }

    fn block_logits(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        head: FloatTensor<Self>,
        numbers: BlockNumbers,
    ) -> FloatTensor<Self> {
        let inner = logits_forward::<B>(
            x.primitive().clone(),
            norm.primitive().clone(),
            head.primitive().clone(),
            numbers,
        );
        <Self as burn_backend::AutodiffBackend>::from_inner(inner)
    }
}
