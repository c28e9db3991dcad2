//! Money that was taken for a run that does not get on, and what a run waits for.

use watershed_commons::record::Runs;
use watershed_coordinator::machine::{Effect, Event, Phase, Refusal, Run, Wait};
use watershed_protocol::market::{FinalState, Join, Message};
use watershed_protocol::{Envelope, Msat, PaymentHash};

use crate::Kind;
use crate::book::prepared;
use crate::rng::Rng;
use crate::setup::{cast, spec};

const OPENED: u64 = 1_000;
const IDLE: u64 = 10_000;

/// A run with its record.
struct Told {
    run: Run,
    record: Runs,
}

impl Told {
    fn open() -> Self {
        let mut spec = spec(&mut Rng::new(1), Kind::Honest);
        (spec.funding.goal, spec.funding.idle_seconds) = (Msat::new(1_000_000), IDLE as u32);
        (spec.rounds.min_miners, spec.rounds.max_miners) = (2, 2);
        let signed = Envelope::sign(&spec, &cast().coordinator).unwrap();
        let (run, effects) = Run::open_run(&spec, &signed, OPENED).unwrap();
        let mut told = Self { run, record: Runs::default() };
        told.follow(&effects);
        told
    }

    fn follow(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Record(entry) = effect {
                self.record.entry((**entry).clone()).unwrap();
            }
        }
    }

    fn tell(&mut self, event: &Event, now: u64) -> Vec<Effect> {
        let effects = self.run.apply(event, now).unwrap();
        self.follow(&effects);
        effects
    }

    fn funded(now: u64) -> Self {
        let mut told = Self::open();
        let pledges = vec![(PaymentHash::from_bytes([1; 32]), Msat::new(1_000_000))];
        told.tell(&Event::Funded { pledges }, now);
        told
    }

    /// At `now` it ends by itself, and everything goes back.
    fn ends(mut self, now: u64) {
        assert_eq!(self.run.due(now - 1, &[]), None);
        let idle = self.run.due(now, &[]).unwrap();
        assert!(matches!(idle, Event::Idle { .. }), "{idle:?}");
        assert_eq!(self.tell(&idle, now), [Effect::Finish]);
        assert_eq!(self.run.apply(&idle, now), Err(Refusal::Known), "once");
        let left = Msat::new(1_000_000);
        assert!(self.tell(&Event::Finished { left }, now).contains(&Effect::Refunds));
        assert_eq!(self.run.phase, Phase::Ended { how: FinalState::Idle { at: now } });
        assert_eq!(self.record.runs[&self.run.id].left, left);
    }
}

#[test]
fn money_of_a_run_that_nobody_trains_comes_back_on_the_day_that_its_terms_name() {
    let mut told = Told::funded(2_000);
    told.tell(&prepared(&told.run), 2_500);
    assert_eq!(told.run.idle_at(), Some(2_000 + IDLE));
    told.ends(2_000 + IDLE);
    // So it does if the first checkpoint cannot be made, or the operator stopped it.
    Told::funded(2_000).ends(2_000 + IDLE);
    let mut paused = Told::funded(2_000);
    paused.tell(&prepared(&paused.run), 2_500);
    paused.tell(&Event::Pause { at: 1 }, 3_000);
    paused.ends(2_000 + IDLE);
    // A run that collects pledges has no such day: its pledges have days of their own.
    let collecting = Told::open();
    assert_eq!((collecting.run.idle_at(), collecting.run.due(u64::MAX, &[])), (None, None));
}

#[test]
fn what_a_run_waits_for_is_always_said() {
    let mut told = Told::open();
    assert_eq!(told.run.waits(0, &[]), [Wait::Pledges]);
    told = Told::funded(2_000);
    assert_eq!(told.run.waits(0, &[]), [Wait::Checkpoint]);
    told.tell(&prepared(&told.run), 2_500);
    assert_eq!(told.run.waits(0, &[]), [Wait::Miners { there: 0, needed: 2, unfit: 0 }]);
    let live = [cast().miners[0], cast().miners[1]];
    for (n, signer) in live.into_iter().enumerate() {
        let join = Join {
            run: told.run.id,
            node: cast().nodes[n][0].clone(),
            tokens_per_second: 1_000,
            min_per_million_tokens: Msat::ZERO,
            lost_state: false,
        };
        told.tell(
            &Event::Said { signer, message: Message::Join(join), envelope: cast().envelope.clone() },
            2_600,
        );
    }
    let [first, second] = live;
    // Only one is there; then both, without channels.
    let short = Wait::Miners { there: 1, needed: 2, unfit: 0 };
    assert_eq!(told.run.waits(0, &[first]), [short, Wait::Channels(vec![first])]);
    assert_eq!(told.run.waits(0, &live), [Wait::Channels(vec![first, second])]);
    for miner in live {
        let version = told.run.miners[&miner].asked;
        told.tell(&Event::Channel { miner, version, result: Ok(()) }, 2_700);
    }
    assert_eq!(told.run.waits(2_700, &live), []);
    told.tell(&Event::Pause { at: 1 }, 2_800);
    assert_eq!(told.run.waits(2_800, &live), [Wait::Operator]);
    told.tell(&Event::Resume { at: 2 }, 2_900);
    let begin = told.run.due(2_900, &live).unwrap();
    told.tell(&begin, 2_900);
    let validators = told.run.validators().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(told.run.waits(2_900, &live), [Wait::Validators(validators.into_iter().collect())]);
    for wait in told.run.wait_views(2_900, &live) {
        assert!(!wait.text.is_empty() && wait.keys.len() == told.run.spec.committee.len());
    }
}
