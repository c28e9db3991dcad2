//! The record: a run told from beginning to end is followed, and every way of telling it wrong is found where it is told.
#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "record/altered.rs"]
mod altered;
#[path = "record/cast.rs"]
mod cast;
#[path = "record/disputes.rs"]
mod disputes;
#[path = "record/exhausted.rs"]
mod exhausted;
#[path = "record/garbage.rs"]
mod garbage;
#[path = "record/large.rs"]
mod large;
#[path = "record/money.rs"]
mod money;
#[path = "record/order.rs"]
mod order;
#[path = "record/progress.rs"]
mod progress;
#[path = "record/purse.rs"]
mod purse;
#[path = "record/standing.rs"]
mod standing;
#[path = "record/story.rs"]
mod story;
#[path = "record/tasks.rs"]
mod tasks;

use watershed_protocol::Msat;
use watershed_protocol::market::FinalState;

use cast::{LEFT, PAID, PLEDGED, run};
use story::{Story, Tag};

#[test]
fn a_run_from_its_specification_to_its_end_is_followed() {
    let story = Story::honest();
    let runs = story.follow().unwrap();
    assert_eq!(runs.entries, story.told.len() as u64);
    let told = &runs.runs[&run()];
    assert_eq!(told.coordinator, cast::coordinator().public());
    assert_eq!(told.ended, Some(FinalState::Finished));
    assert_eq!(told.checkpoints.len(), 3);
    let sum = |amounts: &mut dyn Iterator<Item = Msat>| amounts.map(Msat::msat).sum::<u64>();
    assert_eq!(sum(&mut told.pledges.values().copied()), PLEDGED);
    assert_eq!(sum(&mut told.works.values().filter_map(|w| w.settled).map(|s| s.0)), PAID);
    assert_eq!(sum(&mut told.works.values().flat_map(|w| w.receipts.values()).copied()), PAID);
    // Spent, and an msat lost in dividing.
    assert_eq!(PAID + 8 * cast::FEE + LEFT + 1, PLEDGED);
    let accepted: Vec<bool> =
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(r, m)| told.works[&story.id(r, m)].is_accepted()).to_vec();
    assert_eq!(accepted, [true, true, true, false]);
    assert_eq!(told.works[&story.id(0, 1)].unrecorded(), Msat::ZERO);
}

#[test]
fn what_was_paid_without_a_verdict_in_the_record_is_counted() {
    let mut story = Story::honest();
    // A verdict that came too late for the record: the other validator's is enough for the checkpoint.
    story.remove(Tag::Verdict(1, 0, 1));
    story.remove(Tag::Ended);
    let runs = story.follow().unwrap();
    let work = &runs.runs[&run()].works[&story.id(1, 0)];
    assert!(work.is_accepted());
    assert_eq!(work.unrecorded(), Msat::new(7_000));
}

#[test]
fn two_runs_are_told_in_one_record() {
    let mut story = Story::honest();
    let end = story.told.pop().unwrap();
    let other = cast::other_spec();
    story.told.push((Tag::Extra, cast::opened(&other, &cast::coordinator())));
    story.told.push(end);
    let runs = story.follow().unwrap();
    assert_eq!(runs.runs.len(), 2);
    assert!(runs.runs[&other.id().unwrap()].works.is_empty());
}
