//! Whether a run gets on, and when it must end because it does not.

use super::{RecordFault, RunTold};

/// Seconds between two blocks, on average.
const BLOCK: u64 = 600;

/// What clocks may differ by, in seconds.
const HOUR: u64 = 3_600;

/// When a run got on last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// In seconds since 1970, as the coordinator says.
    at: u64,
    /// The newest round that anybody had a task of by then.
    round: Option<u32>,
}

impl RunTold {
    /// A run gets on when its money is there, and then with every round that somebody was paid for beforehand: a coordinator
    /// cannot put the day off on which it pays the rest back.
    pub(super) fn progress(&mut self, at: u64) -> Result<(), RecordFault> {
        let round = self.index.newest_round();
        let funded = self.spec.funding.goal == watershed_protocol::Msat::ZERO || !self.pledges.is_empty();
        let got_on = match self.progress {
            None => funded && round.is_none(),
            Some(before) => before.at <= at && before.round < round,
        };
        if self.ended.is_some() || !got_on {
            return Err(RecordFault::Order("that the run got on"));
        }
        self.progress = Some(Progress { at, round });
        Ok(())
    }

    /// When it ends by itself if no round ends before, in seconds since 1970; none if it never does.
    pub fn idle_at(&self) -> Option<u64> {
        self.spec.funding.idle_at(self.progress?.at)
    }

    /// Whether sponsors' money is kept beyond the day on which it should have come back. After that day a round may have been
    /// under way, and rewards locked; no longer than this.
    pub fn is_overdue(&self, now: u64) -> bool {
        let taken = !self.pledges.is_empty() && self.ended.is_none() && self.spec.funding.idle_seconds > 0;
        let longest =
            self.spec.rounds.stages().saturating_add(2 * BLOCK * u64::from(self.spec.reward.window));
        // Whoever took pledges says when, and not that it was later than it is.
        let to_come = self.progress.is_some_and(|p| p.at > now.saturating_add(HOUR));
        taken && (to_come || self.idle_at().is_none_or(|due| now > due.saturating_add(longest)))
    }
}
