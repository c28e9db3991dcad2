//! [`ExactKernels`] on the CPU: unpacks Burn's CPU tensors and calls the slices of `host` and the product.

use crate::burn::backend::Flex;
use crate::burn::backend::tensor::{FloatTensor, IntTensor};
use crate::burn::tensor::TensorData;
use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;

use super::host::{activation, adamw, attention, embedding, loss, norm, sum};
use super::kernels::{AdamwNumbers, ExactKernels, Heads, ProductJob, SQUARES_ROW};
use super::pool;
use crate::merkle::{CHUNK_ELEMENTS, leaf_hash};
use crate::product;

/// `[batch, rows, columns]` of a rank-3 tensor.
fn dims(t: &FlexTensor) -> [usize; 3] {
    t.shape().dims::<3>()
}

/// The tensor itself if its elements lie together, from the first of its memory to the last, else a copy. Takes it by
/// value: `to_contiguous` borrows, and a tensor that is held twice is copied again before it is written.
fn contiguous(t: FlexTensor) -> FlexTensor {
    let n = t.shape().num_elements();
    let whole =
        t.is_contiguous() && t.layout().start_offset() == 0 && t.bytes().len() == n * size_of::<f32>();
    if whole { t } else { t.to_contiguous() }
}

/// A tensor of four-byte elements as a slice. When it is dropped and nobody else holds the tensor, its memory is used again.
struct Contiguous(Option<FlexTensor>);

impl Contiguous {
    fn of(t: FlexTensor) -> Self {
        Self(Some(contiguous(t)))
    }
    fn f32(&self) -> &[f32] {
        self.0.as_ref().map_or(&[], |t| t.storage())
    }
    fn i32(&self) -> &[i32] {
        self.0.as_ref().map_or(&[], |t| t.storage())
    }
}

impl Drop for Contiguous {
    fn drop(&mut self) {
        if let Some(tensor) = self.0.take() {
            pool::give_tensor(tensor);
        }
    }
}

/// A new tensor filled by `write`, which is given arbitrary elements and writes each of them.
fn make(shape: [usize; 3], write: impl FnOnce(&mut [f32])) -> FlexTensor {
    let mut data = pool::take(shape.iter().product());
    write(&mut data);
    tensor(shape, data)
}

fn tensor(shape: [usize; 3], data: Vec<f32>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape))
}

/// `x + y`, with `y` repeated if it is shorter, in the memory of `x` if nobody else holds it.
fn add(x: FlexTensor, y: FlexTensor) -> FlexTensor {
    let mut x = contiguous(x);
    let y = Contiguous::of(y);
    norm::add(x.storage_mut(), y.f32());
    x
}

impl ExactKernels for Flex {
    fn exact_product(a: FloatTensor<Self>, b: FloatTensor<Self>, job: ProductJob) -> FloatTensor<Self> {
        let ([batch, a1, a2], [_, b1, b2]) = (dims(&a), dims(&b));
        let (m, k) = if job.left_transposed { (a2, a1) } else { (a1, a2) };
        let n = if job.right_transposed { b2 } else { b1 };
        let (a, b) = (Contiguous::of(a), Contiguous::of(b));
        make([batch, m, n], |out| {
            let done = product::product_into(
                &product::Factor { data: a.f32(), transposed: job.left_transposed },
                &product::Factor { data: b.f32(), transposed: job.right_transposed },
                product::Size { batch, m, n, k },
                job.precision,
                job.causal,
                out,
            );
            if done.is_err() {
                // A contraction of more than 2^20: an operation of the tensor library has no way to fail, so the result
                // is poisoned, which the training step refuses as divergence.
                out.fill(f32::NAN);
            }
        })
    }

    fn exact_add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        // the second one is the result of a product, so nobody else holds it as a rule
        add(b, a)
    }

    fn exact_add_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        add(x, bias)
    }

    fn exact_column_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let d = dims(&x)[2];
        let x = Contiguous::of(x);
        make([1, 1, d], |out| sum::column_sum(x.f32(), d, out))
    }

    fn exact_rms_norm(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [_, n, d] = dims(&x);
        let (x, w) = (Contiguous::of(x), Contiguous::of(w));
        let (mut y, mut r) = (pool::take(n * d), pool::take(n));
        norm::forward(x.f32(), w.f32(), eps, &mut y, &mut r);
        (tensor([1, n, d], y), tensor([1, n, 1], r))
    }

    fn exact_rms_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [_, n, d] = dims(&x);
        let (dy, x, w, r) = (Contiguous::of(dy), Contiguous::of(x), Contiguous::of(w), Contiguous::of(r));
        let (mut dx, mut dw) = (pool::take(n * d), pool::take(d));
        norm::backward(dy.f32(), x.f32(), w.f32(), r.f32(), &mut dx, &mut dw);
        (tensor([1, n, d], dx), tensor([1, 1, d], dw))
    }

    fn exact_heads_split(
        qkv: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        h: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (qkv, rope) = (Contiguous::of(qkv), Contiguous::of(rope));
        let items = h.batch * h.kv_heads;
        let (q_shape, kv_shape) = ([items, h.group * h.seq, h.head_dim], [items, h.seq, h.head_dim]);
        let kv_len = kv_shape.iter().product();
        let (mut q, mut k, mut v) =
            (pool::take(q_shape.iter().product()), pool::take(kv_len), pool::take(kv_len));
        attention::split(qkv.f32(), rope.f32(), &h, &mut q, &mut k, &mut v);
        (tensor(q_shape, q), tensor(kv_shape, k), tensor(kv_shape, v))
    }

    fn exact_heads_merge(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        h: Heads,
    ) -> FloatTensor<Self> {
        let (q, k, v, rope) = (Contiguous::of(q), Contiguous::of(k), Contiguous::of(v), Contiguous::of(rope));
        make([1, h.tokens(), h.qkv_width()], |out| {
            attention::merge(q.f32(), k.f32(), v.f32(), rope.f32(), &h, out);
        })
    }

    fn exact_output_merge(o: FloatTensor<Self>, h: Heads) -> FloatTensor<Self> {
        let o = Contiguous::of(o);
        make([1, h.tokens(), h.query_heads() * h.head_dim], |out| attention::merge_outputs(o.f32(), &h, out))
    }

    fn exact_output_split(o: FloatTensor<Self>, h: Heads) -> FloatTensor<Self> {
        let o = Contiguous::of(o);
        make([h.batch * h.kv_heads, h.group * h.seq, h.head_dim], |out| {
            attention::split_outputs(o.f32(), &h, out);
        })
    }

    fn exact_causal_softmax(s: FloatTensor<Self>, scale: f32, h: Heads) -> FloatTensor<Self> {
        let shape = dims(&s);
        let s = Contiguous::of(s);
        make(shape, |out| attention::softmax(s.f32(), scale, h.seq, out))
    }

    fn exact_causal_softmax_backward(
        p: FloatTensor<Self>,
        dp: FloatTensor<Self>,
        scale: f32,
        h: Heads,
    ) -> FloatTensor<Self> {
        let shape = dims(&p);
        let (p, dp) = (Contiguous::of(p), Contiguous::of(dp));
        make(shape, |out| attention::softmax_backward(p.f32(), dp.f32(), scale, h.seq, out))
    }

    fn exact_swiglu(gate_up: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [_, n, width] = dims(&gate_up);
        let (gate_up, f) = (Contiguous::of(gate_up), width / 2);
        let (mut h, mut sigmoids) = (pool::take(n * f), pool::take(n * f));
        activation::forward(gate_up.f32(), f, &mut h, &mut sigmoids);
        (tensor([1, n, f], h), tensor([1, n, f], sigmoids))
    }

    fn exact_swiglu_backward(
        gate_up: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        dh: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let shape = dims(&gate_up);
        let (gate_up, sigmoids, dh) = (Contiguous::of(gate_up), Contiguous::of(kept), Contiguous::of(dh));
        make(shape, |out| {
            activation::backward(gate_up.f32(), sigmoids.f32(), dh.f32(), shape[2] / 2, out);
        })
    }

    fn exact_embedding(w: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let d = dims(&w)[2];
        let (w, ids) = (Contiguous::of(w), Contiguous::of(ids));
        make([1, ids.i32().len(), d], |out| embedding::forward(w.f32(), d, ids.i32(), out))
    }

    fn exact_embedding_backward(
        dy: FloatTensor<Self>,
        order: IntTensor<Self>,
        offsets: IntTensor<Self>,
        vocab: usize,
    ) -> FloatTensor<Self> {
        let d = dims(&dy)[2];
        let (dy, order, offsets) = (Contiguous::of(dy), Contiguous::of(order), Contiguous::of(offsets));
        make([1, vocab, d], |out| embedding::backward(dy.f32(), d, order.i32(), offsets.i32(), out))
    }

    fn exact_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [_, n, v] = dims(&logits);
        let (logits, targets) = (Contiguous::of(logits), Contiguous::of(targets));
        let (mut losses, mut stats) = (pool::take(n), pool::take(2 * n));
        loss::forward(logits.f32(), v, targets.i32(), &mut losses, &mut stats);
        (tensor([1, 1, n], losses), tensor([1, n, 2], stats))
    }

    fn exact_cross_entropy_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        stats: FloatTensor<Self>,
        seed: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let shape = dims(&logits);
        let (logits, targets) = (Contiguous::of(logits), Contiguous::of(targets));
        let (stats, seed) = (Contiguous::of(stats), Contiguous::of(seed));
        make(shape, |out| {
            loss::backward(logits.f32(), shape[2], targets.i32(), stats.f32(), seed.f32()[0], out);
        })
    }

    fn exact_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = Contiguous::of(x);
        tensor([1, 1, 1], vec![sum::mean(x.f32())])
    }

    fn exact_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = Contiguous::of(x);
        tensor([1, 1, 1], vec![sum::sum_of_squares(x.f32(), SQUARES_ROW)])
    }

    fn exact_adamw(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        numbers: AdamwNumbers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let g = Contiguous::of(g);
        // in place if nobody else holds them
        let (mut p, mut m, mut v) = (contiguous(p), contiguous(m), contiguous(v));
        adamw::update(p.storage_mut(), g.f32(), m.storage_mut(), v.storage_mut(), &numbers);
        (p, m, v)
    }

    fn exact_leaf_hashes(x: FloatTensor<Self>) -> IntTensor<Self> {
        let leaves = dims(&x)[1];
        let x = Contiguous::of(x);
        let hashes = x.f32().chunks(CHUNK_ELEMENTS).map(leaf_hash);
        let words: Vec<u32> =
            hashes.flat_map(bytemuck::cast::<_, [[u8; 4]; 8]>).map(u32::from_le_bytes).collect();
        FlexTensor::from_data(TensorData::new(words, [1, leaves, 8]))
    }
}
