//! What a backend must compute, defined to the bit. Inner tensors only: gradients are the business of `blocks`.
//!
//! All tensors are contiguous, rank 3 `[batch, rows, columns]` unless said otherwise. `flush` and sums are those of
//! the contract in [`crate::ops`].

use crate::burn;
use crate::burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};

use crate::product::{Causal, Precision};

/// How the two factors of [`ExactKernels::exact_product`] lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductJob {
    /// The left factor is stored `[batch, k, m]` instead of `[batch, m, k]`.
    pub left_transposed: bool,
    /// The right factor is stored `[batch, k, n]` instead of `[batch, n, k]`.
    pub right_transposed: bool,
    /// Operand widths.
    pub precision: Precision,
    /// Work that causal attention makes useless; a device may do it all the same, so with [`Causal::Output`] the columns
    /// behind the diagonal are arbitrary finite numbers, or zero.
    pub causal: Causal,
}

/// The shape of grouped-query attention over `batch` sequences of `seq` tokens.
///
/// Query head `kv * group + g` belongs to key/value head `kv`. Scores are held as `[batch * kv_heads, group * seq, seq]`
/// so that the sum of gradients over a group of query heads is part of one exact dot product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Sequences in the batch.
    pub batch: usize,
    /// Tokens of one sequence.
    pub seq: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Query heads for each key/value head.
    pub group: usize,
    /// Width of one head; even.
    pub head_dim: usize,
}

impl Heads {
    /// Query heads.
    pub fn query_heads(&self) -> usize {
        self.kv_heads * self.group
    }
    /// Columns of the stacked query, key and value projection.
    pub fn qkv_width(&self) -> usize {
        (self.query_heads() + 2 * self.kv_heads) * self.head_dim
    }
    /// Tokens in the batch.
    pub fn tokens(&self) -> usize {
        self.batch * self.seq
    }
}

/// The numbers of one AdamW update, already in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwNumbers {
    /// Factor on every gradient element (global-norm clipping).
    pub gradient_scale: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// `1 - beta1`.
    pub one_minus_beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// `1 - beta2`.
    pub one_minus_beta2: f32,
    /// Bias correction `1 / (1 - beta1^t)`.
    pub c1: f32,
    /// Bias correction `1 / (1 - beta2^t)`.
    pub c2: f32,
    /// `epsilon^2`: the step is `m / sqrt(v + epsilon^2)`.
    pub eps_squared: f32,
    /// Learning rate.
    pub lr: f32,
    /// Learning rate times weight decay; zero for norms and biases.
    pub lr_decay: f32,
}

/// The exact primitives. Implemented for the CPU backend and for every CubeCL runtime.
#[backend_extension(Cube, Flex)]
pub trait ExactKernels: Backend {
    /// `C[m,n] = sum_k A[m,k] B[n,k]` for every batch item, by the definition in [`crate::product`].
    fn exact_product(a: FloatTensor<Self>, b: FloatTensor<Self>, job: ProductJob) -> FloatTensor<Self>;

    /// `flush(a + b)`, equal shapes.
    fn exact_add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x [1,n,d]`, `bias [1,1,d]`: `flush(x + bias)` for every row.
    fn exact_add_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x [1,n,d] -> [1,1,d]`: the sum down each column.
    fn exact_column_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// RMSNorm (arXiv 1910.07467) of the rows of `x [1,n,d]` with weight `w [1,1,d]`:
    /// `r = rsqrt(flush(flush(sum(flush(x*x)) * (1/d)) + eps))`, `y = flush(flush(x*r) * w)`. Returns `y` and `r [1,n,1]`.
    fn exact_rms_norm(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Backward of RMSNorm: with `h = flush(x*r)`, `g = flush(dy*w)`, `c = flush(sum(flush(g*h)) * (1/d))`:
    /// `dx = flush(flush(g - flush(h*c)) * r)` and `dw` = column sum of `flush(dy*h)`.
    fn exact_rms_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Cuts `qkv [1, tokens, qkv_width]` into rotated queries `[batch*kv, group*seq, head_dim]`, rotated keys and values
    /// `[batch*kv, seq, head_dim]`. `rope [1, seq, head_dim]` holds `head_dim/2` cosines, then as many sines. With
    /// `(a, b)` the elements `j` and `j + head_dim/2`: `a' = flush(flush(a*cos) - flush(b*sin))`,
    /// `b' = flush(flush(b*cos) + flush(a*sin))` (RoFormer, arXiv 2104.09864, in the two-halves order of Llama).
    fn exact_heads_split(
        qkv: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        heads: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The adjoint of [`ExactKernels::exact_heads_split`]: rotates back by the negative angle and stacks to
    /// `[1, tokens, qkv_width]`.
    fn exact_heads_merge(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self>;

    /// `[batch*kv, group*seq, head_dim] -> [1, tokens, query_heads*head_dim]`.
    fn exact_output_merge(o: FloatTensor<Self>, heads: Heads) -> FloatTensor<Self>;

    /// The inverse of [`ExactKernels::exact_output_merge`].
    fn exact_output_split(o: FloatTensor<Self>, heads: Heads) -> FloatTensor<Self>;

    /// Causal softmax of scores `[batch*kv, group*seq, seq]`. Row `g*seq + t` sees the columns `j <= t` only: with
    /// `z = flush(s * scale)` and `m` their maximum, `e = exp(flush(z - m))`, `p = flush(e * recip(sum(e)))`; `+0` beyond.
    fn exact_causal_softmax(s: FloatTensor<Self>, scale: f32, heads: Heads) -> FloatTensor<Self>;

    /// Its backward: `c = sum(flush(dp*p))`, `ds = flush(flush(p * flush(dp - c)) * scale)`; `+0` beyond the diagonal.
    fn exact_causal_softmax_backward(
        p: FloatTensor<Self>,
        dp: FloatTensor<Self>,
        scale: f32,
        heads: Heads,
    ) -> FloatTensor<Self>;

    /// `[1,n,2f]` (gate, then up) `-> [1,n,f]`: `flush(flush(g * sigmoid(g)) * u)` (SwiGLU, arXiv 2002.05202). With it,
    /// what the device wants to have for the backward pass: sigmoids, or `gate_up` again.
    fn exact_swiglu(gate_up: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Its backward, with what the forward pass `kept`. With `s = sigmoid(g)`: `du = flush(dh * flush(g*s))`,
    /// `dg = flush(flush(dh*u) * flush(s * flush(1 + flush(g * flush(1 - s)))))`.
    fn exact_swiglu_backward(
        gate_up: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        dh: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Rows `ids [n]` of `w [1,v,d]`: `[1,n,d]`.
    fn exact_embedding(w: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;

    /// Gradient of the embedding table `[1,vocab,d]`: row `v` adds, in ascending position and flushed, the rows of
    /// `dy [1,n,d]` at `order[offsets[v] .. offsets[v+1]]`, starting from `+0`.
    fn exact_embedding_backward(
        dy: FloatTensor<Self>,
        order: IntTensor<Self>,
        offsets: IntTensor<Self>,
        vocab: usize,
    ) -> FloatTensor<Self>;

    /// Per-row cross-entropy of `logits [1,n,v]` against `targets [n]`: with `m` the row maximum (+0 of zeros of both signs) and
    /// `e = exp(flush(x - m))`, `loss = flush(ln(sum(e)) - flush(x_target - m))`. Returns the losses `[1,1,n]` and the
    /// pairs `(m, recip(sum(e)))` `[1,n,2]`.
    fn exact_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Its backward for a mean over `n` rows: `p = flush(exp(flush(x-m)) * recip)`,
    /// `dx = flush(flush(p - [target]) * flush(seed * (1/n)))`; `seed [1,1,1]` is the gradient of the mean.
    fn exact_cross_entropy_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        stats: FloatTensor<Self>,
        seed: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `x [1,1,n] -> [1,1,1]`: `flush(sum(x) * (1/n))`.
    fn exact_mean(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Sum of squares of all elements: rows of [`SQUARES_ROW`] elements (the last filled up with zeros) are each summed
    /// (`sum(flush(x*x))`), the row sums likewise without squaring, until one number is left: `[1,1,1]`.
    /// Inputs are flushed on reading.
    fn exact_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// AdamW (arXiv 1711.05101), elementwise, as defined by `adamw_*` in [`crate::scalar`]. Equal shapes;
    /// returns parameters, first and second moments.
    fn exact_adamw(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        numbers: AdamwNumbers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `x [1,n,4096]`, any bits `-> [1,n,8]` words of 32 bits: the hash of every row as in [`crate::merkle::leaf_hash`],
    /// little-endian.
    fn exact_leaf_hashes(x: FloatTensor<Self>) -> IntTensor<Self>;
}

/// Row length of [`ExactKernels::exact_sum_of_squares`].
pub const SQUARES_ROW: usize = 4096;
