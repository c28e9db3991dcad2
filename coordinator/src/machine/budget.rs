//! What a run can still pay, and when it cannot pay another round.

use watershed_protocol::Msat;
use watershed_protocol::market::FinalState;

use super::round::add;
use super::{Effect, Phase, Run};

/// Wait after an attempt at a round that did not count; doubles with each.
const PAUSE: u64 = 5;

/// Longest such wait.
const LONGEST: u64 = 3_600;

impl Run {
    /// What miners have earned and is held back.
    pub fn owed(&self) -> Msat {
        let mut owed = Msat::ZERO;
        self.miners.values().for_each(|m| add(&mut owed, m.standing.owed));
        owed
    }

    /// What miners are paid on request when the run is over, all together.
    pub fn still_due(&self) -> Msat {
        let mut due = Msat::ZERO;
        self.due_to_miners().iter().for_each(|(_, amount)| add(&mut due, *amount));
        due
    }

    /// What was pledged, less what is paid, owed and locked. None if the operator pays: then nobody knows.
    pub fn budget(&self) -> Option<Msat> {
        if self.spec.funding.goal == Msat::ZERO {
            return None;
        }
        // Of what is locked the part that is held back may become owed.
        let open = self.works.values().filter(|w| w.escrow_open);
        let open = open.map(|w| w.assignment.reward.max(self.whole(w).unwrap_or_default()));
        let spent = [self.totals.paid, self.totals.fees, self.owed()].into_iter().chain(open);
        Some(spent.fold(self.totals.pledged, |left, s| left.checked_sub(s).unwrap_or_default()))
    }

    /// Whether the budget pays a round of the fewest miners.
    pub fn can_pay_a_round(&self) -> bool {
        let Some(budget) = self.budget() else { return true };
        self.spec.smallest_round().is_some_and(|round| round <= budget)
    }

    /// Takes a task out of a budget that is to pay so many `others` besides; smaller if it has to be. None if it does not
    /// pay even that.
    pub(super) fn pays(&self, budget: &mut Option<Msat>, size: u32, others: usize) -> Option<u32> {
        let Some(left) = budget else { return Some(size) };
        let kept = self.spec.cost(1)?.checked_mul(others as u64)?;
        let sizes = std::iter::successors(Some(size), |size| Some(size / 2).filter(|s| *s > 0));
        let fits = |size| Some((size, left.checked_sub(self.spec.cost(size)?).filter(|rest| *rest >= kept)?));
        let (size, rest) = sizes.into_iter().find_map(fits)?;
        *left = rest;
        Some(size)
    }

    /// Ends a run that cannot pay another round, when nothing can come back any more.
    pub(super) fn close_if_exhausted(&mut self) -> Vec<Effect> {
        let waits = self.phase == Phase::Running && self.round.is_none();
        if !waits || self.can_pay_a_round() || self.works.values().any(|w| w.escrow_open) {
            return Vec::new();
        }
        self.close(FinalState::Exhausted)
    }

    /// An attempt at a round did not count: the next one is not at once, or a market that cannot lock anything would do
    /// nothing else.
    pub(super) fn back_off(&mut self, now: u64) {
        let wait = PAUSE.saturating_mul(1 << self.failed.min(20)).min(LONGEST);
        self.failed = self.failed.saturating_add(1);
        self.not_before = now.saturating_add(wait);
    }
}
