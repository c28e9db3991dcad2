//! A run that does not get on ends by itself: money that was taken for it comes back on a day that its terms name.

use watershed_protocol::market::{Entry, FinalState};

use super::{Effect, Event, Phase, Refusal, Run, Stage};

impl Run {
    /// Its money is there, or a round ended that counts.
    pub(super) fn gets_on(&mut self, now: u64) -> Effect {
        // The record takes no time that goes back.
        let at = self.got_on.unwrap_or_default().max(now);
        self.got_on = Some(at);
        Effect::Record(Box::new(Entry::Progress { run: self.id, at }))
    }

    /// When it ends by itself if no round ends before, in seconds since 1970.
    pub fn idle_at(&self) -> Option<u64> {
        let waits = matches!(self.phase, Phase::Preparing | Phase::Running);
        self.spec.funding.idle_at(self.got_on.filter(|_| waits)?)
    }

    /// Whether nothing is under way that ends by itself: a round is, unless its outer step waits for the operator.
    fn is_at_rest(&self) -> bool {
        match &self.round {
            None => true,
            Some(round) => round.stage == Stage::Stepping && self.trouble.is_some(),
        }
    }

    /// The event with which it ends, if it is time.
    pub(super) fn idles(&self, now: u64) -> Option<Event> {
        let over = self.idle_at().is_some_and(|at| now >= at) && self.is_at_rest();
        Some(Event::Idle { since: self.got_on.filter(|_| over)? })
    }

    pub(super) fn idle(&mut self, since: u64, now: u64) -> Result<Vec<Effect>, Refusal> {
        if self.idles(now) != Some(Event::Idle { since }) {
            return Err(Refusal::Known);
        }
        let mut effects = self.end_round(false, now);
        if matches!(self.phase, Phase::Preparing | Phase::Running) {
            let how = match self.cancelled.clone() {
                Some(reason) => FinalState::Cancelled { reason },
                None => FinalState::Idle { at: now },
            };
            effects.extend(self.close(how));
        }
        Ok(effects)
    }
}
