//! Two rounds in which everybody does what was asked.

use watershed_protocol::{Digest, SubmissionId, decode, encode};
use watershed_rounds::{OpenedChunks, floats, sha256};

use crate::world::{STEPS, Work, World, train};

#[test]
fn honest_work_passes_every_check_of_every_step_and_chunk() {
    let mut world = World::new();
    let all: Vec<u64> = (0..world.bench.chunks()).collect();
    assert!(all.len() > 3, "several chunks, the last of them short");
    assert_ne!(world.bench.settings().parameters() % 4096, 0);
    let rounds = world.two_rounds();
    for work in rounds.iter().flatten() {
        assert_eq!(work.previous.is_some(), work.assignment.round.0 == 1);
        let claim = work.claim();
        assert_eq!(world.bench.check_reveal(&claim).unwrap(), Ok(()));
        for step in 0..STEPS {
            let found = world.bench.check_steps(&claim, step..step + 1, &work.file(step)).unwrap();
            assert_eq!(found, Ok(()), "step {step}");
        }
        assert_eq!(world.bench.check_steps(&claim, 0..STEPS, &work.file(0)).unwrap(), Ok(()));
        assert_eq!(world.bench.check_steps(&claim, 2..5, &work.file(2)).unwrap(), Ok(()));
        let opened: OpenedChunks = decode(&encode(&work.open(&all)).unwrap()).unwrap();
        assert_eq!(world.bench.check_chunks(&claim, &all, &opened).unwrap(), Ok(()));
        assert_eq!(world.bench.check_chunks(&claim, &[], &work.open(&[])).unwrap(), Ok(()));
    }
    // What was carried is no formality.
    let second = &rounds[1][0];
    assert!(second.before.feedback.iter().any(|f| *f != 0.0));
    assert!(second.start.second.iter().any(|v| *v != 0.0));
    assert_eq!((second.start.updates, second.commitment.updates), (STEPS, 2 * STEPS));
}

#[test]
fn work_without_carried_moments_passes_too() {
    let mut world = World::with(|spec| spec.inner.carried = false);
    let all: Vec<u64> = (0..world.bench.chunks()).collect();
    for work in world.two_rounds().iter().flatten() {
        assert!(work.submission.carried.moments.is_empty() && work.commitment.updates == 0);
        let claim = work.claim();
        assert_eq!(world.bench.check_reveal(&claim).unwrap(), Ok(()));
        for step in 0..STEPS {
            let found = world.bench.check_steps(&claim, step..step + 1, &work.file(step)).unwrap();
            assert_eq!(found, Ok(()), "step {step}");
        }
        assert_eq!(world.bench.check_chunks(&claim, &all, &work.open(&all)).unwrap(), Ok(()));
    }
}

#[test]
fn the_text_is_learned() {
    let mut world = World::new();
    let before = world.bench.evaluate(&world.now.parameters.clone()).unwrap();
    let (works, first) = world.round(0, None);
    let (_, second) = world.round(1, Some(&works));
    assert!(first.loss < before && second.loss < first.loss, "{before}, {}, {}", first.loss, second.loss);
    let decoded = world.bench.decode(&works[0].submission.encoded).unwrap();
    let work = &works[0];
    let score = world.bench.score(&work.assignment, &work.checkpoint, &decoded, Digest([3; 32])).unwrap();
    assert!(score.gain() > 0.0, "{score:?}");
}

#[test]
fn stopping_after_any_step_and_going_on_gives_the_same_trajectory() {
    let mut world = World::new();
    let (first, _) = world.round(0, None);
    let work = world.work(1, 0, Some(&first[0]));
    for stop in 1..STEPS {
        let (mut claims, mut states) = train(&mut world.bench, &work.assignment, &work.start, 0, stop);
        assert_eq!(claims.len() as u32, stop);
        // Something else on the same bench in between.
        world.bench.evaluate(&first[1].checkpoint).unwrap();
        let from = states.last().unwrap().clone();
        let (more, further) = train(&mut world.bench, &work.assignment, &from, stop, u32::MAX);
        claims.extend(more);
        states.extend(further);
        assert_eq!(claims, work.reveal.steps, "stopped after {stop}");
        assert_eq!(states, work.states, "stopped after {stop}");
    }
}

#[test]
fn the_outer_step_does_not_depend_on_the_order_of_submissions() {
    let mut world = World::with(|spec| spec.outer.momentum = 0.5);
    let rounds = world.two_rounds();
    // Of two rounds, because four have more orders than two.
    let of = |work: &Work| (work.commitment.submission, 0.1, work.submission.encoded.clone());
    let mut submissions: Vec<(SubmissionId, f32, Vec<u8>)> = rounds.iter().flatten().map(of).collect();
    let first = world.bench.outer(&world.now, &submissions).unwrap();
    assert_ne!(first.state, world.now);
    for order in [[1, 0, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 2, 3, 0]] {
        let reordered: Vec<_> = order.iter().map(|i| submissions[*i].clone()).collect();
        assert_eq!(world.bench.outer(&world.now, &reordered).unwrap(), first, "{order:?}");
    }
    submissions.pop();
    assert_ne!(world.bench.outer(&world.now, &submissions).unwrap().checkpoint, first.checkpoint);
    assert!(world.bench.outer(&world.now, &[]).is_err());
}

/// Whatever changes these changes what every run computes.
#[test]
fn fixed_inputs_give_fixed_digests() {
    let mut world = World::new();
    let (first, checkpoint_1) = world.round(0, None);
    let (second, checkpoint_2) = world.round(1, Some(&first));
    let [work, _] = second;
    let found = [
        ("shard set", world.spec.data.shards.to_string()),
        ("run", world.spec.id().unwrap().to_string()),
        ("submission of the first round", first[0].commitment.submission.to_string()),
        ("checkpoint 1", checkpoint_1.checkpoint.to_string()),
        ("trajectory", work.commitment.trajectory.0.to_string()),
        ("error feedback", work.commitment.error_feedback.to_string()),
        ("moments", work.commitment.moments.to_string()),
        ("submission", work.commitment.submission.to_string()),
        ("checkpoint 2", checkpoint_2.checkpoint.to_string()),
        ("file of checkpoint 2", sha256(&floats(&[&checkpoint_2.state.parameters])).to_string()),
        ("loss", format!("{:08x}", checkpoint_2.loss.to_bits())),
    ];
    let found: Vec<String> = found.map(|(name, digest)| format!("{name} {digest}")).into();
    assert_eq!(found.join("\n"), EXPECTED.trim());
}

const EXPECTED: &str = "
shard set 3f98ed82bd855b44e095d3164187b2ab9f16925e02886122a413d87b47e1d4a4
run cf7796de484e5a7db7f2892a987a77ae91612d883f9964045787ded88c6f1b80
submission of the first round 3f8cc07fce730a88c285eb7b1a4f123ef8afe0b83f8bc57fdee9a06a6a592592
checkpoint 1 3530b02ff86d1bc93f7be8dd135a408ffa98ba2339f114197cc3d6e53850b8d7
trajectory 867e3c1dbb5517e27a8cbb234f7759c9147602ff2f505c9cc5b30a263f8c9303
error feedback 5479a27d0bac04468a6f546631bb80b1b124b6ee98fb172eb1b1c34d4eb2df7c
moments 1c4903d4540b87a33be690fe8a14b40fc9f207d139b7fbf5de039376cd5e25ca
submission 8b2a3bdfddda79d83a7c3338f449700c4b9542abc1719034c685ae72f5328453
checkpoint 2 d81320e84c430e6d18adc7379a268ea155d09a556b0194531b5658534ff56941
file of checkpoint 2 5c8e3e6393e87588b23e0e8fc4fb6b7e347e19e65acb82e27a3800387de9df58
loss 40ad1506
";
