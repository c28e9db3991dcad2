//! Events that are not about one task alone.

use std::collections::{BTreeMap, BTreeSet};

use watershed_payments::wallet::NodeAddress;
use watershed_protocol::market::{Entry, FinalState, RunSpec};
use watershed_protocol::{AssignmentId, Envelope, Msat, PublicKey};

use super::reputation::LOCKED_IN_VAIN;
use super::round::{add, settle};
use super::{Effect, Event, Litter, Miner, Phase, Purse, Refusal, Run, Stage, Totals, WorkStage};

impl Run {
    /// A run that was opened `now` with a signed specification, and what that calls for.
    ///
    /// # Errors
    /// [`Refusal::Spec`] and [`Refusal::Untrainable`].
    pub fn open_run(spec: &RunSpec, envelope: &Envelope, now: u64) -> Result<(Self, Vec<Effect>), Refusal> {
        spec.check()?;
        if let Some(fault) = watershed_rounds::faults(spec).into_iter().next() {
            return Err(Refusal::Untrainable(fault));
        }
        let needs_pledges = spec.funding.goal > Msat::ZERO;
        let mut run = Self {
            id: spec.id()?,
            spec: spec.clone(),
            signed: envelope.clone(),
            phase: if needs_pledges { Phase::Funding } else { Phase::Preparing },
            paused: false,
            cancelled: None,
            overruled: BTreeSet::new(),
            miners: BTreeMap::new(),
            works: BTreeMap::new(),
            round: None,
            next_round: 0,
            newest_sequence: 0,
            next_sequence: 0,
            checkpoints: Vec::new(),
            totals: Totals::default(),
            litter: Litter::default(),
            commanded: 0,
            failed: 0,
            not_before: 0,
            purse: Purse::default(),
            version: 1,
            trouble: None,
            opened: now,
            got_on: None,
        };
        let mut effects = vec![Effect::Record(Box::new(Entry::Run { spec: envelope.clone() }))];
        if needs_pledges {
            effects.push(Effect::Campaign);
        } else {
            effects.extend([run.gets_on(now), Effect::Prepare]);
        }
        Ok((run, effects))
    }

    /// Applies an event. A refused one changes nothing.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn apply(&mut self, event: &Event, now: u64) -> Result<Vec<Effect>, Refusal> {
        let said = event.commanded();
        if said.is_some_and(|at| at <= self.commanded) {
            return Err(if said == Some(self.commanded) { Refusal::Known } else { Refusal::Stale });
        }
        self.version += 1;
        let effects = self.happen(event, now);
        if effects.is_err() {
            self.version -= 1;
        } else {
            self.commanded = said.unwrap_or(self.commanded);
        }
        effects
    }

    fn happen(&mut self, event: &Event, now: u64) -> Result<Vec<Effect>, Refusal> {
        match event {
            Event::Open { .. } => Err(Refusal::Known),
            Event::Pause { .. } if self.paused => Err(Refusal::Known),
            Event::Pause { .. } => {
                self.paused = true;
                Ok(Vec::new())
            }
            Event::Resume { .. } if !self.paused && self.trouble.is_none() && self.not_before == 0 => {
                Err(Refusal::Known)
            }
            Event::Resume { .. } => {
                self.paused = false;
                self.not_before = 0;
                Ok(self.retry_step())
            }
            Event::Cancel { reason, .. } => self.cancel(reason, now),
            Event::Funded { pledges } => self.funded(pledges, now),
            Event::Unfunded { reason } => match self.phase {
                Phase::Funding => Ok(self.close(FinalState::Cancelled { reason: reason.clone() })),
                _ => Err(Refusal::Known),
            },
            Event::Prepared { text, first } => {
                if self.phase != Phase::Preparing {
                    return Err(Refusal::Known);
                }
                self.checkpoints.push(first.clone());
                self.phase = Phase::Running;
                let record = |entry| Effect::Record(Box::new(entry));
                let mut effects =
                    vec![record(Entry::Text(text.clone())), record(Entry::Checkpoint(first.clone()))];
                effects.extend(match self.cancelled.clone() {
                    Some(reason) => self.close(FinalState::Cancelled { reason }),
                    None => self.close_if_exhausted(),
                });
                Ok(effects)
            }
            Event::Begin { live } => self.begin(live, now),
            Event::Deadline { round, until } => match &self.round {
                Some(r) if r.number == *round && r.until == *until && now >= *until => {
                    Ok(self.advance(now, true))
                }
                _ => Err(Refusal::Known),
            },
            Event::HashesLate { round } => self.hashes_late(*round),
            Event::Said { signer, message, envelope } => self.said(*signer, message, envelope, now),
            Event::Channel { miner, version, result } => {
                // An answer about a node that the miner no longer has says nothing.
                let asked = |m: &&mut Miner| m.asked == *version && m.channel.as_ref() != Some(result);
                let miner = self.miners.get_mut(miner).filter(asked).ok_or(Refusal::Known)?;
                miner.channel = Some(result.clone());
                Ok(Vec::new())
            }
            Event::Away { miner } => self.away(*miner),
            Event::Offered { assignment, result } => {
                self.outcome(*assignment, result, WorkStage::Offering, WorkStage::Offered, now)
            }
            Event::LockTried { assignment, result } => {
                self.outcome(*assignment, result, WorkStage::Locking, WorkStage::Paid, now)
            }
            Event::Confirmed { assignment, result } => self.confirmed(*assignment, result, now),
            Event::EscrowEnded { assignment, settled, back } => {
                self.escrow_ended(*assignment, *settled, *back, now)
            }
            Event::Ruled { assignment, result } => self.ruled(*assignment, result, now),
            Event::Advanced { round, result } => {
                let stepping = |r: &super::Round| r.stage == Stage::Stepping && r.number == *round;
                if !self.round.as_ref().is_some_and(stepping) {
                    return Err(Refusal::Known);
                }
                match result {
                    Ok(stepped) => Ok(self.advanced(stepped.clone(), now)),
                    Err(reason) => {
                        // Somebody has to look: a disk that is full, a blob that is gone. `resume` tries again.
                        self.trouble = Some(reason.clone());
                        self.paused = true;
                        Ok(Vec::new())
                    }
                }
            }
            Event::FeePaid { miner, payment } => self.fee_paid(*miner, *payment),
            Event::Refunded { pledge, payment, amount } => self.refunded(*pledge, *payment, *amount),
            Event::Finished { left } => self.finished(*left),
            Event::Idle { since } => self.idle(*since, now),
        }
    }

    fn retry_step(&mut self) -> Vec<Effect> {
        match &self.round {
            Some(round) if round.stage == Stage::Stepping && self.trouble.take().is_some() => {
                let rules = self.dispute();
                if !rules.is_empty() {
                    return rules;
                }
                let accepted = self.current().filter(|(_, w)| w.is_accepted()).map(|(id, _)| *id).collect();
                vec![Effect::Step { round: round.number, accepted, version: self.version }]
            }
            _ => Vec::new(),
        }
    }

    fn cancel(&mut self, reason: &str, now: u64) -> Result<Vec<Effect>, Refusal> {
        let how = FinalState::Cancelled { reason: reason.to_owned() };
        match &self.phase {
            Phase::Funding if self.cancelled.is_some() => Err(Refusal::Known),
            Phase::Funding => {
                // Ends when the pledges are back, which `Unfunded` tells; or with `Funded`, if that was on its way.
                self.cancelled = Some(reason.to_owned());
                Ok(vec![Effect::CancelCampaign { reason: reason.to_owned() }])
            }
            Phase::Preparing if self.cancelled.as_deref() == Some(reason) => Err(Refusal::Known),
            Phase::Preparing => {
                self.cancelled = Some(reason.to_owned());
                Ok(Vec::new())
            }
            Phase::Running => {
                let before = self.cancelled.replace(reason.to_owned());
                match &self.round {
                    None => Ok(self.close(how)),
                    Some(round) if round.stage == Stage::Stepping && self.trouble.is_some() => {
                        Ok(self.end_round(true, now))
                    }
                    Some(_) if before == self.cancelled => Err(Refusal::Known),
                    Some(_) => Ok(Vec::new()),
                }
            }
            Phase::Closing { .. } | Phase::Ended { .. } => Err(Refusal::Known),
        }
    }

    fn funded(
        &mut self,
        pledges: &[(watershed_protocol::PaymentHash, Msat)],
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        if self.phase != Phase::Funding {
            return Err(Refusal::Known);
        }
        self.phase = Phase::Preparing;
        let mut effects = Vec::new();
        for (hash, amount) in pledges {
            add(&mut self.totals.pledged, *amount);
            effects.push(Effect::Record(Box::new(Entry::Pledge {
                run: self.id,
                hash: *hash,
                amount: *amount,
            })));
        }
        effects.push(self.gets_on(now));
        match self.cancelled.clone() {
            Some(reason) => effects.extend(self.close(FinalState::Cancelled { reason })),
            None => effects.push(Effect::Prepare),
        }
        Ok(effects)
    }

    fn hashes_late(&mut self, round: u32) -> Result<Vec<Effect>, Refusal> {
        if self.round.as_ref().is_none_or(|r| r.number != round) {
            return Err(Refusal::Known);
        }
        let waits = |w: &super::Work| w.stage == WorkStage::Hashing && !w.hashes.is_empty();
        let late: Vec<AssignmentId> = self.current().filter(|(_, w)| waits(w)).map(|(id, _)| *id).collect();
        if late.is_empty() {
            return Err(Refusal::Known);
        }
        let mut effects = Vec::new();
        for id in late {
            effects.extend(self.make_offer(id));
        }
        Ok(effects)
    }

    /// The outcome of an effect that takes a task from one stage to the next.
    fn outcome(
        &mut self,
        id: AssignmentId,
        result: &Result<(), String>,
        from: WorkStage,
        to: WorkStage,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let work = self.works.get_mut(&id).filter(|w| w.stage == from).ok_or(Refusal::Known)?;
        let mut effects = match result {
            Ok(()) => {
                work.stage = to;
                Vec::new()
            }
            Err(reason) => {
                self.not_locked(id);
                self.drop_work(id, reason)
            }
        };
        effects.extend(self.moved(id, now));
        Ok(effects)
    }

    fn confirmed(
        &mut self,
        id: AssignmentId,
        result: &Result<(), String>,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let confirming = |w: &&mut super::Work| w.stage == WorkStage::Confirming;
        let work = self.works.get_mut(&id).filter(confirming).ok_or(Refusal::Known)?;
        let node = self.miners.get(&work.assignment.miner).and_then(|m| m.node.parse::<NodeAddress>().ok());
        let node = node.and_then(|n| PublicKey::from_bytes(n.id.x_only_public_key().0.serialize()).ok());
        let mut effects = Vec::new();
        if let (Ok(()), Some(node)) = (result, node) {
            work.recorded = true;
            let (assignment, lots) = (work.assignment.clone(), work.lots.clone());
            effects.push(Effect::Record(Box::new(Entry::Assigned { assignment, lots, node })));
        }
        effects.extend(self.outcome(id, result, WorkStage::Confirming, WorkStage::Locked, now)?);
        Ok(effects)
    }

    fn escrow_ended(
        &mut self,
        id: AssignmentId,
        settled: Msat,
        back: Msat,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let version = self.version;
        let work = self.works.get_mut(&id).filter(|w| w.escrow_open).ok_or(Refusal::Known)?;
        work.escrow_open = false;
        work.ended = Some((settled, back));
        work.version = version;
        // Lots that were with the miner and went back while others counted on its work: no better than declining.
        let own = !work.judged
            && matches!(
                work.stage,
                WorkStage::Paid | WorkStage::Confirming | WorkStage::Locked | WorkStage::Committed
            );
        let key = work.assignment.miner;
        if let Some(miner) = self.miners.get_mut(&key) {
            settle(&self.spec.reward, &self.spec.inner, work, miner);
        }
        add(&mut self.totals.paid, settled);
        add(&mut self.totals.back, back);
        let mut effects = Vec::new();
        if work.recorded {
            effects.push(Effect::Record(Box::new(Entry::Settled { assignment: id, settled, back })));
        } else if settled > Msat::ZERO {
            let leaked = Entry::Leaked { run: self.id, assignment: id, paid: settled };
            effects.push(Effect::Record(Box::new(leaked)));
        }
        if own {
            self.kept_waiting(key, LOCKED_IN_VAIN, now);
        }
        let work = self.works.get(&id);
        if work.is_some_and(|w| !matches!(w.stage, WorkStage::Revealed | WorkStage::Dropped { .. })) {
            effects.extend(self.drop_work(id, "the lots are no longer locked"));
            effects.extend(self.advance(now, false));
        }
        effects.extend(self.close_if_exhausted());
        effects.extend(self.try_finish());
        Ok(effects)
    }

    fn finished(&mut self, left: Msat) -> Result<Vec<Effect>, Refusal> {
        let Phase::Closing { how, finishing: true } = &self.phase else { return Err(Refusal::Known) };
        let how = how.clone();
        self.totals.left = left;
        let Totals { pledged, paid, fees, .. } = self.totals;
        self.phase = Phase::Ended { how: how.clone() };
        let mut effects = self.tidy_up();
        for (miner, amount) in self.due_to_miners() {
            effects.push(Effect::Record(Box::new(Entry::Owed { run: self.id, miner, amount })));
        }
        let ended = Entry::Ended { run: self.id, how, pledged, paid, fees, left };
        effects.push(Effect::Record(Box::new(ended)));
        if left > Msat::ZERO {
            effects.push(Effect::Refunds);
        }
        Ok(effects)
    }
}
