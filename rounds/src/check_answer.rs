//! Checking what a miner opened to one validator.

use watershed_protocol::decode;
use watershed_protocol::market::{Fault, Opening};

use super::check::Found;
use super::{Claim, OpenedChunks, Workbench};

/// What a miner uploaded for one validator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The state before the step that was asked for; empty if none was.
    pub state: Vec<u8>,
    /// The opened chunks.
    pub chunks: Vec<u8>,
}

impl Answer {
    /// Longest state of a model with so many parameters. What is longer is not what was asked for.
    pub fn state_limit(parameters: usize) -> usize {
        12 * parameters + 64
    }

    /// Longest encoding of so many opened chunks.
    pub fn chunks_limit(chunks: usize) -> usize {
        // Eleven parts of 4096 values, each with its path.
        chunks * 11 * (4 * 4096 + 64 * 32) + 64
    }
}

impl Workbench {
    /// Checks an answer: compresses the chunks again, and replays the step if one was asked for.
    ///
    /// # Errors
    /// Only for problems of our own.
    pub fn check_answer(&mut self, claim: &Claim<'_>, asked: &Opening, answer: &Answer) -> Found {
        let Ok(opened) = decode::<OpenedChunks>(&answer.chunks) else { return Ok(Err(Fault::OtherAnswer)) };
        if let Err(fault) = self.check_chunks(claim, &asked.chunks, &opened)? {
            return Ok(Err(fault));
        }
        let Some(step) = asked.step else { return Ok(Ok(())) };
        let (steps, end) = (self.settings.spec.checks.replay_steps, self.settings.spec.inner.steps);
        self.check_steps(claim, step..step.saturating_add(steps).min(end), &answer.state)
    }

    /// Steps and chunks to ask for, drawn from `entropy`, which nobody else knows; `replay` says whether a step is among them.
    pub fn draw(&self, entropy: [u8; 32], replay: bool) -> (Option<u32>, Vec<u64>) {
        let word = |at: u64| {
            let digest = super::sha256(&[&entropy[..], &at.to_le_bytes()].concat());
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&digest.0[..8]);
            u64::from_le_bytes(bytes)
        };
        let spec = &self.settings.spec;
        // The remainder favours small numbers by less than 2^-40.
        let below = |at: u64, n: u64| word(at) % n.max(1);
        let step = replay.then(|| u32::try_from(below(0, u64::from(spec.inner.steps))).unwrap_or(0));
        let all = self.chunks();
        let mut chunks: Vec<u64> = Vec::new();
        // Without repetition, so that as many are looked at as the run says.
        for at in 0..u64::from(spec.checks.chunks).min(all) {
            let mut chunk = below(1 + at, all - at);
            for taken in &chunks {
                chunk += u64::from(chunk >= *taken);
            }
            chunks.push(chunk);
            chunks.sort_unstable();
        }
        (step, chunks)
    }
}
