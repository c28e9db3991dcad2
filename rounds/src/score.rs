//! How much a pseudo-gradient helps: loss before and after it alone is applied, on part of its own window and on text that
//! nobody trained on.

use watershed_engine::scalar::flush;
use watershed_protocol::Digest;
use watershed_protocol::market::{Assignment, Score};

use super::{RoundError, Workbench};

/// Where scoring reads: the first sequence of the part of the miner's window, and the seed of the unseen one.
pub fn score_windows(randomness: Digest, sequences: u32, scored: u32) -> (u64, u64) {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&randomness.0[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let choices = u64::from(sequences.saturating_sub(scored)) + 1;
    (word(0) % choices, word(8))
}

impl Workbench {
    /// Scores a decoded pseudo-gradient.
    ///
    /// # Errors
    /// Those of the device and the text.
    pub fn score(
        &self,
        assignment: &Assignment,
        checkpoint: &[f32],
        pseudo_gradient: &[f32],
        randomness: Digest,
    ) -> Result<Score, RoundError> {
        let count = self.settings.spec.checks.score_sequences;
        let (skip, seed) = score_windows(randomness, assignment.window.sequences, count);
        let own = self.text.batches(&assignment.window, skip, count)?;
        let unseen = self.text.held_out(seed, count)?;
        let [own_before, unseen_before] = self.trainer.evaluate(checkpoint, [&own, &unseen])?;
        let rate = self.settings.spec.outer.rate;
        let applied: Vec<f32> =
            checkpoint.iter().zip(pseudo_gradient).map(|(t, g)| flush(*t - flush(rate * *g, 0), 0)).collect();
        let [own_after, unseen_after] = self.trainer.evaluate(&applied, [&own, &unseen])?;
        Ok(Score {
            own_before: own_before.to_bits(),
            own_after: own_after.to_bits(),
            unseen_before: unseen_before.to_bits(),
            unseen_after: unseen_after.to_bits(),
        })
    }
}
