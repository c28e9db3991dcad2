//! A device proves itself before it does exact work.
//!
//! Every operation of the contract runs on hostile inputs; the SHA-256 of its results must be the one that stands in
//! [`EXPECTED`]. The inputs come from a fixed generator, so the vector is the same everywhere.

use std::fmt::Debug;

use crate::burn::backend::Dispatch;
use crate::burn::tensor::{Device, Element, Int, Tensor, TensorData};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::merkle::CHUNK_ELEMENTS;
use crate::ops::autodiff::ExactBlocks;
use crate::ops::kernels::{AdamwNumbers, ExactKernels, Heads, ProductJob};
use crate::ops::tensor::{elements, leaf_hashes};
use crate::product::{Causal, Precision};

/// One operation and the digest of its results on this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationDigest {
    /// Name of the operation.
    pub operation: &'static str,
    /// SHA-256 of the results, little-endian.
    pub digest: [u8; 32],
}

/// A device that may not do exact work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelfTestError {
    /// An operation has other bits than the contract.
    #[error(
        "this device computes {operation} differently: {found} instead of {expected}. It cannot do exact work; use \
         another device, or --profile native for runs that do not need matching bits"
    )]
    Deviates {
        /// The first operation that differs.
        operation: &'static str,
        /// Its digest here, in hex.
        found: String,
        /// The digest of the contract, in hex.
        expected: &'static str,
    },
    /// Operations were left out or added: this program and its expected digests belong to different contracts.
    #[error(
        "the self-test ran {found} operations and {expected} are expected; this build is broken, install another"
    )]
    Count {
        /// Operations that ran.
        found: usize,
        /// Operations of the contract.
        expected: usize,
    },
    /// Another operation ran than the contract has in its place.
    #[error("the self-test ran {found} where {expected} is expected; this build is broken, install another")]
    Order {
        /// The operation that ran.
        found: &'static str,
        /// The operation of the contract.
        expected: &'static str,
    },
    /// The device did not give back its data.
    #[error("the device failed in {operation}: {reason}; update its driver, or use another device")]
    Failed {
        /// The operation that was running.
        operation: &'static str,
        /// What the device said.
        reason: String,
    },
}

/// The digests of the contract, operation by operation, in the order they run.
pub const EXPECTED: &[(&str, &str)] = include!("selftest_expected.in");

/// Runs the conformance vector and compares it with [`EXPECTED`].
///
/// # Errors
/// The first operation that deviates or fails.
pub fn check(device: &Device) -> Result<Vec<OperationDigest>, SelfTestError> {
    let found = run(device, Vector::CONTRACT)?;
    compare(&found, EXPECTED)?;
    Ok(found)
}

/// Refuses results that are not, operation by operation, the expected ones.
fn compare(
    found: &[OperationDigest],
    expected: &[(&'static str, &'static str)],
) -> Result<(), SelfTestError> {
    if found.len() != expected.len() {
        return Err(SelfTestError::Count { found: found.len(), expected: expected.len() });
    }
    for (have, (operation, expected)) in found.iter().zip(expected) {
        let hex = hex::encode(have.digest);
        if have.operation != *operation {
            return Err(SelfTestError::Order { found: have.operation, expected: operation });
        }
        if hex != *expected {
            return Err(SelfTestError::Deviates { operation, found: hex, expected });
        }
    }
    Ok(())
}

/// Inputs and shapes of a run over all operations.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    /// Seed of the inputs.
    pub seed: u64,
    /// Sizes relative to those of the contract's vector, as a fraction; none becomes less than 1.
    pub scale: (usize, usize),
    /// Whether some inputs are subnormal, which no operation gives but a file may hold.
    pub subnormals: bool,
}

impl Vector {
    /// The one that [`EXPECTED`] belongs to.
    pub const CONTRACT: Self = Self { seed: 0x5741_5445_5253_4845, scale: (1, 1), subnormals: false };

    fn size(&self, n: usize) -> usize {
        (n * self.scale.0 / self.scale.1).max(1)
    }
}

/// One digest for the whole vector: SHA-256 over the operations' digests in order.
pub fn overall(operations: &[OperationDigest]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for o in operations {
        hash.update(o.digest);
    }
    hash.finalize().into()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the inputs of the vector.
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / 8_388_608.0) - 1.0
    }

    /// Ordinary numbers, zeros of both signs, numbers `2^-range ..= 2^range` away, and perhaps subnormals.
    fn hostile(&mut self, n: usize, range: u32, subnormals: bool) -> Vec<f32> {
        (0..n)
            .map(|_| {
                let kind = self.next() % 16;
                let x = self.unit();
                let x = match kind {
                    0 => 0.0,
                    1 => -0.0,
                    2..=6 => {
                        let e = 127 - range + (self.next() % u64::from(2 * range + 1)) as u32;
                        x * f32::from_bits(e << 23)
                    }
                    _ => x,
                };
                if subnormals && self.next().is_multiple_of(16) {
                    return f32::from_bits(self.next() as u32 & 0x807f_ffff);
                }
                crate::scalar::flush(x, 0)
            })
            .collect()
    }

    fn ids(&mut self, n: usize, below: usize) -> Vec<i32> {
        (0..n).map(|_| (self.next() % below as u64) as i32).collect()
    }
}

struct Runner<'a> {
    device: &'a Device,
    vector: Vector,
    random: Generator,
    found: Vec<OperationDigest>,
}

impl Runner<'_> {
    fn floats(&self, values: Vec<f32>, shape: [usize; 3]) -> Tensor<3> {
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    fn input(&mut self, shape: [usize; 3], range: u32) -> Tensor<3> {
        let values = self.random.hostile(shape.iter().product(), range, self.vector.subnormals);
        self.floats(values, shape)
    }

    fn ints(&self, values: Vec<i32>) -> Tensor<1, Int> {
        let n = values.len();
        Tensor::from_data(TensorData::new(values, [n]), self.device)
    }

    /// Adds the results of one operation.
    fn record(&mut self, operation: &'static str, results: Vec<Tensor<3>>) -> Result<(), SelfTestError> {
        let data: Vec<_> = results.into_iter().map(Tensor::try_into_data).collect();
        self.add(operation, data, f32::to_le_bytes)
    }

    /// Adds the results of an operation that gives words.
    fn record_words(&mut self, operation: &'static str, words: Tensor<3, Int>) -> Result<(), SelfTestError> {
        self.add(operation, vec![words.try_into_data()], u32::to_le_bytes)
    }

    fn add<E: Element>(
        &mut self,
        operation: &'static str,
        results: Vec<Result<TensorData, impl Debug>>,
        bytes: impl Fn(E) -> [u8; 4],
    ) -> Result<(), SelfTestError> {
        let mut hash = Sha256::new();
        for data in results {
            let failed = |reason| SelfTestError::Failed { operation, reason };
            for value in elements::<E>(data).map_err(failed)? {
                hash.update(bytes(value));
            }
        }
        self.found.push(OperationDigest { operation, digest: hash.finalize().into() });
        Ok(())
    }
}

type D = Dispatch;

fn out(t: crate::burn::backend::DispatchTensor) -> Tensor<3> {
    Tensor::from_dispatch(t)
}

fn job(precision: Precision, left_transposed: bool, right_transposed: bool) -> ProductJob {
    ProductJob { left_transposed, right_transposed, precision, causal: Causal::None }
}

/// Runs every operation of the contract on `device`, with the inputs and shapes of `vector`.
///
/// # Errors
/// [`SelfTestError::Failed`] if the device does.
pub fn run(device: &Device, vector: Vector) -> Result<Vec<OperationDigest>, SelfTestError> {
    let device = device.clone().inner();
    let mut r = Runner { device: &device, vector, random: Generator(vector.seed), found: Vec::new() };
    products(&mut r)?;
    rows(&mut r)?;
    attention(&mut r)?;
    tokens(&mut r)?;
    optimizer(&mut r)?;
    block(&mut r)?;
    leaves(&mut r)?;
    Ok(r.found)
}

fn products(r: &mut Runner<'_>) -> Result<(), SelfTestError> {
    for (name, width) in [
        ("product 16x16", "16x16"),
        ("product 12x12", "12x12"),
        ("product 8x16", "8x16"),
        ("product 8x8", "8x8"),
    ] {
        let failed =
            |e: crate::product::WidthError| SelfTestError::Failed { operation: name, reason: e.to_string() };
        let precision: Precision = width.parse().map_err(failed)?;
        let mut results = Vec::new();
        for (batch, m, n, k, range) in [(1, 5, 7, 1, 1), (2, 33, 17, 100, 12), (1, 9, 31, 2050, 30)] {
            let [m, n, k] = [m, n, k].map(|size| r.vector.size(size));
            let (a, b) = (r.input([batch, m, k], range), r.input([batch, n, k], range));
            results.push(crate::ops::tensor::product(a, b, job(precision, false, false)));
            let (a, b) = (r.input([batch, k, m], range), r.input([batch, k, n], range));
            results.push(crate::ops::tensor::product(a, b, job(precision, true, true)));
        }
        r.record(name, results)?;
    }
    Ok(())
}

fn rows(r: &mut Runner<'_>) -> Result<(), SelfTestError> {
    let size = |n| r.vector.size(n);
    let [rows, columns] = [size(37), size(45)];
    let [tall, narrow, long, mean] = [size(101), size(70), size(9000), size(333)];
    let [tokens, hidden, inner] = [size(40), size(77), size(33)];
    let (a, b) = (r.input([1, rows, columns], 126), r.input([1, rows, columns], 126));
    r.record("add", vec![out(D::exact_add(a.into_dispatch(), b.into_dispatch()))])?;
    let (x, bias) = (r.input([1, rows, columns], 20), r.input([1, 1, columns], 20));
    r.record("bias", vec![out(D::exact_add_bias(x.into_dispatch(), bias.into_dispatch()))])?;
    let x = r.input([1, tall, narrow], 60);
    r.record("column sum", vec![out(D::exact_column_sum(x.into_dispatch()))])?;
    let x = r.input([1, 1, long], 30);
    r.record("sum of squares", vec![out(D::exact_sum_of_squares(x.into_dispatch()))])?;
    let x = r.input([1, 1, mean], 30);
    r.record("mean", vec![out(D::exact_mean(x.into_dispatch()))])?;
    let (x, w, dy) =
        (r.input([1, tokens, hidden], 20), r.input([1, 1, hidden], 4), r.input([1, tokens, hidden], 20));
    let (y, rms) = D::exact_rms_norm(x.clone().into_dispatch(), w.clone().into_dispatch(), 1e-5);
    r.record("RMSNorm", vec![out(y), out(rms.clone())])?;
    let (dx, dw) = D::exact_rms_norm_backward(dy.into_dispatch(), x.into_dispatch(), w.into_dispatch(), rms);
    r.record("RMSNorm gradient", vec![out(dx), out(dw)])?;
    let (gu, dh) = (r.input([1, tokens, 2 * inner], 7), r.input([1, tokens, inner], 7));
    let (h, kept) = D::exact_swiglu(gu.clone().into_dispatch());
    r.record("SwiGLU", vec![out(h)])?;
    let gradient = D::exact_swiglu_backward(gu.into_dispatch(), kept, dh.into_dispatch());
    r.record("SwiGLU gradient", vec![out(gradient)])
}

fn attention(r: &mut Runner<'_>) -> Result<(), SelfTestError> {
    let (seq, head_dim) = (r.vector.size(37), 2 * r.vector.size(3));
    let h = Heads { batch: 2, seq, kv_heads: 2, group: 3, head_dim };
    let table = crate::model::rope::table(h.seq, h.head_dim, 10_000.0);
    let rope = r.floats(table, [1, h.seq, h.head_dim]);
    let qkv = r.input([1, h.tokens(), h.qkv_width()], 10);
    let (q, k, v) = D::exact_heads_split(qkv.into_dispatch(), rope.clone().into_dispatch(), h);
    r.record("RoPE", vec![out(q.clone()), out(k.clone()), out(v.clone())])?;
    r.record("RoPE gradient", vec![out(D::exact_heads_merge(q, k, v, rope.into_dispatch(), h))])?;
    let o = r.input([1, h.tokens(), h.query_heads() * h.head_dim], 10);
    let split = D::exact_output_split(o.into_dispatch(), h);
    let merged = D::exact_output_merge(split.clone(), h);
    r.record("heads", vec![out(split), out(merged)])?;
    let shape = [h.batch * h.kv_heads, h.group * h.seq, h.seq];
    let (s, dp) = (r.input(shape, 6), r.input(shape, 20));
    let p = D::exact_causal_softmax(s.into_dispatch(), 0.408_248_3, h);
    r.record("softmax", vec![out(p.clone())])?;
    r.record(
        "softmax gradient",
        vec![out(D::exact_causal_softmax_backward(p, dp.into_dispatch(), 0.408_248_3, h))],
    )
}

fn tokens(r: &mut Runner<'_>) -> Result<(), SelfTestError> {
    let [n, v, d] = [70, 19, 13].map(|size| r.vector.size(size));
    let ids = r.random.ids(n, v);
    let mut order: Vec<i32> = (0..n as i32).collect();
    order.sort_by_key(|p| ids[*p as usize]);
    let offsets: Vec<i32> = (0..=v as i32).map(|v| ids.iter().filter(|id| **id < v).count() as i32).collect();
    let (table, dy) = (r.input([1, v, d], 20), r.input([1, n, d], 20));
    let ids_tensor = r.ints(ids);
    let rows = D::exact_embedding(table.into_dispatch(), ids_tensor.clone().into_dispatch());
    r.record("embedding", vec![out(rows)])?;
    let (order, offsets) = (r.ints(order), r.ints(offsets));
    let gradient =
        D::exact_embedding_backward(dy.into_dispatch(), order.into_dispatch(), offsets.into_dispatch(), v);
    r.record("embedding gradient", vec![out(gradient)])?;
    let (x, targets) = (r.input([1, n, v], 6), ids_tensor);
    let (losses, stats) = D::exact_cross_entropy(x.clone().into_dispatch(), targets.clone().into_dispatch());
    r.record("cross-entropy", vec![out(losses), out(stats.clone())])?;
    let seed = r.floats(vec![1.0], [1, 1, 1]);
    let dx = D::exact_cross_entropy_backward(
        x.into_dispatch(),
        targets.into_dispatch(),
        stats,
        seed.into_dispatch(),
    );
    r.record("cross-entropy gradient", vec![out(dx)])
}

fn optimizer(r: &mut Runner<'_>) -> Result<(), SelfTestError> {
    let shape = [1, r.vector.size(30), r.vector.size(50)];
    let (p, g, m) = (r.input(shape, 10), r.input(shape, 40), r.input(shape, 40));
    let v = r.random.hostile(shape.iter().product(), 60, r.vector.subnormals);
    let v = r.floats(v.into_iter().map(f32::abs).collect(), shape);
    let numbers = AdamwNumbers {
        gradient_scale: 0.7,
        beta1: 0.9,
        one_minus_beta1: 1.0 - 0.9,
        beta2: 0.95,
        one_minus_beta2: 1.0 - 0.95,
        c1: 3.69,
        c2: 7.01,
        eps_squared: 1e-16,
        lr: 1e-3,
        lr_decay: 1e-4,
    };
    let (p, m, v) = crate::ops::tensor::adamw(p, g, m, v, numbers);
    r.record("AdamW", vec![p, m, v])
}

/// Whole blocks, forward only: the composition of everything above.
fn block(r: &mut Runner<'_>) -> Result<(), SelfTestError> {
    let (seq, head_dim, inner) = (r.vector.size(33), 2 * r.vector.size(4), r.vector.size(24));
    let h = Heads { batch: 2, seq, kv_heads: 1, group: 2, head_dim };
    let hidden = h.query_heads() * head_dim;
    let numbers = crate::ops::blocks::BlockNumbers { eps: 1e-5, precision: Precision::default() };
    let table = crate::model::rope::table(h.seq, h.head_dim, 10_000.0);
    let rope = r.floats(table, [1, h.seq, h.head_dim]);
    let x = r.input([1, h.tokens(), hidden], 1);
    let (norm, qkv, bias, o) = (
        r.input([1, 1, hidden], 1),
        r.input([1, h.qkv_width(), hidden], 1),
        r.input([1, 1, h.qkv_width()], 1),
        r.input([1, hidden, hidden], 1),
    );
    let y = D::block_attention(
        x.into_dispatch(),
        norm.clone().into_dispatch(),
        qkv.into_dispatch(),
        bias.into_dispatch(),
        o.into_dispatch(),
        rope.into_dispatch(),
        true,
        h,
        numbers,
    );
    let (gate_up, down) = (r.input([1, 2 * inner, hidden], 1), r.input([1, hidden, inner], 1));
    let z = D::block_feed_forward(
        y.clone(),
        norm.into_dispatch(),
        gate_up.into_dispatch(),
        down.into_dispatch(),
        numbers,
    );
    r.record("decoder block", vec![out(y), out(z)])
}

/// The hashes that a state's digest is made of, over numbers of all kinds.
fn leaves(r: &mut Runner<'_>) -> Result<(), SelfTestError> {
    let x = r.input([1, r.vector.size(9), CHUNK_ELEMENTS], 126);
    r.record_words("leaf hash", leaf_hashes(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_passes() {
        let found = check(&Device::flex()).unwrap();
        assert_eq!(found.len(), EXPECTED.len());
    }

    /// What a device that keeps the contract finds.
    fn right() -> Vec<OperationDigest> {
        let digest = |hex: &str| hex::decode(hex).unwrap().try_into().unwrap();
        EXPECTED.iter().map(|(operation, hex)| OperationDigest { operation, digest: digest(hex) }).collect()
    }

    #[test]
    fn a_deviating_operation_is_refused_and_named() {
        assert_eq!(compare(&right(), EXPECTED), Ok(()));
        for (i, (name, expected)) in EXPECTED.iter().enumerate() {
            for bit in [0, 100, 255] {
                let mut found = right();
                found[i].digest[bit / 8] ^= 1 << (bit % 8);
                let hex = hex::encode(found[i].digest);
                let refused = compare(&found, EXPECTED).unwrap_err();
                assert!(refused.to_string().contains(name), "{refused}");
                assert_eq!(refused, SelfTestError::Deviates { operation: name, found: hex, expected });
            }
        }
    }

    #[test]
    fn the_first_of_several_deviations_is_named() {
        let mut found = right();
        found[5].digest[0] ^= 1;
        found[2].digest[31] ^= 1;
        let refused = compare(&found, EXPECTED).unwrap_err();
        assert!(matches!(refused, SelfTestError::Deviates { operation, .. } if operation == EXPECTED[2].0));
    }

    #[test]
    fn operations_left_out_added_or_exchanged_are_refused() {
        let all = EXPECTED.len();
        for found in [vec![], right()[..all - 1].to_vec(), [right(), right()[..1].to_vec()].concat()] {
            let count = SelfTestError::Count { found: found.len(), expected: all };
            assert_eq!(compare(&found, EXPECTED), Err(count));
        }
        let mut found = right();
        found.swap(0, 1);
        let order = SelfTestError::Order { found: EXPECTED[1].0, expected: EXPECTED[0].0 };
        assert_eq!(compare(&found, EXPECTED), Err(order));
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut names: Vec<_> = EXPECTED.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EXPECTED.len());
    }
}
