//! Whom a round takes, and how much each is given.

use watershed_coordinator::machine::{Event, Run, Stage, WorkStage};
use watershed_protocol::market::{Join, Message, RunSpec};
use watershed_protocol::{AssignmentId, Msat, PaymentHash, PublicKey};

use crate::Kind;
use crate::parties::commitment;
use crate::rng::Rng;
use crate::setup::{cast, spec};

/// A run whose first checkpoint is there, with one validator.
fn prepared(change: impl FnOnce(&mut RunSpec)) -> Run {
    let mut spec = spec(&mut Rng::new(1), Kind::Honest);
    spec.funding.goal = Msat::ZERO;
    spec.committee.truncate(1);
    spec.reward.tiers = 1;
    (spec.rounds.min_miners, spec.rounds.max_miners, spec.rounds.max_size) = (1, 2, 1);
    spec.rounds.count = 100;
    change(&mut spec);
    let (mut run, _) = Run::open_run(&spec, &cast().envelope, 0).unwrap();
    run.apply(&crate::book::prepared(&run), 0).unwrap();
    run
}

fn say(run: &mut Run, signer: PublicKey, message: Message, now: u64) {
    run.apply(&Event::Said { signer, message, envelope: cast().envelope.clone() }, now).unwrap();
}

fn join(run: &mut Run, at: usize, min_price: u64, tokens_per_second: u32) -> PublicKey {
    let miner = cast().miners[at];
    let join = Join {
        run: run.id,
        node: cast().nodes[at][0].clone(),
        tokens_per_second,
        min_per_million_tokens: Msat::new(min_price),
        lost_state: false,
    };
    say(run, miner, Message::Join(join), 0);
    let version = run.miners[&miner].asked;
    run.apply(&Event::Channel { miner, version, result: Ok(()) }, 0).unwrap();
    miner
}

/// Begins a round; whom it takes, and with how many batches.
fn taken(run: &Run, now: u64) -> Vec<(PublicKey, u32)> {
    let live: Vec<PublicKey> = run.miners.keys().copied().collect();
    let mut run = run.clone();
    match run.due(now, &live) {
        Some(event) => run.apply(&event, now).unwrap(),
        None => return Vec::new(),
    };
    run.current().map(|(_, w)| (w.assignment.miner, w.assignment.batch / run.spec.inner.batch)).collect()
}

fn begin(run: &mut Run, now: u64) -> Vec<AssignmentId> {
    let live: Vec<PublicKey> = run.miners.keys().copied().collect();
    let due = run.due(now, &live).unwrap();
    run.apply(&due, now).unwrap();
    run.current().map(|(id, _)| *id).collect()
}

/// Offers a task to its miner.
fn offer(run: &mut Run, assignment: AssignmentId, now: u64) {
    let hashes = vec![PaymentHash::from_bytes(assignment.to_bytes())];
    say(run, cast().validators[0], Message::Hashes { assignment, hashes }, now);
    run.apply(&Event::Offered { assignment, result: Ok(()) }, now).unwrap();
    assert_eq!(run.works[&assignment].stage, WorkStage::Offered);
}

/// Takes a task from its beginning to the miner's holding its reward.
fn locked(run: &mut Run, assignment: AssignmentId, now: u64) {
    offer(run, assignment, now);
    let miner = run.works[&assignment].assignment.miner;
    say(run, miner, Message::Accept { assignment, invoices: vec![String::new()] }, now);
    run.apply(&Event::LockTried { assignment, result: Ok(()) }, now).unwrap();
    let reports = run.works[&assignment].lots.iter().map(|l| (l.hash, 9)).collect();
    say(run, miner, Message::Locked { assignment, reports }, now);
    run.apply(&Event::Confirmed { assignment, result: Ok(()) }, now).unwrap();
}

fn pass(run: &mut Run) -> u64 {
    let round = run.round.clone().unwrap();
    run.apply(&Event::Deadline { round: round.number, until: round.until }, round.until).unwrap();
    round.until
}

#[test]
fn whoever_wants_more_than_is_paid_is_not_asked_and_of_equals_the_cheaper_is_taken() {
    let mut run = prepared(|s| s.rounds.max_miners = 1);
    // 16 tokens for the reward: a million for 62,500 times as much.
    let most = run.spec.reward.per_assignment.msat() * 62_500;
    join(&mut run, 0, most + 1, 10);
    assert_eq!(taken(&run, 0), []);
    let dear = join(&mut run, 1, most, 10);
    assert_eq!(taken(&run, 0), [(dear, 1)]);
    let cheap = join(&mut run, 2, most - 1, 10);
    assert_eq!(taken(&run, 0), [(cheap, 1)]);
}

#[test]
fn a_record_counts_more_than_a_price_and_a_new_key_is_no_way_out_of_a_bad_one() {
    let mut run = prepared(|s| s.rounds.max_miners = 1);
    let (new, veteran, once) = (join(&mut run, 0, 1, 10), join(&mut run, 1, 9, 10), join(&mut run, 2, 1, 10));
    run.miners.get_mut(&veteran).unwrap().record = (100, 1);
    run.miners.get_mut(&once).unwrap().record = (5, 1);
    assert_eq!(taken(&run, 0), [(veteran, 1)]);
    // What it failed at is made up for by then; before, a newcomer comes first.
    run.miners.get_mut(&veteran).unwrap().active = false;
    assert_eq!(taken(&run, 0), [(new, 1)]);
    run.miners.get_mut(&once).unwrap().record = (8, 1);
    assert_eq!(taken(&run, 0), [(once, 1)]);
    (run.miners.get_mut(&once).unwrap().record, run.miners.get_mut(&once).unwrap().missed) = ((1, 0), 1);
    assert_eq!(taken(&run, 0), [(new, 1)]);
}

#[test]
fn who_never_answers_holds_up_two_rounds_and_then_ever_fewer() {
    let mut run = prepared(|s| s.rounds.count = 10_000);
    let (silent, other) = (join(&mut run, 0, 1, 10), join(&mut run, 1, 1, 10));
    let (mut now, mut held_up, mut rounds) = (0, 0, 0);
    while now < 86_400 {
        // That attempts become rarer is another test.
        (run.not_before, run.failed) = (0, 0);
        for id in begin(&mut run, now) {
            if run.works[&id].assignment.miner == silent {
                offer(&mut run, id, now);
                held_up += 1;
            } else {
                // It does its part and then says no, which is how this test gets to the next round.
                locked(&mut run, id, now);
                say(&mut run, other, Message::Decline { assignment: id, reason: String::new() }, now);
            }
        }
        if run.round.is_some() {
            now = pass(&mut run);
        }
        assert!(run.round.is_none());
        (now, rounds) = (now + 60, rounds + 1);
    }
    // 2,200 s make a full round: it is benched for 1, 2, 4, 8, 16 of these.
    assert!(rounds > 50 && (5..=8).contains(&held_up), "{held_up} of {rounds}");
    assert_eq!(run.miners[&silent].missed, held_up);
    // Without others it is given another chance, so that no run waits for ever.
    run.miners.get_mut(&other).unwrap().active = false;
    run.not_before = 0;
    assert_eq!(taken(&run, now), [(silent, 1)]);
}

#[test]
fn attempts_that_lock_nothing_become_rarer() {
    let mut run = prepared(|_| {});
    let miner = join(&mut run, 0, 1, 10);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..14 {
        for assignment in begin(&mut run, now) {
            say(&mut run, miner, Message::Decline { assignment, reason: String::new() }, now);
        }
        assert!(run.round.is_none());
        assert_eq!(run.due(run.not_before - 1, &[miner]), None);
        waits.push(run.not_before - now);
        now = run.not_before;
    }
    for assignment in begin(&mut run, now) {
        say(&mut run, miner, Message::Decline { assignment, reason: String::new() }, now);
    }
    assert_eq!(run.due(now + 3_599, &[miner]), None);
    assert_eq!((&waits[..4], waits[13]), (&[5, 10, 20, 40][..], 3_600));
    run.apply(&Event::Pause { at: 1 }, now).unwrap();
    run.apply(&Event::Resume { at: 2 }, now).unwrap();
    assert!(run.due(now, &[miner]).is_some(), "the operator need not wait");
}

#[test]
fn a_miner_is_given_what_it_says_and_no_more_than_it_has_shown() {
    // 16 tokens in 600 s.
    let mut run = prepared(|s| (s.rounds.max_size, s.rounds.train_seconds) = (16, 600));
    let fast = join(&mut run, 0, 1, 1_000_000);
    assert_eq!(taken(&run, 0), [(fast, 16)]);
    run.miners.get_mut(&fast).unwrap().tokens_per_second = 0;
    assert_eq!(taken(&run, 0), []);
    run.miners.get_mut(&fast).unwrap().tokens_per_second = 1_000_000;
    run.spec.data.sequence_length = 8_000;
    // 16,000 tokens in a batch; it takes 500 s for 16 of them, not the time it said.
    let id = begin(&mut run, 0)[0];
    locked(&mut run, id, 100);
    assert_eq!(run.round.as_ref().unwrap().stage, Stage::Training);
    say(&mut run, fast, Message::Commit(commitment(id, 0)), 600);
    assert_eq!(run.miners[&fast].delivered, Some(512));
    (run.round, run.works) = Default::default();
    // 307,200 tokens in the time of training: at most half of them.
    assert_eq!(taken(&run, 1_000), [(fast, 8)]);
    // And whoever is late gets half of what it was late with.
    let id = begin(&mut run, 1_000)[0];
    locked(&mut run, id, 1_000);
    pass(&mut run);
    assert_eq!(run.round, None);
    assert_eq!(taken(&run, 5_000), [(fast, 4)]);
}
