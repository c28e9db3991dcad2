//! Which validators hold the secrets of a task, and so check it.

use std::collections::BTreeSet;

use super::assignment::Assignment;
use super::spec::RunSpec;
use crate::hash::{Domain, TaggedHasher};
use crate::key::PublicKey;

/// Members of the committee that hold lots of a task, ascending: all that were not overruled, or `checks.validators` of
/// them. Drawn from the checkpoint, which nobody can choose, so that neither miner nor coordinator picks who checks.
pub fn holders(spec: &RunSpec, overruled: &BTreeSet<PublicKey>, task: &Assignment) -> Vec<PublicKey> {
    let members = spec.committee.iter().map(|m| m.key).filter(|key| !overruled.contains(key));
    let mut drawn: Vec<_> = members
        .map(|key| {
            let mut hasher = TaggedHasher::new(Domain::Holders);
            hasher.update(&task.run.to_bytes());
            hasher.update(&task.round.0.to_le_bytes());
            hasher.update(&task.miner.to_bytes());
            hasher.update(&task.checkpoint.to_bytes());
            hasher.update(&key.to_bytes());
            (hasher.finish(), key)
        })
        .collect();
    let count = spec.checks.validators as usize;
    if (1..drawn.len()).contains(&count) {
        drawn.sort_unstable();
        drawn.truncate(count);
    }
    let mut keys: Vec<PublicKey> = drawn.into_iter().map(|(_, key)| key).collect();
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::{Mixture, Split, WindowSpec};
    use crate::market::{
        ChecksSpec, CommitteeMember, CompressionSpec, DataSpec, FundingSpec, InnerSpec, ModelSpec, OuterSpec,
        RewardSpec, RoundsSpec,
    };
    use crate::{
        BasisPoints, Digest, Msat, RoundNumber, RunId, SecretKey, ShardSetId, SnapshotId, TokenizerId,
    };

    fn key(n: u8) -> PublicKey {
        SecretKey::from_entropy([n; 32]).unwrap().public()
    }

    fn task(round: u32, checkpoint: u8) -> Assignment {
        Assignment {
            run: RunId::from_bytes([1; 32]),
            round: RoundNumber(round),
            miner: key(9),
            checkpoint: Digest([checkpoint; 32]),
            previous: None,
            window: WindowSpec {
                shards: ShardSetId::from_bytes([2; 32]),
                split: Split::Train,
                mixture: Mixture::try_from([10_000, 0, 0, 0, 0, 0, 0]).unwrap(),
                seed: 0,
                sequence_length: 8,
                first: 0,
                sequences: 8,
                max_epochs: 1,
            },
            batch: 1,
            reward: Msat::new(1),
        }
    }

    fn spec(members: u8, validators: u32) -> RunSpec {
        let share = BasisPoints::WHOLE;
        RunSpec {
            title: "who checks".to_owned(),
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
                rope_theta: 1e4,
                rms_eps: 1e-5,
                tied_embeddings: true,
                qkv_bias: false,
            },
            data: DataSpec {
                shards: ShardSetId::from_bytes([2; 32]),
                snapshot: SnapshotId::from_bytes([3; 32]),
                tokenizer: TokenizerId::from_bytes([4; 32]),
                mixture: Mixture::try_from([10_000, 0, 0, 0, 0, 0, 0]).unwrap(),
                sequence_length: 8,
                max_epochs: 1,
            },
            inner: InnerSpec {
                steps: 8,
                batch: 1,
                precision: (12, 12),
                carried: true,
                peak_lr: 1e-3,
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
                validators,
                replay_share: share,
                trusted_after: 1,
            },
            reward: RewardSpec {
                per_assignment: Msat::new(1),
                base: share,
                full_at: share,
                tiers: 1,
                window: 144,
                verdict_fee: Msat::ZERO,
            },
            funding: FundingSpec { goal: Msat::ZERO, window: 144, joining_fee: Msat::ZERO },
            committee: (20..20 + members).map(|n| CommitteeMember { key: key(n), url: None }).collect(),
        }
    }

    #[test]
    fn as_many_as_the_run_says_are_drawn_anew_for_every_task_and_all_have_their_turn() {
        let none = BTreeSet::new();
        let mut turns: BTreeMap<PublicKey, u32> = BTreeMap::new();
        let spec = spec(5, 2);
        for round in 0..500 {
            let drawn = holders(&spec, &none, &task(round, 1));
            assert_eq!(drawn, holders(&spec, &none, &task(round, 1)));
            assert!(drawn.len() == 2 && drawn[0] < drawn[1]);
            drawn.into_iter().for_each(|v| *turns.entry(v).or_default() += 1);
        }
        // 200 each are expected, give or take four standard deviations.
        assert!(turns.len() == 5 && turns.values().all(|n| (156..=244).contains(n)), "{turns:?}");
        let differs = |r: u32| holders(&spec, &none, &task(r, 1)) != holders(&spec, &none, &task(r, 2));
        assert!((0..20).any(differs), "the checkpoint decides with the rest");
    }

    #[test]
    fn all_hold_lots_if_the_run_says_so_and_who_was_overruled_never() {
        let none = BTreeSet::new();
        for validators in [0, 3, 7] {
            assert_eq!(holders(&spec(3, validators), &none, &task(0, 1)).len(), 3);
        }
        let overruled: BTreeSet<PublicKey> = [key(20), key(22)].into();
        for round in 0..50 {
            let drawn = holders(&spec(5, 2), &overruled, &task(round, 1));
            assert!(drawn.len() == 2 && !drawn.iter().any(|v| overruled.contains(v)));
        }
        assert_eq!(holders(&spec(3, 2), &overruled, &task(0, 1)), [key(21)]);
        assert!(holders(&spec(1, 0), &[key(20)].into(), &task(0, 1)).is_empty());
    }
}
