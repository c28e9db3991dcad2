//! What the world outside does when a run asks for something: pledges, escrows in lots, checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use watershed_protocol::market::{Stepped, TextSource};
use watershed_protocol::{AssignmentId, Digest, Msat, PaymentHash, PublicKey, RoundNumber};

use watershed_coordinator::machine::{Effect, Event, Run};

use crate::rng::Rng;
use crate::setup::HOLD;

/// Why a campaign ends by itself.
pub(crate) const TOO_LITTLE: &str = "too little";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LotState {
    Offered,
    InFlight { until: u64 },
    Settled,
    Back,
}

#[derive(Clone, Debug)]
pub(crate) struct Lot {
    pub(crate) hash: PaymentHash,
    pub(crate) amount: Msat,
    pub(crate) state: LotState,
}

#[derive(Clone, Debug)]
pub(crate) struct Escrow {
    pub(crate) miner: PublicKey,
    /// Where its lots went.
    pub(crate) node: String,
    pub(crate) lots: Vec<Lot>,
}

impl Escrow {
    fn sum(&self, state: LotState) -> Msat {
        Msat::new(self.lots.iter().filter(|l| l.state == state).map(|l| l.amount.msat()).sum())
    }

    /// What was paid and what came back, once every lot has ended.
    pub(crate) fn ended(&self) -> Option<(Msat, Msat)> {
        let over = self.lots.iter().all(|l| matches!(l.state, LotState::Settled | LotState::Back));
        over.then(|| (self.sum(LotState::Settled), self.sum(LotState::Back)))
    }
}

/// What came of carrying an effect out.
pub(crate) enum Done {
    /// An event for the run.
    Event(Box<Event>),
    /// Nothing to tell.
    Quiet,
    /// Ask again later.
    Wait,
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) escrows: BTreeMap<AssignmentId, Escrow>,
    pub(crate) fees: BTreeSet<(AssignmentId, PublicKey)>,
    /// What there is to spend, if sponsors pay.
    pledged: Option<Msat>,
    /// Outcomes that do not change when an effect is carried out again.
    settled: BTreeMap<String, Event>,
    withdrawn: BTreeSet<AssignmentId>,
    campaign_cancelled: bool,
}

fn luck(rng: &mut Rng, fair: bool, percent: u64) -> Result<(), String> {
    if fair || rng.chance(percent) { Ok(()) } else { Err("bad luck".to_owned()) }
}

/// The first checkpoint of a run.
pub(crate) fn prepared(run: &Run) -> Event {
    let none = Digest([0; 32]);
    let text = TextSource {
        run: run.id,
        shards: run.spec.data.shards,
        set: none,
        snapshot: run.spec.data.snapshot,
        tokenizer: run.spec.data.tokenizer,
        index: none,
        consents: None,
    };
    Event::Prepared { text, first: stepped(run, 0, Vec::new()) }
}

pub(crate) fn stepped(run: &Run, round: u32, accepted: Vec<AssignmentId>) -> Stepped {
    let digest = Digest([u8::try_from(round).unwrap(); 32]);
    Stepped {
        run: run.id,
        round: RoundNumber(round),
        checkpoint: digest,
        blob: digest,
        velocity: None,
        accepted,
        loss: 0,
    }
}

impl Book {
    /// Lots that were held too long go back.
    pub(crate) fn pass(&mut self, now: u64) {
        for lot in self.escrows.values_mut().flat_map(|e| &mut e.lots) {
            if matches!(lot.state, LotState::InFlight { until } if until <= now) {
                lot.state = LotState::Back;
            }
        }
    }

    pub(crate) fn carry_out(
        &mut self,
        effect: &Effect,
        run: &Run,
        now: u64,
        rng: &mut Rng,
        fair: bool,
    ) -> Done {
        self.pass(now);
        let name = effect.name().unwrap_or_default();
        if let Some(event) = self.settled.get(&name) {
            return Done::Event(Box::new(event.clone()));
        }
        let event = match effect {
            Effect::Record(_) => return Done::Quiet,
            Effect::Campaign if self.campaign_cancelled => Event::Unfunded { reason: "cancelled".to_owned() },
            Effect::Campaign => match rng.below(if fair { 5 } else { 10 }) {
                0 => Event::Unfunded { reason: TOO_LITTLE.to_owned() },
                1..=4 => {
                    let part = Msat::new(run.spec.funding.goal.msat().div_ceil(3));
                    self.pledged = Some(Msat::new(part.msat() * 3));
                    let pledges = (1..=3).map(|n| (PaymentHash::from_bytes([n; 32]), part)).collect();
                    Event::Funded { pledges }
                }
                _ => return Done::Wait,
            },
            Effect::CancelCampaign { .. } => {
                self.campaign_cancelled = true;
                return Done::Quiet;
            }
            Effect::Prepare => prepared(run),
            Effect::Channel { miner, version } => {
                let (miner, version, result) = (*miner, *version, luck(rng, fair, 80));
                return Done::Event(Box::new(Event::Channel { miner, version, result }));
            }
            Effect::Discard { .. } => return Done::Quiet,
            Effect::Part { node, .. } => {
                let held = |e: &&Escrow| e.lots.iter().any(|l| matches!(l.state, LotState::InFlight { .. }));
                let held = self.escrows.values().filter(held).any(|e| e.node == *node);
                return if held { Done::Wait } else { Done::Quiet };
            }
            Effect::Offer { assignment } => self.offer(*assignment, run, luck(rng, fair, 90)),
            Effect::Lock { assignment, .. } => {
                let locked = self.lock(*assignment, now, rng, fair);
                self.within_budget(run);
                locked
            }
            Effect::Confirm { assignment, .. } => {
                let held = |e: &Escrow| e.lots.iter().all(|l| matches!(l.state, LotState::InFlight { .. }));
                let held = self.escrows.get(assignment).is_some_and(held);
                let result = if held { luck(rng, fair, 95) } else { Err("not held".to_owned()) };
                Event::Confirmed { assignment: *assignment, result }
            }
            Effect::Withdraw { assignment } => {
                self.withdrawn.insert(*assignment);
                for lot in self.escrows.get_mut(assignment).into_iter().flat_map(|e| &mut e.lots) {
                    assert_eq!(lot.state, LotState::Offered, "withdrawn after it was paid: {assignment}");
                }
                self.escrows.remove(assignment);
                return Done::Quiet;
            }
            Effect::Watch { assignment } => match self.escrows.get(assignment).and_then(Escrow::ended) {
                Some((settled, back)) => Event::EscrowEnded { assignment: *assignment, settled, back },
                None => return Done::Wait,
            },
            Effect::Fee { assignment, validator } => {
                self.fees.insert((*assignment, *validator));
                self.within_budget(run);
                return Done::Quiet;
            }
            Effect::Rule { assignment, .. } => {
                let work = &run.works[assignment];
                let rulings = || {
                    let each = work.verdicts.iter();
                    each.map(|(v, kept)| (*v, crate::truth::holds(*assignment, work, kept))).collect()
                };
                let result = luck(rng, fair, 80).map(|()| rulings());
                return Done::Event(Box::new(Event::Ruled { assignment: *assignment, result }));
            }
            Effect::Step { round, accepted, .. } => {
                let result = luck(rng, fair, 70).map(|()| stepped(run, round + 1, accepted.clone()));
                return Done::Event(Box::new(Event::Advanced { round: *round, result }));
            }
            Effect::JoiningFee { .. } | Effect::Refunds => return Done::Quiet,
            Effect::Finish => {
                let held = |e: &Escrow| e.lots.iter().any(|l| matches!(l.state, LotState::InFlight { .. }));
                let open = self.escrows.iter().find(|(_, e)| held(e));
                assert!(open.is_none(), "the accounts are closed while money is out: {open:?}");
                let totals = run.totals;
                let spent = totals.paid.msat() + totals.fees.msat() + run.still_due().msat();
                if let Some(pledged) = self.pledged {
                    assert!(spent <= pledged.msat(), "{spent} are paid and due, of {pledged}");
                }
                Event::Finished { left: Msat::new(totals.pledged.msat().saturating_sub(spent)) }
            }
        };
        self.settled.insert(name, event.clone());
        Done::Event(Box::new(event))
    }

    /// A real book would refuse what is not there, and the effect would be tried for ever.
    fn within_budget(&self, run: &Run) {
        let Some(pledged) = self.pledged else { return };
        let lots = self.escrows.values().flat_map(|e| &e.lots);
        let out = lots.filter(|l| matches!(l.state, LotState::InFlight { .. } | LotState::Settled));
        let out: u64 = out.map(|l| l.amount.msat()).sum();
        let fees = self.fees.len() as u64 * run.spec.reward.verdict_fee.msat();
        assert!(out + fees <= pledged.msat(), "{out} locked or paid and {fees} of fees, of {pledged}");
    }

    fn offer(&mut self, assignment: AssignmentId, run: &Run, result: Result<(), String>) -> Event {
        let (result, work) = match run.works.get(&assignment) {
            Some(work) if !self.withdrawn.contains(&assignment) => (result, work),
            _ => return Event::Offered { assignment, result: Err("withdrawn".to_owned()) },
        };
        if result.is_ok() {
            let lot = |l: &watershed_protocol::market::TermsOffered| Lot {
                hash: l.hash,
                amount: l.amount,
                state: LotState::Offered,
            };
            let miner = work.assignment.miner;
            let lots: Vec<_> = work.lots.iter().map(lot).collect();
            let sum: u64 = lots.iter().map(|l| l.amount.msat()).sum();
            assert_eq!(sum, work.assignment.reward.msat(), "the lots are not the reward");
            let node = run.miners.get(&miner).map(|m| m.node.clone()).unwrap_or_default();
            self.escrows.insert(assignment, Escrow { miner, node, lots });
        }
        Event::Offered { assignment, result }
    }

    /// All lots leave, or some, or none; what did not leave has come back.
    fn lock(&mut self, assignment: AssignmentId, now: u64, rng: &mut Rng, fair: bool) -> Event {
        let mut result = luck(rng, fair, 85);
        let escrow = self.escrows.get_mut(&assignment);
        assert!(escrow.is_some(), "paid before it was offered: {assignment}");
        for lot in escrow.into_iter().flat_map(|e| &mut e.lots) {
            assert_eq!(lot.state, LotState::Offered, "paid twice");
            let sent = result.is_ok() || rng.chance(50);
            lot.state = if sent { LotState::InFlight { until: now + HOLD } } else { LotState::Back };
        }
        if !fair && rng.chance(3) {
            result = Err("the answer was lost".to_owned());
        }
        Event::LockTried { assignment, result }
    }
}
