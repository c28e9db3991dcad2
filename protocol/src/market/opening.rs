//! Which requests for openings bind a miner. Machine, record, validators and miner ask this and nothing else: whoever asks
//! for what cannot be given has asked for nothing, and nobody is blamed for not answering.

use thiserror::Error;

use super::assignment::Opening;
use super::spec::RunSpec;

/// Why a request for openings binds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unanswerable {
    /// The task has fewer steps.
    #[error("there is no inner step {step}: the task has {steps}, counted from 0")]
    Step {
        /// Asked for.
        step: u32,
        /// Of a task.
        steps: u32,
    },
    /// Replay is left out for proven miners only.
    #[error("no step is asked for, of a miner whose work is replayed always")]
    NoStep,
    /// Another number of chunks than the run has opened.
    #[error("{found} chunks are asked for; the run has {wanted} opened")]
    Count {
        /// Asked for.
        found: usize,
        /// By the specification.
        wanted: u64,
    },
    /// The same chunk twice, or not in order.
    #[error("the chunks are not in ascending order, each once")]
    Order,
    /// The model has fewer chunks.
    #[error("there is no chunk {chunk}: the model has {chunks}, counted from 0")]
    Chunk {
        /// Asked for.
        chunk: u64,
        /// Of the model.
        chunks: u64,
    },
}

impl RunSpec {
    /// Chunks that are opened to each validator: as many as the run says, or all if the model has fewer.
    pub fn opened_chunks(&self) -> u64 {
        u64::from(self.checks.chunks).min(self.model.chunks())
    }
}

impl Opening {
    /// Whether it can be answered by whoever did the work, so that silence is a fault; the miner has this `record` of
    /// accepted and rejected submissions before the task.
    ///
    /// # Errors
    /// [`Unanswerable`].
    pub fn check(&self, spec: &RunSpec, record: (u32, u32)) -> Result<(), Unanswerable> {
        let steps = spec.inner.steps;
        match self.step {
            Some(step) if step >= steps => return Err(Unanswerable::Step { step, steps }),
            None if !spec.checks.trusts(record) => return Err(Unanswerable::NoStep),
            _ => {}
        }
        let (found, wanted) = (self.chunks.len(), spec.opened_chunks());
        if u64::try_from(found) != Ok(wanted) {
            return Err(Unanswerable::Count { found, wanted });
        }
        if !self.chunks.is_sorted_by(|a, b| a < b) {
            return Err(Unanswerable::Order);
        }
        let chunks = spec.model.chunks();
        match self.chunks.last() {
            Some(chunk) if *chunk >= chunks => Err(Unanswerable::Chunk { chunk: *chunk, chunks }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AssignmentId, BasisPoints, SecretKey};

    fn spec() -> RunSpec {
        let mut spec = RunSpec::smallest([SecretKey::from_entropy([1; 32]).unwrap().public()]);
        (spec.model.vocab, spec.inner.steps, spec.checks.chunks) = (2_000, 6, 3);
        // 2000 * 16 + 2 * 16 + 48 * 16 + 16 * 16 + 3 * 16 * 16 + 16
        assert_eq!((spec.model.parameters(), spec.model.chunks()), (Some(33_840), 9));
        spec
    }

    fn ask(spec: &RunSpec, step: Option<u32>, chunks: &[u64]) -> Result<(), Unanswerable> {
        let assignment = AssignmentId::from_bytes([0; 32]);
        Opening { assignment, step, chunks: chunks.to_vec() }.check(spec, (1, 0))
    }

    #[test]
    fn only_what_whoever_did_the_work_can_open_is_asked_for() {
        let mut spec = spec();
        let unordered = Err(Unanswerable::Order);
        let count = |found| Err(Unanswerable::Count { found, wanted: 3 });
        assert_eq!(ask(&spec, Some(5), &[0, 4, 8]), Ok(()));
        assert_eq!(ask(&spec, Some(6), &[0, 4, 8]), Err(Unanswerable::Step { step: 6, steps: 6 }));
        assert_eq!(
            ask(&spec, Some(u32::MAX), &[0, 4, 8]),
            Err(Unanswerable::Step { step: u32::MAX, steps: 6 })
        );
        assert_eq!(ask(&spec, None, &[0, 4, 8]), Err(Unanswerable::NoStep));
        for chunks in [&[][..], &[0], &[0, 4], &[0, 4, 7, 8]] {
            assert_eq!(ask(&spec, Some(0), chunks), count(chunks.len()));
        }
        for chunks in [[4, 0, 8], [0, 4, 4], [0, 0, 8], [8, 4, 0]] {
            assert_eq!(ask(&spec, Some(0), &chunks), unordered);
        }
        for chunk in [9, 10, u64::MAX] {
            assert_eq!(ask(&spec, Some(0), &[0, 4, chunk]), Err(Unanswerable::Chunk { chunk, chunks: 9 }));
        }
        // A proven miner's step may be left out, where the run says so.
        spec.checks.replay_share = BasisPoints::HALF;
        assert_eq!(ask(&spec, None, &[0, 4, 8]), Ok(()));
        // Of a model with fewer chunks all are opened.
        spec.checks.chunks = 64;
        assert_eq!(ask(&spec, None, &[0, 1, 2, 3, 4, 5, 6, 7, 8]), Ok(()));
    }
}
