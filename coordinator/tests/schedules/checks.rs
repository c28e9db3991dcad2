//! What must hold, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use watershed_coordinator::machine::{Effect, Event, Phase, Run, Stage, Work, WorkStage};
use watershed_payments::wallet::NodeAddress;
use watershed_protocol::market::{Entry, Fault, FinalState, JudgingTimes, Message, Outcome};
use watershed_protocol::{AssignmentId, Msat, PaymentHash, PublicKey};

use crate::book::Book;
use crate::parties::SHOWN;
use crate::truth::{honest_work_counts, is_accepted, is_counted, is_unanswered};

#[derive(Default)]
pub(crate) struct Checks {
    names: BTreeSet<String>,
    /// Validators that say what is not so.
    pub(crate) liars: BTreeSet<PublicKey>,
    /// Tasks whose lots a look at the node found with the miner.
    confirmed: BTreeSet<AssignmentId>,
    assigned: BTreeSet<AssignmentId>,
    /// Lots whose secret was in a verdict on their own task.
    pub(crate) earned: BTreeSet<(AssignmentId, PaymentHash)>,
    pub(crate) published: BTreeSet<PaymentHash>,
    verdicts: u64,
    steps: BTreeMap<u32, Vec<AssignmentId>>,
    /// The round whose outer step is being computed.
    stepping: Option<u32>,
    accepted: u32,
    cancelled: bool,
    locked: u64,
    ended: BTreeMap<AssignmentId, (Msat, Msat)>,
    pledged: u64,
    /// Which node a channel was asked for, by request.
    asked: BTreeMap<(PublicKey, u64), String>,
    /// Escrows that ended since the last round did.
    lately: usize,
    over: u32,
}

fn rank(stage: &WorkStage) -> u32 {
    match stage {
        WorkStage::Hashing => 0,
        WorkStage::Offering => 1,
        WorkStage::Offered => 2,
        WorkStage::Locking => 3,
        WorkStage::Paid => 4,
        WorkStage::Confirming => 5,
        WorkStage::Locked => 6,
        WorkStage::Committed => 7,
        WorkStage::Revealed => 8,
        WorkStage::Dropped { .. } => 9,
    }
}

fn dropped(work: &Work) -> bool {
    matches!(work.stage, WorkStage::Dropped { .. })
}

fn sum(amounts: impl Iterator<Item = Msat>) -> u64 {
    amounts.map(Msat::msat).sum()
}

impl Checks {
    pub(crate) fn after(&mut self, before: &Run, event: &Event, run: &Run, effects: &[Effect], now: u64) {
        assert_eq!(run.version, before.version + 1);
        self.learn(before, event);
        for (id, was) in &before.works {
            match run.works.get(id) {
                Some(is) => self.work(before, event, *id, was, is, now),
                None => assert!(!was.escrow_open && (was.judged || run.round.is_none()), "{id} is forgotten"),
            }
        }
        for (id, work) in run.works.iter().filter(|(id, _)| !before.works.contains_key(id)) {
            assert!(matches!(event, Event::Begin { .. }), "{id} came from {event:?}");
            assert!(!before.paused && !self.cancelled, "a round begins though the operator wants none");
            assert_eq!(work.stage, WorkStage::Hashing);
            assert!(!work.holders.is_empty() && !work.holders.iter().any(|v| run.overruled.contains(v)));
        }
        if matches!(event, Event::Begin { .. }) {
            self.places(before, run, event, now);
            assert!(run.current().count() >= run.spec.rounds.min_miners as usize, "too few for a round");
        }
        if let Event::Channel { miner, version, .. } = event
            && before.miners.get(miner).map(|m| &m.channel) != run.miners.get(miner).map(|m| &m.channel)
        {
            let node = run.miners.get(miner).map(|m| &m.node);
            assert_eq!(self.asked.get(&(*miner, *version)), node, "the answer is about another node");
        }
        self.round_ended(before, run);
        self.state(run);
        for effect in effects {
            match effect {
                Effect::Step { round, accepted, .. } => {
                    let counted: Vec<_> =
                        run.current().filter(|(id, w)| is_accepted(**id, w)).map(|(id, _)| *id).collect();
                    assert_eq!(*accepted, counted);
                    honest_work_counts(run, accepted, &|v| !self.liars.contains(v));
                    assert_eq!(self.stepping.replace(*round), None, "two attempts at once");
                    assert!(accepted.len() >= run.spec.rounds.min_accepted as usize);
                    let first = self.steps.entry(*round).or_insert_with(|| accepted.clone());
                    assert_eq!(first, accepted, "another attempt has other submissions");
                }
                Effect::Lock { assignment, .. } => {
                    self.locked += run.works[assignment].assignment.reward.msat();
                }
                Effect::Channel { miner, version } => {
                    self.asked.insert((*miner, *version), run.miners[miner].node.clone());
                }
                _ => {}
            }
        }
    }

    fn learn(&mut self, before: &Run, event: &Event) {
        match event {
            Event::Confirmed { assignment, result: Ok(()) } => {
                self.confirmed.insert(*assignment);
            }
            Event::Advanced { .. } => self.stepping = None,
            Event::Cancel { .. } => {
                self.cancelled |= !matches!(before.phase, Phase::Closing { .. } | Phase::Ended { .. });
            }
            Event::Funded { pledges } if before.phase == Phase::Funding => {
                self.pledged += sum(pledges.iter().map(|(_, amount)| *amount));
            }
            Event::EscrowEnded { assignment, settled, back } => {
                self.lately += 1;
                let first = self.ended.entry(*assignment).or_insert((*settled, *back));
                assert_eq!(*first, (*settled, *back));
            }
            _ => {}
        }
    }

    fn work(&mut self, before: &Run, event: &Event, id: AssignmentId, was: &Work, is: &Work, now: u64) {
        assert!(rank(&is.stage) >= rank(&was.stage), "{id} went back from {:?}", was.stage);
        assert!(!(was.judged && (rank(&is.stage) != rank(&was.stage) || is.verdicts != was.verdicts)));
        assert!(was.judged <= is.judged);
        assert!(was.lots.is_empty() || was.lots == is.lots);
        let round = before.round.as_ref();
        let stage = round.map(|r| r.stage);
        if dropped(is) && !dropped(was) {
            let cause = match event {
                Event::Deadline { until, .. } => now >= *until,
                Event::Said { signer, message: Message::Decline { assignment, .. }, .. } => {
                    *assignment == id && *signer == was.assignment.miner
                }
                Event::Offered { assignment, result: Err(_) }
                | Event::LockTried { assignment, result: Err(_) }
                | Event::Confirmed { assignment, result: Err(_) }
                | Event::EscrowEnded { assignment, .. } => *assignment == id,
                _ => false,
            };
            assert!(cause, "{id} was dropped by {event:?}");
        }
        if rank(&was.stage) < 6 && (6..9).contains(&rank(&is.stage)) {
            assert!(self.confirmed.contains(&id), "{id} counts as locked and nobody looked");
        }
        if was.rulings != is.rulings {
            assert!(
                was.rulings.is_empty()
                    && matches!(event, Event::Ruled { assignment, .. } if *assignment == id)
            );
            assert_eq!((stage, is.rulings.len()), (Some(Stage::Stepping), is.verdicts.len()));
        }
        let times = round.map(|r| JudgingTimes::of(&before.spec.rounds, r.until));
        if was.openings != is.openings {
            assert!(times.is_some_and(|t| now < t.ask) && stage == Some(Stage::Judging), "asked too late");
        }
        if was.opened != is.opened {
            assert!(
                times.is_some_and(|t| now < t.answer) && stage == Some(Stage::Judging),
                "answered too late"
            );
        }
        if was.commitment != is.commitment {
            assert_eq!((&was.commitment, &was.stage), (&None, &WorkStage::Locked));
            assert!(self.assigned.contains(&id), "{id} is not in the record");
        }
        if was.reveal != is.reveal {
            assert_eq!((&was.reveal, stage), (&None, Some(Stage::Revealing)));
            assert!(before.current().all(|(_, w)| dropped(w) || w.commitment.is_some()), "shown too early");
        }
        for (validator, kept) in &is.verdicts {
            if let Some(first) = was.verdicts.get(validator) {
                assert_eq!(first, kept);
                continue;
            }
            assert_eq!((&was.stage, stage), (&WorkStage::Revealed, Some(Stage::Judging)));
            assert!(before.current().all(|(_, w)| dropped(w) || w.reveal.is_some()), "judged too early");
            let said = match event {
                Event::Said { message: Message::Verdict(verdict), signer, .. } => Some((signer, verdict)),
                _ => None,
            };
            let wanted =
                (Some(validator), before.randomness(), was.commitment.as_ref().map(|c| c.submission));
            let found = (said.map(|s| s.0), said.map(|s| s.1.randomness), said.map(|s| s.1.submission));
            assert_eq!(found, wanted);
            if kept.outcome == Outcome::Rejected(Fault::NoAnswer) {
                assert!(times.is_some_and(|t| now >= t.answer) && is_unanswered(is), "it was in time");
            }
            self.verdicts += 1;
            if let Outcome::Earned { preimages, .. } = &kept.outcome {
                for hash in preimages.iter().map(|p| p.hash()) {
                    assert!(was.lots.iter().any(|l| l.hash == hash && l.validator == *validator));
                    self.earned.insert((id, hash));
                    self.published.insert(hash);
                }
            }
        }
        assert!(was.verdicts.keys().all(|v| is.verdicts.contains_key(v)));
    }

    /// Whoever has a place pays for what it cost others before, newcomers have theirs, and nobody holds what is of no use.
    fn places(&self, before: &Run, run: &Run, event: &Event, now: u64) {
        let Event::Begin { live } = event else { return };
        let taken: BTreeSet<PublicKey> = run.current().map(|(_, w)| w.assignment.miner).collect();
        let over = |w: &Work| w.judged || dropped(w);
        for key in &taken {
            let left = before.works_of(key).filter(|(_, w)| w.escrow_open && over(w)).count();
            assert!(left < 3, "{key} leaves {left} rewards locked and is given another");
        }
        let newcomer = |key: &PublicKey| !before.miners[key].standing.is_proven(&run.spec.reward);
        let able = before.able(live);
        let benched = |key: &&PublicKey| now < before.miners[*key].benched_until;
        let waiting = able.iter().filter(|key| !benched(key) && newcomer(key)).count();
        let new = taken.iter().filter(|key| newcomer(key)).count();
        // Where sponsors pay, the money may not reach for all.
        if taken.len() == run.spec.rounds.max_miners as usize {
            assert!(
                new >= waiting.min(run.spec.rounds.newcomer_places()),
                "no place was kept for a newcomer"
            );
        }
        let others = able.iter().filter(|key| !benched(key)).count();
        let sat_out = taken.iter().filter(benched).count();
        if sat_out > 0 && run.budget().is_none() {
            assert!(
                others < run.spec.rounds.min_miners as usize,
                "{sat_out} come from the bench for nothing"
            );
        }
    }

    /// Who was accepted in a round that is now over is in its outer step, and nobody else.
    fn round_ended(&mut self, before: &Run, run: &Run) {
        let Some(round) =
            before.round.as_ref().filter(|r| run.round.as_ref().is_none_or(|n| n.began != r.began))
        else {
            return;
        };
        // The last verdict may end the round, so what became of a task is in the newer state where it is still known.
        let newest = |(id, w): (&AssignmentId, &Work)| (*id, is_counted(*id, run.works.get(id).unwrap_or(w)));
        let accepted: Vec<AssignmentId> =
            before.current().map(newest).filter(|(_, yes)| *yes).map(|(id, _)| id).collect();
        match self.steps.get(&round.number) {
            Some(step) => assert_eq!(*step, accepted),
            // A round that is broken off while rulings fail has no outer step, whatever was ruled on before.
            None => {
                let unruled = before.current().any(|(_, w)| w.is_disputed());
                assert!(unruled || accepted.len() < run.spec.rounds.min_accepted as usize, "no outer step");
            }
        }
        self.lately = 0;
        self.accepted += u32::try_from(accepted.len()).unwrap();
    }

    fn state(&self, run: &Run) {
        let totals = run.totals;
        assert_eq!(totals.pledged.msat(), self.pledged);
        assert_eq!(totals.paid.msat(), sum(self.ended.values().map(|(paid, _)| *paid)));
        assert_eq!(totals.back.msat(), sum(self.ended.values().map(|(_, back)| *back)));
        assert_eq!(totals.fees.msat(), self.verdicts * run.spec.reward.verdict_fee.msat());
        assert_eq!(totals.accepted, self.accepted);
        if matches!(run.phase, Phase::Closing { .. } | Phase::Ended { .. }) {
            assert!(run.round.is_none());
        }
        let locked: BTreeSet<PublicKey> =
            run.works.values().filter(|w| w.escrow_open).map(|w| w.assignment.miner).collect();
        let closes = matches!(run.phase, Phase::Closing { .. });
        assert_eq!(run.waits_for(), if closes { Vec::from_iter(locked) } else { Vec::new() });
        assert!(run.next_round <= run.spec.rounds.count);
        let stage = run.round.as_ref().map(|r| r.stage);
        for (id, work) in run.current().filter(|(_, w)| !dropped(w)) {
            let wanted = match stage {
                Some(Stage::Revealing) => work.commitment.is_some(),
                Some(Stage::Judging | Stage::Stepping) => work.reveal.is_some(),
                _ => true,
            };
            assert!(wanted, "{id} is in a stage that it did not reach");
            let unpaid = (3..8).contains(&rank(&work.stage)) && !work.escrow_open;
            assert!(!unpaid, "{id} goes on though its lots are gone");
        }
        // One that is under way, one that is carried on, those of the last two rounds, and whose money came back just now.
        let closed = run.works.values().filter(|w| !w.escrow_open).count();
        assert!(
            closed <= 4 * run.miners.len() + self.lately,
            "{closed} tasks are kept for {} miners",
            run.miners.len()
        );
    }

    pub(crate) fn effects(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Some(name) = effect.name() {
                assert!(self.names.insert(name), "asked for twice: {effect:?}");
            }
            if let Effect::Discard { blobs, .. } = effect {
                // Whoever opens the name of somebody's submission does not have it deleted.
                assert!(!blobs.is_empty() && !blobs.contains(&SHOWN), "{blobs:?}");
            }
            let Effect::Record(entry) = effect else { continue };
            match &**entry {
                Entry::Assigned { assignment, .. } => {
                    let id = assignment.id().unwrap();
                    assert!(self.confirmed.contains(&id) && self.assigned.insert(id), "{id}");
                }
                Entry::Ended { .. } => self.over += 1,
                _ => {}
            }
        }
    }

    /// The node in the record, whose key signs receipts, is the one that was paid.
    pub(crate) fn nodes(&self, effects: &[Effect], book: &Book) {
        for effect in effects {
            let Effect::Record(entry) = effect else { continue };
            let Entry::Assigned { assignment, node, .. } = &**entry else { continue };
            let id = assignment.id().unwrap();
            let paid: NodeAddress = book.escrows[&id].node.parse().unwrap();
            assert_eq!(node.to_bytes(), paid.id.x_only_public_key().0.serialize(), "{id}");
        }
    }

    /// The same message again changes nothing.
    pub(crate) fn again(&self, event: &Event, run: &Run, now: u64) {
        let Event::Said { message, .. } = event else { return };
        let mut twice = run.clone();
        let Ok(effects) = twice.apply(event, now) else { return };
        assert!(effects.is_empty(), "{message:?} a second time: {effects:?}");
        twice.version = run.version;
        for (id, work) in &mut twice.works {
            work.version = run.works[id].version;
        }
        assert_eq!(twice, *run);
    }

    pub(crate) fn end(&self, run: &Run, book: &Book) {
        assert_eq!(self.over, 1, "it is in the record that often that the run ended");
        let totals = run.totals;
        assert_eq!(totals.locked.msat(), self.locked);
        let fees = self.names.iter().filter(|name| name.starts_with("fee/")).count() as u64;
        assert_eq!(totals.fees.msat(), fees * run.spec.reward.verdict_fee.msat());
        assert_eq!(totals.locked.msat(), totals.paid.msat() + totals.back.msat());
        for (id, ended) in &self.ended {
            assert_eq!(book.escrows.get(id).and_then(crate::book::Escrow::ended), Some(*ended));
        }
        if self.pledged > 0 {
            let spent = totals.paid.msat() + totals.fees.msat() + run.still_due().msat();
            assert!(totals.pledged.msat() >= spent);
            assert_eq!(totals.left.msat(), totals.pledged.msat() - spent);
        }
        let steps = self.steps.keys().filter(|n| run.checkpoints.iter().any(|c| c.round.0 == **n + 1));
        assert_eq!(run.checkpoints.len().saturating_sub(1), steps.count());
        let Phase::Ended { how } = &run.phase else { return };
        assert!(!self.cancelled || *how != FinalState::Finished, "the operator cancelled it");
    }
}
