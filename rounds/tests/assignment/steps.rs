//! What is found when steps are done again.

use watershed_engine::device::cpu;
use watershed_protocol::Digest;
use watershed_protocol::market::Fault;
use watershed_rounds::{Carried, floats};

use crate::world::{STEPS, Work, World, train, work};

/// A world after its first round, and a miner's work in the second.
fn second_round() -> (World, [Work; 2], Work) {
    let mut world = World::new();
    let (first, _) = world.round(0, None);
    let work = world.work(1, 0, Some(&first[0]));
    (world, first, work)
}

fn steps(world: &mut World, work: &Work, steps: std::ops::Range<u32>, file: &[u8]) -> Result<(), Fault> {
    world.bench.check_steps(&work.claim(), steps, file).unwrap()
}

#[test]
fn a_state_that_is_not_the_committed_one() {
    let (mut world, _, honest) = second_round();
    for step in 1..STEPS {
        let right = honest.file(step);
        let mut altered = right.clone();
        altered[7] ^= 1;
        let mut last = right.clone();
        *last.last_mut().unwrap() ^= 1;
        let longer = [right.as_slice(), &[0; 4]].concat();
        let wrong = [altered, last, longer, Vec::new(), honest.file((step + 1) % STEPS), honest.file(0)];
        for file in wrong {
            assert_eq!(steps(&mut world, &honest, step..step + 1, &file), Err(Fault::State { step }));
        }
    }
}

#[test]
fn a_start_that_is_not_the_checkpoint_with_what_was_carried() {
    let (mut world, first, honest) = second_round();
    let mut altered = honest.file(0);
    *altered.last_mut().unwrap() ^= 1;
    for file in
        [altered, Vec::new(), vec![1, 2, 3], honest.file(1), first[1].submission.carried.moments.clone()]
    {
        assert_eq!(steps(&mut world, &honest, 0..1, &file), Err(Fault::Start));
    }
    // Zeros are right for a newcomer only, and for it nothing else is.
    let newcomer = &first[0];
    assert_eq!(steps(&mut world, newcomer, 0..1, &honest.file(0)), Err(Fault::Start));
    assert_eq!(steps(&mut world, newcomer, 0..1, &[]), Ok(()));

    // Another start digest, with the committed moments.
    let mut other = honest.clone();
    other.reveal.start = Digest([7; 32]);
    other.commit();
    // With moments that were carried, the upload alone does not show it.
    assert_eq!(world.bench.check_reveal(&other.claim()).unwrap(), Ok(()));
    assert_eq!(steps(&mut world, &other, 0..1, &honest.file(0)), Err(Fault::Start));
}

#[test]
fn work_that_starts_with_other_moments_or_parameters() {
    let (mut world, first, honest) = second_round();
    let (assignment, checkpoint) = (honest.assignment.clone(), honest.checkpoint.clone());
    // From zeros, and from another miner's, though it says that it continues its own.
    for before in [None, Some(&first[1])] {
        let mut other = work(&mut world.bench, assignment.clone(), checkpoint.clone(), before);
        other.previous = honest.previous.clone();
        assert_eq!(world.bench.check_reveal(&other.claim()).unwrap(), Ok(()));
        let file = other.file(0);
        assert_eq!(steps(&mut world, &other, 0..1, &file), Err(Fault::Start));
        assert_eq!(steps(&mut world, &other, 0..1, &honest.file(0)), Err(Fault::Start));
    }
    // From the checkpoint before this one.
    let mut other = work(&mut world.bench, assignment, first[0].checkpoint.clone(), Some(&first[0]));
    other.checkpoint = checkpoint;
    assert_eq!(steps(&mut world, &other, 0..1, &honest.file(0)), Err(Fault::Start));
}

#[test]
fn a_step_that_led_elsewhere_and_the_state_behind_it() {
    let (mut world, _, honest) = second_round();
    for step in 0..STEPS {
        let changes: [fn(&mut watershed_protocol::market::StepClaim); 2] =
            [|c| c.loss ^= 1, |c| c.state.0[0] ^= 1];
        for (loss_only, change) in [true, false].into_iter().zip(changes) {
            let mut other = honest.clone();
            change(&mut other.reveal.steps[step as usize]);
            other.commit();
            assert_eq!(world.bench.check_reveal(&other.claim()).unwrap(), Ok(()));
            let found = steps(&mut world, &other, step..step + 1, &honest.file(step));
            assert_eq!(found, Err(Fault::Replay { step }));
            // As the last of several.
            let found = steps(&mut world, &other, 0..STEPS, &honest.file(0));
            assert_eq!(found, Err(Fault::Replay { step }));
            if step + 1 < STEPS {
                let next = steps(&mut world, &other, step + 1..step + 2, &honest.file(step + 1));
                let expected = if loss_only { Ok(()) } else { Err(Fault::State { step: step + 1 }) };
                assert_eq!(next, expected);
            }
        }
    }
}

#[test]
fn steps_on_other_text_in_less_precision_or_not_taken_at_all() {
    let (mut world, first, honest) = second_round();
    let found_everywhere = |world: &mut World, other: &Work, from: u32| {
        assert_eq!(world.bench.check_reveal(&other.claim()).unwrap(), Ok(()));
        for step in 0..STEPS {
            let expected = if step < from { Ok(()) } else { Err(Fault::Replay { step }) };
            assert_eq!(steps(world, other, step..step + 1, &other.file(step)), expected, "step {step}");
        }
    };

    let mut elsewhere = honest.assignment.clone();
    elsewhere.window.first += 50;
    let mut other = work(&mut world.bench, elsewhere, honest.checkpoint.clone(), Some(&first[0]));
    other.assignment = honest.assignment.clone();
    other.commit();
    found_everywhere(&mut world, &other, 0);

    let mut coarse = world.spec.clone();
    coarse.inner.precision = (8, 8);
    let mut bench = world.bench_on(&coarse, &cpu());
    let other = work(&mut bench, honest.assignment.clone(), honest.checkpoint.clone(), Some(&first[0]));
    found_everywhere(&mut world, &other, 0);

    // Half of the steps, the others said to have led nowhere.
    let mut lazy = honest.clone();
    let (mut claims, mut states) = train(&mut world.bench, &honest.assignment, &honest.start, 0, 3);
    while claims.len() < STEPS as usize {
        claims.push(claims[2]);
        states.push(states[2].clone());
    }
    (lazy.reveal.steps, lazy.states) = (claims, states);
    lazy.commit();
    // A state says how often it was updated, so even the fourth step's start is not the committed one.
    assert_eq!(steps(&mut world, &lazy, 2..3, &lazy.file(2)), Ok(()));
    assert_eq!(steps(&mut world, &lazy, 3..4, &lazy.file(3)), Err(Fault::Replay { step: 3 }));
    for step in 4..STEPS {
        let found = steps(&mut world, &lazy, step..step + 1, &lazy.file(step));
        assert!(matches!(found, Err(Fault::Replay { .. } | Fault::State { .. })), "{found:?}");
    }
}

#[test]
fn steps_that_were_not_shown() {
    let (mut world, _, honest) = second_round();
    let last = STEPS - 1;
    let found = steps(&mut world, &honest, last..STEPS + 1, &honest.file(last));
    assert_eq!(found, Err(Fault::StepCount(STEPS)));
    let state = honest.states.last().unwrap();
    let file = floats(&[&state.parameters, &state.first, &state.second]);
    assert_eq!(steps(&mut world, &honest, STEPS..STEPS + 1, &file), Err(Fault::StepCount(STEPS)));
    assert_eq!(
        steps(&mut world, &honest, STEPS + 5..STEPS + 6, &file),
        Err(Fault::State { step: STEPS + 5 })
    );
}

#[test]
fn carried_moments_that_cannot_be_read_are_an_error_of_our_own_or_a_fault_but_never_a_panic() {
    let (mut world, _, honest) = second_round();
    let file = honest.file(0);
    for cut in [0, 1, 7, file.len() / 2, file.len() - 1] {
        assert_eq!(steps(&mut world, &honest, 0..1, &file[..cut]), Err(Fault::Start));
    }
    let n = honest.checkpoint.len();
    let unreadable = Carried { feedback: vec![0.0; n], moments: vec![1; 9], updates: 0 };
    assert!(unreadable.start(&honest.checkpoint).is_err());
    assert!(unreadable.moments_digest().is_err());
}
