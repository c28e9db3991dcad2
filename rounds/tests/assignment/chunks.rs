//! What is found when the compression of opened chunks is done again.

use watershed_engine::moments;
use watershed_engine::train::State;
use watershed_protocol::market::Fault;
use watershed_rounds::{OpenedChunk, OpenedChunks, Part};

use crate::world::{STEPS, Work, World, work};

/// Two chunks, the last of which is short.
const ASKED: [u64; 2] = [1, 4];

/// A world after its first round, and a miner's work in the second.
fn second_round() -> (World, [Work; 2], Work) {
    let mut world = World::new();
    let (first, _) = world.round(0, None);
    let work = world.work(1, 0, Some(&first[0]));
    assert_eq!(world.bench.chunks(), 5);
    (world, first, work)
}

fn chunks(world: &World, work: &Work, opened: &OpenedChunks) -> Result<(), Fault> {
    world.bench.check_chunks(&work.claim(), &ASKED, opened).unwrap()
}

#[test]
fn other_chunks_than_were_asked_for() {
    let (world, _, honest) = second_round();
    for other in [&[][..], &[1], &[4, 1], &[1, 4, 4], &[1, 1], &[0, 4]] {
        assert_eq!(chunks(&world, &honest, &honest.open(other)), Err(Fault::OtherAnswer));
    }
    // Another chunk under the right number.
    let mut opened = honest.open(&[2, 4]);
    opened.chunks[0].chunk = 1;
    let what = "the state before the first step".to_owned();
    assert_eq!(chunks(&world, &honest, &opened), Err(Fault::ChunkOpening { chunk: 1, what }));
    // A chunk that there is not is no answer to be had, and asking for one is no panic.
    let none = OpenedChunks { chunks: vec![OpenedChunk { chunk: 5, ..opened.chunks[1].clone() }] };
    let found = world.bench.check_chunks(&honest.claim(), &[5], &none).unwrap();
    assert!(matches!(found, Err(Fault::ChunkOpening { chunk: 5, .. })), "{found:?}");
}

#[test]
fn every_opened_part_is_held_against_what_was_committed() {
    let (world, _, honest) = second_round();
    type Of = fn(&mut OpenedChunk) -> &mut Part;
    let parts: [(&str, Of); 12] = [
        ("the state before the first step", |c| &mut c.start[0]),
        ("the state before the first step", |c| &mut c.start[1]),
        ("the state before the first step", |c| &mut c.start[2]),
        ("the state after the last step", |c| &mut c.end[0]),
        ("the state after the last step", |c| &mut c.end[1]),
        ("the state after the last step", |c| &mut c.end[2]),
        ("the moments before", |c| &mut c.moments_before[0]),
        ("the moments before", |c| &mut c.moments_before[1]),
        ("the moments after", |c| &mut c.moments_after[0]),
        ("the moments after", |c| &mut c.moments_after[1]),
        ("the error feedback before", |c| &mut c.feedback_before),
        ("the error feedback after", |c| &mut c.feedback_after),
    ];
    let changes: [fn(&mut Part); 7] = [
        |p| p.values[0] += 1.0,
        |p| *p.values.last_mut().unwrap() = f32::NAN,
        |p| p.values.truncate(p.values.len() - 1),
        |p| p.values.push(0.0),
        |p| p.values.clear(),
        |p| p.siblings[0][31] ^= 1,
        |p| p.siblings.truncate(p.siblings.len() - 1),
    ];
    for (at, chunk) in ASKED.into_iter().enumerate() {
        for (what, part) in parts {
            for change in changes {
                let mut opened = honest.open(&ASKED);
                change(part(&mut opened.chunks[at]));
                let expected = Fault::ChunkOpening { chunk, what: what.to_owned() };
                assert_eq!(chunks(&world, &honest, &opened), Err(expected));
            }
        }
    }
}

#[test]
fn an_upload_that_cannot_be_read_is_found_here_too() {
    let (world, _, mut work) = second_round();
    work.submission.encoded.truncate(20);
    work.commit();
    let found = chunks(&world, &work, &work.open(&ASKED));
    assert!(matches!(found, Err(Fault::Undecodable(_))), "{found:?}");
}

#[test]
fn moments_of_another_age() {
    let (world, _, honest) = second_round();
    for updates in [0, STEPS, 2 * STEPS - 1, 2 * STEPS + 1, u32::MAX] {
        let mut work = honest.clone();
        work.submission.carried.updates = updates;
        work.commit();
        assert_eq!(chunks(&world, &work, &work.open(&ASKED)), Err(Fault::Updates(updates)));
    }
}

#[test]
fn moments_that_are_not_those_of_the_last_state() {
    let (world, first, honest) = second_round();
    let end = honest.states.last().unwrap();
    let mut one = end.second.clone();
    one[4 * 4096 + 3] += 1.0;
    let other = [
        (1, first[0].submission.carried.moments.clone()),
        (1, Vec::new()),
        (1, moments::encode(&end.second, &end.second).unwrap()),
        // In the second of the chunks that are asked for.
        (4, moments::encode(&end.first, &one).unwrap()),
    ];
    for (chunk, moments) in other {
        let mut work = honest.clone();
        work.submission.carried.moments = moments;
        work.commit();
        assert_eq!(chunks(&world, &work, &work.open(&ASKED)), Err(Fault::Moments { chunk }));
    }
}

#[test]
fn error_feedback_that_compressing_does_not_leave() {
    let (world, _, honest) = second_round();
    type Change = fn(&mut [f32]);
    let changes: [(u64, Change); 3] = [
        (1, |f| f[4096] += 1e-3),
        (4, |f| *f.last_mut().unwrap() += 1e-3),
        // As if everything had been sent.
        (1, |f| f.fill(0.0)),
    ];
    for (chunk, change) in changes {
        let mut work = honest.clone();
        change(&mut work.submission.carried.feedback);
        work.commit();
        let what = "error feedback".to_owned();
        let expected = Fault::Compression { chunk, what };
        assert_eq!(chunks(&world, &work, &work.open(&ASKED)), Err(expected));
    }
}

/// What is found when `work` hands in the compression of something else than its last state.
fn submitted(world: &World, work: &Work, change: impl FnOnce(&mut State)) -> Result<(), Fault> {
    let mut other = work.clone();
    let mut end = work.states.last().unwrap().clone();
    change(&mut end);
    other.submission.encoded = world.bench.submit(&work.checkpoint, &end, &work.before).unwrap().encoded;
    other.commit();
    assert_eq!(world.bench.check_reveal(&other.claim()).unwrap(), Ok(()));
    chunks(world, &other, &other.open(&ASKED))
}

#[test]
fn values_that_compressing_does_not_give() {
    let (world, first, honest) = second_round();
    let checkpoint = honest.checkpoint.clone();
    let values = |chunk| Err(Fault::Compression { chunk, what: "values".to_owned() });
    assert_eq!(submitted(&world, &honest, |_| ()), Ok(()));
    // Ten times as far, nowhere, and backwards.
    for factor in [10.0, 0.0, -1.0] {
        let scaled = submitted(&world, &honest, |end| {
            for (p, theta) in end.parameters.iter_mut().zip(&checkpoint) {
                *p = theta - factor * (theta - *p);
            }
        });
        assert_eq!(scaled, values(1), "{factor}");
    }
    // In one chunk only: found by whoever asks for it.
    let nudged = |at: usize| submitted(&world, &honest, |end| end.parameters[at] += 1.0);
    assert_eq!(nudged(4 * 4096), values(4));
    assert_eq!(nudged(2 * 4096), Ok(()));

    // What was handed in a round before.
    let mut stale = honest.clone();
    stale.submission.encoded = first[0].submission.encoded.clone();
    stale.commit();
    assert_eq!(chunks(&world, &stale, &stale.open(&ASKED)), values(1));
    // What another hands in, under a commitment of one's own.
    let mut copied = honest.clone();
    copied.submission.encoded = first[1].submission.encoded.clone();
    copied.commit();
    assert_eq!(chunks(&world, &copied, &copied.open(&ASKED)), values(1));
}

#[test]
fn everything_scaled_alike_is_not_where_the_steps_led() {
    let (world, _, honest) = second_round();
    // The opened last state fits the upload, but then it is not the one of the last step.
    let mut other = honest.clone();
    let end = other.states.last_mut().unwrap();
    for (p, theta) in end.parameters.iter_mut().zip(&honest.checkpoint) {
        *p = theta - 10.0 * (theta - *p);
    }
    other.submission = world.bench.submit(&honest.checkpoint, end, &honest.before).unwrap();
    other.commit();
    let what = "the state after the last step".to_owned();
    assert_eq!(chunks(&world, &other, &other.open(&ASKED)), Err(Fault::ChunkOpening { chunk: 1, what }));
}

#[test]
fn work_that_does_not_continue_what_was_carried() {
    let (mut world, first, honest) = second_round();
    let (assignment, checkpoint) = (honest.assignment.clone(), honest.checkpoint.clone());
    // From zeros, opened as they are: they are not what the miner committed to a round before.
    let mut newcomer = work(&mut world.bench, assignment.clone(), checkpoint.clone(), None);
    newcomer.previous = honest.previous.clone();
    newcomer.submission.carried.updates = 2 * STEPS;
    newcomer.commit();
    let what = "the moments before".to_owned();
    assert_eq!(
        chunks(&world, &newcomer, &newcomer.open(&ASKED)),
        Err(Fault::ChunkOpening { chunk: 1, what })
    );
    // The committed moments are opened, but the work did not start with them.
    let mut opened = newcomer.open(&ASKED);
    for (chunk, right) in opened.chunks.iter_mut().zip(honest.open(&ASKED).chunks) {
        chunk.moments_before = right.moments_before;
    }
    assert_eq!(chunks(&world, &newcomer, &opened), Err(Fault::Start));

    // With the right moments, but error feedback that was let go.
    let mut forgetful = honest.clone();
    forgetful.before.feedback.fill(0.0);
    let end = honest.states.last().unwrap();
    forgetful.submission = world.bench.submit(&checkpoint, end, &forgetful.before).unwrap();
    forgetful.commit();
    let what = "the error feedback before".to_owned();
    assert_eq!(
        chunks(&world, &forgetful, &forgetful.open(&ASKED)),
        Err(Fault::ChunkOpening { chunk: 1, what })
    );

    // From the checkpoint before this one.
    let mut elsewhere = work(&mut world.bench, assignment, first[0].checkpoint.clone(), Some(&first[0]));
    elsewhere.checkpoint = checkpoint;
    elsewhere.commit();
    assert_eq!(chunks(&world, &elsewhere, &elsewhere.open(&ASKED)), Err(Fault::Start));
}
