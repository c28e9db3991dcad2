//! The decoder on a device: parameters as tensors, and the loss of a batch in the exact or the native profile.
//!
//! Parameters enter and leave as the one flat vector of [`Layout`]; this module never updates them.

use std::sync::{Mutex, PoisonError};

use crate::burn::tensor::{Device, Int, Tensor, TensorData};
use thiserror::Error;

use super::{Layout, native, rope};
use crate::ops::blocks::BlockNumbers;
use crate::ops::host::flush;
use crate::ops::kernels::Heads;
use crate::ops::tensor::{AttentionParameters, attention, embedding, feed_forward, logits, loss};
use crate::product::Precision;

/// How the arithmetic is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The numeric contract: the same bits on every device.
    Exact(Precision),
    /// The backend's own f32 kernels: no promise about bits.
    Native,
}

/// A batch of token windows: `batch` rows of `seq + 1` ids, of which the first `seq` are read and the last `seq` predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    batch: usize,
    seq: usize,
}

/// Tokens that cannot be trained on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The number of ids does not fit the shape.
    #[error(
        "{found} token ids given, but {batch} windows of {seq} tokens and their successors need {expected}"
    )]
    Count {
        /// Ids given.
        found: usize,
        /// Ids needed.
        expected: usize,
        /// Windows.
        batch: usize,
        /// Tokens of a window.
        seq: usize,
    },
    /// An id outside the vocabulary.
    #[error("token {id} at position {position} is outside the vocabulary of {vocab}")]
    OutsideVocabulary {
        /// The id.
        id: u32,
        /// Its index in the batch.
        position: usize,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// Windows longer than the model's positions.
    #[error("windows of {seq} tokens exceed the model's {max_seq} positions; use a shorter sequence length")]
    TooLong {
        /// Tokens of a window.
        seq: usize,
        /// Positions of the model.
        max_seq: usize,
    },
}

impl Tokens {
    /// `ids` holds `batch` rows of `seq + 1`.
    ///
    /// # Errors
    /// [`TokenError::Count`] when it does not, or when either is zero.
    pub fn new(ids: Vec<u32>, batch: usize, seq: usize) -> Result<Self, TokenError> {
        let expected = seq.checked_add(1).and_then(|n| n.checked_mul(batch)).unwrap_or(usize::MAX);
        if batch == 0 || seq == 0 || ids.len() != expected {
            return Err(TokenError::Count { found: ids.len(), expected, batch, seq });
        }
        Ok(Self { ids, batch, seq })
    }

    /// Windows.
    pub fn batch(&self) -> usize {
        self.batch
    }
    /// Tokens of a window.
    pub fn seq(&self) -> usize {
        self.seq
    }
    /// All ids, `batch` rows of `seq + 1`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn column(&self, first: usize) -> Vec<i32> {
        self.ids
            .chunks_exact(self.seq + 1)
            .flat_map(|row| &row[first..first + self.seq])
            .map(|id| *id as i32)
            .collect()
    }
}

/// A model on a device.
#[derive(Debug)]
pub struct Decoder {
    layout: Layout,
    profile: Profile,
    device: Device,
    /// In declared order, `[1, rows, columns]`, or `[1, 1, n]` for vectors.
    parameters: Vec<Tensor<3>>,
    /// The rotary table of the last window length, which seldom changes.
    rope: Mutex<Option<(usize, Tensor<3>)>>,
}

impl Decoder {
    /// Puts `flat` (of [`Layout::total`] elements) on `device`. `tracked` parameters take part in autodiff.
    ///
    /// # Errors
    /// The length does not match the layout.
    pub fn new(
        layout: Layout,
        profile: Profile,
        device: &Device,
        flat: &[f32],
        tracked: bool,
    ) -> Result<Self, super::LayoutError> {
        layout.check_length(flat.len())?;
        let device = if tracked { device.clone().autodiff() } else { device.clone().inner() };
        let parameters = to_tensors(&layout, flat, &device)
            .into_iter()
            .map(|t| if tracked { t.require_grad() } else { t })
            .collect();
        Ok(Self { layout, profile, device, parameters, rope: Mutex::new(None) })
    }

    /// The layout of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
    /// The arithmetic in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }
    /// The parameters as tensors, in declared order.
    pub fn parameters(&self) -> &[Tensor<3>] {
        &self.parameters
    }
    pub(crate) fn parameters_mut(&mut self) -> &mut [Tensor<3>] {
        &mut self.parameters
    }

    fn check(&self, tokens: &Tokens) -> Result<(), TokenError> {
        let config = self.layout.config();
        if tokens.seq > config.max_seq {
            return Err(TokenError::TooLong { seq: tokens.seq, max_seq: config.max_seq });
        }
        match tokens.ids.iter().position(|id| *id as usize >= config.vocab) {
            Some(position) => {
                Err(TokenError::OutsideVocabulary { id: tokens.ids[position], position, vocab: config.vocab })
            }
            None => Ok(()),
        }
    }

    fn heads(&self, tokens: &Tokens) -> Heads {
        let c = self.layout.config();
        Heads {
            batch: tokens.batch,
            seq: tokens.seq,
            kv_heads: c.kv_heads,
            group: c.heads / c.kv_heads,
            head_dim: c.head_dim,
        }
    }

    fn ints(&self, values: Vec<i32>) -> Tensor<1, Int> {
        let n = values.len();
        Tensor::from_data(TensorData::new(values, [n]), &self.device)
    }

    /// Mean cross-entropy `[1,1,1]` of the batch.
    ///
    /// # Errors
    /// Ids outside the vocabulary, windows longer than the model's positions.
    pub fn loss(&self, tokens: &Tokens) -> Result<Tensor<3>, TokenError> {
        self.check(tokens)?;
        let targets = self.ints(tokens.column(1));
        let [norm, head] = self.ends();
        Ok(match self.profile {
            Profile::Exact(precision) => {
                let numbers = self.numbers(precision);
                loss(self.stream(tokens, numbers), norm, head, targets, numbers)
            }
            Profile::Native => {
                native::loss(self.native_stream(tokens), norm, head, targets, self.layout.config())
            }
        })
    }

    /// Logits `[1, batch*seq, vocab]` of the first `seq` tokens of each window.
    ///
    /// # Errors
    /// As [`Decoder::loss`].
    pub fn logits(&self, tokens: &Tokens) -> Result<Tensor<3>, TokenError> {
        self.check(tokens)?;
        let [norm, head] = self.ends();
        Ok(match self.profile {
            Profile::Exact(precision) => {
                let numbers = self.numbers(precision);
                logits(self.stream(tokens, numbers), norm, head, numbers)
            }
            Profile::Native => native::logits(self.native_stream(tokens), norm, head, self.layout.config()),
        })
    }

    fn numbers(&self, precision: Precision) -> BlockNumbers {
        BlockNumbers { eps: self.layout.config().rms_eps, precision }
    }

    /// Final norm and output projection (the embedding table when tied).
    fn ends(&self) -> [Tensor<3>; 2] {
        let n = self.parameters.len();
        let tied = self.layout.config().tied_embeddings;
        let (norm, head) = if tied { (n - 1, 0) } else { (n - 2, n - 1) };
        [self.parameters[norm].clone(), self.parameters[head].clone()]
    }

    fn rope(&self, seq: usize) -> Tensor<3> {
        let mut kept = self.rope.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = kept.as_ref().filter(|(of, _)| *of == seq) {
            return table.clone();
        }
        let c = self.layout.config();
        let table = rope::table(seq, c.head_dim, c.rope_theta);
        let table = Tensor::from_data(TensorData::new(table, [1, seq, c.head_dim]), &self.device);
        *kept = Some((seq, table.clone()));
        table
    }

    /// Weights of one layer, in the order of the layout.
    fn layer(&self, layer: usize) -> (AttentionParameters, [Tensor<3>; 3]) {
        let bias = self.layout.config().qkv_bias;
        let per_layer = if bias { 7 } else { 6 };
        let mut next = self.parameters[1 + layer * per_layer..].iter().cloned();
        // The layout has been checked against the number of parameters, so the iterator cannot run dry.
        let mut take = || next.next().unwrap_or_else(|| self.parameters[0].clone());
        let (norm, qkv) = (take(), take());
        let bias = if bias { Some(take()) } else { None };
        let attention = AttentionParameters { norm, qkv, bias, out: take() };
        (attention, [take(), take(), take()])
    }

    fn stream(&self, tokens: &Tokens, numbers: BlockNumbers) -> Tensor<3> {
        let config = self.layout.config();
        let ids = tokens.column(0);
        let (order, offsets) = positions_by_id(&ids, config.vocab);
        let mut x =
            embedding(self.parameters[0].clone(), self.ints(ids), self.ints(order), self.ints(offsets));
        let (rope, heads) = (self.rope(tokens.seq), self.heads(tokens));
        for layer in 0..config.layers {
            let (a, [norm, gate_up, down]) = self.layer(layer);
            x = attention(x, a, rope.clone(), heads, numbers);
            x = feed_forward(x, norm, gate_up, down, numbers);
        }
        x
    }

    fn native_stream(&self, tokens: &Tokens) -> Tensor<3> {
        let config = self.layout.config();
        let (rope, heads) = (self.rope(tokens.seq), self.heads(tokens));
        let mask = native::causal_mask(tokens.seq, &self.device);
        let mut x = native::embedding(self.parameters[0].clone(), self.ints(tokens.column(0)));
        for layer in 0..config.layers {
            let (a, [norm, gate_up, down]) = self.layer(layer);
            x = native::attention(x, a, &rope, &mask, heads, config.rms_eps);
            x = native::feed_forward(x, norm, gate_up, down, config.rms_eps);
        }
        x
    }
}

/// Splits a flat vector into tensors of the layout on `device`. The numbers go through `flush`: a file or somebody else's state
/// may hold subnormals, which devices treat differently.
pub(crate) fn to_tensors(layout: &Layout, flat: &[f32], device: &Device) -> Vec<Tensor<3>> {
    layout
        .params()
        .iter()
        .map(|p| {
            let (rows, cols) = if p.kind.is_matrix() { (p.rows, p.cols) } else { (1, p.len) };
            let values: Vec<f32> = flat[p.range()].iter().map(|x| flush(*x)).collect();
            Tensor::from_data(TensorData::new(values, [1, rows, cols]), device)
        })
        .collect()
}

/// Positions in ascending order grouped by id, and where each id's group begins: `[n]` and `[vocab + 1]`.
fn positions_by_id(ids: &[i32], vocab: usize) -> (Vec<i32>, Vec<i32>) {
    let mut offsets = vec![0i32; vocab + 1];
    for id in ids {
        offsets[*id as usize + 1] += 1;
    }
    for v in 0..vocab {
        offsets[v + 1] += offsets[v];
    }
    let mut next = offsets.clone();
    let mut order = vec![0i32; ids.len()];
    for (position, id) in ids.iter().enumerate() {
        order[next[*id as usize] as usize] = position as i32;
        next[*id as usize] += 1;
    }
    (order, offsets)
}
