//! How far miners have proved themselves, and what they are owed: what was held back of newcomers' rewards.

use std::collections::HashMap;

use watershed_protocol::market::{Assignment, Judged, RunSpec, Standing};
use watershed_protocol::{AssignmentId, Msat, PublicKey};

use super::follow::{sum, total};
use super::{RecordFault, RunTold, Told};

/// A miner's standing, and tasks of its that are not counted whole in it.
#[derive(Clone, Debug, Default)]
struct Account {
    standing: Standing,
    /// Submissions that were rejected.
    rejected: u32,
    /// Its newest task, until the round of that is over.
    newest: Option<AssignmentId>,
    /// Tasks that are over and whose escrows are not, with the rejected submissions before them.
    open: HashMap<AssignmentId, u32>,
    /// Offered with these of what it is owed.
    promised: Msat,
}

/// Of all miners.
#[derive(Clone, Debug, Default)]
pub(super) struct Standings(HashMap<PublicKey, Account>);

/// What a task would pay whoever has proved itself and is owed nothing.
fn whole(spec: &RunSpec, work: &Told) -> Msat {
    let size = work.assignment.batch / spec.inner.batch.max(1);
    spec.reward.whole(size).unwrap_or(work.assignment.reward)
}

/// What a task offers of what its miner is owed.
fn extra(spec: &RunSpec, work: &Told) -> Msat {
    work.assignment.reward.checked_sub(whole(spec, work)).unwrap_or_default()
}

impl Account {
    /// The escrow of a task that is over has ended.
    fn settled(&mut self, spec: &RunSpec, work: &Told, rejected: u32) {
        let Some((paid, _)) = work.settled else { return };
        // Whoever was found out since has lost what it was owed.
        if rejected == self.rejected {
            self.standing.settled(whole(spec, work), work.assignment.reward, paid, work.judged_as());
        }
    }
}

impl RunTold {
    /// Where a miner stands when all its tasks so far are over, and what was offered of what it is owed with tasks whose escrows
    /// have not ended.
    pub(super) fn stands(&mut self, miner: PublicKey) -> (Standing, Msat) {
        let account = self.standings.0.entry(miner).or_default();
        if let Some((id, work)) = account.newest.take().and_then(|id| Some((id, self.works.get(&id)?))) {
            let before = account.rejected;
            account.standing.judged(work.judged_as());
            account.rejected += u32::from(work.judged_as() == Judged::Rejected);
            if work.settled.is_some() {
                account.settled(&self.spec, work, before);
            } else {
                account.open.insert(id, before);
                account.promised = total([account.promised, extra(&self.spec, work)].into_iter());
            }
        }
        (account.standing, account.promised)
    }

    /// The escrow of a task has ended.
    pub(super) fn escrow_ended(&mut self, id: AssignmentId) {
        let Some(work) = self.works.get(&id) else { return };
        let Some(account) = self.standings.0.get_mut(&work.assignment.miner) else { return };
        // Of one that is not over it is counted later what became of it.
        let Some(before) = account.open.remove(&id) else { return };
        account.promised = account.promised.checked_sub(extra(&self.spec, work)).unwrap_or_default();
        account.settled(&self.spec, work, before);
    }

    pub(super) fn works_on(&mut self, miner: PublicKey, id: AssignmentId) {
        self.standings.0.entry(miner).or_default().newest = Some(id);
    }

    /// Whether a task is of a size, and pays, what its miner's standing calls for.
    pub(super) fn as_it_stands(&mut self, assignment: &Assignment) -> Result<Standing, RecordFault> {
        let wrong = |what: &str| Err(RecordFault::Assignment(what.to_owned()));
        let (standing, promised) = self.stands(assignment.miner);
        let size = assignment.batch / self.spec.inner.batch.max(1);
        if size > standing.most_size(&self.spec.rounds) {
            return wrong("its size is more than its miner has shown that it can do");
        }
        // How much of what is owed was added depends on what had come back at the time of the offer; nothing of it is lost.
        let possible = standing.rewards(&self.spec.reward, size, promised);
        if !possible.is_some_and(|(least, most)| (least..=most).contains(&assignment.reward)) {
            return wrong("its reward is not what the run pays a miner that stands so");
        }
        Ok(standing)
    }

    /// All that miners have earned and is held back.
    pub(super) fn held_back(&mut self) -> Msat {
        let miners: Vec<PublicKey> = self.standings.0.keys().copied().collect();
        total(miners.into_iter().map(|miner| self.stands(miner).0.owed))
    }

    /// Miners that are due something at the end have it in the record, and nobody else has.
    pub(super) fn all_due(&mut self) -> Result<(), RecordFault> {
        let miners: Vec<PublicKey> = self.standings.0.keys().copied().collect();
        for miner in miners {
            let due = self.stands(miner).0.due(&self.spec.reward);
            let told = self.owed.get(&miner).copied().unwrap_or_default();
            sum("owed to a miner at the end", told, due)?;
        }
        Ok(())
    }

    /// What a miner is paid after the end.
    pub(super) fn owes(&mut self, miner: PublicKey, amount: Msat) -> Result<(), RecordFault> {
        let open = self.works.values().any(|w| w.settled.is_none());
        if self.ended.is_some() || open || amount == Msat::ZERO {
            return Err(RecordFault::Order("what a miner is owed at the end"));
        }
        sum("owed to a miner at the end", amount, self.stands(miner).0.due(&self.spec.reward))?;
        match self.owed.insert(miner, amount) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("what {miner} is owed at the end"))),
        }
    }
}
