//! What the clock alone leads to.

use watershed_protocol::PublicKey;

use super::{Event, Phase, Run, Stage, WorkStage};

impl Run {
    /// The event that is due at `now`, if any. `live` are the miners that were heard of lately.
    pub fn due(&self, now: u64, live: &[PublicKey]) -> Option<Event> {
        if let Some(idle) = self.idles(now) {
            return Some(idle);
        }
        if self.phase != Phase::Running {
            return None;
        }
        let Some(round) = &self.round else {
            let enough = || self.able(live).len() >= self.spec.rounds.min_miners as usize;
            let ready = !self.paused && now >= self.not_before && self.can_pay_a_round() && enough();
            return ready.then(|| Event::Begin { live: live.to_vec() });
        };
        if round.stage == Stage::Stepping {
            return None;
        }
        if now >= round.until {
            return Some(Event::Deadline { round: round.number, until: round.until });
        }
        let half = round.until.saturating_sub(u64::from(self.spec.rounds.lock_seconds) / 2);
        let waits = |w: &super::Work| w.stage == WorkStage::Hashing && !w.hashes.is_empty();
        let late = round.stage == Stage::Locking && now >= half && self.current().any(|(_, w)| waits(w));
        late.then_some(Event::HashesLate { round: round.number })
    }
}
