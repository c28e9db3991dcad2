//! The numbers that a specification begins with.

use super::spec::{
    ChecksSpec, CommitteeMember, CompressionSpec, DataSpec, FundingSpec, InnerSpec, ModelSpec, OuterSpec,
    RewardSpec, RoundsSpec, RunSpec,
};
use crate::data::{Mixture, Register};
use crate::{BasisPoints, Msat, PublicKey, ShardSetId, SnapshotId, TokenizerId};

impl RunSpec {
    /// A run as small as one can be, of one round of one step of one miner, on text that does not exist. What has no size
    /// (betas, clipping, decay, bases) is what runs have where nothing else is wished for.
    pub fn smallest(committee: impl IntoIterator<Item = PublicKey>) -> Self {
        Self {
            title: "the smallest run".to_owned(),
            seed: 0,
            model: ModelSpec {
                vocab: 256,
                hidden: 16,
                layers: 1,
                heads: 1,
                kv_heads: 1,
                head_dim: 16,
                ffn: 16,
                max_seq: 8,
                rope_theta: 10_000.0,
                rms_eps: 1e-5,
                tied_embeddings: true,
                qkv_bias: false,
            },
            data: DataSpec {
                shards: ShardSetId::of(b"no shard set"),
                snapshot: SnapshotId::of(b"no snapshot"),
                tokenizer: TokenizerId::of(b"no tokenizer"),
                mixture: Mixture::only(Register::Narrative),
                sequence_length: 8,
                max_epochs: 1,
            },
            inner: InnerSpec {
                steps: 1,
                batch: 1,
                precision: (12, 12),
                carried: true,
                peak_lr: 3e-3,
                warmup_steps: 1,
                floor: 0.1,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                clip: 1.0,
            },
            compression: CompressionSpec { top_k: 64, error_decay: 0.95 },
            outer: OuterSpec { rate: 1.0, momentum: 0.0 },
            rounds: RoundsSpec {
                count: 1,
                min_miners: 1,
                max_miners: 1,
                newcomers: BasisPoints::QUARTER,
                max_size: 1,
                min_accepted: 1,
                lock_seconds: 60,
                train_seconds: 60,
                reveal_seconds: 60,
                verdict_seconds: 60,
            },
            checks: ChecksSpec {
                replay_steps: 1,
                chunks: 2,
                score_sequences: 1,
                validators: 0,
                replay_share: BasisPoints::WHOLE,
                trusted_after: 1,
            },
            reward: RewardSpec {
                per_assignment: Msat::new(1_000),
                base: BasisPoints::HALF,
                full_at: BasisPoints::HALF,
                held_back: BasisPoints::ZERO,
                proven_after: 1,
                tiers: 1,
                window: 144,
                verdict_fee: Msat::ZERO,
            },
            funding: FundingSpec {
                goal: Msat::ZERO,
                window: 144,
                joining_fee: Msat::ZERO,
                // Two weeks.
                idle_seconds: 1_209_600,
            },
            committee: committee.into_iter().map(|key| CommitteeMember { key, url: None }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn the_smallest_run_is_one_that_can_be_run() {
        let validator = SecretKey::from_entropy([1; 32]).unwrap().public();
        RunSpec::smallest([validator]).check().unwrap();
    }
}
