//! Entries that are left out, told twice, or told at another time.

use watershed_commons::record::RecordFault;
use watershed_protocol::Msat;
use watershed_protocol::market::{Entry, FinalState};

use crate::cast::{PLEDGED, PLEDGES, REWARD, miner, run, task, validator};
use crate::story::{Story, Tag, pledge};

fn order(what: &'static str) -> RecordFault {
    RecordFault::Order(what)
}

/// The fault of a story that was changed.
#[track_caller]
fn after(change: impl FnOnce(&mut Story)) -> (Tag, RecordFault) {
    let mut story = Story::honest();
    change(&mut story);
    story.fault()
}

#[test]
fn every_entry_that_is_left_out_is_missed_at_the_next_that_needs_it() {
    use Tag::{
        Assigned, Checkpoint, Commit, Ended, Open, Opened, Pledge, Receipts, Reveal, Round, Run, Settled,
        Text, Verdict,
    };
    let unseen = |v: usize| RecordFault::Verdict {
        validator: validator(v).public(),
        what: "it finds right what was not opened to its validator",
    };
    let unasked = |m: usize| RecordFault::Opening { signer: miner(m).public(), what: "nobody asked for it" };
    let not_newest = || RecordFault::Assignment("it does not start from the newest checkpoint".to_owned());
    let continues = || {
        let what = "it continues something else than the newest accepted work of its miner";
        RecordFault::Assignment(what.to_owned())
    };
    let mut missed = 0;
    for (tag, _) in Story::honest().told {
        let mut story = Story::honest();
        let ids = [0, 1].map(|r| [0, 1].map(|m| story.id(r, m)));
        story.remove(tag);
        let found = story.follow().err();
        let expected = match tag {
            Run => (Pledge(0), RecordFault::NoRun(run())),
            Pledge(n) => {
                let (found, wanted) = (Msat::new(PLEDGED), Msat::new(PLEDGES[1 - n]));
                (Ended, RecordFault::Sum { what: "pledged", found, wanted })
            }
            Checkpoint(0) => (Assigned(0, 0), not_newest()),
            Checkpoint(1) => (Assigned(1, 0), not_newest()),
            Assigned(r, m) => (Commit(r, m), RecordFault::NoAssignment(ids[r as usize][m])),
            Commit(r, m) => (Reveal(r, m), order("a submission")),
            Open(r, m, v) => (Opened(r, m, v), unasked(m)),
            // Whoever rejects may do so without an answer.
            Opened(1, 1, _) => {
                assert!(found.is_none(), "{tag:?}: {found:?}");
                continue;
            }
            Opened(r, m, v) => (Verdict(r, m, v), unseen(v)),
            Reveal(r, _) => (Round(r), RecordFault::Closed(r)),
            Text => (Checkpoint(0), order("the first checkpoint")),
            Round(r) => (Verdict(r, 0, 0), order("a verdict")),
            // The other validator's verdict is enough for the checkpoint, but not for the fees.
            Verdict(..) => {
                let (found, wanted) = (Msat::new(80), Msat::new(70));
                (Ended, RecordFault::Sum { what: "paid for verdicts", found, wanted })
            }
            Settled(..) => (Ended, order("the end of a run, before that of an escrow")),
            // The last of all, and what nobody builds on.
            Checkpoint(_) | Receipts(..) | Ended => {
                assert!(found.is_none(), "{tag:?}: {found:?}");
                continue;
            }
            Tag::Extra => unreachable!(),
        };
        missed += 1;
        assert_eq!(found, Some(expected), "without {tag:?}");
    }
    assert_eq!(missed, 46);
    // Without both verdicts a submission is not accepted, and nothing continues it.
    let found = after(|story| {
        story.remove(Verdict(0, 1, 0));
        story.remove(Verdict(0, 1, 1));
    });
    assert_eq!(found, (Checkpoint(1), RecordFault::Accepted(1)));
    let found = after(|story| {
        story.remove(Verdict(0, 1, 0));
        story.remove(Verdict(0, 1, 1));
        let first = story.id(0, 0);
        story.change(Checkpoint(1), |entry| {
            let Entry::Checkpoint(stepped) = entry else { unreachable!() };
            stepped.accepted = vec![first];
        });
    });
    assert_eq!(found, (Assigned(1, 1), continues()));
}

#[test]
fn what_is_told_twice_is_refused_the_second_time() {
    use Tag::{
        Assigned, Checkpoint, Commit, Ended, Open, Opened, Pledge, Receipts, Reveal, Round, Run, Settled,
        Text, Verdict,
    };
    for (tag, entry) in Story::honest().told {
        let mut story = Story::honest();
        let id = |r: u32, m: usize| Story::honest().id(r, m);
        story.insert_behind(tag, entry);
        let expected = match tag {
            Run => RecordFault::Twice(format!("the run {}", run())),
            Pledge(n) => RecordFault::Twice(format!("the pledge {}", pledge(n))),
            Text => RecordFault::Twice("the text of a run".to_owned()),
            Round(r) => RecordFault::Twice(format!("the end of submissions of round {r}")),
            Checkpoint(_) => order("a checkpoint"),
            Assigned(r, m) => RecordFault::Twice(format!("the assignment {}", id(r, m))),
            Commit(r, m) => RecordFault::Twice(format!("the commitment of {}", id(r, m))),
            Reveal(r, m) => RecordFault::Twice(format!("the submission of {}", id(r, m))),
            Open(r, m, v) => {
                RecordFault::Twice(format!("what {} asks of {}", validator(v).public(), id(r, m)))
            }
            Opened(r, m, v) => {
                RecordFault::Twice(format!("the answer to {} for {}", validator(v).public(), id(r, m)))
            }
            Verdict(r, m, v) => {
                RecordFault::Twice(format!("the verdict of {} on {}", validator(v).public(), id(r, m)))
            }
            Settled(r, m) => RecordFault::Twice(format!("the end of the escrow of {}", id(r, m))),
            Receipts(r, m) => RecordFault::Twice(format!("the receipts for {}", id(r, m))),
            Ended => RecordFault::Twice("the end of a run".to_owned()),
            Tag::Extra => unreachable!(),
        };
        assert_eq!(story.fault(), (Tag::Extra, expected), "{tag:?} twice");
    }
}

#[test]
fn nothing_is_told_before_its_run() {
    let (run_entry, others) = (Story::honest().told.remove(0), Story::honest().told.split_off(1));
    for (tag, entry) in others {
        let story = Story { told: vec![(tag, entry), run_entry.clone()] };
        let (found, fault) = story.fault();
        assert_eq!(found, tag);
        match tag {
            Tag::Pledge(_)
            | Tag::Text
            | Tag::Checkpoint(_)
            | Tag::Assigned(..)
            | Tag::Round(_)
            | Tag::Ended => {
                assert_eq!(fault, RecordFault::NoRun(run()));
            }
            _ => assert!(matches!(fault, RecordFault::NoAssignment(_)), "{tag:?}: {fault}"),
        }
    }
}

#[test]
fn pledges_are_taken_before_a_run_begins() {
    let found = after(|s| s.move_behind(Tag::Pledge(1), Tag::Checkpoint(0)));
    assert_eq!(found, (Tag::Pledge(1), order("a pledge")));
}

#[test]
fn checkpoints_follow_each_other() {
    let found = after(|s| {
        s.remove(Tag::Checkpoint(0));
        s.move_before(Tag::Checkpoint(1), Tag::Assigned(0, 0));
    });
    assert_eq!(found, (Tag::Checkpoint(1), order("the first checkpoint")));
    // Before the round that it is made of.
    let found = after(|s| s.move_behind(Tag::Checkpoint(1), Tag::Checkpoint(0)));
    assert_eq!(found, (Tag::Checkpoint(1), RecordFault::Accepted(1)));
    // Before the last verdict of it.
    let found = after(|s| s.move_before(Tag::Checkpoint(2), Tag::Verdict(1, 1, 0)));
    assert_eq!(found, (Tag::Verdict(1, 1, 0), order("a verdict")));
    for round in [0, 1] {
        let found = after(|s| {
            s.change(Tag::Checkpoint(2), |entry| {
                let Entry::Checkpoint(stepped) = entry else { unreachable!() };
                stepped.round.0 = round;
            });
        });
        assert_eq!(found, (Tag::Checkpoint(2), order("a checkpoint")));
    }
}

#[test]
fn a_checkpoint_is_made_of_all_that_was_accepted_and_of_nothing_else() {
    type Change = fn(&mut Vec<watershed_protocol::AssignmentId>);
    let changes: [Change; 5] =
        [|a| a.truncate(1), |a| a.rotate_left(1), |a| a[0] = a[1], |a| a.push(a[0]), Vec::clear];
    for change in changes {
        let found = after(|s| {
            s.change(Tag::Checkpoint(1), |entry| {
                let Entry::Checkpoint(stepped) = entry else { unreachable!() };
                change(&mut stepped.accepted);
            });
        });
        assert_eq!(found, (Tag::Checkpoint(1), RecordFault::Accepted(1)));
    }
    // What was rejected.
    let found = after(|s| {
        let mut both = [s.id(1, 0), s.id(1, 1)];
        both.sort_unstable();
        s.change(Tag::Checkpoint(2), |entry| {
            let Entry::Checkpoint(stepped) = entry else { unreachable!() };
            stepped.accepted = both.to_vec();
        });
    });
    assert_eq!(found, (Tag::Checkpoint(2), RecordFault::Accepted(2)));
}

#[test]
fn a_checkpoint_of_fewer_submissions_than_agreed() {
    let mut spec = crate::cast::spec();
    spec.rounds.min_accepted = 2;
    let id = spec.id().unwrap();
    // Told anew up to the first step, as entries of the run with that specification.
    let mut story = Story::honest();
    story.told.truncate(story.at(Tag::Checkpoint(0)) + 1);
    story.told[0].1 = crate::cast::opened(&spec, &crate::cast::coordinator());
    for (_, entry) in &mut story.told {
        match entry {
            Entry::Pledge { run, .. } => *run = id,
            Entry::Text(text) => text.run = id,
            Entry::Checkpoint(stepped) => stepped.run = id,
            _ => {}
        }
    }
    let mut next = Story::honest().remove(Tag::Checkpoint(1));
    let Entry::Checkpoint(stepped) = &mut next.1 else { unreachable!() };
    stepped.run = id;
    stepped.accepted.clear();
    story.told.push(next);
    assert_eq!(story.fault(), (Tag::Checkpoint(1), RecordFault::Accepted(1)));
}

#[test]
fn nobody_commits_to_anything_once_work_is_shown() {
    let found = after(|s| s.move_behind(Tag::Commit(0, 1), Tag::Reveal(0, 0)));
    assert_eq!(found, (Tag::Commit(0, 1), order("a commitment")));
    let found = after(|s| s.move_behind(Tag::Assigned(0, 1), Tag::Reveal(0, 0)));
    // Its own commitment comes first now.
    assert!(matches!(found, (Tag::Commit(0, 1), RecordFault::NoAssignment(_))));
    let found = after(|s| {
        s.move_behind(Tag::Assigned(0, 1), Tag::Reveal(0, 0));
        s.remove(Tag::Commit(0, 1));
    });
    assert_eq!(found, (Tag::Assigned(0, 1), order("an assignment")));
}

#[test]
fn nothing_is_shown_once_there_is_a_verdict_and_nothing_before_it_was_committed() {
    let found = after(|s| s.move_before(Tag::Reveal(0, 1), Tag::Commit(0, 1)));
    assert_eq!(found, (Tag::Reveal(0, 1), order("a submission")));
    let found = after(|s| {
        // Closed with what was shown until then, so that it is not itself what is wrong.
        let alone = s.closed(0, &[0]);
        s.change(Tag::Round(0), |entry| *entry = alone);
        s.move_behind(Tag::Reveal(0, 1), Tag::Round(0));
    });
    assert_eq!(found, (Tag::Reveal(0, 1), order("a submission")));
    let found = after(|s| s.move_before(Tag::Verdict(0, 0, 0), Tag::Reveal(0, 0)));
    assert_eq!(found, (Tag::Verdict(0, 0, 0), order("a verdict")));
    let found = after(|s| s.move_before(Tag::Verdict(0, 0, 0), Tag::Reveal(0, 1)));
    assert_eq!(found, (Tag::Verdict(0, 0, 0), order("a verdict")));
}

#[test]
fn submissions_end_as_they_were_and_once() {
    let closed = |change: fn(&mut Story) -> Entry| {
        after(|s| {
            let told = change(s);
            s.change(Tag::Round(0), |entry| *entry = told);
        })
    };
    assert_eq!(closed(|s| s.closed(0, &[1])), (Tag::Round(0), RecordFault::Closed(0)));
    assert_eq!(closed(|s| s.closed(1, &[0, 1])), (Tag::Round(0), order("the end of submissions")));
    // Drawn from something else than what is named.
    let found = closed(|s| {
        let mut told = s.closed(0, &[0, 1]);
        if let Entry::Round { randomness, .. } = &mut told {
            *randomness = crate::cast::digest("what suits me");
        }
        told
    });
    assert_eq!(found, (Tag::Round(0), RecordFault::Closed(0)));
    let found = after(|s| s.move_before(Tag::Round(0), Tag::Reveal(0, 0)));
    assert_eq!(found, (Tag::Round(0), RecordFault::Closed(0)));
    let found = after(|s| s.move_behind(Tag::Round(0), Tag::Checkpoint(1)));
    assert_eq!(found, (Tag::Verdict(0, 0, 0), order("a verdict")));
    let found = after(|s| s.move_behind(Tag::Text, Tag::Checkpoint(0)));
    assert_eq!(found, (Tag::Checkpoint(0), order("the first checkpoint")));
}

#[test]
fn a_run_names_the_text_of_its_specification() {
    let found = after(|s| {
        s.change(Tag::Text, |entry| {
            let Entry::Text(text) = entry else { unreachable!() };
            text.shards = watershed_protocol::ShardSetId::of(b"others");
        });
    });
    assert_eq!(found, (Tag::Text, RecordFault::Text));
}

#[test]
fn a_round_that_is_over_stays_over() {
    // A verdict that comes when the next round is under way.
    let found = after(|s| s.move_behind(Tag::Verdict(0, 1, 1), Tag::Checkpoint(1)));
    assert_eq!(found, (Tag::Verdict(0, 1, 1), order("a verdict")));
    let found = after(|s| s.move_behind(Tag::Verdict(0, 1, 1), Tag::Assigned(1, 0)));
    assert_eq!(found, (Tag::Verdict(0, 1, 1), order("a verdict")));
    // A task of the round before, given out from the checkpoint of this one.
    let found = after(|s| {
        s.change(Tag::Assigned(1, 0), |entry| {
            let Entry::Assigned { assignment, .. } = entry else { unreachable!() };
            assignment.round.0 = 0;
        });
    });
    assert_eq!(found, (Tag::Assigned(1, 0), RecordFault::Assignment("its round is over".to_owned())));
}

#[test]
fn after_the_end_only_receipts_come() {
    use Tag::{Checkpoint, Ended, Pledge, Receipts, Verdict};
    let mut story = Story::honest();
    story.move_behind(Receipts(1, 0), Ended);
    assert!(story.follow().is_ok());
    assert_eq!(after(|s| s.move_behind(Pledge(0), Ended)).0, Ended);
    assert_eq!(after(|s| s.move_behind(Checkpoint(2), Ended)), (Checkpoint(2), order("a checkpoint")));
    let found = after(|s| {
        let mut assignment = task(1, crate::cast::miner(0).public(), 1_000);
        assignment.checkpoint = crate::cast::checkpoint(2);
        let node = crate::cast::node(0).public();
        s.insert_behind(Ended, Entry::Assigned { assignment, lots: Vec::new(), node });
    });
    assert_eq!(found, (Tag::Extra, order("an assignment")));
    // A verdict with its fee, moved behind an end that does not count it.
    let found = after(|s| {
        s.remove(Checkpoint(2));
        s.move_behind(Verdict(1, 1, 1), Ended);
        s.change(Ended, |entry| {
            let Entry::Ended { fees, left, .. } = entry else { unreachable!() };
            (*fees, *left) = (Msat::new(70), Msat::new(left.msat() + 10));
        });
    });
    assert_eq!(found, (Verdict(1, 1, 1), order("a verdict")));
}

#[test]
fn a_run_does_not_end_before_its_last_round_and_its_escrows() {
    let end = |how| Entry::Ended {
        run: run(),
        how,
        pledged: Msat::new(PLEDGED),
        paid: Msat::ZERO,
        fees: Msat::ZERO,
        left: Msat::new(PLEDGED),
    };
    let reason = "nobody came".to_owned();
    for (how, expected) in [
        (FinalState::Cancelled { reason }, None),
        (FinalState::Finished, Some((Tag::Extra, order("the end of a run, before its last round")))),
    ] {
        let mut story = Story::honest();
        story.told.truncate(story.at(Tag::Checkpoint(0)) + 1);
        story.insert_behind(Tag::Checkpoint(0), end(how));
        assert_eq!(story.follow().err(), expected);
    }
    let found = after(|s| s.move_behind(Tag::Settled(1, 1), Tag::Ended));
    assert_eq!(found, (Tag::Ended, order("the end of a run, before that of an escrow")));
}

#[test]
fn entries_that_do_not_depend_on_each_other_may_change_places() {
    let mut story = Story::honest();
    // An escrow may end, and a receipt may come, at any time.
    story.move_behind(Tag::Settled(0, 1), Tag::Assigned(1, 1));
    story.move_behind(Tag::Receipts(0, 1), Tag::Checkpoint(2));
    story.move_before(Tag::Commit(1, 1), Tag::Commit(1, 0));
    story.move_before(Tag::Reveal(1, 1), Tag::Reveal(1, 0));
    story.move_before(Tag::Verdict(1, 1, 1), Tag::Verdict(1, 0, 0));
    // Whoever is locked in first may commit before others are locked in.
    story.move_before(Tag::Commit(0, 0), Tag::Assigned(0, 1));
    let runs = story.follow().unwrap();
    assert_eq!(runs.runs[&run()].works.len(), 4);
    assert!(runs.runs[&run()].works.values().all(|w| w.assignment.reward == Msat::new(REWARD)));
}
