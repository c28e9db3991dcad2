use proptest::prelude::*;

use super::*;
use crate::escrow::test_invoice;

fn lot() -> (Hold, Preimage) {
    let preimage = Preimage::from_bytes([3; 32]);
    let hash = preimage.hash();
    let purpose = Purpose::Lot { subject: Subject::from_bytes([1; 32]) };
    let invoice = test_invoice(hash, 5000, 189, 7);
    let (amount, state, memory) = (Msat::new(5000), HoldState::Invoiced, NodeMemory::Needed);
    let hold = Hold { hash, purpose, amount, window: 144, invoice, state, memory };
    (hold, preimage)
}

fn after(hold: &Hold, event: HoldEvent, tip: u32) -> Hold {
    hold.on(&event, tip).unwrap().unwrap().next
}

fn held(hold: &Hold) -> Hold {
    after(hold, HoldEvent::Claimable { amount: Msat::new(5000), deadline: Some(250) }, 100)
}

const TIP: HoldEvent = HoldEvent::Tip { invoice_expired: false };

#[test]
fn a_lot_is_held_claimed_and_booked_once() {
    let (hold, preimage) = lot();
    let held = held(&hold);
    assert_eq!(held.state, HoldState::Held { locked: Msat::new(5000), deadline: 250 });
    assert_eq!(held.effect(), None);
    let again = HoldEvent::Claimable { amount: Msat::new(5000), deadline: Some(250) };
    assert!(held.on(&again, 101).unwrap().is_none(), "an event that comes twice");

    let claiming = after(&held, HoldEvent::Settle(preimage), 120);
    assert!(matches!(claiming.effect(), Some(HoldEffect::Claim { .. })));
    assert!(claiming.on(&HoldEvent::Settle(preimage), 120).unwrap().is_none());
    let done = claiming.on(&HoldEvent::Received { amount: Msat::new(5000) }, 120).unwrap().unwrap();
    assert_eq!(done.entry.unwrap().postings().len(), 2);
    assert!(done.next.on(&HoldEvent::Received { amount: Msat::new(5000) }, 120).unwrap().is_none());
    assert!(!done.next.is_open());
    let back = done.next.on(&HoldEvent::GiveBack("no".into()), 120);
    assert_eq!(back.unwrap_err(), HoldError::Settled(hold.hash));
}

#[test]
fn a_payer_that_locks_less_or_shorter_gets_it_back_at_once() {
    let (hold, preimage) = lot();
    let less = after(&hold, HoldEvent::Claimable { amount: Msat::new(4999), deadline: Some(250) }, 100);
    let HoldState::GivenBack { reason: BackReason::Underpaid { .. }, until: Some(250) } = less.state else {
        unreachable!("{less:?}")
    };
    assert_eq!(less.effect(), Some(HoldEffect::GiveBack { hash: hold.hash }));
    let shorter = after(&hold, HoldEvent::Claimable { amount: Msat::new(5000), deadline: Some(243) }, 100);
    let reason = BackReason::WindowTooShort { found: 143, wanted: 144 };
    assert_eq!(shorter.state, HoldState::GivenBack { reason, until: Some(243) });
    assert!(matches!(shorter.on(&HoldEvent::Settle(preimage), 101), Err(HoldError::WentBack { .. })));
    // told again until the node cannot hold it any more
    assert!(shorter.on(&TIP, 242).unwrap().is_none());
    assert_eq!(after(&shorter, TIP, 243).effect(), None);
}

#[test]
fn nothing_is_claimed_without_its_secret_or_before_it_is_held() {
    let (hold, preimage) = lot();
    assert_eq!(hold.on(&HoldEvent::Settle(preimage), 100).unwrap_err(), HoldError::NotHeld(hold.hash));
    let wrong = Preimage::from_bytes([4; 32]);
    let refused = held(&hold).on(&HoldEvent::Settle(wrong), 100).unwrap_err();
    assert_eq!(refused, HoldError::Preimage { found: wrong.hash(), wanted: hold.hash });
    let unasked = held(&hold).on(&HoldEvent::Received { amount: Msat::new(5000) }, 100);
    assert_eq!(unasked.unwrap_err(), HoldError::Unasked(hold.hash));
}

#[test]
fn a_lot_goes_back_before_the_node_does_it_silently() {
    let (hold, preimage) = lot();
    let held = held(&hold);
    assert!(held.on(&TIP, 243).unwrap().is_none());
    let back = after(&held, TIP, 244);
    assert!(matches!(
        back.state,
        HoldState::GivenBack { reason: BackReason::Deadline { deadline: 250 }, .. }
    ));
    // asleep until after the deadline: the node has done it
    let late = after(&held, TIP, 300);
    assert!(matches!(late.state, HoldState::GivenBack { reason: BackReason::TimedOut { .. }, until: None }));
    assert!(matches!(held.on(&HoldEvent::Settle(preimage), 250), Err(HoldError::TooLate { .. })));
    let expired = after(&hold, HoldEvent::Tip { invoice_expired: true }, 100);
    assert!(matches!(expired.state, HoldState::GivenBack { reason: BackReason::Expired, until: None }));
    // ... and is paid all the same
    let paid = after(&expired, HoldEvent::Claimable { amount: Msat::new(5000), deadline: Some(250) }, 100);
    assert!(paid.effect().is_some());
}

#[test]
fn a_pledge_is_booked_through_its_sponsor_to_the_budget() {
    let (lot, preimage) = lot();
    let (campaign, sponsor): (Name, Name) = ("run".parse().unwrap(), "ada".parse().unwrap());
    let purpose = Purpose::Pledge { campaign: campaign.clone(), sponsor: sponsor.clone(), preimage };
    let claiming = after(&held(&Hold { purpose, ..lot }), HoldEvent::Settle(preimage), 120);
    let done = claiming.on(&HoldEvent::Received { amount: Msat::new(5000) }, 120).unwrap().unwrap();
    let entry = done.entry.unwrap();
    let sum = |account: &Account| -> i64 {
        entry.postings().iter().filter(|p| p.account == *account).map(|p| p.msat).sum()
    };
    assert_eq!(sum(&Account::Channels), 5000);
    assert_eq!(sum(&Account::Sponsor(sponsor)), 0);
    assert_eq!(sum(&Account::Budget(campaign)), -5000);
}

proptest! {
    /// Whatever comes in whatever order: a hold ends once, is booked at most once, and only after its secret was known.
    #[test]
    fn any_order_of_events_ends_once(events in prop::collection::vec((0u8..7, 90u32..270), 1..30)) {
        let (mut hold, preimage) = lot();
        let (mut booked, mut told) = (0, false);
        for (event, tip) in events {
            let event = match event {
                0 => HoldEvent::Claimable { amount: Msat::new(5000), deadline: Some(250) },
                1 => HoldEvent::Claimable { amount: Msat::new(1), deadline: None },
                2 => HoldEvent::Settle(preimage),
                3 => HoldEvent::GiveBack("no".into()),
                4 => HoldEvent::Received { amount: Msat::new(5000) },
                _ => HoldEvent::Tip { invoice_expired: event == 5 },
            };
            if let Ok(Some(step)) = hold.on(&event, tip) {
                told |= matches!(step.next.state, HoldState::Claiming { .. });
                booked += u32::from(step.entry.is_some());
                prop_assert!(step.entry.is_none() || told);
                prop_assert_ne!(&step.next, &hold, "a step changes something");
                let settled = matches!(hold.state, HoldState::Settled { .. });
                prop_assert!(!settled, "what is settled stays");
                hold = step.next;
            }
        }
        prop_assert!(booked <= 1);
        prop_assert_eq!(booked == 1, matches!(hold.state, HoldState::Settled { .. }));
    }
}
