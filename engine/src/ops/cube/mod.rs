//! [`ExactKernels`] on every CubeCL runtime: allocates, launches, and owns nothing else.
//!
//! Launches are unchecked because the kernels check their own positions; each `unsafe` block says what bounds it.
#![allow(unsafe_code)]

mod kernels;
mod launch;
mod leaf;
mod product;
mod reduce;
mod scalar;

use crate::burn::backend::tensor::{FloatTensor, IntTensor};
use crate::burn::tensor::{DType, Device, Tensor};
use burn_backend::TensorMetadata;
use burn_cubecl::Cube;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::LANES;
use super::kernels::{AdamwNumbers, ExactKernels, Heads, ProductJob, SQUARES_ROW};
use launch::{dims, elementwise, empty, rows_of_units};

/// The zero that keeps intermediates apart; a kernel argument, so no device compiler can see its value.
const ZERO: u32 = 0;

/// Bytes that a device behind a CubeCL runtime can hold at once, if it is one and its driver says.
pub(crate) fn device_memory(device: &Device) -> Option<u64> {
    let probe = Tensor::<1>::zeros([1], &device.clone().inner()).try_into_primitive::<Cube>().ok()?;
    probe.client.properties().memory.max_memory()
}

fn float(like: &CubeTensor, shape: [usize; 3]) -> CubeTensor {
    empty(like, shape, DType::F32)
}

/// Sums of rows; see `kernels::sum`.
fn row_sums(x: CubeTensor, width: usize, scale: Option<f32>, square: bool) -> CubeTensor {
    let n = x.shape().num_elements();
    let rows = n.div_ceil(width).max(1);
    let out = float(&x, [1, 1, rows]);
    let (count, dim) = rows_of_units(rows);
    // SAFETY: rows are clamped and lanes stop at `n`, the length of `x`.
    unsafe {
        kernels::sum::row_sums::launch_unchecked(
            &out.client,
            count,
            dim,
            x.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            n,
            rows,
            width,
            scale.unwrap_or(1.0),
            ZERO,
            square,
            scale.is_some(),
        );
    }
    out
}

fn column_sum(x: CubeTensor) -> CubeTensor {
    let [_, rows, width] = dims(&x);
    let lanes = float(&x, [1, LANES, width]);
    let out = float(&x, [1, 1, width]);
    let n = LANES * width;
    let (count, dim) = elementwise(&x, n);
    // SAFETY: positions are checked against `n`; rows stop at the number of rows of `x`.
    unsafe {
        kernels::sum::column_lanes::launch_unchecked(
            &out.client,
            count,
            dim,
            x.into_tensor_arg(),
            lanes.clone().into_tensor_arg(),
            n,
            rows,
            width,
            ZERO,
        );
    }
    let (count, dim) = rows_of_units(width);
    // SAFETY: the column is clamped to `width`; `lanes` has 32 rows.
    unsafe {
        kernels::sum::column_tree::launch_unchecked(
            &out.client,
            count,
            dim,
            lanes.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            width,
            ZERO,
        );
    }
    out
}

fn add(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    let (a, b) = (into_contiguous(a), into_contiguous(b));
    let out = float(&a, dims(&a));
    let (n, period) = (a.shape().num_elements(), b.shape().num_elements());
    let (count, dim) = elementwise(&a, n);
    // SAFETY: positions are checked against `n`; `b` is read modulo its length.
    unsafe {
        kernels::sum::add::launch_unchecked(
            &out.client,
            count,
            dim,
            a.into_tensor_arg(),
            b.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            n,
            period,
            ZERO,
        );
    }
    out
}

fn move_outputs(from: CubeTensor, to: CubeTensor, h: &Heads, gather: bool) -> CubeTensor {
    let from = into_contiguous(from);
    let n = from.shape().num_elements();
    let (count, dim) = elementwise(&from, n);
    // SAFETY: both tensors have `n` elements, and the map between them is a permutation.
    unsafe {
        kernels::heads::move_outputs::launch_unchecked(
            &to.client,
            count,
            dim,
            from.into_tensor_arg(),
            to.clone().into_tensor_arg(),
            n,
            h.seq,
            h.kv_heads,
            h.group,
            h.head_dim,
            gather,
        );
    }
    to
}

impl ExactKernels for Cube {
    fn exact_product(a: FloatTensor<Self>, b: FloatTensor<Self>, job: ProductJob) -> FloatTensor<Self> {
        product::product(into_contiguous(a), into_contiguous(b), job)
    }

    fn exact_add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        add(a, b)
    }

    fn exact_add_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        add(x, bias)
    }

    fn exact_column_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        column_sum(into_contiguous(x))
    }

    fn exact_rms_norm(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, w) = (into_contiguous(x), into_contiguous(w));
        let [_, n, d] = dims(&x);
        let (y, r) = (float(&x, [1, n, d]), float(&x, [1, n, 1]));
        let (count, dim) = rows_of_units(n);
        // SAFETY: rows are clamped to `n`, lanes stop at `d`.
        unsafe {
            kernels::norm::rms_norm::launch_unchecked(
                &y.client,
                count,
                dim,
                x.into_tensor_arg(),
                w.into_tensor_arg(),
                y.clone().into_tensor_arg(),
                r.clone().into_tensor_arg(),
                n,
                d,
                1.0 / d as f32,
                eps,
                ZERO,
            );
        }
        (y, r)
    }

    fn exact_rms_norm_backward(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        r: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [dy, x, w, r] = [dy, x, w, r].map(into_contiguous);
        let [_, n, d] = dims(&x);
        let (dx, products) = (float(&x, [1, n, d]), float(&x, [1, n, d]));
        let (count, dim) = rows_of_units(n);
        // SAFETY: rows are clamped to `n`, lanes stop at `d`.
        unsafe {
            kernels::norm::rms_norm_backward::launch_unchecked(
                &dx.client,
                count,
                dim,
                dy.into_tensor_arg(),
                x.into_tensor_arg(),
                w.into_tensor_arg(),
                r.into_tensor_arg(),
                dx.clone().into_tensor_arg(),
                products.clone().into_tensor_arg(),
                n,
                d,
                1.0 / d as f32,
                ZERO,
            );
        }
        (dx, column_sum(products))
    }

    fn exact_heads_split(
        qkv: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        h: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (qkv, rope) = (into_contiguous(qkv), into_contiguous(rope));
        let items = h.batch * h.kv_heads;
        let q = float(&qkv, [items, h.group * h.seq, h.head_dim]);
        let k = float(&qkv, [items, h.seq, h.head_dim]);
        let v = float(&qkv, [items, h.seq, h.head_dim]);
        let n = h.tokens() * h.qkv_width() / 2;
        let (count, dim) = elementwise(&qkv, n);
        // SAFETY: a unit for each pair of elements of `qkv`; the map to the three outputs is a permutation.
        unsafe {
            kernels::heads::split_heads::launch_unchecked(
                &q.client,
                count,
                dim,
                qkv.into_tensor_arg(),
                rope.into_tensor_arg(),
                q.clone().into_tensor_arg(),
                k.clone().into_tensor_arg(),
                v.clone().into_tensor_arg(),
                n,
                h.seq,
                h.kv_heads,
                h.group,
                h.head_dim / 2,
                ZERO,
            );
        }
        (q, k, v)
    }

    fn exact_heads_merge(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        rope: FloatTensor<Self>,
        h: Heads,
    ) -> FloatTensor<Self> {
        let [q, k, v, rope] = [q, k, v, rope].map(into_contiguous);
        let qkv = float(&q, [1, h.tokens(), h.qkv_width()]);
        let n = h.tokens() * h.qkv_width() / 2;
        let (count, dim) = elementwise(&q, n);
        // SAFETY: a unit for each pair of elements of `qkv`; the map from the three inputs is a permutation.
        unsafe {
            kernels::heads::merge_heads::launch_unchecked(
                &qkv.client,
                count,
                dim,
                q.into_tensor_arg(),
                k.into_tensor_arg(),
                v.into_tensor_arg(),
                rope.into_tensor_arg(),
                qkv.clone().into_tensor_arg(),
                n,
                h.seq,
                h.kv_heads,
                h.group,
                h.head_dim / 2,
                ZERO,
            );
        }
        qkv
    }

    fn exact_output_merge(o: FloatTensor<Self>, h: Heads) -> FloatTensor<Self> {
        let to = float(&o, [1, h.tokens(), h.query_heads() * h.head_dim]);
        move_outputs(o, to, &h, true)
    }

    fn exact_output_split(o: FloatTensor<Self>, h: Heads) -> FloatTensor<Self> {
        let to = float(&o, [h.batch * h.kv_heads, h.group * h.seq, h.head_dim]);
        move_outputs(o, to, &h, false)
    }

    fn exact_causal_softmax(s: FloatTensor<Self>, scale: f32, h: Heads) -> FloatTensor<Self> {
        let s = into_contiguous(s);
        let p = float(&s, dims(&s));
        let rows = s.shape().num_elements() / h.seq;
        let (count, dim) = rows_of_units(rows);
        // SAFETY: rows are clamped, lanes stop at `seq`.
        unsafe {
            kernels::softmax::softmax::launch_unchecked(
                &p.client,
                count,
                dim,
                s.into_tensor_arg(),
                p.clone().into_tensor_arg(),
                rows,
                h.seq,
                scale,
                ZERO,
            );
        }
        p
    }

    fn exact_causal_softmax_backward(
        p: FloatTensor<Self>,
        dp: FloatTensor<Self>,
        scale: f32,
        h: Heads,
    ) -> FloatTensor<Self> {
        let (p, dp) = (into_contiguous(p), into_contiguous(dp));
        let ds = float(&p, dims(&p));
        let rows = p.shape().num_elements() / h.seq;
        let (count, dim) = rows_of_units(rows);
        // SAFETY: rows are clamped, lanes stop at `seq`.
        unsafe {
            kernels::softmax::softmax_backward::launch_unchecked(
                &ds.client,
                count,
                dim,
                p.into_tensor_arg(),
                dp.into_tensor_arg(),
                ds.clone().into_tensor_arg(),
                rows,
                h.seq,
                scale,
                ZERO,
            );
        }
        ds
    }

    fn exact_swiglu(gate_up: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let gate_up = into_contiguous(gate_up);
        let [_, rows, width] = dims(&gate_up);
        let out = float(&gate_up, [1, rows, width / 2]);
        let n = rows * (width / 2);
        let (count, dim) = elementwise(&gate_up, n);
        // SAFETY: positions are checked against `n`, the number of gates.
        unsafe {
            kernels::activation::swiglu::launch_unchecked(
                &out.client,
                count,
                dim,
                gate_up.clone().into_tensor_arg(),
                out.clone().into_tensor_arg(),
                n,
                width / 2,
                ZERO,
            );
        }
        // a sigmoid costs less than the memory it would be kept in
        (out, gate_up)
    }

    fn exact_swiglu_backward(
        gate_up: FloatTensor<Self>,
        _kept: FloatTensor<Self>,
        dh: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (gate_up, dh) = (into_contiguous(gate_up), into_contiguous(dh));
        let out = float(&gate_up, dims(&gate_up));
        let (n, f) = (dh.shape().num_elements(), dims(&dh)[2]);
        let (count, dim) = elementwise(&gate_up, n);
        // SAFETY: positions are checked against `n`, the number of gates.
        unsafe {
            kernels::activation::swiglu_backward::launch_unchecked(
                &out.client,
                count,
                dim,
                gate_up.into_tensor_arg(),
                dh.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                n,
                f,
                ZERO,
            );
        }
        out
    }

    fn exact_embedding(w: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let (w, ids) = (into_contiguous(w), into_contiguous(ids));
        let d = dims(&w)[2];
        let tokens = ids.shape().num_elements();
        let out = float(&w, [1, tokens, d]);
        let n = tokens * d;
        let (count, dim) = elementwise(&w, n);
        // SAFETY: positions are checked against `n`; the caller has checked every id against the table.
        unsafe {
            kernels::embedding::embedding::launch_unchecked(
                &out.client,
                count,
                dim,
                w.into_tensor_arg(),
                ids.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                n,
                d,
            );
        }
        out
    }

    fn exact_embedding_backward(
        dy: FloatTensor<Self>,
        order: IntTensor<Self>,
        offsets: IntTensor<Self>,
        vocab: usize,
    ) -> FloatTensor<Self> {
        let (dy, order, offsets) = (into_contiguous(dy), into_contiguous(order), into_contiguous(offsets));
        let d = dims(&dy)[2];
        let out = float(&dy, [1, vocab, d]);
        let n = vocab * d;
        let (count, dim) = elementwise(&dy, n);
        // SAFETY: positions are checked against `n`; `offsets` has `vocab + 1` entries that index `order`, which holds
        // every position of `dy` once.
        unsafe {
            kernels::embedding::embedding_backward::launch_unchecked(
                &out.client,
                count,
                dim,
                dy.into_tensor_arg(),
                order.into_tensor_arg(),
                offsets.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                n,
                d,
                ZERO,
            );
        }
        out
    }

    fn exact_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, targets) = (into_contiguous(logits), into_contiguous(targets));
        let [_, rows, v] = dims(&logits);
        let (losses, stats) = (float(&logits, [1, 1, rows]), float(&logits, [1, rows, 2]));
        let (count, dim) = rows_of_units(rows);
        // SAFETY: rows are clamped, lanes stop at `v`; the caller has checked every target against `v`.
        unsafe {
            kernels::loss::cross_entropy::launch_unchecked(
                &losses.client,
                count,
                dim,
                logits.into_tensor_arg(),
                targets.into_tensor_arg(),
                losses.clone().into_tensor_arg(),
                stats.clone().into_tensor_arg(),
                rows,
                v,
                ZERO,
            );
        }
        (losses, stats)
    }

    fn exact_cross_entropy_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        stats: FloatTensor<Self>,
        seed: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [logits, targets, stats, seed] = [logits, targets, stats, seed].map(into_contiguous);
        let [_, rows, v] = dims(&logits);
        let out = float(&logits, [1, rows, v]);
        let n = rows * v;
        let (count, dim) = elementwise(&logits, n);
        // SAFETY: positions are checked against `n`; `targets` and `stats` have an entry for every row.
        unsafe {
            kernels::loss::cross_entropy_backward::launch_unchecked(
                &out.client,
                count,
                dim,
                logits.into_tensor_arg(),
                targets.into_tensor_arg(),
                stats.into_tensor_arg(),
                seed.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                n,
                v,
                1.0 / rows as f32,
                ZERO,
            );
        }
        out
    }

    fn exact_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let n = x.shape().num_elements();
        row_sums(into_contiguous(x), n, Some(1.0 / n as f32), false)
    }

    fn exact_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut level = row_sums(into_contiguous(x), SQUARES_ROW, None, true);
        while level.shape().num_elements() > 1 {
            level = row_sums(level, SQUARES_ROW, None, false);
        }
        level
    }

    fn exact_adamw(
        p: FloatTensor<Self>,
        g: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        a: AdamwNumbers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [p, g, m, v] = [p, g, m, v].map(into_contiguous);
        let shape = dims(&p);
        let (new_p, new_m, new_v) = (float(&p, shape), float(&p, shape), float(&p, shape));
        let n = p.shape().num_elements();
        let (count, dim) = elementwise(&p, n);
        // SAFETY: all seven tensors have `n` elements, and positions are checked against it.
        unsafe {
            kernels::adamw::adamw::launch_unchecked(
                &new_p.client,
                count,
                dim,
                p.into_tensor_arg(),
                g.into_tensor_arg(),
                m.into_tensor_arg(),
                v.into_tensor_arg(),
                new_p.clone().into_tensor_arg(),
                new_m.clone().into_tensor_arg(),
                new_v.clone().into_tensor_arg(),
                n,
                a.gradient_scale,
                a.beta1,
                a.one_minus_beta1,
                a.beta2,
                a.one_minus_beta2,
                a.c1,
                a.c2,
                a.eps_squared,
                a.lr,
                a.lr_decay,
                ZERO,
            );
        }
        (new_p, new_m, new_v)
    }

    fn exact_leaf_hashes(x: FloatTensor<Self>) -> IntTensor<Self> {
        leaf::hashes(into_contiguous(x))
    }
}
