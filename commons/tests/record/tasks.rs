//! Tasks that the run does not call for.

use watershed_commons::record::RecordFault;
use watershed_protocol::data::Split;
use watershed_protocol::market::{Assignment, Entry, TermsOffered};
use watershed_protocol::{Msat, RunId, ShardSetId};

use crate::cast::{BATCH, REWARD, STEPS, checkpoint, lots, miner, stranger, validator};
use crate::story::{Story, Tag};

/// The fault that is found in the second task of a round, altered.
#[track_caller]
fn altered(round: u32, change: impl FnOnce(&mut Assignment, &mut Vec<TermsOffered>)) -> RecordFault {
    let mut story = Story::honest();
    story.change(Tag::Assigned(round, 1), |entry| {
        let Entry::Assigned { assignment, lots, .. } = entry else { unreachable!() };
        change(assignment, lots);
    });
    let (tag, fault) = story.fault();
    assert_eq!(tag, Tag::Assigned(round, 1));
    fault
}

fn wrong(what: &str) -> RecordFault {
    RecordFault::Assignment(what.to_owned())
}

#[test]
fn tasks_of_another_run_or_round() {
    let other = RunId::of(b"another");
    assert_eq!(altered(0, |a, _| a.run = other), RecordFault::NoRun(other));
    let newest = wrong("it does not start from the newest checkpoint");
    assert_eq!(altered(0, |a, _| a.checkpoint = checkpoint(1)), newest);
    assert_eq!(altered(1, |a, _| a.checkpoint = checkpoint(0)), newest);
    assert_eq!(altered(1, |a, _| a.round.0 = 2), wrong("the run has fewer rounds"));
    assert_eq!(altered(1, |a, _| a.round.0 = u32::MAX), wrong("the run has fewer rounds"));
    assert_eq!(altered(1, |a, _| a.round.0 = 0), wrong("its round is over"));
}

#[test]
fn tasks_with_text_that_is_not_the_runs() {
    type Change = fn(&mut watershed_protocol::data::WindowSpec);
    let changes: [Change; 7] = [
        |w| w.shards = ShardSetId::of(b"others"),
        |w| w.mixture = "oral=10000".parse().unwrap(),
        |w| w.seed += 1,
        |w| w.sequence_length *= 2,
        |w| w.max_epochs += 1,
        |w| w.split = Split::HeldOut,
        // Past the last sequence that can be numbered.
        |w| w.first = u64::MAX - 1,
    ];
    for change in changes {
        assert_eq!(altered(0, |a, _| change(&mut a.window)), wrong("its text is not the run's"));
    }
}

#[test]
fn tasks_of_sizes_that_are_not_the_runs() {
    let size = |n: u32| {
        move |a: &mut Assignment, _: &mut Vec<TermsOffered>| {
            a.batch = n;
            a.window.sequences = n.saturating_mul(STEPS).min(1 << 24);
            a.window.first = 100;
        }
    };
    for batch in [0, 1, 3, 3 * BATCH, 8 * BATCH, 1 << 31] {
        let expected =
            if batch == 0 { "its text is not the run's" } else { "its size is not one of the run's" };
        assert_eq!(altered(0, size(batch)), wrong(expected), "{batch}");
    }
    // A newcomer is given one batch, and whoever had a submission accepted twice as much.
    let shown = wrong("its size is more than its miner has shown that it can do");
    assert_eq!(altered(0, size(2 * BATCH)), shown);
    assert_eq!(altered(1, size(4 * BATCH)), shown);
    let pays = wrong("its reward is not what the run pays a miner that stands so");
    assert_eq!(altered(1, size(2 * BATCH)), pays);
    assert_eq!(altered(0, |a, _| a.window.sequences += 1), wrong("its size is not one of the run's"));
    for reward in [0, REWARD - 1, REWARD + 1, 2 * REWARD, u64::MAX] {
        assert_eq!(altered(0, |a, _| a.reward = Msat::new(reward)), pays);
    }
}

#[test]
fn a_fast_miner_may_have_twice_the_work_for_twice_the_reward() {
    let mut story = Story::honest();
    story.told.truncate(story.at(Tag::Assigned(1, 1)) + 1);
    story.change(Tag::Assigned(1, 1), |entry| {
        let Entry::Assigned { assignment, lots, .. } = entry else { unreachable!() };
        assignment.batch *= 2;
        assignment.window.sequences *= 2;
        assignment.reward = Msat::new(2 * REWARD);
        lots.iter_mut().for_each(|l| l.amount = Msat::new(2 * l.amount.msat()));
    });
    assert!(story.follow().is_ok());
}

#[test]
fn windows_that_overlap() {
    let honest = Story::honest();
    let length = u64::from(BATCH * STEPS);
    for first in [0, 1, length - 1] {
        let fault = altered(0, |a, _| a.window.first = first);
        let RecordFault::Overlap(other, _) = fault else { unreachable!("{fault}") };
        assert_eq!(other, honest.id(0, 0));
    }
    // Text that was read a round before.
    for first in [length, length + 1] {
        let fault = altered(1, |a, _| a.window.first = first);
        let RecordFault::Overlap(other, id) = fault else { unreachable!("{fault}") };
        assert!([honest.id(0, 1), honest.id(1, 0)].contains(&other));
        assert_ne!(id, other);
    }
    // Beside others, and past what a run needs, there is room.
    let mut story = Story::honest();
    story.told.truncate(story.at(Tag::Assigned(0, 1)) + 1);
    story.change(Tag::Assigned(0, 1), |entry| {
        let Entry::Assigned { assignment, .. } = entry else { unreachable!() };
        assignment.window.first = 1 << 60;
    });
    assert!(story.follow().is_ok());
}

#[test]
fn work_that_is_not_there_to_be_continued() {
    let story = Story::honest();
    let continues = wrong("it continues something else than the newest accepted work of its miner");
    assert_eq!(altered(1, |a, _| a.previous = Some(story.id(0, 0))), continues);
    assert_eq!(altered(0, |a, _| a.previous = Some(story.id(0, 0))), continues);
    assert_eq!(altered(1, |a, _| a.previous = Some(story.id(1, 0))), continues);
    let mut story = Story::honest();
    // Whoever lost what it carried begins anew.
    story.told.truncate(story.at(Tag::Assigned(1, 1)) + 1);
    story.change(Tag::Assigned(1, 1), |entry| {
        let Entry::Assigned { assignment, .. } = entry else { unreachable!() };
        assignment.previous = None;
    });
    assert!(story.follow().is_ok());
}

#[test]
fn lots_are_the_committees_in_whole_tiers_under_secrets_of_their_own() {
    let stranger = stranger().public();
    let somebody_else = wrong("somebody else than the validators that were drawn holds a secret");
    assert_eq!(altered(0, |_, lots| lots[4].validator = stranger), somebody_else);
    assert_eq!(altered(0, |_, lots| lots[0].validator = miner(1).public()), somebody_else);

    let tiers = wrong("its lots are not in the order of their tiers");
    assert_eq!(altered(0, |_, lots| lots[1].tier = 0), tiers);
    assert_eq!(altered(0, |_, lots| lots[0].tier = 32), tiers);
    assert_eq!(altered(0, |_, lots| lots.swap(0, 1)), tiers);
    assert_eq!(altered(0, |_, lots| lots[3].validator = validator(0).public()), tiers);

    let count = wrong("a validator has more or fewer lots than there are tiers");
    assert_eq!(altered(0, |_, lots| lots.truncate(5)), count);
    let more = |_: &mut Assignment, lots: &mut Vec<TermsOffered>| {
        let mut lot = lots[2];
        (lot.tier, lot.amount) = (3, Msat::ZERO);
        lots.insert(3, lot);
    };
    assert_eq!(altered(0, more), count);

    let secret = wrong("one secret releases two lots");
    assert_eq!(altered(0, |_, lots| lots[5].hash = lots[0].hash), secret);
    assert_eq!(altered(0, |_, lots| lots[5].hash = crate::cast::lots(0, 0)[0].hash), secret);
    assert_eq!(altered(1, |_, lots| lots[0].hash = crate::cast::lots(0, 0)[5].hash), secret);
}

#[test]
fn a_validator_without_a_lot_has_no_say() {
    let mut story = Story::honest();
    // One validator gave no hashes in time, so the other holds the whole reward.
    story.change(Tag::Assigned(0, 1), |entry| {
        let Entry::Assigned { lots, .. } = entry else { unreachable!() };
        lots.truncate(3);
        lots.iter_mut().for_each(|l| l.amount = Msat::new(2 * l.amount.msat()));
    });
    let fault = RecordFault::Signer(validator(1).public());
    assert_eq!(story.fault(), (Tag::Open(0, 1, 1), fault));
    assert_eq!(lots(0, 1).len(), 6);
}
