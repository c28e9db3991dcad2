//! The end of a run without money for another round, and payments for tasks that never began.

use watershed_commons::record::RecordFault;
use watershed_protocol::market::{Entry, FinalState, Stepped};
use watershed_protocol::{AssignmentId, Msat, RoundNumber};

use crate::cast::{FEE, LEFT, PAID, REWARD, checkpoint, coordinator, digest, opened, run, spec, text};
use crate::story::{Story, Tag, pledge};

fn order(what: &'static str) -> RecordFault {
    RecordFault::Order(what)
}

/// A run that took so much and ended before its first round.
fn ended(pledged: u64, goal: u64) -> Story {
    let mut spec = spec();
    spec.funding.goal = Msat::new(goal);
    let run = spec.id().unwrap();
    let first = Stepped {
        run,
        round: RoundNumber(0),
        checkpoint: checkpoint(0),
        blob: digest("a file"),
        velocity: None,
        accepted: Vec::new(),
        loss: 0,
    };
    let sum = Msat::new(pledged);
    let (paid, fees, how) = (Msat::ZERO, Msat::ZERO, FinalState::Exhausted);
    let mut told = vec![(Tag::Run, opened(&spec, &coordinator()))];
    if pledged > 0 {
        told.push((Tag::Pledge(0), Entry::Pledge { run, hash: pledge(0), amount: sum }));
    }
    told.push((Tag::Text, text(run)));
    told.push((Tag::Checkpoint(0), Entry::Checkpoint(first)));
    told.push((Tag::Ended, Entry::Ended { run, how, pledged: sum, paid, fees, left: sum }));
    Story { told }
}

#[test]
fn a_run_is_exhausted_when_it_cannot_pay_a_round_and_not_before() {
    // Two miners and two verdicts for each.
    let round = 2 * (REWARD + 2 * FEE);
    assert!(ended(round - 1, round).follow().is_ok());
    let early = (Tag::Ended, order("the end of a run, which could pay another round"));
    assert_eq!(ended(round, round).fault(), early);
    // An operator that pays itself is never out of money.
    assert_eq!(ended(0, 0).fault(), early);
}

#[test]
fn what_was_paid_for_a_task_that_never_began_counts_as_paid() {
    let leaked = |id, paid| Entry::Leaked { run: run(), assignment: id, paid: Msat::new(paid) };
    let other = AssignmentId::from_bytes([7; 32]);
    let told = |paid, left| {
        let mut story = Story::honest();
        story.insert_behind(Tag::Checkpoint(1), leaked(other, 5));
        story.change(Tag::Ended, |entry| {
            let Entry::Ended { paid: p, left: l, .. } = entry else { unreachable!() };
            (*p, *l) = (Msat::new(paid), Msat::new(left));
        });
        story
    };
    assert!(told(PAID + 5, LEFT - 5).follow().is_ok());
    let sum =
        RecordFault::Sum { what: "paid to miners", found: Msat::new(PAID), wanted: Msat::new(PAID + 5) };
    assert_eq!(told(PAID, LEFT).fault(), (Tag::Ended, sum));

    let mut twice = told(PAID + 5, LEFT - 5);
    twice.insert_behind(Tag::Checkpoint(2), leaked(other, 5));
    assert_eq!(twice.fault(), (Tag::Extra, RecordFault::Twice(format!("the payment for {other}"))));
    // What began has an end of its own.
    let mut begun = Story::honest();
    begun.insert_behind(Tag::Checkpoint(1), leaked(begun.id(0, 1), 5));
    assert_eq!(begun.fault(), (Tag::Extra, order("a payment for a task that never began")));
}
