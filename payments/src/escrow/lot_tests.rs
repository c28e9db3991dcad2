use proptest::prelude::*;

use super::*;
use crate::escrow::{test_invoice, test_node};
use crate::wallet::ldk::LIMITS;

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn lot() -> (Lot, Preimage) {
    let preimage = Preimage::from_bytes([3; 32]);
    let budget = Account::Budget("run".parse().unwrap());
    let lot = Lot {
        hash: preimage.hash(),
        subject: Subject::from_bytes([1; 32]),
        payee: test_node(7),
        amount: Msat::new(5000),
        window: 144,
        budget,
        earner: Account::Miner("ada".parse().unwrap()),
        attempt: 0,
        state: LotState::Offered,
        memory: NodeMemory::Needed,
    };
    (lot, preimage)
}

fn pay(lot: &Lot, invoice: Invoice) -> Result<LotStep, LotError> {
    lot.pay(invoice, (Network::Regtest, &LIMITS), 100, NOW)
}

fn paying(lot: &Lot) -> Lot {
    pay(lot, test_invoice(lot.hash, 5000, 189, 7)).unwrap().next
}

#[test]
fn a_lot_is_locked_confirmed_and_settled_with_every_msat_booked() {
    let (lot, preimage) = lot();
    let step = pay(&lot, test_invoice(lot.hash, 5000, 189, 7)).unwrap();
    let lock = step.entry.unwrap();
    assert_eq!(lock.key(), format!("lot/{}/lock/1", lot.hash));
    let locked = step.next.confirm(246, 100, Some(Outgoing::Pending)).unwrap().unwrap().next;
    assert!(matches!(locked.state, LotState::Locked { deadline: 246, .. }));
    assert!(locked.confirm(246, 101, Some(Outgoing::Pending)).unwrap().is_none(), "told twice");
    let fee = Msat::new(3);
    let done = locked.observe(Outgoing::Succeeded { preimage, fee }, 120).unwrap().unwrap();
    let settle = done.entry.unwrap();
    let mut sums = std::collections::BTreeMap::new();
    for posting in lock.postings().iter().chain(settle.postings()) {
        *sums.entry(posting.account.clone()).or_insert(0) += posting.msat;
    }
    assert_eq!(sums[&Account::Channels], -5003);
    assert_eq!(sums[&Account::Escrow], 0);
    assert_eq!(sums[&lot.budget], 5000, "the budget owes that much less");
    assert_eq!(sums[&lot.earner], 0, "earned and paid");
    assert_eq!(sums[&Account::RoutingFees], 3);
    assert!(done.next.observe(Outgoing::Failed, 121).unwrap().is_none(), "what is settled stays");
}

#[test]
fn a_payee_that_lies_about_a_lock_is_told_so() {
    let (lot, _) = lot();
    let paying = paying(&lot);
    let at = |lot: &Lot, deadline, node| lot.confirm(deadline, 100, node).unwrap_err();
    assert!(matches!(at(&lot, 246, None), LotError::NotInFlight { state: "offered", .. }));
    assert!(matches!(at(&paying, 246, None), LotError::NotInFlight { .. }));
    assert!(matches!(at(&paying, 246, Some(Outgoing::Failed)), LotError::NotInFlight { state: "back", .. }));
    assert!(matches!(at(&paying, 400, Some(Outgoing::Pending)), LotError::DeadlineLie { latest: 257, .. }));
    assert!(matches!(at(&paying, 200, Some(Outgoing::Pending)), LotError::WindowTooShort { left: 100, .. }));
    let locked = paying.confirm(246, 100, Some(Outgoing::Pending)).unwrap().unwrap().next;
    assert!(matches!(at(&locked, 247, Some(Outgoing::Pending)), LotError::DeadlineLie { latest: 246, .. }));
}

#[test]
fn what_comes_back_may_be_locked_again_and_is_booked_for_itself() {
    let (lot, preimage) = lot();
    let first = paying(&lot);
    let back = first.observe(Outgoing::Failed, 101).unwrap().unwrap();
    assert_eq!(back.entry.unwrap().key(), format!("lot/{}/back/1", lot.hash));
    assert!(!back.next.is_open());
    let second = pay(&back.next, test_invoice(lot.hash, 5000, 189, 7)).unwrap();
    assert_eq!(second.entry.unwrap().key(), format!("lot/{}/lock/2", lot.hash));
    let again = pay(&second.next, test_invoice(lot.hash, 5000, 189, 7));
    assert!(matches!(again, Err(LotError::NotOffered { state: "being paid", .. })));
    assert!(matches!(second.next.withdraw(), Err(LotError::NotWithdrawable { .. })));
    let unsent = second.next.not_sent("no channel".into()).unwrap().unwrap().next;
    assert!(matches!(unsent.state, LotState::CameBack { how: CameBack::NotSent { .. } }));
    assert!(unsent.not_sent("no channel".into()).unwrap().is_none());
    let done = first.observe(Outgoing::Succeeded { preimage, fee: Msat::ZERO }, 101).unwrap().unwrap().next;
    assert!(matches!(pay(&done, test_invoice(lot.hash, 5000, 189, 7)), Err(LotError::NotOffered { .. })));
}

#[test]
fn a_deadline_that_passed_is_told_from_a_refusal() {
    let (lot, _) = lot();
    let locked = paying(&lot).confirm(246, 100, Some(Outgoing::Pending)).unwrap().unwrap().next;
    let state = |tip| locked.observe(Outgoing::Failed, tip).unwrap().unwrap().next.state;
    assert_eq!(state(150), LotState::CameBack { how: CameBack::Failed });
    assert_eq!(state(240), LotState::CameBack { how: CameBack::TimedOut { deadline: 246 } });
}

#[test]
fn a_lot_that_the_node_lost_comes_back_when_nothing_of_it_can_be_in_flight() {
    let (lot, _) = lot();
    let paying = paying(&lot);
    let end = LIMITS.resolved(257);
    assert!(paying.expired(end - 1, &LIMITS).unwrap().is_none());
    // asked for again at block 120, it may be in flight for 20 blocks longer
    let again = paying.ask_again(120, &LIMITS).unwrap().next;
    assert!(paying.ask_again(100, &LIMITS).is_none() && again.expired(end + 19, &LIMITS).unwrap().is_none());
    assert!(again.expired(end + 20, &LIMITS).unwrap().is_some());
    let back = paying.expired(end, &LIMITS).unwrap().unwrap();
    assert!(matches!(back.next.state, LotState::CameBack { how: CameBack::NotSent { .. } }));
    assert!(back.entry.is_some() && back.next.expired(999, &LIMITS).unwrap().is_none());
    let locked = paying.confirm(246, 100, Some(Outgoing::Pending)).unwrap().unwrap().next;
    assert!(
        locked.expired(999, &LIMITS).unwrap().is_none(),
        "what the payee held is on the chain, and news of it comes"
    );
}

#[test]
fn a_preimage_proves_that_a_lot_was_paid_though_it_was_thought_to_be_back() {
    let (lot, preimage) = lot();
    let paid = Outgoing::Succeeded { preimage, fee: Msat::new(2) };
    assert!(lot.observe(paid, 100).unwrap().is_none(), "it was never sent");
    let back = paying(&lot).not_sent("the disk is full".into()).unwrap().unwrap().next;
    let settled = back.observe(paid, 101).unwrap().unwrap();
    let sum = |account: &Account| -> i64 {
        let entry = settled.entry.as_ref().unwrap();
        entry.postings().iter().filter(|p| p.account == *account).map(|p| p.msat).sum()
    };
    assert_eq!((sum(&Account::Channels), sum(&Account::Escrow)), (-5002, 0), "it had left the escrow");
    assert_eq!((sum(&lot.budget), sum(&lot.earner)), (5000, 0));
    assert!(settled.next.observe(paid, 102).unwrap().is_none());
}

#[test]
fn only_the_agreed_invoice_is_paid() {
    let (lot, _) = lot();
    let other = PaymentHash::from_bytes([9; 32]);
    for wrong in [
        test_invoice(other, 5000, 189, 7),
        test_invoice(lot.hash, 5001, 189, 7),
        test_invoice(lot.hash, 5000, 42, 7),
        test_invoice(lot.hash, 5000, 1000, 7),
        test_invoice(lot.hash, 5000, 189, 8),
    ] {
        assert!(matches!(pay(&lot, wrong), Err(LotError::Invoice(_))));
    }
    let right = test_invoice(lot.hash, 5000, 189, 7);
    assert!(matches!(
        lot.pay(right.clone(), (Network::Bitcoin, &LIMITS), 100, NOW),
        Err(LotError::Invoice(_))
    ));
    let late = lot.pay(right, (Network::Regtest, &LIMITS), 100, NOW + Duration::from_secs(3600));
    assert!(matches!(late, Err(LotError::Invoice(InvoiceError::Expired(0)))));
    let wrong = Preimage::from_bytes([8; 32]);
    let refused = paying(&lot).observe(Outgoing::Succeeded { preimage: wrong, fee: Msat::ZERO }, 100);
    assert!(matches!(refused, Err(LotError::Preimage { .. })));
}

proptest! {
    /// Whatever comes in whatever order: what is in escrow is what is in flight, and a lot is paid at most once.
    #[test]
    fn any_order_of_events_keeps_the_books(events in prop::collection::vec((0u8..8, 90u32..270), 1..30)) {
        let (mut lot, preimage) = lot();
        let (mut escrow, mut paid) = (0i64, 0i64);
        for (event, tip) in events {
            let stepped = match event {
                0 => lot.pay(test_invoice(lot.hash, 5000, 189, 7), (Network::Regtest, &LIMITS), tip, NOW).map(Some),
                1 => lot.not_sent("no".into()),
                2 => lot.confirm(246, tip, Some(Outgoing::Pending)),
                3 => lot.observe(Outgoing::Failed, tip),
                4 => lot.observe(Outgoing::Succeeded { preimage, fee: Msat::ZERO }, tip),
                5 => lot.withdraw(),
                6 => lot.observe(Outgoing::Pending, tip),
                _ => Ok(lot.ask_again(tip, &LIMITS)),
            };
            if let Ok(Some(step)) = stepped {
                for posting in step.entry.iter().flat_map(|e| e.postings()) {
                    if posting.account == Account::Escrow {
                        escrow += posting.msat;
                    }
                    if posting.account == lot.budget {
                        paid += posting.msat;
                    }
                }
                lot = step.next;
            }
            let in_flight = matches!(lot.state, LotState::Paying { .. } | LotState::Locked { .. });
            prop_assert_eq!(escrow, if in_flight { 5000 } else { 0 });
            prop_assert_eq!(paid, if matches!(lot.state, LotState::Settled { .. }) { 5000 } else { 0 });
        }
    }
}
