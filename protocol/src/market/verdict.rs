//! What a validator says of a submission.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hash::{Digest, Domain, TaggedHasher};
use crate::id::{AssignmentId, RoundNumber, RunId, SubmissionId};
use crate::payment::Preimage;

/// What is wrong with a submission. Every one can be shown by computing again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The upload is not what was committed.
    #[error("the submission is not the one that was committed")]
    OtherSubmission,
    /// The steps are not what was committed.
    #[error("the trajectory is not the one that was committed")]
    OtherTrajectory,
    /// Not the right number of steps.
    #[error("there are {0} inner steps, which is not what was assigned")]
    StepCount(u32),
    /// Moments of another age than the steps give them.
    #[error("the carried moments are said to have seen {0} updates, which the assigned steps do not give")]
    Updates(u32),
    /// Not a pseudo-gradient of this model.
    #[error("the submission cannot be decoded: {0}")]
    Undecodable(String),
    /// The start is not the checkpoint with the moments that were carried.
    #[error("the work did not start from the checkpoint and the committed moments")]
    Start,
    /// A replayed step led elsewhere.
    #[error("replaying inner step {step} gives another state")]
    Replay {
        /// From 0.
        step: u32,
    },
    /// The opened state is not the committed one.
    #[error("the state before inner step {step} is not the one that was committed")]
    State {
        /// From 0.
        step: u32,
    },
    /// An opened chunk is not what was committed.
    #[error("chunk {chunk}: {what} is not what was committed")]
    ChunkOpening {
        /// Which.
        chunk: u64,
        /// Which of its parts.
        what: String,
    },
    /// Compressing a chunk again gives something else.
    #[error("compressing chunk {chunk} again gives {what} that was not committed")]
    Compression {
        /// Which.
        chunk: u64,
        /// Which of its results.
        what: String,
    },
    /// The moments are not what the last state gives.
    #[error("the carried moments of chunk {chunk} are not those of the last state")]
    Moments {
        /// Which.
        chunk: u64,
    },
    /// Nothing came, to this validator or to another.
    #[error("the miner did not open what was asked for")]
    NoAnswer,
    /// Something else than what was asked for came.
    #[error("what the miner opened is not what was asked for")]
    OtherAnswer,
}

/// Losses before and after applying a pseudo-gradient alone, as bits of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// On part of the miner's window, before.
    pub own_before: u32,
    /// On part of the miner's window, after.
    pub own_after: u32,
    /// On text that no miner was given, before.
    pub unseen_before: u32,
    /// On text that no miner was given, after.
    pub unseen_after: u32,
}

impl Score {
    /// Loss reduction: the smaller of the two, so that neither memorising nor chance counts. 0 if a loss is not finite.
    pub fn gain(&self) -> f32 {
        let gain = |before, after| f32::from_bits(before) - f32::from_bits(after);
        let (own, unseen) =
            (gain(self.own_before, self.own_after), gain(self.unseen_before, self.unseen_after));
        // `min` alone would take the other one's place for what is no number.
        if own.is_finite() && unseen.is_finite() { own.min(unseen) } else { 0.0 }
    }

    /// Whether it helps. What does not earns nothing, and is left out of the checkpoint.
    pub fn helps(&self) -> bool {
        self.gain() > 0.0
    }
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The work is what it should be.
    Earned {
        /// Steps of `2^tiers - 1` that are paid.
        share: u32,
        /// Secrets of the lots that make up the share.
        #[serde(deserialize_with = "crate::codec::list")]
        preimages: Vec<Preimage>,
    },
    /// It is not.
    Rejected(Fault),
}

/// A signed verdict; whoever signs a wrong one has signed the proof of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The task.
    pub assignment: AssignmentId,
    /// The submission that was checked.
    pub submission: SubmissionId,
    /// What its windows were drawn from; see [`Verdict::randomness`].
    pub randomness: Digest,
    /// Step that was replayed.
    pub step: Option<u32>,
    /// Chunks that were compressed again.
    #[serde(deserialize_with = "crate::codec::list")]
    pub chunks: Vec<u64>,
    /// Losses; none if the submission could not be applied.
    pub score: Option<Score>,
    /// What comes of it.
    pub outcome: Outcome,
}

impl Verdict {
    /// Whether it pays for what lowers no loss. No rule leads to that, so nobody takes it.
    pub fn pays_for_nothing(&self) -> bool {
        let paid = matches!(&self.outcome, Outcome::Earned { share, .. } if *share > 0);
        paid && self.score.is_some_and(|score| !score.helps())
    }

    /// What the windows of a round's scores are drawn from: nobody knows it before the last commitment.
    pub fn randomness(run: RunId, round: RoundNumber, submissions: &mut [SubmissionId]) -> Digest {
        submissions.sort_unstable();
        let mut hasher = TaggedHasher::new(Domain::Randomness);
        hasher.update(&run.to_bytes());
        hasher.update(&round.0.to_le_bytes());
        for submission in submissions {
            hasher.update(&submission.to_bytes());
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_is_the_smaller_reduction_and_none_where_a_loss_is_no_number() {
        let score = |all: [f32; 4]| {
            let [own_before, own_after, unseen_before, unseen_after] = all.map(f32::to_bits);
            Score { own_before, own_after, unseen_before, unseen_after }
        };
        let better = score([2.0, 1.0, 2.0, 1.5]);
        assert!(better.gain() == 0.5 && better.helps());
        assert!(!score([2.0, 1.0, 2.0, 2.0]).helps() && !score([2.0, 2.5, 2.0, 1.0]).helps());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..4 {
                let mut all = [2.0, 1.0, 2.0, 1.0];
                all[at] = bad;
                assert!(score(all).gain() == 0.0 && !score(all).helps(), "{all:?}");
            }
        }
        assert!(!score([f32::MAX, f32::MIN, 2.0, 1.0]).helps(), "their difference is no number");
        let verdict = |share, score| Verdict {
            assignment: AssignmentId::from_bytes([0; 32]),
            submission: SubmissionId::from_bytes([0; 32]),
            randomness: Digest([0; 32]),
            step: None,
            chunks: Vec::new(),
            score: Some(score),
            outcome: Outcome::Earned { share, preimages: Vec::new() },
        };
        let worse = score([1.0, 2.0, 1.0, 2.0]);
        assert!(verdict(1, worse).pays_for_nothing());
        assert!(!verdict(0, worse).pays_for_nothing() && !verdict(1, better).pays_for_nothing());
        let rejected = Verdict { outcome: Outcome::Rejected(Fault::Start), ..verdict(0, worse) };
        assert!(!rejected.pays_for_nothing());
    }
}
