//! The exact operations on Burn's `Tensor`, dispatched to the device a tensor lives on.

use std::fmt::Debug;

use crate::burn::backend::Dispatch;
use crate::burn::tensor::{Element, Int, Tensor, TensorData};

use super::autodiff::ExactBlocks;
use super::blocks::BlockNumbers;
use super::kernels::{AdamwNumbers, ExactKernels, Heads, ProductJob};

/// Weights of an attention block as tensors; shapes as in [`super::blocks`].
#[derive(Clone, Debug)]
pub struct AttentionParameters {
    /// Norm weight `[1,1,D]`.
    pub norm: Tensor<3>,
    /// Stacked projection `[1,W,D]`.
    pub qkv: Tensor<3>,
    /// Its bias `[1,1,W]`.
    pub bias: Option<Tensor<3>>,
    /// Output projection `[1,D,H*dh]`.
    pub out: Tensor<3>,
}

/// Rows `ids` of `table [1,V,D]`: `[1,n,D]`. Every id must be below `V`.
pub fn embedding(
    table: Tensor<3>,
    ids: Tensor<1, Int>,
    order: Tensor<1, Int>,
    offsets: Tensor<1, Int>,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as ExactBlocks>::block_embedding(
        table.into_dispatch(),
        ids.into_dispatch(),
        order.into_dispatch(),
        offsets.into_dispatch(),
    ))
}

/// `x + O(attention(QKV(norm(x)) + bias))` for `x [1, tokens, D]`.
pub fn attention(
    x: Tensor<3>,
    w: AttentionParameters,
    rope: Tensor<3>,
    heads: Heads,
    numbers: BlockNumbers,
) -> Tensor<3> {
    let has_bias = w.bias.is_some();
    let bias = w.bias.unwrap_or_else(|| rope.clone());
    Tensor::from_dispatch(<Dispatch as ExactBlocks>::block_attention(
        x.into_dispatch(),
        w.norm.into_dispatch(),
        w.qkv.into_dispatch(),
        bias.into_dispatch(),
        w.out.into_dispatch(),
        rope.into_dispatch(),
        has_bias,
        heads,
        numbers,
    ))
}

/// `x + Down(swiglu(GateUp(norm(x))))`: norm `[1,1,D]`, gate and up `[1,2F,D]`, down `[1,D,F]`.
pub fn feed_forward(
    x: Tensor<3>,
    norm: Tensor<3>,
    gate_up: Tensor<3>,
    down: Tensor<3>,
    numbers: BlockNumbers,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as ExactBlocks>::block_feed_forward(
        x.into_dispatch(),
        norm.into_dispatch(),
        gate_up.into_dispatch(),
        down.into_dispatch(),
        numbers,
    ))
}

/// Mean cross-entropy `[1,1,1]` of the next tokens `targets [tokens]`, each below `V`.
pub fn loss(
    x: Tensor<3>,
    norm: Tensor<3>,
    head: Tensor<3>,
    targets: Tensor<1, Int>,
    numbers: BlockNumbers,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as ExactBlocks>::block_loss(
        x.into_dispatch(),
        norm.into_dispatch(),
        head.into_dispatch(),
        targets.into_dispatch(),
        numbers,
    ))
}

/// Logits `[1,tokens,V]`; no gradient.
pub fn logits(x: Tensor<3>, norm: Tensor<3>, head: Tensor<3>, numbers: BlockNumbers) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as ExactBlocks>::block_logits(
        x.into_dispatch(),
        norm.into_dispatch(),
        head.into_dispatch(),
        numbers,
    ))
}

/// The elements of what a device gave back for a tensor, or what it said instead.
pub(crate) fn elements<E: Element>(data: Result<TensorData, impl Debug>) -> Result<Vec<E>, String> {
    data.map_err(|e| format!("{e:?}"))?.try_to_vec::<E>().map_err(|e| format!("{e:?}"))
}

/// The exact product of inner tensors; see [`ExactKernels::exact_product`].
pub fn product(a: Tensor<3>, b: Tensor<3>, job: ProductJob) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as ExactKernels>::exact_product(
        a.into_dispatch(),
        b.into_dispatch(),
        job,
    ))
}

/// The sum of squares `[1,1,1]` of an inner tensor; see [`ExactKernels::exact_sum_of_squares`].
pub fn sum_of_squares(x: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as ExactKernels>::exact_sum_of_squares(x.into_dispatch()))
}

/// One AdamW update of inner tensors; see [`ExactKernels::exact_adamw`].
pub fn adamw(
    p: Tensor<3>,
    g: Tensor<3>,
    m: Tensor<3>,
    v: Tensor<3>,
    numbers: AdamwNumbers,
) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
    let (p, m, v) = <Dispatch as ExactKernels>::exact_adamw(
        p.into_dispatch(),
        g.into_dispatch(),
        m.into_dispatch(),
        v.into_dispatch(),
        numbers,
    );
    (Tensor::from_dispatch(p), Tensor::from_dispatch(m), Tensor::from_dispatch(v))
}

/// The hashes `[1,n,8]` of the rows of `x [1,n,4096]`; see [`ExactKernels::exact_leaf_hashes`].
pub fn leaf_hashes(x: Tensor<3>) -> Tensor<3, Int> {
    Tensor::from_dispatch(<Dispatch as ExactKernels>::exact_leaf_hashes(x.into_dispatch()))
}
