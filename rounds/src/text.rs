//! The tokens that a run reads.

use std::cell::RefCell;

use watershed_engine::model::{TokenError, Tokens};
use watershed_protocol::data::{Mixture, Register, Split, WindowSpec};
use watershed_protocol::market::{DataSpec, RunSpec};
use watershed_shards::shard::OpenSet;
use watershed_shards::window::Drawing;

use super::RoundError;

/// Sequences that the model is given at once when nothing is learned.
const TOGETHER: usize = 8;

/// Held-out sequences by which every checkpoint is judged.
const EVALUATION: u32 = 32;

/// An open shard set, and how a run reads it.
pub(crate) struct Text {
    set: OpenSet,
    data: DataSpec,
    held_out: Mixture,
}

/// Whether a run can read this shard set to its end; what it is judged by.
///
/// # Errors
/// A set of something else, or too little text.
pub(crate) fn check(set: &OpenSet, spec: &RunSpec) -> Result<Mixture, RoundError> {
    let ids = [
        ("snapshot", set.set().snapshot.to_string(), spec.data.snapshot.to_string()),
        ("tokenizer", set.set().tokenizer.to_string(), spec.data.tokenizer.to_string()),
    ];
    if let Some((what, found, wanted)) = ids.into_iter().find(|(_, found, wanted)| found != wanted) {
        return Err(RoundError::OtherText { what, found, wanted });
    }
    let vocabulary = set.set().vocabulary;
    if vocabulary > spec.model.vocab {
        return Err(RoundError::Vocabulary { tokens: vocabulary, model: spec.model.vocab });
    }
    let least = 2 * u64::from(spec.data.sequence_length);
    let mut tokens = [0; Register::ALL.len()];
    for (register, tokens) in Register::ALL.iter().zip(&mut tokens) {
        let found = set.set().tokens(*register, Split::HeldOut);
        *tokens = if found >= least { found } else { 0 };
    }
    let held_out = Mixture::natural(tokens).map_err(RoundError::NoHeldOut)?;
    // Refused here, before anybody is paid to find out.
    let found = Drawing::new(set.set(), &train(&spec.data, spec.seed))?.capacity();
    let r = &spec.rounds;
    let round = u64::from(spec.inner.steps) * u64::from(spec.inner.batch);
    let wanted = round.saturating_mul(u64::from(r.count)).saturating_mul(u64::from(r.min_miners));
    if found < wanted {
        return Err(RoundError::TooShort { found, wanted });
    }
    Ok(held_out)
}

fn train(data: &DataSpec, seed: u64) -> WindowSpec {
    WindowSpec {
        shards: data.shards,
        split: Split::Train,
        mixture: data.mixture,
        seed,
        sequence_length: data.sequence_length,
        first: 0,
        sequences: 1,
        max_epochs: data.max_epochs,
    }
}

impl Text {
    pub(crate) fn new(set: OpenSet, spec: &RunSpec) -> Result<Self, RoundError> {
        let held_out = check(&set, spec)?;
        Ok(Self { set, data: spec.data.clone(), held_out })
    }

    /// Sequences `skip .. skip + count` of a window, as one batch.
    pub(crate) fn batch(&self, window: &WindowSpec, skip: u64, count: u32) -> Result<Tokens, RoundError> {
        let mut drawing = Drawing::new(self.set.set(), window)?;
        let mut ids = Vec::with_capacity(count as usize * (window.sequence_length as usize + 1));
        for i in 0..u64::from(count) {
            let range = drawing.sequence(window.first + skip + i)?;
            self.set.tokens(&range, &mut ids)?;
        }
        Ok(Tokens::new(ids, count as usize, window.sequence_length as usize)?)
    }

    /// As [`Text::batch`], for the engine's loops, which know errors of tokens only: others are left in `failed`.
    pub(crate) fn step_tokens(
        &self,
        window: &WindowSpec,
        skip: u64,
        count: u32,
        failed: &RefCell<Option<RoundError>>,
    ) -> Result<Tokens, TokenError> {
        self.batch(window, skip, count).map_err(|e| match e {
            RoundError::Tokens(e) => e,
            other => {
                failed.replace(Some(other));
                TokenError::Count { found: 0, expected: 0, batch: 0, seq: 0 }
            }
        })
    }

    /// Sequences of a window in batches for measuring.
    pub(crate) fn batches(
        &self,
        window: &WindowSpec,
        skip: u64,
        count: u32,
    ) -> Result<Vec<Tokens>, RoundError> {
        let mut batches = Vec::new();
        let mut done = 0;
        while done < count {
            let part = (count - done).min(TOGETHER as u32);
            batches.push(self.batch(window, skip + u64::from(done), part)?);
            done += part;
        }
        Ok(batches)
    }

    /// `count` held-out sequences that `seed` draws.
    pub(crate) fn held_out(&self, seed: u64, count: u32) -> Result<Vec<Tokens>, RoundError> {
        let window = WindowSpec {
            split: Split::HeldOut,
            mixture: self.held_out,
            max_epochs: u32::MAX,
            sequences: count,
            ..train(&self.data, seed)
        };
        self.batches(&window, 0, count)
    }

    /// What checkpoints are judged by.
    pub(crate) fn evaluation(&self, seed: u64) -> Result<Vec<Tokens>, RoundError> {
        self.held_out(seed, EVALUATION)
    }
}
