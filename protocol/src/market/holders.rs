//! Which validators hold the secrets of a task, and so check it.

use std::collections::BTreeSet;

use super::assignment::Assignment;
use super::spec::RunSpec;
use crate::hash::{Domain, TaggedHasher};
use crate::key::PublicKey;

/// Members of the committee that hold lots of a task, ascending: all that were not overruled, or `checks.validators` of
/// them if the miner, of such a `record` of accepted and rejected submissions before, is a proven one. Drawn from the
/// checkpoint, which nobody can choose, so that neither miner nor coordinator picks who checks. New keys are cheap: if they
/// were drawn for too, one could be made whose checkers are friends.
pub fn holders(
    spec: &RunSpec,
    overruled: &BTreeSet<PublicKey>,
    record: (u32, u32),
    task: &Assignment,
) -> Vec<PublicKey> {
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
    if (1..drawn.len()).contains(&count) && spec.checks.is_proven(record) {
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
    use crate::data::{Split, WindowSpec};
    use crate::{Digest, Msat, RoundNumber, RunId, SecretKey};

    const PROVEN: (u32, u32) = (1, 0);

    fn key(n: u8) -> PublicKey {
        SecretKey::from_entropy([n; 32]).unwrap().public()
    }

    fn task(round: u32, checkpoint: u8) -> Assignment {
        let spec = spec(1, 0);
        Assignment {
            run: RunId::from_bytes([1; 32]),
            round: RoundNumber(round),
            miner: key(9),
            checkpoint: Digest([checkpoint; 32]),
            previous: None,
            window: WindowSpec {
                shards: spec.data.shards,
                split: Split::Train,
                mixture: spec.data.mixture,
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
        let mut spec = RunSpec::smallest((20..20 + members).map(key));
        spec.checks.validators = validators;
        spec
    }

    #[test]
    fn as_many_as_the_run_says_are_drawn_anew_for_every_task_and_all_have_their_turn() {
        let none = BTreeSet::new();
        let mut turns: BTreeMap<PublicKey, u32> = BTreeMap::new();
        let spec = spec(5, 2);
        for round in 0..500 {
            let drawn = holders(&spec, &none, PROVEN, &task(round, 1));
            assert_eq!(drawn, holders(&spec, &none, PROVEN, &task(round, 1)));
            assert!(drawn.len() == 2 && drawn[0] < drawn[1]);
            drawn.into_iter().for_each(|v| *turns.entry(v).or_default() += 1);
        }
        // 200 each are expected, give or take four standard deviations.
        assert!(turns.len() == 5 && turns.values().all(|n| (156..=244).contains(n)), "{turns:?}");
        let differs =
            |r: u32| holders(&spec, &none, PROVEN, &task(r, 1)) != holders(&spec, &none, PROVEN, &task(r, 2));
        assert!((0..20).any(differs), "the checkpoint decides with the rest");
    }

    #[test]
    fn all_hold_lots_if_the_run_says_so_and_who_was_overruled_never() {
        let none = BTreeSet::new();
        for validators in [0, 3, 7] {
            assert_eq!(holders(&spec(3, validators), &none, PROVEN, &task(0, 1)).len(), 3);
        }
        let overruled: BTreeSet<PublicKey> = [key(20), key(22)].into();
        for round in 0..50 {
            let drawn = holders(&spec(5, 2), &overruled, PROVEN, &task(round, 1));
            assert!(drawn.len() == 2 && !drawn.iter().any(|v| overruled.contains(v)));
        }
        assert_eq!(holders(&spec(3, 2), &overruled, PROVEN, &task(0, 1)), [key(21)]);
        assert!(holders(&spec(1, 0), &[key(20)].into(), PROVEN, &task(0, 1)).is_empty());
    }

    #[test]
    fn whoever_has_proved_nothing_is_checked_by_all() {
        let none = BTreeSet::new();
        for record in [(0, 0), (0, 1), (5, 1)] {
            assert_eq!(holders(&spec(5, 2), &none, record, &task(0, 1)).len(), 5, "{record:?}");
        }
        assert_eq!(holders(&spec(5, 2), &none, (5, 0), &task(0, 1)).len(), 2);
    }
}
