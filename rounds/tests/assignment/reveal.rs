//! What is found from the upload and the commitment alone.

use watershed_protocol::Digest;
use watershed_protocol::market::{Commitment, Fault};

use crate::world::{STEPS, Work, World};

/// A world after its first round, and a miner's work in the second.
fn second_round() -> (World, [Work; 2], Work) {
    let mut world = World::new();
    let (first, _) = world.round(0, None);
    let work = world.work(1, 0, Some(&first[0]));
    (world, first, work)
}

#[test]
fn another_submission_than_was_committed() {
    let (world, first, honest) = second_round();
    let refused = |work: &Work| {
        assert_eq!(world.bench.check_reveal(&work.claim()).unwrap(), Err(Fault::OtherSubmission));
    };
    let mut work = honest.clone();
    *work.submission.encoded.last_mut().unwrap() ^= 1;
    refused(&work);
    let mut work = honest.clone();
    work.submission.encoded.push(0);
    refused(&work);
    work.submission.encoded.clear();
    refused(&work);
    // What another has made, as the other committed to it: a commitment holds its miner's key.
    let mut work = honest.clone();
    work.submission.encoded = first[1].submission.encoded.clone();
    work.commitment.submission = first[1].commitment.submission;
    refused(&work);
    assert_eq!(
        first[1].commitment.submission,
        Commitment::submission_of(first[1].assignment.miner, &work.submission.encoded)
    );
}

#[test]
fn another_trajectory_than_was_committed() {
    let (world, _, honest) = second_round();
    let changes: [fn(&mut Work); 5] = [
        |w| w.reveal.steps[5].loss ^= 1,
        |w| w.reveal.steps[0].state.0[31] ^= 1,
        |w| w.reveal.start.0[0] ^= 1,
        |w| w.reveal.steps.swap(1, 2),
        |w| w.reveal.steps.truncate(5),
    ];
    for change in changes {
        let mut work = honest.clone();
        change(&mut work);
        assert_eq!(world.bench.check_reveal(&work.claim()).unwrap(), Err(Fault::OtherTrajectory));
    }
}

#[test]
fn another_number_of_steps_than_was_asked_for() {
    let (world, _, honest) = second_round();
    for count in [0, 1, STEPS - 1, STEPS + 1, 2 * STEPS] {
        let mut work = honest.clone();
        work.reveal.steps = honest.reveal.steps.iter().cycle().copied().take(count as usize).collect();
        work.commit();
        assert_eq!(world.bench.check_reveal(&work.claim()).unwrap(), Err(Fault::StepCount(count)));
    }
}

#[test]
fn an_upload_that_is_no_pseudo_gradient_of_this_model() {
    let (world, _, honest) = second_round();
    let whole = honest.submission.encoded.clone();
    let other_k = World::with(|spec| spec.compression.top_k = 64).work(0, 0, None).submission.encoded;
    let other_model = World::with(|spec| spec.model.ffn = 96).work(0, 0, None).submission.encoded;
    let garbage = whole.iter().map(|b| b.wrapping_mul(31).wrapping_add(7)).collect();
    let longer = [whole.as_slice(), &[0]].concat();
    let shorter = whole[..whole.len() - 1].to_vec();
    for encoded in [Vec::new(), garbage, longer, shorter, other_k, other_model] {
        let mut work = honest.clone();
        work.submission.encoded = encoded;
        work.commit();
        let found = world.bench.check_reveal(&work.claim()).unwrap();
        assert!(matches!(found, Err(Fault::Undecodable(_))), "{found:?}");
    }
}

#[test]
fn a_newcomer_that_starts_elsewhere() {
    let mut world = World::new();
    let honest = world.work(0, 0, None);
    let mut work = honest.clone();
    work.reveal.start = Digest([7; 32]);
    work.commit();
    assert_eq!(world.bench.check_reveal(&work.claim()).unwrap(), Err(Fault::Start));
    // From parameters of its own, with everything else in order.
    let mut elsewhere = honest.checkpoint.clone();
    elsewhere[100] += 0.5;
    let mut work = crate::world::work(&mut world.bench, honest.assignment.clone(), elsewhere, None);
    work.checkpoint = honest.checkpoint;
    assert_eq!(world.bench.check_reveal(&work.claim()).unwrap(), Err(Fault::Start));
    assert_eq!(world.bench.check_steps(&work.claim(), 0..1, &work.file(0)).unwrap(), Err(Fault::Start));
    let found = world.bench.check_chunks(&work.claim(), &[0], &work.open(&[0])).unwrap();
    assert_eq!(found, Err(Fault::Start));
}
