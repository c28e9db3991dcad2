//! Entries that a coordinator makes.

use std::collections::{BTreeMap, BTreeSet};

use watershed_protocol::market::{Entry, FinalState, Outcome, RunSpec, Stepped, TermsOffered};
use watershed_protocol::{AssignmentId, Envelope, Msat, PaymentHash, RunId, decode};

use super::index::Index;
use super::{RecordFault, RunTold, Runs, Told};

pub(super) fn total(amounts: impl Iterator<Item = Msat>) -> Msat {
    amounts.fold(Msat::ZERO, |sum, a| sum.checked_add(a).unwrap_or(Msat::new(u64::MAX)))
}

pub(super) fn sum(what: &'static str, found: Msat, wanted: Msat) -> Result<(), RecordFault> {
    if found == wanted { Ok(()) } else { Err(RecordFault::Sum { what, found, wanted }) }
}

impl Runs {
    /// Follows one entry.
    ///
    /// # Errors
    /// [`RecordFault`]: what is wrong with it, given everything before.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), RecordFault> {
        self.entry(decode(bytes)?)
    }

    /// Follows one entry that is decoded already.
    ///
    /// # Errors
    /// As [`Runs::follow`].
    pub fn entry(&mut self, entry: Entry) -> Result<(), RecordFault> {
        self.entries += 1;
        match entry {
            Entry::Run { spec } => self.run(&spec),
            Entry::Pledge { run, hash, amount } => self.of(run)?.pledge(hash, amount),
            Entry::Joined { run, miner, payment, amount } => self.of(run)?.joined(miner, payment, amount),
            Entry::Refunded { run, pledge, payment, amount } => {
                self.of(run)?.refunded(pledge, payment, amount)
            }
            Entry::Text(text) => self.of(text.run)?.text(text),
            Entry::Round { run, round, shown, randomness } => {
                self.of(run)?.closed(round.0, &shown, randomness)
            }
            Entry::Checkpoint(stepped) => self.of(stepped.run)?.checkpoint(stepped),
            Entry::Assigned { assignment, lots, node } => {
                self.of(assignment.run)?.assigned(assignment, lots, node)
            }
            Entry::Message { envelope } => self.message(&envelope),
            Entry::Owed { run, miner, amount } => self.of(run)?.owes(miner, amount),
            Entry::Ruling { assignment, validator, upheld } => {
                self.with(assignment)?.ruling(assignment, validator, upheld)
            }
            Entry::Settled { assignment, settled, back } => self.settled(assignment, settled, back),
            Entry::Ended { run, how, pledged, paid, fees, left } => {
                self.of(run)?.ended(how, (pledged, paid, fees, left))
            }
            Entry::Leaked { run, assignment, paid } => self.of(run)?.leaked(assignment, paid),
            Entry::Progress { run, at } => self.of(run)?.progress(at),
        }
    }

    pub(super) fn of(&mut self, run: RunId) -> Result<&mut RunTold, RecordFault> {
        self.runs.get_mut(&run).ok_or(RecordFault::NoRun(run))
    }

    pub(super) fn with(&mut self, id: AssignmentId) -> Result<&mut RunTold, RecordFault> {
        self.runs.values_mut().find(|r| r.works.contains_key(&id)).ok_or(RecordFault::NoAssignment(id))
    }

    fn run(&mut self, envelope: &Envelope) -> Result<(), RecordFault> {
        let opened = envelope.open::<RunSpec>()?;
        let coordinator = opened.signer();
        let spec = opened.into_value();
        let wrong = |e: &dyn std::fmt::Display| RecordFault::Specification(e.to_string());
        spec.check().map_err(|e| wrong(&e))?;
        let id = spec.id().map_err(|e| wrong(&e))?;
        let told = RunTold {
            spec,
            coordinator,
            text: None,
            pledges: BTreeMap::new(),
            joined: BTreeMap::new(),
            refunds: BTreeMap::new(),
            payments: std::collections::BTreeSet::new(),
            checkpoints: Vec::new(),
            works: BTreeMap::new(),
            overruled: BTreeSet::new(),
            leaked: BTreeMap::new(),
            progress: None,
            owed: BTreeMap::new(),
            ended: None,
            left: Msat::ZERO,
            index: Index::default(),
            standings: super::standing::Standings::default(),
        };
        match self.runs.insert(id, told) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("the run {id}"))),
        }
    }

    fn settled(&mut self, id: AssignmentId, settled: Msat, back: Msat) -> Result<(), RecordFault> {
        let told = self.with(id)?;
        let work = told.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
        if work.settled.is_some() {
            return Err(RecordFault::Twice(format!("the end of the escrow of {id}")));
        }
        let all = settled.checked_add(back).unwrap_or(Msat::new(u64::MAX));
        sum("paid and returned for an assignment", all, work.assignment.reward)?;
        work.settled = Some((settled, back));
        told.escrow_ended(id);
        Ok(())
    }
}

impl Told {
    /// What was paid by verdicts that came too late for the record: the miner had the secrets from a validator itself.
    pub fn unrecorded(&self) -> Msat {
        let earned = total(self.earned().map(|l| l.amount));
        self.settled.and_then(|(settled, _)| settled.checked_sub(earned)).unwrap_or_default()
    }

    /// Lots whose secrets are in verdicts.
    fn earned(&self) -> impl Iterator<Item = &TermsOffered> {
        let released = |lot: &&TermsOffered| match self.verdicts.get(&lot.validator).map(|v| &v.outcome) {
            Some(Outcome::Earned { preimages, .. }) => preimages.iter().any(|p| p.hash() == lot.hash),
            _ => false,
        };
        self.lots.iter().filter(released)
    }
}

impl RunTold {
    fn pledge(&mut self, hash: PaymentHash, amount: Msat) -> Result<(), RecordFault> {
        // A run begins when its pledges are taken, and one that needs none takes none.
        let collecting = self.checkpoints.is_empty() && self.ended.is_none();
        if !collecting || self.spec.funding.goal == Msat::ZERO {
            return Err(RecordFault::Order("a pledge"));
        }
        match self.pledges.insert(hash, amount) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("the pledge {hash}"))),
        }
    }

    fn checkpoint(&mut self, stepped: Stepped) -> Result<(), RecordFault> {
        if self.ended.is_some() {
            return Err(RecordFault::Order("a checkpoint"));
        }
        let Some(last) = self.checkpoints.last() else {
            if stepped.round.0 != 0 || !stepped.accepted.is_empty() || self.text.is_none() {
                return Err(RecordFault::Order("the first checkpoint"));
            }
            self.checkpoints.push(stepped);
            return Ok(());
        };
        let round = stepped.round.0.checked_sub(1).filter(|r| *r >= last.round.0);
        let round = round.ok_or(RecordFault::Order("a checkpoint"))?;
        // Of a round that is tried again under its number, only the last attempt can be accepted.
        let of_round = || self.index.of_round(round).filter_map(|id| Some((id, self.works.get(id)?)));
        let unruled = |w: &Told| w.is_disputed() && w.rulings.len() != w.verdicts.len();
        if of_round().any(|(_, w)| unruled(w)) {
            return Err(RecordFault::Order(
                "a checkpoint, before verdicts that contradict each other are ruled on,",
            ));
        }
        let accepted: Vec<AssignmentId> =
            of_round().filter(|(_, w)| w.is_accepted()).map(|(id, _)| *id).collect();
        if accepted != stepped.accepted || accepted.len() < self.spec.rounds.min_accepted as usize {
            return Err(RecordFault::Accepted(stepped.round.0));
        }
        self.checkpoints.push(stepped);
        Ok(())
    }

    fn leaked(&mut self, id: AssignmentId, paid: Msat) -> Result<(), RecordFault> {
        if self.ended.is_some() || self.works.contains_key(&id) {
            return Err(RecordFault::Order("a payment for a task that never began"));
        }
        match self.leaked.insert(id, paid) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("the payment for {id}"))),
        }
    }

    fn ended(
        &mut self,
        how: FinalState,
        (pledged, paid, fees, left): (Msat, Msat, Msat, Msat),
    ) -> Result<(), RecordFault> {
        if self.ended.is_some() {
            return Err(RecordFault::Twice("the end of a run".to_owned()));
        }
        if self.works.values().any(|w| w.settled.is_none()) {
            return Err(RecordFault::Order("the end of a run, before that of an escrow"));
        }
        // A round counts when somebody is paid for it beforehand, so the last one left a trace.
        if how == FinalState::Finished
            && self.index.newest_round().map(|r| r + 1) != Some(self.spec.rounds.count)
        {
            return Err(RecordFault::Order("the end of a run, before its last round"));
        }
        sum("pledged", pledged, total(self.pledges.values().copied()))?;
        let settled = self.works.values().filter_map(|w| w.settled).map(|s| s.0);
        sum("paid to miners", paid, total(settled.chain(self.leaked.values().copied())))?;
        let verdicts = self.works.values().map(|w| w.verdicts.len() as u64).sum::<u64>();
        let owed = self.spec.reward.verdict_fee.checked_mul(verdicts).unwrap_or(Msat::new(u64::MAX));
        sum("paid for verdicts", fees, owed)?;
        self.all_due()?;
        if how == FinalState::Exhausted {
            let held_back = self.held_back();
            let spent = paid.checked_add(fees).and_then(|spent| spent.checked_add(held_back));
            let left = spent.and_then(|spent| pledged.checked_sub(spent)).unwrap_or_default();
            let pays = self.spec.smallest_round().is_some_and(|round| round <= left);
            if self.spec.funding.goal == Msat::ZERO || pays {
                return Err(RecordFault::Order("the end of a run, which could pay another round"));
            }
        }
        if let FinalState::Idle { at } = how
            && self.idle_at().is_none_or(|due| at < due)
        {
            return Err(RecordFault::Order("the end of a run, whose time without a round was not over,"));
        }
        if self.spec.funding.goal == Msat::ZERO || self.pledges.is_empty() {
            sum("left over", left, Msat::ZERO)?;
        } else {
            let owed = self.owed.values().copied();
            let spent = total(owed.chain([paid, fees, left]));
            // Less than a millisatoshi for each pledge is lost in dividing.
            let taken = self.taken();
            let lost = taken.checked_sub(spent).map_or(u64::MAX, Msat::msat);
            if lost > self.pledges.len() as u64 {
                return Err(RecordFault::Sum { what: "paid and left over", found: spent, wanted: taken });
            }
        }
        self.ended = Some(how);
        self.left = left;
        Ok(())
    }
}
