//! A run specification: everything that decides what a run computes and what it pays. Its hash names the run.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::amount::Msat;
use crate::codec::{EncodeError, Wire, encode};
use crate::data::Mixture;
use crate::id::{BasisPoints, RunId, ShardSetId, SnapshotId, TokenizerId};
use crate::key::PublicKey;

/// Seconds between two blocks, on average.
const BLOCK: u64 = 600;

/// A decoder of the Llama family (see `watershed-engine`, `ModelConfig`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Decoder layers.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Width of the feed-forward block.
    pub ffn: u32,
    /// Longest sequence.
    pub max_seq: u32,
    /// Base of the rotary embedding.
    pub rope_theta: f32,
    /// Added under the root of RMSNorm.
    pub rms_eps: f32,
    /// Whether input and output embeddings are one matrix.
    pub tied_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
}

impl ModelSpec {
    /// Parameters of a chunk, the unit in which pseudo-gradients are compressed and work is opened; the last may be shorter.
    pub const CHUNK: u64 = 4096;

    /// How many parameters it has, a tied embedding counted once, as the engine lays them out; none if 64 bits do not hold
    /// the number.
    pub fn parameters(&self) -> Option<u64> {
        let [d, v, f] = [self.hidden, self.vocab, self.ffn].map(u64::from);
        let [h, kv, dh] = [self.heads, self.kv_heads, self.head_dim].map(u64::from);
        let qkv_rows = kv.checked_mul(2)?.checked_add(h)?.checked_mul(dh)?;
        let qkv = qkv_rows.checked_mul(d)?;
        let bias = if self.qkv_bias { qkv_rows } else { 0 };
        let o = d.checked_mul(h)?.checked_mul(dh)?;
        let ffn = f.checked_mul(3)?.checked_mul(d)?;
        let layer = [qkv, bias, o, ffn].into_iter().try_fold(d.checked_mul(2)?, u64::checked_add)?;
        let vocab = v.checked_mul(d)?.checked_mul(if self.tied_embeddings { 1 } else { 2 })?;
        layer.checked_mul(u64::from(self.layers))?.checked_add(vocab)?.checked_add(d)
    }

    /// How many chunks they make; none of a model that is too large to be one.
    pub fn chunks(&self) -> u64 {
        self.parameters().unwrap_or(0).div_ceil(Self::CHUNK)
    }
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The tokenised snapshot.
    pub shards: ShardSetId,
    /// The snapshot: which deposits, with which consent.
    pub snapshot: SnapshotId,
    /// What made tokens of it.
    pub tokenizer: TokenizerId,
    /// Shares of the registers.
    pub mixture: Mixture,
    /// Tokens of a sequence.
    pub sequence_length: u32,
    /// How often a text may be read in the whole run.
    pub max_epochs: u32,
}

/// The inner loop of a miner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InnerSpec {
    /// Steps in a round, H.
    pub steps: u32,
    /// Sequences of a step.
    pub batch: u32,
    /// Bits of left and right operands of matrix products.
    pub precision: (u8, u8),
    /// Whether optimizer moments are carried from round to round, in 8 bits; otherwise they begin at zero.
    pub carried: bool,
    /// Highest learning rate.
    pub peak_lr: f32,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// Where the cosine ends, as a share of the peak.
    pub floor: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest global gradient norm.
    pub clip: f32,
}

/// How pseudo-gradients are compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressionSpec {
    /// Values kept of every 4096.
    pub top_k: u32,
    /// Decay of the error feedback.
    pub error_decay: f32,
}

/// The outer optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OuterSpec {
    /// Learning rate.
    pub rate: f32,
    /// Nesterov momentum; 0 for none.
    pub momentum: f32,
}

/// How many rounds, with how many miners, and how long each part of one may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundsSpec {
    /// Rounds.
    pub count: u32,
    /// Miners that a round waits for.
    pub min_miners: u32,
    /// Most miners in a round.
    pub max_miners: u32,
    /// Share of `max_miners` that is kept for miners which have not proved themselves; at least one place where there are two.
    pub newcomers: BasisPoints,
    /// Largest multiple of `inner.batch` that a fast miner is given; powers of two up to this. 1 gives all the same.
    pub max_size: u32,
    /// Fewest accepted submissions that make an outer step.
    pub min_accepted: u32,
    /// Seconds until offers are agreed and locked.
    pub lock_seconds: u32,
    /// Seconds from then to the commitments.
    pub train_seconds: u32,
    /// Seconds from then to the uploaded submissions.
    pub reveal_seconds: u32,
    /// Seconds from then to the verdicts.
    pub verdict_seconds: u32,
}

impl RoundsSpec {
    /// The longest that a round can take from its first offer to its last verdict, in seconds.
    pub fn stages(&self) -> u64 {
        let stages = [self.lock_seconds, self.train_seconds, self.reveal_seconds, self.verdict_seconds];
        stages.into_iter().map(u64::from).sum()
    }
}

/// What a validator checks of every submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChecksSpec {
    /// Inner steps that it replays.
    pub replay_steps: u32,
    /// Chunks of which it has the compression opened.
    pub chunks: u32,
    /// Sequences of each of the two windows that it scores on.
    pub score_sequences: u32,
    /// Members of the committee that hold the secrets of an assignment of a proven miner, and so check it; 0 for all.
    pub validators: u32,
    /// Share of the submissions of proven miners of which a validator replays steps.
    pub replay_share: BasisPoints,
    /// Accepted submissions, with none rejected, that make a miner a proven one.
    pub trusted_after: u32,
}

impl ChecksSpec {
    /// Whether a miner with so many submissions accepted and rejected has something to lose. All others are checked by the
    /// whole committee, and whole.
    pub fn is_proven(&self, (accepted, rejected): (u32, u32)) -> bool {
        rejected == 0 && accepted >= self.trusted_after
    }

    /// Whether a miner of such a record may have part of its work taken without replay.
    pub fn trusts(&self, record: (u32, u32)) -> bool {
        self.replay_share != BasisPoints::WHOLE && self.is_proven(record)
    }
}

/// What is paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSpec {
    /// The most that an assignment of one batch size pays.
    pub per_assignment: Msat,
    /// What work that lowers the loss earns whatever its score, of the whole. What lowers no loss earns nothing.
    pub base: BasisPoints,
    /// Share of the round's median score from which on everything is paid.
    pub full_at: BasisPoints,
    /// Share of a newcomer's reward that is held back until it has proved itself; at most 9000.
    pub held_back: BasisPoints,
    /// Submissions accepted since the last rejected one with which a miner has proved itself.
    pub proven_after: u32,
    /// Tiers of each validator's part.
    pub tiers: u32,
    /// Blocks for which a miner holds its reward at least.
    pub window: u32,
    /// What a verdict pays the validator.
    pub verdict_fee: Msat,
}

/// A member of the committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitteeMember {
    /// Its key.
    pub key: PublicKey,
    /// Where it gives out its verdicts itself, so that nobody can withhold them.
    pub url: Option<String>,
}

/// Where the money comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FundingSpec {
    /// What sponsors pledge together before the run begins; 0 if the operator pays.
    pub goal: Msat,
    /// Blocks for which a pledge waits.
    pub window: u32,
    /// Paid once when a miner joins.
    pub joining_fee: Msat,
    /// Seconds in which no round ended, from when the pledges were taken or the last round ended, after which the run ends by
    /// itself and the rest goes back. 0 is never, which only a run has that the operator pays.
    pub idle_seconds: u32,
}

impl FundingSpec {
    /// When a run ends by itself that has got no further since `since`, both in seconds since 1970; none if it never does.
    pub fn idle_at(&self, since: u64) -> Option<u64> {
        (self.idle_seconds > 0).then(|| since.saturating_add(u64::from(self.idle_seconds)))
    }
}

/// A run specification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// For people.
    pub title: String,
    /// Seed of initialisation and windows.
    pub seed: u64,
    /// The model.
    pub model: ModelSpec,
    /// The text.
    pub data: DataSpec,
    /// The inner loop.
    pub inner: InnerSpec,
    /// Compression.
    pub compression: CompressionSpec,
    /// The outer step.
    pub outer: OuterSpec,
    /// Rounds and deadlines.
    pub rounds: RoundsSpec,
    /// Checking.
    pub checks: ChecksSpec,
    /// Pay.
    pub reward: RewardSpec,
    /// Funding.
    pub funding: FundingSpec,
    /// Who checks.
    #[serde(deserialize_with = "crate::codec::list")]
    pub committee: Vec<CommitteeMember>,
}

impl Wire for RunSpec {
    const NAME: &'static str = "watershed/run-specification";
    const VERSION: u8 = 3;
    const MAX_BYTES: usize = 16 << 10;
}

/// Numbers that make no run. Each names its field as the file has it.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SpecError {
    /// A number out of range.
    #[error("{field} is {found}; it must be {wanted}")]
    Range {
        /// Which.
        field: &'static str,
        /// As given.
        found: String,
        /// What is possible.
        wanted: String,
    },
    /// A key that is named twice.
    #[error("the validator {0} is named twice in the committee")]
    Twice(PublicKey),
}

impl RunSpec {
    /// Its name.
    ///
    /// # Errors
    /// A specification that is too long.
    pub fn id(&self) -> Result<RunId, EncodeError> {
        Ok(RunId::of(&encode(self)?))
    }

    /// Inner steps of the whole run: the length of the learning-rate schedule.
    pub fn total_steps(&self) -> u32 {
        self.rounds.count.saturating_mul(self.inner.steps)
    }

    /// Checks every number that can be checked without the model and the text.
    ///
    /// # Errors
    /// [`SpecError`] for the first that is out of range.
    pub fn check(&self) -> Result<(), SpecError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// All numbers that are out of range.
    pub fn faults(&self) -> Vec<SpecError> {
        let mut faults = Vec::new();
        let mut range = |field, found: &dyn std::fmt::Display, ok: bool, wanted: &str| {
            if !ok {
                faults.push(SpecError::Range { field, found: found.to_string(), wanted: wanted.to_owned() });
            }
        };
        let (r, i) = (&self.rounds, &self.inner);
        range("title", &self.title, (1..=200).contains(&self.title.len()), "1 to 200 bytes");
        range(
            "model",
            &"so large",
            self.model.chunks() > 0,
            "of parameters that 64 bits can count, and of one at least",
        );
        range("inner.steps", &i.steps, (1..=10_000).contains(&i.steps), "1 to 10000");
        range("inner.batch", &i.batch, (1..=4096).contains(&i.batch), "1 to 4096");
        range("rounds.count", &r.count, (1..=100_000).contains(&r.count), "1 to 100000");
        range("rounds.max_miners", &r.max_miners, (1..=4096).contains(&r.max_miners), "1 to 4096");
        let miners = (1..=r.max_miners).contains(&r.min_miners);
        range("rounds.min_miners", &r.min_miners, miners, "1 to rounds.max_miners");
        let size = (1..=Self::MAX_SIZE).contains(&r.max_size) && r.max_size.is_power_of_two();
        range("rounds.max_size", &r.max_size, size, "1, 2, 4, 8 or 16");
        let accepted = (1..=r.max_miners).contains(&r.min_accepted);
        range("rounds.min_accepted", &r.min_accepted, accepted, "1 to rounds.max_miners");
        for (field, seconds) in [
            ("rounds.lock_seconds", r.lock_seconds),
            ("rounds.train_seconds", r.train_seconds),
            ("rounds.reveal_seconds", r.reveal_seconds),
        ] {
            range(field, &seconds, (1..=604_800).contains(&seconds), "1 to 604800 (a week)");
        }
        let verdict = (6..=604_800).contains(&r.verdict_seconds);
        range("rounds.verdict_seconds", &r.verdict_seconds, verdict, "6 to 604800 (a week)");
        // From the first lock to the last verdict; blocks may come faster than one in ten minutes.
        let stages = r.stages();
        range(
            "reward.window",
            &self.reward.window,
            u64::from(self.reward.window) * BLOCK >= 2 * stages,
            "blocks for twice the seconds of all four stages, at 600 seconds a block",
        );
        let steps = r.count.checked_mul(i.steps).is_some();
        range("rounds.count", &r.count, steps, "such that rounds times inner.steps is below 2^32");
        let c = &self.checks;
        let replay = (1..=i.steps).contains(&c.replay_steps);
        range("checks.replay_steps", &c.replay_steps, replay, "1 to inner.steps");
        range("checks.chunks", &c.chunks, (1..=64).contains(&c.chunks), "1 to 64");
        let most = u64::from(i.steps) * u64::from(i.batch);
        let score = c.score_sequences >= 1 && u64::from(c.score_sequences) <= most.min(4096);
        range(
            "checks.score_sequences",
            &c.score_sequences,
            score,
            "1 to inner.steps * inner.batch, at most 4096",
        );
        range("checks.trusted_after", &c.trusted_after, c.trusted_after >= 1, "1 or more");
        range(
            "compression.top_k",
            &self.compression.top_k,
            (1..=4096).contains(&self.compression.top_k),
            "1 to 4096",
        );
        let momentum = (0.0..1.0).contains(&self.outer.momentum);
        range("outer.momentum", &self.outer.momentum, momentum, "at least 0 and below 1");
        let members = self.committee.len();
        range("committee", &members, (1..=16).contains(&members), "1 to 16 validators");
        let (held_back, proven_after) = (self.reward.held_back.get(), self.reward.proven_after);
        range("reward.held_back", &held_back, held_back <= 9_000, "0 to 9000 basis points");
        range("reward.proven_after", &proven_after, (1..=1_000).contains(&proven_after), "1 to 1000");
        range("reward.tiers", &self.reward.tiers, (1..=8).contains(&self.reward.tiers), "1 to 8");
        let sequences = u64::from(r.max_miners) * most;
        let windows = u64::from(r.count).checked_mul(sequences * u64::from(Self::MAX_SIZE));
        range(
            "rounds.max_miners",
            &r.max_miners,
            windows.is_some(),
            "such that the windows of all rounds can be numbered",
        );
        // Some wallets pay whole satoshis only, and a mistake should not cost a fortune.
        let fee = self.funding.joining_fee;
        let payable = fee.msat().is_multiple_of(1000) && fee <= Self::MAX_JOINING_FEE;
        range("funding.joining_fee", &fee, payable, "whole satoshis, at most a million");
        let idle = self.funding.idle_seconds;
        let waits = (stages..=u64::from(Self::MAX_IDLE)).contains(&u64::from(idle));
        range(
            "funding.idle_seconds",
            &idle,
            waits || idle == 0 && self.funding.goal == Msat::ZERO,
            "at least the seconds of all four stages, at most 31536000 (a year); 0 for no end, if the operator pays",
        );
        faults.extend(self.untrainable());
        for (at, member) in self.committee.iter().enumerate() {
            if self.committee.iter().skip(at + 1).any(|m| m.key == member.key) {
                faults.push(SpecError::Twice(member.key));
            }
        }
        faults
    }

    /// Longest time in which no round ends, in seconds.
    pub const MAX_IDLE: u32 = 31_536_000;

    /// Largest fee for joining.
    pub const MAX_JOINING_FEE: Msat = Msat::new(1_000_000_000);

    /// Largest multiple of `inner.batch` that a fast miner is given.
    pub const MAX_SIZE: u32 = 16;
}
