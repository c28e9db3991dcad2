//! Runs that do not get on: when they end by themselves, and who keeps money beyond that day.

use watershed_commons::record::{RecordFault, Runs};
use watershed_protocol::Msat;
use watershed_protocol::market::{Entry, FinalState};

use crate::cast::{coordinator, opened, run, spec};
use crate::story::{Story, Tag, pledge};

const TAKEN: u64 = 1_000_000;

fn progress(at: u64) -> Entry {
    Entry::Progress { run: run(), at }
}

/// A run that took a pledge, and got on at these times.
fn told(times: &[u64]) -> Result<Runs, RecordFault> {
    let mut runs = Runs::default();
    runs.entry(opened(&spec(), &coordinator()))?;
    runs.entry(Entry::Pledge { run: run(), hash: pledge(0), amount: Msat::new(100_000) })?;
    for at in times {
        runs.entry(progress(*at))?;
    }
    Ok(runs)
}

fn ended(at: u64) -> Entry {
    let sum = Msat::new(100_000);
    let how = FinalState::Idle { at };
    Entry::Ended { run: run(), how, pledged: sum, paid: Msat::ZERO, fees: Msat::ZERO, left: sum }
}

#[test]
fn a_run_ends_by_itself_when_its_time_is_over_and_not_before() {
    let idle = u64::from(spec().funding.idle_seconds);
    let early = Err(RecordFault::Order("the end of a run, whose time without a round was not over,"));
    assert_eq!(told(&[TAKEN]).unwrap().entry(ended(TAKEN + idle - 1)), early);
    assert_eq!(told(&[TAKEN]).unwrap().entry(ended(TAKEN + idle)), Ok(()));
    assert_eq!(told(&[]).unwrap().entry(ended(TAKEN + idle)), early, "nobody knows when its time began");
}

#[test]
fn nobody_puts_the_day_off_without_a_round_that_somebody_was_paid_for() {
    let order = RecordFault::Order("that the run got on");
    assert_eq!(told(&[TAKEN, TAKEN + 1]).unwrap_err(), order);
    let mut unpaid = Runs::default();
    unpaid.entry(opened(&spec(), &coordinator())).unwrap();
    assert_eq!(unpaid.entry(progress(TAKEN)), Err(order.clone()), "it has no money yet");

    // With the story's rounds it may be told once for each.
    let mut story = Story::honest();
    story.insert_behind(Tag::Pledge(1), progress(TAKEN));
    story.insert_behind(Tag::Checkpoint(1), progress(TAKEN + 10));
    story.insert_behind(Tag::Checkpoint(2), progress(TAKEN + 10));
    story.follow().unwrap();
    let mut twice = Story::honest();
    twice.insert_behind(Tag::Pledge(1), progress(TAKEN));
    twice.insert_behind(Tag::Checkpoint(1), progress(TAKEN - 1));
    assert_eq!(twice.fault(), (Tag::Extra, order), "time does not go back");
}

#[test]
fn who_keeps_pledges_beyond_the_day_is_found() {
    let spec = spec();
    let due = TAKEN + u64::from(spec.funding.idle_seconds);
    let longest = spec.rounds.stages() + 1_200 * u64::from(spec.reward.window);
    // A day that was put off by telling a time that is yet to come counts as one that is over.
    assert!(told(&[u64::MAX]).unwrap().runs[&run()].is_overdue(TAKEN));
    let mut runs = told(&[TAKEN]).unwrap();
    assert!(!runs.runs[&run()].is_overdue(TAKEN));
    assert!(!runs.runs[&run()].is_overdue(due + longest));
    assert!(runs.runs[&run()].is_overdue(due + longest + 1));
    runs.entry(ended(due)).unwrap();
    assert!(!runs.runs[&run()].is_overdue(u64::MAX));
    // Whoever took pledges says when.
    assert!(told(&[]).unwrap().runs[&run()].is_overdue(0));
}
