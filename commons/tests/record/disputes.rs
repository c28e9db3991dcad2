//! Verdicts that contradict each other, and what comes of the one that does not hold.

use watershed_commons::record::RecordFault;
use watershed_protocol::Msat;
use watershed_protocol::market::{Entry, Fault, Message, Outcome, Score, Unanswerable};

use crate::cast::{miner, run, validator};
use crate::story::{Story, Tag};

const CHECKPOINT: &str = "a checkpoint, before verdicts that contradict each other are ruled on,";

/// The first validator finds wrong what the second finds right, and what is right.
fn contradicted() -> Story {
    let mut story = Story::honest();
    reject(&mut story, Tag::Verdict(0, 1, 0), 0);
    story
}

fn reject(story: &mut Story, tag: Tag, v: usize) {
    story.resign(tag, &validator(v), |message| {
        let Message::Verdict(verdict) = message else { unreachable!() };
        verdict.outcome = Outcome::Rejected(Fault::Start);
    });
}

fn ruling(story: &Story, v: usize, upheld: bool) -> Entry {
    Entry::Ruling { assignment: story.id(0, 1), validator: validator(v).public(), upheld }
}

fn ruled(mut story: Story, upheld: [bool; 2]) -> Story {
    for (v, upheld) in upheld.into_iter().enumerate() {
        let ruling = ruling(&story, v, upheld);
        story.insert_before(Tag::Checkpoint(1), ruling);
    }
    story
}

#[test]
fn a_checkpoint_waits_for_rulings() {
    let wanted = (Tag::Checkpoint(1), RecordFault::Order(CHECKPOINT));
    assert_eq!(contradicted().fault(), wanted);
    // On all of them.
    let mut half = contradicted();
    let ruling = ruling(&half, 0, false);
    half.insert_before(Tag::Checkpoint(1), ruling);
    assert_eq!(half.fault(), wanted);
    // Two that find it right, with other losses.
    let mut story = Story::honest();
    story.resign(Tag::Verdict(0, 1, 0), &validator(0), |message| {
        let Message::Verdict(verdict) = message else { unreachable!() };
        verdict.score = Some(Score { own_before: 5, own_after: 3, unseen_before: 4, unseen_after: 3 });
    });
    assert_eq!(story.fault(), wanted);
}

#[test]
fn who_is_overruled_counts_no_more_and_holds_nothing_in_later_rounds() {
    let story = ruled(contradicted(), [false, true]);
    // The checkpoint has the submission; the next round still gives the validator lots.
    let (tag, fault) = story.fault();
    assert_eq!(tag, Tag::Assigned(1, 0));
    let what = "somebody else than the validators that were drawn holds a secret";
    assert_eq!(fault, RecordFault::Assignment(what.to_owned()));
    let mut story = story;
    story.told.truncate(story.at(Tag::Assigned(1, 0)));
    let runs = story.follow().unwrap();
    let told = &runs.runs[&run()];
    assert_eq!(told.overruled.iter().copied().collect::<Vec<_>>(), [validator(0).public()]);
    assert!(told.works[&story.id(0, 1)].is_accepted());
    let mut story = Story::honest();
    story.told.truncate(story.at(Tag::Assigned(1, 0)) + 1);
    let mut story = Story { told: ruled_before(&story) };
    story.change(Tag::Assigned(1, 0), |entry| {
        let Entry::Assigned { lots, .. } = entry else { unreachable!() };
        lots.retain(|l| l.validator == validator(1).public());
        lots.iter_mut().for_each(|l| l.amount = Msat::new(2 * l.amount.msat()));
    });
    assert!(story.follow().is_ok());
}

/// A story that was cut short, with the contradiction and its rulings.
fn ruled_before(cut: &Story) -> Vec<(Tag, Entry)> {
    let whole = ruled(contradicted(), [false, true]);
    whole.told[..cut.told.len() + 2].to_vec()
}

#[test]
fn a_rejection_that_holds_keeps_the_submission_out() {
    let story = ruled(contradicted(), [true, true]);
    assert_eq!(story.fault(), (Tag::Checkpoint(1), RecordFault::Accepted(1)));
}

#[test]
fn rulings_are_made_once_and_only_on_what_is_disputed() {
    let order = || RecordFault::Order("a ruling");
    let story = Story::honest();
    let undisputed = ruled(story.clone(), [true, true]);
    assert_eq!(undisputed.fault(), (Tag::Extra, order()));
    let mut twice = ruled(contradicted(), [false, true]);
    let again = ruling(&twice, 1, true);
    twice.insert_before(Tag::Checkpoint(1), again);
    assert!(matches!(twice.fault(), (Tag::Extra, RecordFault::Twice(_))));
    let mut stranger = contradicted();
    let entry = Entry::Ruling { assignment: stranger.id(0, 1), validator: miner(0).public(), upheld: true };
    stranger.insert_before(Tag::Checkpoint(1), entry);
    assert_eq!(stranger.fault(), (Tag::Extra, order()));
    // A verdict after the ruling, which does not know of it.
    let mut late = ruled(contradicted(), [false, true]);
    late.move_before(Tag::Checkpoint(1), Tag::Settled(0, 0));
    late.remove(Tag::Verdict(0, 1, 1));
    assert_eq!(late.fault(), (Tag::Extra, order()));
}

#[test]
fn what_does_not_lower_the_loss_is_left_out_of_the_checkpoint() {
    let nan = f32::NAN.to_bits();
    let bits = f32::to_bits;
    for (own_before, own_after) in
        [(bits(2.0), bits(2.0)), (bits(2.0), bits(2.5)), (nan, bits(1.0)), (bits(2.0), nan)]
    {
        let told = |pays: bool| {
            let mut story = Story::honest();
            for v in 0..2 {
                story.resign(Tag::Verdict(0, 1, v), &validator(v), |message| {
                    let Message::Verdict(verdict) = message else { unreachable!() };
                    let (unseen_before, unseen_after) = (bits(2.0), bits(1.0));
                    verdict.score = Some(Score { own_before, own_after, unseen_before, unseen_after });
                    if !pays {
                        verdict.outcome = Outcome::Earned { share: 0, preimages: Vec::new() };
                    }
                });
            }
            story.fault()
        };
        assert_eq!(told(false), (Tag::Checkpoint(1), RecordFault::Accepted(1)), "{own_after}");
        // And nobody pays anything for it.
        let what = "it pays for what lowers no loss";
        let fault = RecordFault::Verdict { validator: validator(0).public(), what };
        assert_eq!(told(true), (Tag::Verdict(0, 1, 0), fault), "{own_after}");
    }
}

#[test]
fn what_is_asked_is_in_the_bounds_of_the_run() {
    let ask = |step, chunks: Vec<u64>| {
        let mut story = Story::honest();
        story.resign(Tag::Open(0, 0, 0), &validator(0), |message| {
            let Message::Open(opening) = message else { unreachable!() };
            (opening.step, opening.chunks) = (step, chunks);
        });
        story.fault()
    };
    let fault =
        |what| (Tag::Open(0, 0, 0), RecordFault::Unanswerable { validator: validator(0).public(), what });
    assert_eq!(ask(Some(3), vec![0, 1]), fault(Unanswerable::Step { step: 3, steps: 3 }));
    assert_eq!(ask(None, vec![0, 1]), fault(Unanswerable::NoStep));
    for chunks in [vec![], vec![0], vec![0, 1, 2]] {
        let found = chunks.len();
        assert_eq!(ask(Some(1), chunks), fault(Unanswerable::Count { found, wanted: 2 }));
    }
    for chunks in [vec![1, 0], vec![1, 1]] {
        assert_eq!(ask(Some(1), chunks), fault(Unanswerable::Order));
    }
    for chunk in [2, u64::MAX] {
        assert_eq!(ask(Some(1), vec![0, chunk]), fault(Unanswerable::Chunk { chunk, chunks: 2 }));
    }
}
