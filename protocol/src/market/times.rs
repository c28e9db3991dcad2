//! Until when what is done while submissions are judged.

use super::spec::RoundsSpec;

/// The parts of the time for verdicts, in seconds since 1970. Asking and answering end well before verdicts do, so that nobody
/// can be said to have kept silent who was not asked in time, and nobody sees too late that another was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgingTimes {
    /// Validators ask before this.
    pub ask: u64,
    /// Miners answer before this; from then on what is not answered is a fault.
    pub answer: u64,
    /// From then on secrets are given out even if other validators have not spoken.
    pub release: u64,
    /// Verdicts are taken until this.
    pub until: u64,
}

impl JudgingTimes {
    /// Of a stage that ends at `until`.
    pub fn of(rounds: &RoundsSpec, until: u64) -> Self {
        let seconds = u64::from(rounds.verdict_seconds);
        let after = |part: u64| until.saturating_sub(seconds) + part;
        Self {
            ask: after(seconds / 3),
            answer: after(seconds * 2 / 3),
            release: after(seconds * 5 / 6),
            until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_time() {
        let rounds = |verdict_seconds| RoundsSpec {
            count: 1,
            min_miners: 1,
            max_miners: 1,
            newcomers: crate::BasisPoints::ZERO,
            max_size: 1,
            min_accepted: 1,
            lock_seconds: 1,
            train_seconds: 1,
            reveal_seconds: 1,
            verdict_seconds,
        };
        let times = JudgingTimes::of(&rounds(600), 10_600);
        assert_eq!(times, JudgingTimes { ask: 10_200, answer: 10_400, release: 10_500, until: 10_600 });
        for seconds in 6..100 {
            let t = JudgingTimes::of(&rounds(seconds), 1_000);
            let begun = 1_000 - u64::from(seconds);
            assert!(
                begun < t.ask && t.ask < t.answer && t.answer < t.release && t.release < t.until,
                "{t:?}"
            );
        }
    }
}
