//! A miner's task in a round, and what it hands in.

use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::codec::{EncodeError, Wire, encode};
use crate::data::WindowSpec;
use crate::hash::{Digest, Domain, TaggedHasher};
use crate::id::{AssignmentId, RoundNumber, RunId, SubmissionId};
use crate::key::PublicKey;
use crate::payment::{PaymentHash, Subject};

/// What one miner is to compute in one round. Together with the run specification, the checkpoint and the state that the
/// miner committed to in `previous` it decides every bit of the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: RoundNumber,
    /// Who.
    pub miner: PublicKey,
    /// Merkle root of the parameters to start from.
    pub checkpoint: Digest,
    /// The miner's assignment whose error feedback and moments it continues; none begins with zeros.
    pub previous: Option<AssignmentId>,
    /// Its text.
    pub window: WindowSpec,
    /// Sequences of each inner step.
    pub batch: u32,
    /// The most that it pays.
    pub reward: Msat,
}

impl Wire for Assignment {
    const NAME: &'static str = "watershed/assignment";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 512;
}

impl Assignment {
    /// Its name.
    ///
    /// # Errors
    /// None in practice: the encoding has a bounded size.
    pub fn id(&self) -> Result<AssignmentId, EncodeError> {
        Ok(AssignmentId::of(&encode(self)?))
    }
}

impl AssignmentId {
    /// The subject of the escrow and of receipts.
    pub fn subject(self) -> Subject {
        Subject::from_bytes(self.to_bytes())
    }
}

/// A lot that is offered to a miner: whose secret releases it, and how much it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsOffered {
    /// The validator.
    pub validator: PublicKey,
    /// Tier, from 0.
    pub tier: u32,
    /// The payment hash.
    pub hash: PaymentHash,
    /// The amount.
    pub amount: Msat,
}

/// What a miner binds itself to before anybody's work is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// The task.
    pub assignment: AssignmentId,
    /// Hash of the miner's key and the encoded pseudo-gradient; see [`Commitment::submission_of`].
    pub submission: SubmissionId,
    /// Hash over the digests of all states; see [`TrajectoryHash`].
    pub trajectory: TrajectoryHash,
    /// Merkle root of the error feedback after compression.
    pub error_feedback: Digest,
    /// Merkle root of the carried moments, as they read back from their 8-bit form.
    pub moments: Digest,
    /// Updates that these moments have seen.
    pub updates: u32,
}

impl Commitment {
    /// What `submission` must be: it holds the miner's key, so nobody can commit to what another has made.
    pub fn submission_of(miner: PublicKey, encoded: &[u8]) -> SubmissionId {
        let mut hasher = TaggedHasher::new(Domain::Submission);
        hasher.update(&miner.to_bytes());
        hasher.update(encoded);
        SubmissionId::from_bytes(hasher.finish().to_bytes())
    }
}

/// One inner step, as the miner says it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepClaim {
    /// State digest after the step.
    pub state: Digest,
    /// Bits of the loss before its update.
    pub loss: u32,
}

/// Hash over a trajectory: the state before the first step, then every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrajectoryHash(pub Digest);

impl TrajectoryHash {
    /// Of a trajectory.
    pub fn of(start: Digest, steps: &[StepClaim]) -> Self {
        let mut hasher = TaggedHasher::new(Domain::Trajectory);
        hasher.update(&start.to_bytes());
        for step in steps {
            hasher.update(&step.state.to_bytes());
            hasher.update(&step.loss.to_le_bytes());
        }
        Self(hasher.finish())
    }
}

/// The work itself, shown when nobody can commit any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// The task.
    pub assignment: AssignmentId,
    /// SHA-256 of the encoded pseudo-gradient, under which it was uploaded.
    pub blob: Digest,
    /// State digest before the first step.
    pub start: Digest,
    /// All steps.
    #[serde(deserialize_with = "crate::codec::list")]
    pub steps: Vec<StepClaim>,
}

/// What a validator asks of a miner after the work is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The task.
    pub assignment: AssignmentId,
    /// Step that will be replayed, from 0: the state before it is asked for. None where the run has only a share of the
    /// work of trusted miners replayed, and this is not of it.
    pub step: Option<u32>,
    /// Chunks of 4096 parameters whose compression will be done again.
    #[serde(deserialize_with = "crate::codec::list")]
    pub chunks: Vec<u64>,
}

/// A miner's answer: two uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The task.
    pub assignment: AssignmentId,
    /// Who asked.
    pub validator: PublicKey,
    /// The step that was asked for.
    pub step: Option<u32>,
    /// SHA-256 of the state before the step: parameters and moments as little-endian f32; before step 0 the carried
    /// moments in their 8-bit form, empty for a newcomer. None if no step was asked for.
    pub state: Option<Digest>,
    /// SHA-256 of the opened chunks.
    pub chunks: Digest,
}
