//! Entries that are none, signatures that do not hold, and messages that say something else.

use watershed_commons::record::{RecordFault, Runs};
use watershed_protocol::market::{Entry, Fault, Join, Message, Outcome};
use watershed_protocol::{AssignmentId, DecodeError, Envelope, EnvelopeError, Msat, SubmissionId, encode};

use crate::cast::{coordinator, digest, miner, opened, run, secret, spec, stranger, validator};
use crate::story::{Story, Tag, signed};

#[test]
fn what_is_no_entry_is_named() {
    let follow = |bytes: &[u8]| Runs::default().follow(bytes);
    assert!(matches!(follow(&[]), Err(RecordFault::Entry(DecodeError::Empty(_)))));
    let mut bytes = encode(Story::honest().entry(Tag::Run)).unwrap();
    bytes.push(0);
    assert!(matches!(follow(&bytes), Err(RecordFault::Entry(DecodeError::Trailing { extra: 1, .. }))));
    bytes[0] = 9;
    assert!(matches!(follow(&bytes), Err(RecordFault::Entry(DecodeError::Version { found: 9, .. }))));
}

#[test]
fn every_signature_is_checked() {
    // A signature is in front of what it is over, so altering the last byte alters what was said.
    for (tag, entry) in Story::honest().told {
        let (Entry::Run { spec: envelope } | Entry::Message { envelope }) = entry else { continue };
        let mut bytes = encode(&envelope).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let envelope: Envelope = watershed_protocol::decode(&bytes).unwrap();
        let mut story = Story::honest();
        story.change(tag, |entry| {
            *entry = match entry {
                Entry::Run { .. } => Entry::Run { spec: envelope },
                _ => Entry::Message { envelope },
            }
        });
        let (found, fault) = story.fault();
        assert_eq!(found, tag);
        assert!(matches!(fault, RecordFault::Signature(EnvelopeError::Signature { .. })), "{tag:?}: {fault}");
    }
}

#[test]
fn something_else_that_is_signed_is_no_message() {
    let mut story = Story::honest();
    let envelope = Envelope::sign(&spec(), &miner(0)).unwrap();
    story.insert_behind(Tag::Reveal(0, 1), Entry::Message { envelope });
    let (tag, fault) = story.fault();
    assert_eq!(tag, Tag::Extra);
    assert!(matches!(fault, RecordFault::Signature(EnvelopeError::Signature { .. })), "{fault}");
}

#[test]
fn a_specification_that_makes_no_run() {
    let mut story = Story::honest();
    let mut spec = spec();
    spec.committee.push(spec.committee[0].clone());
    story.change(Tag::Run, |entry| *entry = opened(&spec, &coordinator()));
    assert!(matches!(story.fault(), (Tag::Run, RecordFault::Specification(_))));
}

#[test]
fn only_those_whose_it_is_may_speak() {
    for (tag, honest) in [
        (Tag::Commit(0, 0), miner(0)),
        (Tag::Reveal(0, 0), miner(0)),
        (Tag::Open(0, 0, 0), validator(0)),
        (Tag::Opened(0, 0, 0), miner(0)),
        (Tag::Verdict(0, 0, 0), validator(0)),
        (Tag::Receipts(0, 0), miner(0)),
    ] {
        for other in [stranger(), coordinator(), miner(1), validator(1)] {
            // Another validator with the words of the first speaks for itself.
            let speaks = matches!(tag, Tag::Open(..) | Tag::Verdict(..)) && other == validator(1);
            if other == honest || speaks {
                continue;
            }
            let mut story = Story::honest();
            story.resign(tag, &other, |_| ());
            assert_eq!(story.fault(), (tag, RecordFault::Signer(other.public())));
        }
    }
}

#[test]
fn messages_that_are_not_for_the_record() {
    let join = Join {
        run: run(),
        node: String::new(),
        tokens_per_second: 1,
        min_per_million_tokens: Msat::ZERO,
        lost_state: false,
    };
    let mut story = Story::honest();
    story.insert_behind(Tag::Checkpoint(0), signed(&Message::Join(join), &miner(0)));
    let what = RecordFault::Order("a message that the record does not keep");
    assert_eq!(story.fault(), (Tag::Extra, what));
}

#[test]
fn messages_about_tasks_that_nobody_was_given() {
    let unknown = AssignmentId::of(b"unknown");
    for (tag, key) in [
        (Tag::Commit(0, 0), miner(0)),
        (Tag::Reveal(0, 0), miner(0)),
        (Tag::Verdict(0, 0, 0), validator(0)),
        (Tag::Receipts(0, 0), miner(0)),
    ] {
        let mut story = Story::honest();
        story.resign(tag, &key, |message| match message {
            Message::Commit(c) => c.assignment = unknown,
            Message::Reveal(r) => r.assignment = unknown,
            Message::Verdict(v) => v.assignment = unknown,
            Message::Receipts { assignment, .. } => *assignment = unknown,
            other => unreachable!("{other:?}"),
        });
        assert_eq!(story.fault(), (tag, RecordFault::NoAssignment(unknown)));
    }
    let mut story = Story::honest();
    story.change(Tag::Settled(0, 0), |entry| {
        let Entry::Settled { assignment, .. } = entry else { unreachable!() };
        *assignment = unknown;
    });
    assert_eq!(story.fault(), (Tag::Settled(0, 0), RecordFault::NoAssignment(unknown)));
}

#[test]
fn a_submission_with_another_number_of_steps() {
    for change in [|m: &mut Vec<_>| m.truncate(2), |m: &mut Vec<_>| m.push(m[0])] {
        let mut story = Story::honest();
        story.resign(Tag::Reveal(0, 1), &miner(1), |message| {
            let Message::Reveal(reveal) = message else { unreachable!() };
            change(&mut reveal.steps);
        });
        assert_eq!(story.fault(), (Tag::Reveal(0, 1), RecordFault::Order("a submission")));
    }
}

#[test]
fn whoever_finds_another_trajectory_right_has_not_looked() {
    let mut story = Story::honest();
    story.resign(Tag::Reveal(0, 1), &miner(1), |message| {
        let Message::Reveal(reveal) = message else { unreachable!() };
        reveal.steps[1].loss ^= 1;
    });
    assert_eq!(story.fault(), (Tag::Verdict(0, 1, 0), RecordFault::Trajectory));
    // Whoever finds it wrong has.
    let mut story = Story::honest();
    story.resign(Tag::Reveal(1, 1), &miner(1), |message| {
        let Message::Reveal(reveal) = message else { unreachable!() };
        reveal.start = digest("elsewhere");
    });
    assert!(story.follow().is_ok());
}

/// The honest verdict of the first validator on the second miner, who earned five of seven, altered.
#[track_caller]
fn verdict(change: impl FnOnce(&mut watershed_protocol::market::Verdict)) -> RecordFault {
    let mut story = Story::honest();
    story.resign(Tag::Verdict(0, 1, 0), &validator(0), |message| {
        let Message::Verdict(verdict) = message else { unreachable!() };
        change(verdict);
    });
    let (tag, fault) = story.fault();
    assert_eq!(tag, Tag::Verdict(0, 1, 0));
    fault
}

#[test]
fn verdicts_that_do_not_fit() {
    let not = |what| RecordFault::Verdict { validator: validator(0).public(), what };
    let other = SubmissionId::of(b"another");
    assert_eq!(verdict(|v| v.submission = other), not("it is on another submission"));
    let randomness = "its scores are drawn from something else than the submissions of the round";
    assert_eq!(verdict(|v| v.randomness = digest("what suits me")), not(randomness));
    assert_eq!(verdict(|v| v.score = None), not("it has no score"));
    let checks = "it names other checks than its validator asked for";
    assert_eq!(verdict(|v| v.step = Some(0)), not(checks));
    assert_eq!(verdict(|v| v.step = None), not(checks));
    assert_eq!(verdict(|v| v.chunks.clear()), not(checks));
    let answered = "it says that there is no answer, and every request was answered";
    assert_eq!(verdict(|v| v.outcome = Outcome::Rejected(Fault::NoAnswer)), not(answered));

    let secrets = "its secrets are not those of the lots that make up the share";
    let earned = |share: u32, secrets: &[(usize, u32)]| Outcome::Earned {
        share,
        preimages: secrets.iter().map(|(v, tier)| secret(0, 1, *v, *tier)).collect(),
    };
    for outcome in [
        earned(5, &[(0, 0)]),
        earned(5, &[(0, 0), (0, 1), (0, 2)]),
        earned(5, &[(0, 2), (0, 0)]),
        earned(5, &[(1, 0), (1, 2)]),
        earned(4, &[(0, 0), (0, 2)]),
        earned(8, &[]),
        earned(8 + 5, &[(0, 0), (0, 2)]),
        earned(u32::MAX, &[(0, 0), (0, 1), (0, 2)]),
    ] {
        assert_eq!(verdict(|v| v.outcome = outcome.clone()), not(secrets), "{outcome:?}");
    }
}

#[test]
fn a_verdict_may_release_nothing_and_then_the_work_is_accepted_all_the_same() {
    let mut story = Story::honest();
    story.resign(Tag::Verdict(0, 1, 0), &validator(0), |message| {
        let Message::Verdict(verdict) = message else { unreachable!() };
        verdict.outcome = Outcome::Earned { share: 0, preimages: Vec::new() };
    });
    assert!(story.follow().is_ok());
}
