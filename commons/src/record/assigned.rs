//! Tasks: whether one is what the run calls for at this time.

use std::collections::{BTreeMap, BTreeSet};

use watershed_protocol::data::Split;
use watershed_protocol::market::{Assignment, RunSpec, TermsOffered, holders};
use watershed_protocol::{AssignmentId, PaymentHash, PublicKey};

use super::follow::{sum, total};
use super::{RecordFault, RunTold, Told};

fn wrong(what: &str) -> RecordFault {
    RecordFault::Assignment(what.to_owned())
}

impl RunTold {
    pub(super) fn assigned(
        &mut self,
        assignment: Assignment,
        lots: Vec<TermsOffered>,
        node: PublicKey,
    ) -> Result<(), RecordFault> {
        let id = assignment.id().map_err(|e| RecordFault::Assignment(e.to_string()))?;
        if self.ended.is_some() {
            return Err(RecordFault::Order("an assignment"));
        }
        if self.works.contains_key(&id) {
            return Err(RecordFault::Twice(format!("the assignment {id}")));
        }
        if self.checkpoints.last().map(|c| c.checkpoint) != Some(assignment.checkpoint) {
            return Err(wrong("it does not start from the newest checkpoint"));
        }
        if assignment.round.0 >= self.spec.rounds.count {
            return Err(wrong("the run has fewer rounds"));
        }
        if assignment.round.0 < self.round() {
            return Err(wrong("its round is over"));
        }
        of_the_run(&self.spec, &assignment)?;
        self.may_work(assignment.miner)?;
        if assignment.previous.is_some() && assignment.previous != self.last_accepted(assignment.miner) {
            return Err(wrong("it continues something else than the newest accepted work of its miner"));
        }
        // All that the miner did before is over: nobody has two tasks at once.
        let record = self.record_of(assignment.miner);
        let standing = self.as_it_stands(&assignment)?;
        self.lots(&assignment, record, &lots)?;
        if let Some(other) = self.index.overlapping(&assignment.window) {
            return Err(RecordFault::Overlap(other, id));
        }
        // Whoever sees what others have made must not have a task that is still open.
        if self.index.is_shown(&assignment) {
            return Err(RecordFault::Order("an assignment"));
        }
        self.index.assigned(id, &assignment, &lots);
        self.works_on(assignment.miner, id);
        let told = Told {
            assignment,
            lots,
            node,
            record,
            standing,
            commitment: None,
            reveal: None,
            openings: BTreeMap::new(),
            opened: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            rulings: BTreeMap::new(),
            receipts: BTreeMap::new(),
            settled: None,
        };
        self.works.insert(id, told);
        Ok(())
    }

    /// Whether lots are the whole reward, in tiers, under secrets of their own.
    fn lots(
        &self,
        assignment: &Assignment,
        record: (u32, u32),
        lots: &[TermsOffered],
    ) -> Result<(), RecordFault> {
        let (spec, holders) = (&self.spec, holders(&self.spec, &self.overruled, record, assignment));
        let mut tiers: BTreeMap<PublicKey, u32> = BTreeMap::new();
        for lot in lots {
            if !holders.contains(&lot.validator) {
                return Err(wrong("somebody else than the validators that were drawn holds a secret"));
            }
            let next = tiers.entry(lot.validator).or_default();
            if lot.tier != *next {
                return Err(wrong("its lots are not in the order of their tiers"));
            }
            *next += 1;
        }
        if tiers.values().any(|count| *count != spec.reward.tiers) {
            return Err(wrong("a validator has more or fewer lots than there are tiers"));
        }
        // A secret that is given out for one lot would release the other.
        let mut hashes: BTreeSet<PaymentHash> = BTreeSet::new();
        if !lots.iter().all(|l| hashes.insert(l.hash) && !self.index.has_hash(&l.hash)) {
            return Err(wrong("one secret releases two lots"));
        }
        sum("the lots of an assignment", total(lots.iter().map(|l| l.amount)), assignment.reward)
    }

    fn last_accepted(&self, miner: PublicKey) -> Option<AssignmentId> {
        let mut newest: Option<(u32, u64, AssignmentId)> = None;
        for id in self.index.of_miner(&miner) {
            let Some(work) = self.works.get(id) else { continue };
            let (round, first) = (work.assignment.round.0, work.assignment.window.first);
            // Tasks come in the order of their rounds.
            if newest.is_some_and(|(found, ..)| round < found) {
                break;
            }
            if work.is_accepted() && newest.is_none_or(|(_, others, _)| others < first) {
                newest = Some((round, first, *id));
            }
        }
        newest.map(|(.., id)| id)
    }
}

/// Text and size.
fn of_the_run(spec: &RunSpec, assignment: &Assignment) -> Result<(), RecordFault> {
    let w = &assignment.window;
    if w.shards != spec.data.shards
        || w.mixture != spec.data.mixture
        || w.seed != spec.seed
        || w.sequence_length != spec.data.sequence_length
        || w.max_epochs != spec.data.max_epochs
        || w.split != Split::Train
        || w.check().is_err()
    {
        return Err(wrong("its text is not the run's"));
    }
    let size = assignment.batch / spec.inner.batch.max(1);
    let possible = (1..=spec.rounds.max_size).contains(&size) && size.is_power_of_two();
    let whole = possible && size.checked_mul(spec.inner.batch) == Some(assignment.batch);
    if !whole || Some(w.sequences) != assignment.batch.checked_mul(spec.inner.steps) {
        return Err(wrong("its size is not one of the run's"));
    }
    Ok(())
}
