//! What a schedule of small runs does not reach: sizes.

use watershed_coordinator::machine::{Event, Refusal, Run};
use watershed_payments::escrow::{MAX_LOTS, split};
use watershed_payments::wallet::ldk::LIMITS;
use watershed_protocol::market::{Join, Message, RunSpec, SpecError};
use watershed_protocol::{Envelope, Msat, SecretKey};

use crate::Kind;
use crate::book::prepared;
use crate::rng::Rng;
use crate::setup::{cast, spec};

/// Fields for which a specification is refused.
fn refused(change: impl FnOnce(&mut RunSpec)) -> Option<String> {
    let mut spec = spec(&mut Rng::new(1), Kind::Honest);
    spec.funding.goal = Msat::ZERO;
    change(&mut spec);
    match Run::open_run(&spec, &cast().envelope, 0).err()? {
        Refusal::Spec(SpecError::Range { field, .. }) => Some(field.to_owned()),
        Refusal::Untrainable(fault) => Some(fault.field),
        other => Some(other.to_string()),
    }
}

#[test]
fn a_run_that_would_come_to_a_halt_is_not_opened() {
    assert_eq!(refused(|_| {}), None);
    let named = |field: &str| Some(field.to_owned());
    assert_eq!(refused(|s| s.reward.per_assignment = Msat::ZERO), named("reward.per_assignment"));
    let overflow = |s: &mut RunSpec| (s.reward.per_assignment, s.rounds.max_size) = (Msat::new(u64::MAX), 2);
    assert_eq!(refused(overflow), named("reward.per_assignment"));
    assert_eq!(refused(|s| s.inner.steps = 1_500), None);
    assert_eq!(refused(|s| s.inner.steps = 2_000), named("inner.steps"));
    assert_eq!(refused(|s| s.rounds.max_miners = 1_900), None);
    assert_eq!(refused(|s| s.rounds.max_miners = 2_100), named("rounds.max_miners"));
    // What no miner could begin with.
    assert_eq!(refused(|s| s.inner.warmup_steps = 1_000), named("inner.warmup_steps"));
    assert_eq!(refused(|s| s.model.head_dim = 3), named("model.head_dim"));
}

/// What a specification may ask for is what the wallet's own rules can do.
#[test]
fn rewards_that_are_allowed_can_be_cut_and_held() {
    for (members, tiers) in [(1, 1), (2, 4), (16, 8), (3, 6)] {
        let mut spec =
            RunSpec::smallest((1..=members).map(|n| SecretKey::from_entropy([n; 32]).unwrap().public()));
        spec.reward.tiers = tiers;
        let steps = u64::from(members) * ((1 << tiers) - 1);
        for reward in [1, steps - 1, steps, steps + 1, 1_000_000] {
            spec.reward.per_assignment = Msat::new(reward);
            let cut = split(spec.reward.per_assignment, members.into(), tiers);
            assert_eq!(spec.check().is_ok(), cut.is_ok(), "{reward} msat, {members} times {tiers}");
        }
    }
    assert_eq!(RunSpec::MAX_LOTS, MAX_LOTS as u64);
    assert!(LIMITS.final_cltv_for(RunSpec::MAX_WINDOW).is_ok());
    assert!(LIMITS.final_cltv_for(RunSpec::MAX_WINDOW + 1).is_err());
}

/// An entry has at most 64 KiB, a message 512 KiB.
#[test]
fn a_message_that_the_record_cannot_hold_changes_nothing() {
    let mut spec = spec(&mut Rng::new(1), Kind::Honest);
    spec.funding.goal = Msat::ZERO;
    let (mut run, _) = Run::open_run(&spec, &cast().envelope, 0).unwrap();
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
