//! What a schedule of small runs does not reach: sizes.

use watershed_coordinator::machine::{Event, Refusal, Run};
use watershed_protocol::market::{Join, Message, RunSpec};
use watershed_protocol::{Envelope, Msat, SecretKey};

use crate::Kind;
use crate::book::prepared;
use crate::rng::Rng;
use crate::setup::{cast, spec};

fn refused(change: impl FnOnce(&mut RunSpec)) -> Option<Refusal> {
    let mut spec = spec(&mut Rng::new(1), Kind::Honest);
    spec.funding.goal = Msat::ZERO;
    change(&mut spec);
    Run::open_run(&spec, &cast().envelope).err()
}

#[test]
fn a_run_that_would_come_to_a_halt_is_not_opened() {
    assert_eq!(refused(|_| {}), None);
    let reward = Some(Refusal::Range("reward.per_assignment"));
    assert_eq!(refused(|s| s.reward.per_assignment = Msat::ZERO), reward);
    let overflow = |s: &mut RunSpec| (s.reward.per_assignment, s.rounds.max_size) = (Msat::new(u64::MAX), 2);
    assert_eq!(refused(overflow), reward);
    assert_eq!(refused(|s| s.inner.steps = 1_500), None);
    assert_eq!(refused(|s| s.inner.steps = 2_000), Some(Refusal::Range("inner.steps")));
    assert_eq!(refused(|s| s.rounds.max_miners = 1_900), None);
    assert_eq!(refused(|s| s.rounds.max_miners = 2_100), Some(Refusal::Range("rounds.max_miners")));
}

/// An entry has at most 64 KiB, a message 512 KiB.
#[test]
fn a_message_that_the_record_cannot_hold_changes_nothing() {
    let mut spec = spec(&mut Rng::new(1), Kind::Honest);
    spec.funding.goal = Msat::ZERO;
    let (mut run, _) = Run::open_run(&spec, &cast().envelope).unwrap();
    let signer = cast().miners[0];
    let said = |message, envelope: &Envelope| Event::Said { signer, message, envelope: envelope.clone() };
    let join = Join {
        run: run.id,
        node: cast().nodes[0][0].clone(),
        tokens_per_second: 10,
        min_per_million_tokens: Msat::ZERO,
        lost_state: false,
    };
    run.apply(&prepared(&run), 0).unwrap();
    run.apply(&said(Message::Join(join), &cast().envelope), 0).unwrap();
    let asked = run.miners[&signer].asked;
    run.apply(&Event::Channel { miner: signer, version: asked, result: Ok(()) }, 0).unwrap();
    run.apply(&run.due(0, &[signer]).unwrap(), 0).unwrap();
    let assignment = run.current().map(|(id, _)| *id).next().unwrap();

    let before = run.clone();
    let message = Message::Receipts { assignment, receipts: vec![cast().envelope.clone(); 600] };
    let large = Envelope::sign(&message, &SecretKey::from_entropy([1; 32]).unwrap()).unwrap();
    assert!(matches!(run.apply(&said(message.clone(), &large), 0), Err(Refusal::Encode(_))));
    assert_eq!(run, before);
    // Fewer fit, and are not in the way of what was refused.
    assert_eq!(run.apply(&said(message, &cast().envelope), 0).map(|effects| effects.len()), Ok(1));
}
