//! Verdicts on work, from what was asked and opened: which hold and which do not.

use std::collections::BTreeSet;

use watershed_protocol::market::{Fault, Opening, Outcome, Score};
use watershed_protocol::{AssignmentId, Digest, PublicKey, encode};
use watershed_rounds::{Answer, Asked, Findings};

use crate::world::{STEPS, Work, World, key, train};

const RANDOMNESS: Digest = Digest([7; 32]);

fn validator(n: u8) -> PublicKey {
    key(60 + n).public()
}

fn ask(work: &Work, step: Option<u32>) -> Opening {
    Opening { assignment: work.assignment.id().unwrap(), step, chunks: vec![0, 2] }
}

fn answer(work: &Work, opening: &Opening) -> Answer {
    let state = opening.step.map(|step| work.file(step)).unwrap_or_default();
    Answer { state, chunks: encode(&work.open(&opening.chunks)).unwrap() }
}

/// What is found when validator n asks for the n-th of these steps; none is not answered.
fn findings(world: &mut World, work: &Work, asked: &[(Option<u32>, bool)]) -> Findings {
    let asked: Vec<(Opening, Option<Answer>)> = asked
        .iter()
        .map(|(step, answered)| {
            let opening = ask(work, *step);
            let answer = answered.then(|| answer(work, &opening));
            (opening, answer)
        })
        .collect();
    let asked: Vec<Asked<'_>> = (0..)
        .zip(&asked)
        .map(|(n, (opening, answer))| Asked { validator: validator(n), opening, answer: answer.as_ref() })
        .collect();
    world.bench.findings(&work.claim(), RANDOMNESS, &asked).unwrap()
}

fn earned() -> Outcome {
    Outcome::Earned { share: 1, preimages: Vec::new() }
}

#[test]
fn of_honest_work_only_the_true_score_holds() {
    let mut world = World::new();
    let rounds = world.two_rounds();
    // The world stands behind the second round; the works know where they began.
    let work = &rounds[1][0];
    let found = findings(&mut world, work, &[(Some(2), true), (None, true), (Some(0), true)]);
    let score: Score = *found.public.as_ref().unwrap();
    for n in 0..3 {
        assert_eq!(found.opened[&validator(n)], Ok(()), "{n}");
        assert!(found.uphold(&validator(n), &earned(), Some(score)));
        let other = Score { own_after: score.own_after ^ 1, ..score };
        assert!(!found.uphold(&validator(n), &earned(), Some(other)));
        assert!(!found.uphold(&validator(n), &earned(), None));
        let faults = [
            Fault::Start,
            Fault::NoAnswer,
            Fault::OtherSubmission,
            Fault::Replay { step: 2 },
            Fault::OtherAnswer,
        ];
        for fault in faults {
            assert!(!found.uphold(&validator(n), &Outcome::Rejected(fault.clone()), Some(score)), "{fault}");
        }
    }
    // Nobody finds right what it did not ask for.
    assert!(!found.uphold(&validator(9), &earned(), Some(score)));
}

#[test]
fn a_fault_that_one_was_shown_holds_for_all_and_convicts_who_did_not_look() {
    let mut world = World::new();
    let honest = world.work(0, 0, None);
    let mut lazy = honest.clone();
    let (mut claims, mut states) = train(&mut world.bench, &honest.assignment, &honest.start, 0, 3);
    while claims.len() < STEPS as usize {
        claims.push(claims[2]);
        states.push(states[2].clone());
    }
    (lazy.reveal.steps, lazy.states) = (claims, states);
    let mut end = lazy.states.last().unwrap().clone();
    end.updates = STEPS;
    lazy.submission = world.bench.submit(&lazy.checkpoint, &end, &lazy.before).unwrap();
    lazy.commit();
    let found = findings(&mut world, &lazy, &[(Some(1), true), (Some(3), true)]);
    let score = found.public.clone().unwrap();
    let fault = found.opened[&validator(1)].clone().unwrap_err();
    // The first saw nothing, and may have said so before the other spoke.
    assert_eq!(found.opened[&validator(0)], Ok(()));
    assert!(found.uphold(&validator(0), &earned(), Some(score)));
    assert!(!found.uphold(&validator(1), &earned(), Some(score)), "what it was opened is wrong");
    for n in 0..2 {
        assert!(found.uphold(&validator(n), &Outcome::Rejected(fault.clone()), None));
    }
    // Answering only those whose questions it likes.
    let found = findings(&mut world, &lazy, &[(Some(1), true), (Some(3), false)]);
    for n in 0..2 {
        assert!(found.uphold(&validator(n), &Outcome::Rejected(Fault::NoAnswer), None));
        assert!(!found.uphold(&validator(n), &Outcome::Rejected(fault.clone()), None));
    }
}

#[test]
fn what_everybody_sees_is_the_only_thing_that_holds() {
    let mut world = World::new();
    let mut work = world.work(0, 0, None);
    work.submission.encoded[5] ^= 1;
    let found = findings(&mut world, &work, &[(Some(1), true)]);
    assert_eq!(found.public, Err(Fault::OtherSubmission));
    let score = Some(Score { own_before: 0, own_after: 0, unseen_before: 0, unseen_after: 0 });
    assert!(!found.uphold(&validator(0), &earned(), score));
    assert!(found.uphold(&validator(0), &Outcome::Rejected(Fault::OtherSubmission), None));
    assert!(!found.uphold(&validator(0), &Outcome::Rejected(Fault::Start), None));
}

#[test]
fn one_poisoned_chunk_is_found_by_whoever_asks_for_it() {
    let mut world = World::new();
    let mut work = world.work(0, 0, None);
    let mut end = work.states.last().unwrap().clone();
    for (p, theta) in end.parameters.iter_mut().zip(&work.checkpoint).take(4096) {
        *p = theta - 30.0 * (*p - theta);
    }
    work.submission = world.bench.submit(&work.checkpoint, &end, &work.before).unwrap();
    work.commit();
    assert_eq!(world.bench.check_reveal(&work.claim()).unwrap(), Ok(()));
    for chunk in 0..world.bench.chunks() {
        let opening = Opening { chunks: vec![chunk], ..ask(&work, None) };
        let found = world.bench.check_answer(&work.claim(), &opening, &answer(&work, &opening)).unwrap();
        let poisoned = Fault::Compression { chunk: 0, what: "values".to_owned() };
        assert_eq!(found, if chunk == 0 { Err(poisoned) } else { Ok(()) });
    }
}

#[test]
fn an_answer_to_something_else_is_none() {
    let mut world = World::new();
    let work = world.work(0, 0, None);
    let opening = ask(&work, Some(2));
    let right = answer(&work, &opening);
    let cases = [
        (Answer { chunks: Vec::new(), ..right.clone() }, Fault::OtherAnswer),
        (Answer { chunks: encode(&work.open(&[0])).unwrap(), ..right.clone() }, Fault::OtherAnswer),
        (Answer { state: Vec::new(), ..right.clone() }, Fault::State { step: 2 }),
        (Answer { state: work.file(3), ..right.clone() }, Fault::State { step: 2 }),
    ];
    for (answer, fault) in cases {
        assert_eq!(world.bench.check_answer(&work.claim(), &opening, &answer).unwrap(), Err(fault));
    }
    let n = world.bench.settings().parameters();
    assert!(right.state.len() <= Answer::state_limit(n) && right.chunks.len() <= Answer::chunks_limit(2));
    assert_eq!(world.bench.check_answer(&work.claim(), &opening, &right).unwrap(), Ok(()));
}

#[test]
fn what_is_asked_is_drawn_without_repetition_and_covers_everything() {
    let world = World::with(|spec| spec.checks.chunks = 3);
    let all = world.bench.chunks();
    let (mut steps, mut chunks) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..200u8 {
        let (step, drawn) = world.bench.draw([n; 32], true);
        assert_eq!(world.bench.draw([n; 32], true), (step, drawn.clone()));
        assert_eq!(world.bench.draw([n; 32], false), (None, drawn.clone()));
        assert_eq!(drawn.len() as u64, all.min(3));
        // What an honest validator asks for binds the miner.
        let asks = Opening { assignment: AssignmentId::from_bytes([0; 32]), step, chunks: drawn.clone() };
        assert_eq!(asks.check(&world.bench.settings().spec, (0, 0)), Ok(()));
        steps.insert(step.unwrap());
        chunks.extend(drawn);
    }
    assert_eq!((steps.len() as u32, chunks.len() as u64), (STEPS, all));
}
