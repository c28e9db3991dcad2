//! Joining fees, and what sponsors got back.

use watershed_commons::record::RecordFault;
use watershed_protocol::market::{Entry, FinalState, RunSpec, Stepped};
use watershed_protocol::{Msat, PaymentHash, RoundNumber, RunId};

use crate::cast::{
    LEFT, PLEDGED, PLEDGES, checkpoint, coordinator, digest, lots, miner, node, opened, run, spec, task,
};
use crate::story::{Story, Tag, pledge};

fn payment(n: u8) -> PaymentHash {
    PaymentHash::from_bytes([n; 32])
}

fn refund(of: usize, by: u8, msat: u64) -> Entry {
    Entry::Refunded { run: run(), pledge: pledge(of), payment: payment(by), amount: Msat::new(msat) }
}

fn refunded(entries: &[Entry]) -> Story {
    let mut story = Story::honest();
    story.told.extend(entries.iter().map(|e| (Tag::Extra, e.clone())));
    story
}

#[test]
fn sponsors_get_their_part_and_no_more() {
    let part = |n: usize| LEFT * PLEDGES[n] / PLEDGED;
    let whole = refunded(&[refund(0, 1, part(0)), refund(1, 2, part(1) - 5), refund(1, 3, 5)]);
    let told = whole.follow().unwrap().runs.remove(&run()).unwrap();
    assert_eq!(told.refunds.values().map(|(_, a)| a.msat()).sum::<u64>(), part(0) + part(1));
    // Three msat are what rounding cannot explain.
    let more = refunded(&[refund(0, 1, part(0)), refund(0, 2, 3)]);
    let (tag, fault) = more.fault();
    assert!(matches!(fault, RecordFault::Sum { what: "refunded of a pledge", .. }), "{fault}");
    assert_eq!(tag, Tag::Extra);
    let again = refunded(&[refund(0, 1, 5), refund(0, 1, 5)]);
    assert_eq!(again.fault().1, RecordFault::Twice(format!("the refund {}", payment(1))));
    let nobodys = refunded(&[refund(7, 1, 5)]);
    assert_eq!(nobodys.fault().1, RecordFault::Order("a refund"));
    let mut early = Story::honest();
    early.insert_behind(Tag::Checkpoint(1), refund(0, 1, 5));
    assert_eq!(early.fault(), (Tag::Extra, RecordFault::Order("a refund")));
}

/// A run that takes 2000 msat for joining.
fn with_fee() -> (RunSpec, RunId) {
    let mut spec = spec();
    spec.funding.joining_fee = Msat::new(2_000);
    let run = spec.id().unwrap();
    (spec, run)
}

fn fee(run: RunId, m: usize, by: u8, msat: u64) -> Entry {
    Entry::Joined { run, miner: miner(m).public(), payment: payment(by), amount: Msat::new(msat) }
}

fn told(entries: Vec<Entry>) -> Story {
    let (spec, _) = with_fee();
    let all = std::iter::once(opened(&spec, &coordinator())).chain(entries);
    Story { told: all.map(|e| (Tag::Extra, e)).collect() }
}

#[test]
fn who_did_not_pay_to_join_is_given_nothing() {
    let (_, run) = with_fee();
    let first = Entry::Checkpoint(Stepped {
        run,
        round: RoundNumber(0),
        checkpoint: checkpoint(0),
        blob: digest("a file"),
        velocity: None,
        accepted: Vec::new(),
        loss: 0,
    });
    let mut assignment = task(0, miner(0).public(), 0);
    assignment.run = run;
    let assigned = Entry::Assigned { assignment, lots: lots(0, 0), node: node(0).public() };
    let text = crate::cast::text(run);
    assert!(
        told(vec![text.clone(), first.clone(), fee(run, 0, 1, 2_000), assigned.clone()]).follow().is_ok()
    );
    let unpaid = RecordFault::Assignment("its miner did not pay the joining fee".to_owned());
    for before in [vec![text.clone(), first.clone()], vec![text, first, fee(run, 1, 1, 2_000)]] {
        let story = told([before, vec![assigned.clone()]].concat());
        assert_eq!(story.fault().1, unpaid);
    }
}

#[test]
fn joining_fees_are_paid_once_and_counted_at_the_end() {
    let (_, run) = with_fee();
    let twice = |m: usize| RecordFault::Twice(format!("the joining fee of {}", miner(m).public()));
    assert_eq!(told(vec![fee(run, 0, 1, 2_000), fee(run, 0, 2, 2_000)]).fault().1, twice(0));
    assert_eq!(told(vec![fee(run, 0, 1, 2_000), fee(run, 1, 1, 2_000)]).fault().1, twice(1));
    let wrong = told(vec![fee(run, 0, 1, 1_999)]).fault().1;
    assert!(matches!(wrong, RecordFault::Sum { what: "a joining fee", .. }), "{wrong}");
    let free = Story {
        told: vec![
            (Tag::Run, opened(&spec(), &coordinator())),
            (Tag::Extra, fee(crate::cast::run(), 0, 1, 0)),
        ],
    };
    assert_eq!(free.fault().1, RecordFault::Order("a joining fee"));
    // What was pledged and what was paid for joining, less an msat for each of two pledges, is left.
    let pledged = |n: usize| Entry::Pledge { run, hash: pledge(n), amount: Msat::new(PLEDGES[n]) };
    let end = |left: u64| Entry::Ended {
        run,
        how: FinalState::Cancelled { reason: String::new() },
        pledged: Msat::new(PLEDGED),
        paid: Msat::ZERO,
        fees: Msat::ZERO,
        left: Msat::new(left),
    };
    for (left, right) in
        [(PLEDGED, false), (PLEDGED + 1_998, true), (PLEDGED + 2_000, true), (PLEDGED + 2_001, false)]
    {
        let story = told(vec![fee(run, 0, 1, 2_000), pledged(0), pledged(1), end(left)]);
        assert_eq!(story.follow().is_ok(), right, "{left}");
    }
}
