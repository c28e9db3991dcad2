//! Whom a round takes, and how much each is given.

use std::collections::{BTreeMap, BTreeSet};

use watershed_coordinator::machine::{Effect, Event, Refusal, Run, Stage, WorkStage};
use watershed_protocol::market::{Join, Message, RunSpec};
use watershed_protocol::{AssignmentId, Digest, Msat, PaymentHash, PublicKey, SecretKey};

use crate::Kind;
use crate::parties::{commitment, reveal};
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

/// All lots of a task go back.
fn give_back(run: &mut Run, assignment: AssignmentId, now: u64) -> Vec<Effect> {
    let (settled, back) = (Msat::ZERO, run.works[&assignment].assignment.reward);
    run.apply(&Event::EscrowEnded { assignment, settled, back }, now).unwrap()
}

fn decline(run: &mut Run, assignment: AssignmentId, now: u64) {
    let miner = run.works[&assignment].assignment.miner;
    say(run, miner, Message::Decline { assignment, reason: String::new() }, now);
}

/// Lots are drawn anew.
fn another_checkpoint(run: &mut Run, n: u8) {
    let mut next = run.checkpoints.last().unwrap().clone();
    next.checkpoint = Digest([n; 32]);
    run.checkpoints.push(next);
}

fn pass(run: &mut Run) -> u64 {
    let round = run.round.clone().unwrap();
    run.apply(&Event::Deadline { round: round.number, until: round.until }, round.until).unwrap();
    round.until
}

#[test]
fn whoever_wants_more_than_is_paid_is_not_asked_and_whoever_wants_less_is_not_preferred() {
    let mut run = prepared(|s| s.rounds.max_miners = 1);
    // 16 tokens for the reward: a million for 62,500 times as much.
    let most = run.spec.reward.per_assignment.msat() * 62_500;
    join(&mut run, 0, most + 1, 10);
    assert_eq!(taken(&run, 0), []);
    let dear = join(&mut run, 1, most, 10);
    assert_eq!(taken(&run, 0), [(dear, 1)]);
    let cheap = join(&mut run, 2, 0, 10);
    let mut turns = BTreeSet::new();
    for n in 0..20 {
        another_checkpoint(&mut run, n);
        turns.extend(taken(&run, 0).into_iter().map(|(key, _)| key));
    }
    assert_eq!(turns, [dear, cheap].into());
}

#[test]
fn a_record_counts_more_than_a_price_and_a_new_key_is_no_way_out_of_a_bad_one() {
    let mut run = prepared(|s| s.rounds.max_miners = 1);
    let (new, veteran, once) = (join(&mut run, 0, 1, 10), join(&mut run, 1, 9, 10), join(&mut run, 2, 1, 10));
    run.miners.get_mut(&veteran).unwrap().record = (100, 1);
    for proven in [veteran, once] {
        run.miners.get_mut(&proven).unwrap().standing.good = 5;
    }
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
                locked(&mut run, id, now);
            }
        }
        if run.round.as_ref().is_some_and(|r| r.stage == Stage::Locking) {
            now = pass(&mut run);
        }
        // The other one does its work, and nobody judges it.
        let locked = run.current().filter(|(_, w)| w.stage == WorkStage::Locked).map(|(id, _)| *id);
        for id in locked.collect::<Vec<_>>() {
            say(&mut run, other, Message::Commit(commitment(id, 0)), now);
            say(&mut run, other, Message::Reveal(reveal(id)), now);
            now = pass(&mut run);
            give_back(&mut run, id, now);
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
    for (good, size) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (9, 16)] {
        run.miners.get_mut(&fast).unwrap().standing.good = good;
        assert_eq!(taken(&run, 0), [(fast, size)], "a new key's word is worth one");
    }
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

#[test]
fn neither_proven_keys_nor_others_that_ask_for_nothing_keep_anybody_out() {
    let mut run = prepared(|s| s.rounds.max_miners = 2);
    let all: Vec<PublicKey> = (0..5).map(|n| join(&mut run, n, if n < 2 { 0 } else { 10 }, 10)).collect();
    // Two have proved themselves long ago.
    for key in &all[..2] {
        let miner = run.miners.get_mut(key).unwrap();
        (miner.record, miner.standing.good) = ((1_000, 0), 1_000);
    }
    let mut turns: BTreeMap<PublicKey, u32> = BTreeMap::new();
    for n in 0..120 {
        another_checkpoint(&mut run, n);
        let round: Vec<PublicKey> = taken(&run, 0).into_iter().map(|(key, _)| key).collect();
        let proven = round.iter().filter(|key| all[..2].contains(key)).count();
        assert_eq!((round.len(), proven), (2, 1), "one place is a newcomer's");
        round.into_iter().for_each(|key| *turns.entry(key).or_default() += 1);
    }
    // 60 and 40 are expected, give or take four standard deviations.
    let fair = |key: &PublicKey, n: u32| (n - 22..=n + 22).contains(&turns[key]);
    assert!(
        all[..2].iter().all(|key| fair(key, 60)) && all[2..].iter().all(|key| fair(key, 40)),
        "{turns:?}"
    );
    // Without newcomers nothing stays empty.
    all[2..].iter().for_each(|key| run.miners.get_mut(key).unwrap().active = false);
    assert_eq!(taken(&run, 0).len(), 2);
}

#[test]
fn a_key_that_is_made_when_lots_are_known_comes_after_those_that_were_there() {
    let mut run = prepared(|s| s.rounds.max_miners = 2);
    let there = join(&mut run, 0, 10, 10);
    another_checkpoint(&mut run, 1);
    // As many keys as one likes, of which one has the best lot.
    for n in 1..5 {
        join(&mut run, n, 0, 10);
    }
    for n in 0..10 {
        assert!(taken(&run, 0).iter().any(|(key, _)| *key == there), "{n}");
        let last = run.checkpoints.last_mut().unwrap();
        last.checkpoint = Digest([n; 32]);
    }
    // By the next checkpoint they have been there too.
    let mut with = 0;
    for n in 100..140 {
        another_checkpoint(&mut run, n);
        with += u32::from(taken(&run, 0).iter().any(|(key, _)| *key == there));
    }
    assert!((4..36).contains(&with), "{with} of 40");
}

#[test]
fn two_keys_that_ask_for_nothing_and_decline_keep_honest_miners_from_work_for_an_attempt_or_two() {
    // The attack of ATTACKS: a round takes two, and the two cheapest always decline.
    for when in [WorkStage::Hashing, WorkStage::Offered, WorkStage::Locked] {
        let mut run = prepared(|s| (s.rounds.max_miners, s.rounds.count) = (2, 10_000));
        let decliners: Vec<PublicKey> = (0..2).map(|n| join(&mut run, n, 0, 10)).collect();
        let honest: Vec<PublicKey> = (2..4).map(|n| join(&mut run, n, 10, 10)).collect();
        let (mut now, mut without, mut rounds, mut declined) = (0, 0, 0, 0);
        while now < 86_400 {
            let ids = begin(&mut run, now);
            rounds += 1;
            let whose: BTreeMap<AssignmentId, PublicKey> =
                ids.iter().map(|id| (*id, run.works[id].assignment.miner)).collect();
            let work: Vec<_> = whose.iter().filter(|(_, key)| honest.contains(key)).collect();
            without += u32::from(work.is_empty());
            for (id, key) in &whose {
                if !decliners.contains(key) {
                    locked(&mut run, *id, now);
                    continue;
                }
                declined += 1;
                match when {
                    WorkStage::Hashing => {}
                    WorkStage::Offered => offer(&mut run, *id, now),
                    _ => locked(&mut run, *id, now),
                }
                decline(&mut run, *id, now);
                if when == WorkStage::Locked {
                    give_back(&mut run, *id, now);
                }
            }
            // Honest work takes its time, and is not judged here.
            for (id, key) in &work {
                say(&mut run, **key, Message::Commit(commitment(**id, 0)), now + 300);
            }
            for (id, key) in &work {
                say(&mut run, **key, Message::Reveal(reveal(**id)), now + 310);
            }
            if run.round.is_some() {
                now = pass(&mut run);
            }
            for (id, _) in &work {
                give_back(&mut run, **id, now);
            }
            assert!(run.round.is_none());
            now = (now + 10).max(run.not_before);
        }
        assert!(rounds > 80 && without <= 3 && declined <= 16, "{when:?}: {without} of {rounds}, {declined}");
    }
}

#[test]
fn what_is_taken_back_when_it_is_locked_counts_twice_and_the_lots_going_back_as_much() {
    for goes_back in [false, true] {
        let mut run = prepared(|_| {});
        let (one, other) = (join(&mut run, 0, 0, 10), join(&mut run, 1, 0, 10));
        let ids = begin(&mut run, 0);
        for id in &ids {
            locked(&mut run, *id, 0);
        }
        let of = |run: &Run, key| *ids.iter().find(|id| run.works[*id].assignment.miner == key).unwrap();
        let id = of(&run, one);
        if goes_back {
            // It says nothing, and lets go of the reward that others wait for it to earn.
            give_back(&mut run, id, 5);
        } else {
            decline(&mut run, id, 5);
        }
        assert!(matches!(run.works[&id].stage, WorkStage::Dropped { .. }));
        assert_eq!((run.miners[&one].missed, run.miners[&one].arrears), (2, 4));
        assert_eq!(run.miners[&one].benched_until, 5 + 2_200, "at once");
        assert_eq!(run.miners[&other].missed, 0);
        // After the work is shown there is nothing to go back on: what a verdict does not pay goes back.
        let id = of(&run, other);
        say(&mut run, other, Message::Commit(commitment(id, 0)), 9);
        say(&mut run, other, Message::Reveal(reveal(id)), 9);
        give_back(&mut run, id, 10);
        assert_eq!(run.miners[&other].missed, 0);
    }
    // What fails on the way is nobody's fault that can be named: it comes after others, and is not benched.
    let mut run = prepared(|_| {});
    let (one, other) = (join(&mut run, 0, 0, 10), join(&mut run, 1, 0, 10));
    for n in 0..5 {
        for id in begin(&mut run, n * 4_000) {
            if run.works[&id].assignment.miner == other {
                decline(&mut run, id, n * 4_000);
                (run.miners.get_mut(&other).unwrap().missed, run.miners.get_mut(&other).unwrap().arrears) =
                    (0, 0);
                continue;
            }
            offer(&mut run, id, n * 4_000);
            say(&mut run, one, Message::Accept { assignment: id, invoices: vec![String::new()] }, n * 4_000);
            let result = Err("no route".to_owned());
            run.apply(&Event::LockTried { assignment: id, result }, n * 4_000).unwrap();
            give_back(&mut run, id, n * 4_000);
        }
        run.not_before = 0;
    }
    assert_eq!((run.miners[&one].unlocked, run.miners[&one].benched_until), (5, 0));
    run.spec.rounds.max_miners = 1;
    assert_eq!(taken(&run, 100_000), [(other, 1)]);
}

#[test]
fn nobody_locks_a_budget_by_leaving_what_it_was_paid_locked() {
    let mut run = prepared(|s| s.rounds.max_miners = 1);
    let miner = join(&mut run, 0, 0, 10);
    for n in 0..3 {
        let id = begin(&mut run, n * 10_000)[0];
        locked(&mut run, id, n * 10_000);
        decline(&mut run, id, n * 10_000);
        run.not_before = 0;
    }
    // It is there, nobody else is, and it holds three rewards.
    assert!(run.able(&[miner]).is_empty());
    assert_eq!(run.due(1_000_000, &[miner]), None);
    // Other keys with the same node are the same miner.
    let other = join(&mut run, 1, 0, 10);
    let node = run.miners[&miner].node.clone();
    run.miners.get_mut(&other).unwrap().node = node.replace("127.0.0.1:9735", "10.1.2.3:9735");
    assert!(run.able(&[miner, other]).is_empty());
    let id = *run.works.iter().find(|(_, w)| w.escrow_open).unwrap().0;
    give_back(&mut run, id, 1_000_000);
    assert_eq!(run.able(&[miner, other]).len(), 2);
    // So are all nodes at one address, from some number on.
    let third = join(&mut run, 2, 0, 10);
    run.miners.get_mut(&third).unwrap().node = format!("02{}@10.9.9.9:9002", cast().miners[2]);
    let work = run.works[&id].clone();
    let keys: Vec<PublicKey> =
        (1..=8u8).map(|n| SecretKey::from_entropy([200 + n; 32]).unwrap().public()).collect();
    for (n, key) in keys.iter().enumerate() {
        run.miners.insert(*key, run.miners[&third].clone());
        run.miners.get_mut(key).unwrap().node = format!("02{key}@10.9.9.9:9735");
        for again in 0..2u8 {
            let mut left = work.clone();
            (left.escrow_open, left.assignment.miner) = (true, *key);
            run.works.insert(AssignmentId::from_bytes([n as u8 * 2 + again; 32]), left);
        }
        let most = 2 * (n + 1) >= 16;
        assert_eq!(run.able(&[third]).is_empty(), most, "{n}");
    }
}

#[test]
fn a_round_in_which_nothing_was_shown_does_not_count() {
    let mut run = prepared(|s| (s.rounds.count, s.rounds.max_miners) = (2, 1));
    join(&mut run, 0, 0, 10);
    let mut now = 0;
    for attempt in 1..6 {
        let id = begin(&mut run, now)[0];
        locked(&mut run, id, now);
        if attempt % 2 == 0 {
            decline(&mut run, id, now);
        } else {
            now = pass(&mut run);
        }
        give_back(&mut run, id, now);
        assert_eq!((run.next_round, run.failed), (0, attempt), "nobody uses a run's rounds up like that");
        now = run.not_before;
    }
}

#[test]
fn joins_that_alternate_are_written_down_no_faster_than_time_passes() {
    let mut run = prepared(|_| {});
    let miner = cast().miners[0];
    let mut said = |price: Option<u64>, now: u64| {
        let message = match price {
            Some(price) => Message::Join(Join {
                run: run.id,
                node: cast().nodes[0][0].clone(),
                tokens_per_second: 10,
                min_per_million_tokens: Msat::new(price),
                lost_state: false,
            }),
            None => Message::Leave { run: run.id },
        };
        run.apply(&Event::Said { signer: miner, message, envelope: cast().envelope.clone() }, now)
    };
    let mut taken = 0;
    // Ten times a second, for an hour: another price each time, or leaving and coming back.
    for n in 0..36_000u64 {
        let price = (n % 3 < 2).then_some(n % 2);
        match said(price, 1_000 + n / 10) {
            Ok(_) => taken += 1,
            Err(refused) => assert!(matches!(refused, Refusal::TooOften | Refusal::Known), "{refused}"),
        }
    }
    assert!((100..=131).contains(&taken), "{taken} of 36,000");
    // A miner that is started again now and then notices nothing of it.
    for n in 0..20 {
        let now = 10_000 + 300 * n;
        assert!(said(Some(7 + n), now).is_ok() && said(None, now + 10).is_ok());
    }
}

#[test]
fn as_many_keys_as_a_run_remembers_do_not_close_it_to_newcomers() {
    let mut run = prepared(|_| {});
    let (honest, paid) = (join(&mut run, 0, 0, 10), join(&mut run, 1, 0, 10));
    run.purse.joined.insert(paid, PaymentHash::from_bytes([1; 32]));
    run.miners.get_mut(&honest).unwrap().record = (1, 0);
    let idle = run.miners[&paid].clone();
    for n in 0..99_998u32 {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        // Keys that nobody has the secrets of do as well here.
        let Ok(key) = PublicKey::from_bytes(bytes) else { continue };
        run.miners.insert(key, idle.clone());
    }
    let mut n = 100_000u32;
    while run.miners.len() < 100_000 {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        PublicKey::from_bytes(bytes).into_iter().for_each(|key| drop(run.miners.insert(key, idle.clone())));
        n += 1;
    }
    let before: BTreeSet<PublicKey> = run.miners.keys().copied().collect();
    let new = join(&mut run, 2, 0, 10);
    assert_eq!(run.miners.len(), 100_000);
    let gone: Vec<PublicKey> = before.into_iter().filter(|key| !run.miners.contains_key(key)).collect();
    assert!(gone.len() == 1 && ![honest, paid, new].contains(&gone[0]));
    assert!(run.able(&[new, honest, paid]).len() == 3);
}
