//! Beginning, moving and ending rounds.

use std::collections::{BTreeMap, BTreeSet};

use watershed_protocol::data::{Split, WindowSpec};
use watershed_protocol::market::{
    Assignment, Entry, FinalState, InnerSpec, Judged, RewardSpec, Stepped, holders,
};
use watershed_protocol::{AssignmentId, Digest, Msat, PublicKey, RoundNumber};

use super::reputation::FOUND_OUT;
use super::{Effect, Miner, Phase, Refusal, Round, Run, Stage, Work, WorkStage};

impl Run {
    pub(super) fn begin(&mut self, live: &[PublicKey], now: u64) -> Result<Vec<Effect>, Refusal> {
        if self.round.is_some() || self.paused || self.phase != Phase::Running || now < self.not_before {
            return Err(Refusal::Phase { phase: "busy", what: "beginning a round" });
        }
        let in_order = self.in_order(self.able(live), now).into_iter();
        let mut able: Vec<(PublicKey, Miner, u32)> = in_order
            .filter_map(|(key, miner)| {
                let size = self.size_for(&miner)?;
                Some((key, miner, size))
            })
            .collect();
        let rounds = &self.spec.rounds;
        let (mut budget, mut chosen) = (self.budget(), 0);
        able.retain_mut(|(_, miner, size)| {
            let others = (rounds.min_miners as usize).saturating_sub(chosen + 1);
            let full = chosen >= rounds.max_miners as usize;
            // Whoever is benched only if there is no round without it.
            let benched = now < miner.benched_until && chosen >= rounds.min_miners as usize;
            let pays = if full || benched { None } else { self.pays(&mut budget, *size, others) };
            *size = pays.unwrap_or(*size);
            chosen += usize::from(pays.is_some());
            pays.is_some()
        });
        // By key from here on: who gets which text must not depend on who came first.
        able.sort_by_key(|(key, ..)| *key);
        if able.len() < self.spec.rounds.min_miners as usize {
            return Err(Refusal::Phase { phase: "short of miners", what: "beginning a round" });
        }
        let number = self.next_round;
        let Some(checkpoint) = self.checkpoint().map(|c| c.checkpoint) else {
            return Err(Refusal::Phase { phase: "without checkpoint", what: "beginning a round" });
        };
        let until = now.saturating_add(u64::from(self.spec.rounds.lock_seconds));
        let (mut works, mut next_sequence) = (BTreeMap::new(), self.next_sequence);
        for (key, miner, size) in able {
            let batch = self.spec.inner.batch * size;
            let sequences = batch.saturating_mul(self.spec.inner.steps);
            let window = WindowSpec {
                shards: self.spec.data.shards,
                split: Split::Train,
                mixture: self.spec.data.mixture,
                seed: self.spec.seed,
                sequence_length: self.spec.data.sequence_length,
                first: next_sequence,
                sequences,
                max_epochs: self.spec.data.max_epochs,
            };
            next_sequence += u64::from(sequences);
            let reward = self.offered(&key, &miner, size, &mut budget);
            let assignment = Assignment {
                run: self.id,
                round: RoundNumber(number),
                miner: key,
                checkpoint,
                previous: miner.last,
                window,
                batch,
                reward: reward.ok_or(Refusal::Range("the reward"))?,
            };
            let id = assignment.id()?;
            let work = Work {
                holders: holders(&self.spec, &self.overruled, miner.record, &assignment),
                assignment,
                rejected: miner.record.1,
                stage: WorkStage::Hashing,
                version: self.version,
                hashes: BTreeMap::new(),
                lots: Vec::new(),
                commitment: None,
                reveal: None,
                openings: BTreeMap::new(),
                opened: BTreeMap::new(),
                sound: BTreeSet::new(),
                verdicts: BTreeMap::new(),
                rulings: BTreeMap::new(),
                judged: false,
                escrow_open: false,
                recorded: false,
                ended: None,
                receipts: false,
            };
            works.insert(id, work);
        }
        for (id, work) in &works {
            if let Some(miner) = self.miners.get_mut(&work.assignment.miner) {
                miner.works.push(*id);
            }
        }
        for key in live {
            if let Some(miner) = self.miners.get_mut(key) {
                miner.heard = now;
            }
        }
        self.works.append(&mut works);
        (self.newest_sequence, self.next_sequence) = (self.next_sequence, next_sequence);
        self.round =
            Some(Round { number, stage: Stage::Locking, until, began: now, randomness: None, judging: 0 });
        Ok(Vec::new())
    }

    /// What a task pays at most. What its miner is owed from before is added only as far as the budget has it beside all that it
    /// is to pay already.
    fn offered(&self, key: &PublicKey, miner: &Miner, size: u32, budget: &mut Option<Msat>) -> Option<Msat> {
        let reward = &self.spec.reward;
        let mut promised = Msat::ZERO;
        for (_, work) in self.works_of(key).filter(|(_, w)| w.escrow_open) {
            let whole = self.whole(work).unwrap_or_default();
            add(&mut promised, work.assignment.reward.checked_sub(whole).unwrap_or_default());
        }
        let (least, most) = miner.standing.rewards(reward, size, promised)?;
        let Some(left) = budget else { return Some(most) };
        let extra = most.checked_sub(least)?.min(*left);
        *left = left.checked_sub(extra)?;
        least.checked_add(extra)
    }

    /// What a task would pay whoever has proved itself and is owed nothing.
    pub(super) fn whole(&self, work: &Work) -> Option<Msat> {
        self.spec.reward.whole(work.assignment.batch / self.spec.inner.batch.max(1))
    }

    /// Drops a task from its round.
    pub(super) fn drop_work(&mut self, id: AssignmentId, reason: &str) -> Vec<Effect> {
        let version = self.version;
        let Some(work) = self.works.get_mut(&id) else { return Vec::new() };
        let withdraw = matches!(work.stage, WorkStage::Offering | WorkStage::Offered);
        work.stage = WorkStage::Dropped { reason: reason.to_owned() };
        work.version = version;
        if withdraw { vec![Effect::Withdraw { assignment: id }] } else { Vec::new() }
    }

    /// Something happened to a task, after which the round may go on.
    pub(super) fn moved(&mut self, id: AssignmentId, now: u64) -> Vec<Effect> {
        let version = self.version;
        if let Some(work) = self.works.get_mut(&id) {
            work.version = version;
        }
        // Most events leave their own task waited for; then nobody has to look at all the others.
        if self.works.get(&id).is_some_and(|w| self.is_waited_for(w)) {
            return Vec::new();
        }
        self.advance(now, false)
    }

    /// Goes to the next stage if nobody has to be waited for; `over` if the time is up.
    pub(super) fn advance(&mut self, now: u64, over: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut over = over;
        while let Some(round) = self.round.clone() {
            if round.stage == Stage::Stepping || (!over && self.current().any(|(_, w)| self.is_waited_for(w)))
            {
                break;
            }
            let late: Vec<AssignmentId> =
                self.current().filter(|(_, w)| self.is_waited_for(w)).map(|(id, _)| *id).collect();
            over = false;
            let reason = match round.stage {
                Stage::Locking => "the reward was not locked in time",
                Stage::Training => "no commitment came in time",
                Stage::Revealing => "the work was not shown in time",
                Stage::Judging | Stage::Stepping => "",
            };
            if !reason.is_empty() {
                for id in late {
                    self.missed(id, round.stage, now);
                    effects.extend(self.drop_work(id, reason));
                }
            }
            let (stage, seconds) = match round.stage {
                Stage::Locking => (Stage::Training, self.spec.rounds.train_seconds),
                Stage::Training => (Stage::Revealing, self.spec.rounds.reveal_seconds),
                Stage::Revealing => (Stage::Judging, self.spec.rounds.verdict_seconds),
                Stage::Judging | Stage::Stepping => (Stage::Stepping, 0),
            };
            let anybody = self.current().any(|(_, w)| !matches!(w.stage, WorkStage::Dropped { .. }));
            let until = now.saturating_add(u64::from(seconds));
            let randomness = match stage {
                Stage::Judging => Some(self.draw(round.number)),
                _ => round.randomness,
            };
            let judging = if stage == Stage::Judging { now } else { round.judging };
            self.round = Some(Round { stage, until, randomness, judging, ..round });
            self.touch_current();
            if let (Stage::Judging, true, Some(randomness)) = (stage, anybody, randomness) {
                effects.push(self.closed(round.number, randomness));
            }
            if !anybody {
                // Nobody is left: a round in which nothing was shown does not count.
                effects.extend(self.end_round(false, now));
            } else if stage == Stage::Stepping {
                let rules = self.dispute();
                effects.extend(if rules.is_empty() { self.step(now) } else { rules });
            }
        }
        effects
    }

    /// Says in the record that nobody shows anything any more.
    fn closed(&self, round: u32, randomness: Digest) -> Effect {
        let shown = self.current().filter(|(_, w)| w.stage == WorkStage::Revealed);
        let shown = shown.map(|(id, _)| *id).collect();
        Effect::Record(Box::new(Entry::Round { run: self.id, round: RoundNumber(round), shown, randomness }))
    }

    fn touch_current(&mut self) {
        let (version, number) = (self.version, self.round.as_ref().map(|r| r.number));
        for work in self.works.values_mut().filter(|w| Some(w.assignment.round.0) == number) {
            work.version = version;
        }
    }

    /// Asks for the outer step, or ends the round without one.
    pub(super) fn step(&mut self, now: u64) -> Vec<Effect> {
        let accepted: Vec<AssignmentId> =
            self.current().filter(|(_, w)| w.is_accepted()).map(|(id, _)| *id).collect();
        match &self.round {
            Some(round) if accepted.len() >= self.spec.rounds.min_accepted as usize => {
                vec![Effect::Step { round: round.number, accepted, version: self.version }]
            }
            _ => self.end_round(true, now),
        }
    }

    /// The outer step is done.
    pub(super) fn advanced(&mut self, stepped: Stepped, now: u64) -> Vec<Effect> {
        self.trouble = None;
        self.checkpoints.push(stepped.clone());
        let mut effects =
            vec![Effect::Record(Box::new(watershed_protocol::market::Entry::Checkpoint(stepped)))];
        effects.extend(self.end_round(true, now));
        effects
    }

    /// Ends the round; `counts` if it is one of those that were announced.
    pub(super) fn end_round(&mut self, counts: bool, now: u64) -> Vec<Effect> {
        let Some(round) = self.round.take() else { return Vec::new() };
        let stepped = self.checkpoints.last().is_some_and(|c| c.round.0 == round.number + 1);
        let (version, mut found_out) = (self.version, Vec::new());
        for (id, work) in &mut self.works {
            if work.assignment.round.0 != round.number || work.judged {
                continue;
            }
            work.judged = true;
            work.version = version;
            let Some(miner) = self.miners.get_mut(&work.assignment.miner) else { continue };
            let judged = work.judged_as();
            match judged {
                Judged::Accepted => {
                    miner.record.0 += 1;
                    miner.arrears = miner.arrears.saturating_sub(1);
                    self.totals.accepted += 1;
                }
                Judged::Rejected => {
                    miner.record.1 += 1;
                    self.totals.rejected += 1;
                    found_out.push(work.assignment.miner);
                }
                Judged::Neither => {}
            }
            miner.standing.judged(judged);
            settle(&self.spec.reward, &self.spec.inner, work, miner);
            // Whoever was paid for work carries its state on, whether or not there was a step.
            if work.is_accepted() && (stepped || counts) {
                miner.last = Some(*id);
            }
        }
        for miner in found_out {
            self.in_arrears(miner, FOUND_OUT, now);
        }
        let mut effects = self.tidy(&round);
        if counts {
            self.next_round += 1;
            self.failed = 0;
            effects.push(self.gets_on(now));
        } else {
            self.back_off(now);
        }
        self.forget();
        effects.extend(match self.cancelled.clone() {
            Some(reason) => self.close(FinalState::Cancelled { reason }),
            None if self.next_round >= self.spec.rounds.count => self.close(FinalState::Finished),
            None if self.validators().next().is_none() => {
                self.close(FinalState::Cancelled { reason: "no validator is left".to_owned() })
            }
            None => self.close_if_exhausted(),
        });
        effects
    }

    /// Lets go of tasks that nobody needs: ended, older than the last round, and not carried on by their miner.
    fn forget(&mut self) {
        let kept: BTreeSet<AssignmentId> = self.miners.values().filter_map(|m| m.last).collect();
        let recent = self.next_round.saturating_sub(1);
        // A round that does not count is begun again under the same number, perhaps without end.
        let mut newest = BTreeMap::new();
        for Assignment { miner, round, window, .. } in self.works.values().map(|w| &w.assignment) {
            let first = newest.entry((*miner, *round)).or_insert(window.first);
            *first = window.first.max(*first);
        }
        let is_newest = |a: &Assignment| newest.get(&(a.miner, a.round)) == Some(&a.window.first);
        self.works.retain(|id, w| {
            let recent = w.assignment.round.0 >= recent && is_newest(&w.assignment);
            w.escrow_open || !w.judged || recent || kept.contains(id)
        });
        for miner in self.miners.values_mut() {
            miner.works.retain(|id| self.works.contains_key(id));
        }
    }

    /// No more rounds.
    pub(super) fn close(&mut self, how: FinalState) -> Vec<Effect> {
        self.phase = Phase::Closing { how, finishing: false };
        self.try_finish()
    }

    /// Miners whose rewards keep a run that closes from its end.
    pub fn waits_for(&self) -> Vec<PublicKey> {
        let closes = matches!(self.phase, Phase::Closing { .. });
        let open = self.works.values().filter(|w| closes && w.escrow_open).map(|w| w.assignment.miner);
        open.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What miners are paid of what was held back, now that nothing more can be accepted: none that did not prove themselves.
    pub fn due_to_miners(&self) -> Vec<(PublicKey, Msat)> {
        let due = self.miners.iter().map(|(key, m)| (*key, m.standing.due(&self.spec.reward)));
        due.filter(|(_, amount)| *amount > Msat::ZERO).collect()
    }

    /// Closes the accounts when no escrow is open.
    pub(super) fn try_finish(&mut self) -> Vec<Effect> {
        if self.works.values().any(|w| w.escrow_open) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Closing { finishing, .. } if !*finishing => {
                *finishing = true;
                vec![Effect::Finish]
            }
            _ => Vec::new(),
        }
    }
}

/// Counts what a task has paid, once it is over and all of its lots have ended; unless its miner has lost what it was owed since.
pub(super) fn settle(reward: &RewardSpec, inner: &InnerSpec, work: &Work, miner: &mut Miner) {
    let (Some((paid, _)), true, true) = (work.ended, work.judged, work.recorded) else { return };
    let offered = work.assignment.reward;
    let whole = reward.whole(work.assignment.batch / inner.batch.max(1)).unwrap_or(offered);
    if miner.record.1 == work.rejected {
        miner.standing.settled(whole, offered, paid, work.judged_as());
    }
}

/// Adds what cannot overflow in practice; a sum that would is kept at its largest.
pub(super) fn add(sum: &mut Msat, more: Msat) {
    *sum = sum.checked_add(more).unwrap_or(Msat::new(u64::MAX));
}
