//! What is held back of a newcomer's rewards, and paid when it has proved itself.

use watershed_commons::record::{RecordFault, Runs};
use watershed_protocol::market::{
    Assignment, Commitment, Entry, Fault, FinalState, Message, Opened, Opening, Outcome, Reveal, RunSpec,
    Score, StepClaim, Stepped, TermsOffered, TrajectoryHash, Verdict,
};
use watershed_protocol::{AssignmentId, BasisPoints, Msat, Preimage, RoundNumber, encode};

use crate::cast::{
    BATCH, REWARD, STEPS, checkpoint, coordinator, digest, miner, node, opened, task, validator,
};
use crate::story::signed;

/// Half is held back until two were accepted.
fn spec() -> RunSpec {
    let mut spec = RunSpec { committee: crate::cast::spec().committee[..1].to_vec(), ..crate::cast::spec() };
    spec.funding.goal = Msat::ZERO;
    (spec.rounds.count, spec.rounds.min_miners) = (10, 1);
    (spec.reward.tiers, spec.reward.verdict_fee) = (1, Msat::ZERO);
    (spec.reward.held_back, spec.reward.proven_after) = (BasisPoints::HALF, 2);
    spec
}

/// A round of one miner: what is offered, and what comes of it.
#[derive(Clone, Copy)]
struct Round(u64, bool);

const HALF: u64 = REWARD / 2;

fn secret(round: u32) -> Preimage {
    Preimage::from_bytes([round as u8 + 1; 32])
}

/// The record of such rounds, with what is owed at the end; `late` escrows end only before the end of the run.
fn told(rounds: &[Round], owed: Option<u64>, late: bool) -> Vec<Entry> {
    let (spec, me) = (spec(), miner(0));
    let (run, validator) = (spec.id().unwrap(), validator(0));
    assert_eq!(spec.committee[0].key, validator.public());
    let stepped = |round: u32, accepted| {
        let (blob, checkpoint, round) = (digest("a file"), checkpoint(round), RoundNumber(round));
        Entry::Checkpoint(Stepped { run, round, checkpoint, blob, velocity: None, accepted, loss: 0 })
    };
    let mut told = vec![opened(&spec, &coordinator()), crate::cast::text(run), stepped(0, Vec::new())];
    let (mut last, mut ends, mut paid) = (None::<AssignmentId>, Vec::new(), 0);
    let mut newest = 0;
    for (round, Round(offered, good)) in (0..).zip(rounds) {
        let first = u64::from(round * STEPS * BATCH);
        let assignment = Assignment {
            run,
            checkpoint: checkpoint(newest),
            previous: last,
            reward: Msat::new(*offered),
            ..task(round, me.public(), first)
        };
        let id = assignment.id().unwrap();
        let lot = TermsOffered {
            validator: validator.public(),
            tier: 0,
            hash: secret(round).hash(),
            amount: Msat::new(*offered),
        };
        told.push(Entry::Assigned { assignment, lots: vec![lot], node: node(0).public() });
        let (start, steps) =
            (digest("start"), vec![StepClaim { state: digest("state"), loss: 0 }; STEPS as usize]);
        let submission = Commitment::submission_of(me.public(), &round.to_le_bytes());
        let commitment = Commitment {
            assignment: id,
            submission,
            trajectory: TrajectoryHash::of(start, &steps),
            error_feedback: digest("error feedback"),
            moments: digest("moments"),
            updates: STEPS,
        };
        told.push(signed(&Message::Commit(commitment), &me));
        let reveal = Reveal { assignment: id, blob: digest("upload"), start, steps };
        told.push(signed(&Message::Reveal(reveal), &me));
        let randomness = Verdict::randomness(run, RoundNumber(round), &mut [submission]);
        told.push(Entry::Round { run, round: RoundNumber(round), shown: vec![id], randomness });
        let opening = Opening { assignment: id, step: Some(0), chunks: vec![0, 1] };
        told.push(signed(&Message::Open(opening), &validator));
        let (step, state, chunks) = (Some(0), Some(digest("a state")), digest("chunks"));
        let opened = Opened { assignment: id, validator: validator.public(), step, state, chunks };
        told.push(signed(&Message::Opened(opened), &me));
        let [before, after] = [2f32, 1.0].map(f32::to_bits);
        let score =
            Score { own_before: before, own_after: after, unseen_before: before, unseen_after: after };
        let outcome = match good {
            true => Outcome::Earned { share: 1, preimages: vec![secret(round)] },
            false => Outcome::Rejected(Fault::Replay { step: 0 }),
        };
        let (step, chunks) = (Some(0), vec![0, 1]);
        let verdict =
            Verdict { assignment: id, submission, randomness, step, chunks, score: Some(score), outcome };
        told.push(signed(&Message::Verdict(verdict), &validator));
        if *good {
            told.push(stepped(round + 1, vec![id]));
            (newest, last) = (round + 1, Some(id));
            paid += offered;
        }
        let (settled, back) = if *good { (*offered, 0) } else { (0, *offered) };
        let end = Entry::Settled { assignment: id, settled: Msat::new(settled), back: Msat::new(back) };
        if late { ends.push(end) } else { told.push(end) }
    }
    told.append(&mut ends);
    let owes = |amount| Entry::Owed { run, miner: me.public(), amount: Msat::new(amount) };
    told.extend(owed.map(owes));
    let (how, paid) = (FinalState::Cancelled { reason: String::new() }, Msat::new(paid));
    let (pledged, fees, left) = (Msat::ZERO, Msat::ZERO, Msat::ZERO);
    told.push(Entry::Ended { run, how, pledged, paid, fees, left });
    told
}

fn follow(told: &[Entry]) -> Result<Runs, RecordFault> {
    let mut runs = Runs::default();
    for entry in told {
        runs.follow(&encode(entry).unwrap())?;
    }
    Ok(runs)
}

fn fault(rounds: &[Round], owed: Option<u64>) -> RecordFault {
    match follow(&told(rounds, owed, false)) {
        Err(fault) => fault,
        Ok(_) => unreachable!("nothing is found wrong"),
    }
}

fn pays() -> RecordFault {
    RecordFault::Assignment("its reward is not what the run pays a miner that stands so".to_owned())
}

#[test]
fn a_newcomers_reward_is_held_back_and_paid_with_the_tasks_after_it_has_proved_itself() {
    let (new, owed) = (Round(HALF, true), 2 * HALF);
    let all = [new, new, Round(REWARD + owed, true), Round(REWARD, true)];
    let runs = follow(&told(&all, None, false)).unwrap();
    let told_of = &runs.runs[&spec().id().unwrap()];
    assert!(told_of.ended.is_some() && told_of.owed.is_empty());
    assert_eq!(fault(&[Round(REWARD, true)], None), pays());
    assert_eq!(fault(&[Round(HALF - 1, true)], None), pays());
    assert_eq!(fault(&[new, Round(REWARD, true)], None), pays());
    assert_eq!(fault(&[new, new, new], None), pays(), "it has proved itself");
    for more in [owed + 1, REWARD + owed] {
        assert_eq!(fault(&[new, new, Round(REWARD + more, true)], None), pays());
    }
    assert_eq!(
        fault(&[new, new, Round(REWARD + owed, true), Round(REWARD + 1, true)], None),
        pays(),
        "twice"
    );
}

#[test]
fn what_no_task_has_paid_is_owed_at_the_end_and_told() {
    let new = Round(HALF, true);
    let rounds = [new, new, Round(REWARD, true)];
    for late in [false, true] {
        let runs = follow(&told(&rounds, Some(2 * HALF), late)).unwrap();
        assert_eq!(runs.runs[&spec().id().unwrap()].owed[&miner(0).public()], Msat::new(2 * HALF));
    }
    let sum = |found, wanted| RecordFault::Sum {
        what: "owed to a miner at the end",
        found: Msat::new(found),
        wanted: Msat::new(wanted),
    };
    // It is kept silently, in part, or somebody is favoured.
    assert_eq!(fault(&rounds, None), sum(0, 2 * HALF));
    assert_eq!(fault(&rounds, Some(HALF)), sum(HALF, 2 * HALF));
    assert_eq!(fault(&rounds, Some(2 * HALF + 1)), sum(2 * HALF + 1, 2 * HALF));
    // Whoever has not proved itself is due nothing.
    assert!(follow(&told(&[new], None, false)).is_ok());
    assert_eq!(fault(&[new], Some(HALF)), sum(HALF, 0));
}

#[test]
fn whoever_is_found_out_has_lost_what_it_was_owed_also_of_escrows_that_end_later() {
    let (new, bad) = (Round(HALF, true), Round(HALF, false));
    for late in [false, true] {
        let rounds = [new, bad, new, new, Round(REWARD, true)];
        assert!(follow(&told(&rounds, Some(2 * HALF), late)).is_ok());
    }
    assert_eq!(fault(&[new, bad, new, Round(REWARD, true)], None), pays(), "it begins again");
    let proven = [new, new, Round(REWARD + 2 * HALF, false)];
    assert!(follow(&told(&proven, None, false)).is_ok(), "nothing is owed any more");
    assert_eq!(fault(&[new, new, Round(REWARD, false), Round(REWARD, true)], None), pays());
}
