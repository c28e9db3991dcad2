//! Sums, and receipts for them.

use watershed_commons::record::RecordFault;
use watershed_protocol::market::Entry;
use watershed_protocol::{Envelope, Msat, Subject};

use crate::cast::{
    FEE, LEFT, PAID, PLEDGED, REWARD, coordinator, lots, miner, node, opened, secret, spec, stranger,
};
use crate::story::{Story, Tag};

fn sum(what: &'static str, found: u64, wanted: u64) -> RecordFault {
    RecordFault::Sum { what, found: Msat::new(found), wanted: Msat::new(wanted) }
}

fn ended(change: impl FnOnce(&mut [&mut Msat; 4])) -> Story {
    let mut story = Story::honest();
    story.change(Tag::Ended, |entry| {
        let Entry::Ended { pledged, paid, fees, left, .. } = entry else { unreachable!() };
        change(&mut [pledged, paid, fees, left]);
    });
    story
}

#[test]
fn the_sums_of_the_end_are_right_to_the_millisatoshi() {
    let honest = [PLEDGED, PAID, 8 * FEE];
    for (at, what) in ["pledged", "paid to miners", "paid for verdicts"].into_iter().enumerate() {
        for found in [honest[at] - 1, honest[at] + 1, u64::MAX] {
            let story = ended(|sums| *sums[at] = Msat::new(found));
            assert_eq!(story.fault(), (Tag::Ended, sum(what, found, honest[at])));
        }
    }
    // Up to a millisatoshi is lost for each of two pledges, so the honest end could have given one more or less.
    for (left, right) in
        [(LEFT - 2, false), (LEFT - 1, true), (LEFT, true), (LEFT + 1, true), (LEFT + 2, false)]
    {
        let story = ended(|sums| *sums[3] = Msat::new(left));
        match right {
            true => assert!(story.follow().is_ok()),
            false => {
                let spent = PAID + 8 * FEE + left;
                assert_eq!(story.fault(), (Tag::Ended, sum("paid and left over", spent, PLEDGED)));
            }
        }
    }
    let story = ended(|sums| *sums[3] = Msat::new(u64::MAX));
    assert_eq!(story.fault(), (Tag::Ended, sum("paid and left over", u64::MAX, PLEDGED)));
}

#[test]
fn an_operator_that_pays_itself_leaves_nothing_over() {
    let mut spec = spec();
    spec.funding.goal = Msat::ZERO;
    let run = spec.id().unwrap();
    let end = |left| Entry::Ended {
        run,
        how: watershed_protocol::market::FinalState::Cancelled { reason: String::new() },
        pledged: Msat::ZERO,
        paid: Msat::ZERO,
        fees: Msat::ZERO,
        left: Msat::new(left),
    };
    let mut story = Story { told: vec![(Tag::Run, opened(&spec, &coordinator())), (Tag::Ended, end(0))] };
    assert!(story.follow().is_ok());
    story.told[1].1 = end(1);
    assert_eq!(story.fault(), (Tag::Ended, sum("left over", 1, 0)));
}

#[test]
fn an_escrow_ends_with_the_whole_reward() {
    for (paid, returned) in [(REWARD, 1), (REWARD - 1, 0), (0, REWARD - 1), (u64::MAX, 1)] {
        let mut story = Story::honest();
        story.change(Tag::Settled(0, 1), |entry| {
            let Entry::Settled { settled, back, .. } = entry else { unreachable!() };
            (*settled, *back) = (Msat::new(paid), Msat::new(returned));
        });
        let fault = sum("paid and returned for an assignment", paid.saturating_add(returned), REWARD);
        assert_eq!(story.fault(), (Tag::Settled(0, 1), fault));
    }
}

#[test]
fn lots_are_the_whole_reward() {
    for (amount, all) in [(999, REWARD - 1), (1_001, REWARD + 1), (u64::MAX, u64::MAX)] {
        let mut story = Story::honest();
        story.change(Tag::Assigned(0, 1), |entry| {
            let Entry::Assigned { lots, .. } = entry else { unreachable!() };
            lots[0].amount = Msat::new(amount);
        });
        let fault = sum("the lots of an assignment", all, REWARD);
        assert_eq!(story.fault(), (Tag::Assigned(0, 1), fault));
    }
}

#[test]
fn receipts_are_the_nodes_and_for_lots_of_the_task() {
    let honest = Story::honest();
    let of = |tier| secret(0, 1, 0, tier).hash();
    let foreign = lots(0, 0)[0];
    let refused = |entry: Entry, hash| {
        let mut story = Story::honest();
        story.change(Tag::Receipts(0, 1), |e| *e = entry);
        assert_eq!(story.fault(), (Tag::Receipts(0, 1), RecordFault::Receipt(hash)));
    };
    // By another node, by the miner itself.
    for key in [node(0), miner(1), stranger()] {
        refused(honest.receipts_by(0, 1, &key, |_| ()), of(0));
    }
    refused(honest.receipts(0, 1, |r| r.payment_hash = foreign.hash), foreign.hash);
    refused(honest.receipts(0, 1, |r| r.subject = honest.id(0, 0).subject()), of(0));
    refused(honest.receipts(0, 1, |r| r.subject = Subject::from_bytes([0; 32])), of(0));
    refused(honest.receipts(0, 1, |r| r.amount = Msat::new(r.amount.msat() - 1)), of(0));
    // For a lot of the same task, but a larger one.
    refused(honest.receipts(0, 1, |r| r.payment_hash = of(1)), of(1));
    // More than was asked for may come.
    let mut story = Story::honest();
    let more = honest.receipts(0, 1, |r| r.amount = Msat::new(r.amount.msat() + 1));
    story.change(Tag::Receipts(0, 1), |entry| *entry = more);
    assert!(story.follow().is_ok());
}

#[test]
fn what_is_no_receipt_is_refused_by_its_signature() {
    let mut story = Story::honest();
    story.resign(Tag::Receipts(0, 1), &miner(1), |message| {
        let watershed_protocol::market::Message::Receipts { receipts, .. } = message else { unreachable!() };
        receipts[0] = Envelope::sign(&spec(), &node(1)).unwrap();
    });
    let (tag, fault) = story.fault();
    assert_eq!(tag, Tag::Receipts(0, 1));
    assert!(matches!(fault, RecordFault::Signature(_)), "{fault}");
}
