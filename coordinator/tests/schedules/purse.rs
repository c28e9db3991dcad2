//! Joining fees and refunds, event by event.

use watershed_coordinator::machine::{Effect, Event, Refusal, Run};
use watershed_protocol::market::{Entry, FinalState, Join, Message, RunSpec};
use watershed_protocol::{Msat, PaymentHash, PublicKey};

use crate::Kind;
use crate::rng::Rng;
use crate::setup::{cast, spec};

fn payment(n: u8) -> PaymentHash {
    PaymentHash::from_bytes([n; 32])
}

fn opened(fee: u64) -> (RunSpec, Run) {
    let mut spec = spec(&mut Rng::new(1), Kind::Funded);
    spec.funding.goal = Msat::new(1_000_000);
    spec.funding.joining_fee = Msat::new(fee);
    let run = Run::open_run(&spec, &cast().envelope, 0).unwrap().0;
    (spec, run)
}

fn join(run: &mut Run, miner: usize, node: usize) -> Result<Vec<Effect>, Refusal> {
    let join = Join {
        run: run.id,
        node: cast().nodes[miner][node].clone(),
        tokens_per_second: 1,
        min_per_million_tokens: Msat::ZERO,
        lost_state: false,
    };
    let (signer, envelope) = (cast().miners[miner], cast().envelope.clone());
    run.apply(&Event::Said { signer, message: Message::Join(join), envelope }, 1)
}

fn paid(miner: PublicKey, n: u8) -> Event {
    Event::FeePaid { miner, payment: payment(n) }
}

#[test]
fn no_channel_is_opened_for_a_miner_that_did_not_pay() {
    let (_, mut run) = opened(2_000);
    let before = run.clone();
    assert_eq!(join(&mut run, 0, 0), Err(Refusal::FeeUnpaid(Msat::new(2_000))));
    assert_eq!(run, before, "a refusal changes nothing");
    let miner = cast().miners[0];
    let effects = run.apply(&paid(miner, 1), 1).unwrap();
    let entry = Entry::Joined { run: run.id, miner, payment: payment(1), amount: Msat::new(2_000) };
    assert_eq!(effects, [Effect::Record(Box::new(entry)), Effect::JoiningFee { miner }]);
    // Paid twice, by a crash or by mistake: told once.
    assert_eq!(run.apply(&paid(miner, 1), 1), Err(Refusal::Known));
    assert_eq!(run.apply(&paid(miner, 2), 1), Err(Refusal::Known));
    for node in [0, 1] {
        // The node that it had before is parted with.
        let effects = join(&mut run, 0, node).unwrap();
        assert!(effects.iter().any(|e| matches!(e, Effect::Channel { .. })), "{effects:?}");
    }
    assert!(matches!(join(&mut run, 1, 0), Err(Refusal::FeeUnpaid(_))));
    let (_, mut free) = opened(0);
    assert!(matches!(join(&mut free, 1, 0).unwrap()[..], [Effect::Channel { .. }]));
    assert_eq!(
        free.apply(&paid(miner, 1), 1),
        Err(Refusal::Known),
        "nothing is recorded where nothing is asked"
    );
}

#[test]
fn what_sponsors_get_back_is_recorded_once_and_after_the_end() {
    let (_, mut run) = opened(0);
    let back = |n: u8| Event::Refunded { pledge: payment(9), payment: payment(n), amount: Msat::new(5) };
    assert!(run.apply(&back(1), 1).is_err(), "not before the end");
    run.apply(&Event::Cancel { reason: "x".to_owned(), at: 1 }, 1).unwrap();
    run.apply(&Event::Funded { pledges: vec![(payment(9), Msat::new(1_000_000))] }, 1).unwrap();
    let effects = run.apply(&Event::Finished { left: Msat::new(1_000_000) }, 1).unwrap();
    assert!(matches!(&effects[..], [Effect::Record(entry), Effect::Refunds]
        if matches!(&**entry, Entry::Ended { how: FinalState::Cancelled { .. }, .. })));
    for n in [1, 2] {
        let entry =
            Entry::Refunded { run: run.id, pledge: payment(9), payment: payment(n), amount: Msat::new(5) };
        assert_eq!(run.apply(&back(n), 1), Ok(vec![Effect::Record(Box::new(entry))]));
        assert_eq!(run.apply(&back(n), 1), Err(Refusal::Known));
    }
    let mut refused = run.clone();
    assert!(join(&mut refused, 0, 0).is_err());
}

#[test]
fn where_nothing_is_left_nobody_is_paid_back() {
    let (_, mut run) = opened(0);
    run.apply(&Event::Unfunded { reason: "too little".to_owned() }, 1).unwrap();
    let effects = run.apply(&Event::Finished { left: Msat::ZERO }, 1).unwrap();
    assert!(matches!(&effects[..], [Effect::Record(_)]));
}
