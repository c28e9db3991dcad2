//! Whom a round takes, how much each is given, and what becomes of those that keep others waiting.

use std::cmp::Reverse;

use watershed_protocol::{AssignmentId, Msat, PublicKey};

use super::{Miner, Run, Stage, WorkStage};

/// What a rejected submission weighs; an accepted one makes up for 1.
const REJECTED: u32 = 8;

/// What a task weighs that others waited for in vain.
const MISSED: u32 = 2;

/// What a missed deadline adds to a miner's arrears; an accepted submission takes 1 off.
const MISS: u32 = 2;

/// Arrears up to which a miner is not benched: it may be killed once.
const PATIENCE: u32 = 2;

/// Longest time on the bench.
const LONGEST: u64 = 86_400;

/// The order of miners: smaller comes first.
pub(super) type Rank = (u32, Reverse<u32>, Msat, PublicKey);

impl Miner {
    /// What is not made up for yet comes first, then what was accepted, then the price: of equal record the cheaper one.
    /// A newcomer owes nothing and has nothing to show, so it comes after whoever has proved itself.
    pub(super) fn rank(&self, key: PublicKey) -> Rank {
        let (accepted, rejected) = self.record;
        let bad = rejected.saturating_mul(REJECTED).saturating_add(self.missed.saturating_mul(MISSED));
        (bad.saturating_sub(accepted), Reverse(accepted), self.min_price, key)
    }

    /// Tokens per second that it can be given work for: what it says, and no more than it has shown.
    fn speed(&self) -> u32 {
        self.delivered.unwrap_or(u32::MAX).min(self.tokens_per_second)
    }
}

impl Run {
    /// Tokens of a task of one batch size.
    fn tokens(&self) -> u64 {
        let spec = &self.spec;
        u64::from(spec.inner.steps)
            .saturating_mul(u64::from(spec.inner.batch))
            .saturating_mul(u64::from(spec.data.sequence_length))
    }

    /// How many batches at once a miner is given: as many as it does in half of the time. None if it is too slow, or wants
    /// more than is paid.
    pub(super) fn size_for(&self, miner: &Miner) -> Option<u32> {
        let (spec, tokens) = (&self.spec, self.tokens());
        let price = u128::from(spec.reward.per_assignment.msat()) * 1_000_000;
        if price < u128::from(miner.min_price.msat()) * u128::from(tokens) {
            return None;
        }
        let able = u64::from(miner.speed()).saturating_mul(u64::from(spec.rounds.train_seconds));
        if able < tokens {
            return None;
        }
        let mut size = 1;
        while size * 2 <= spec.rounds.max_size && able / 2 >= tokens.saturating_mul(u64::from(size) * 2) {
            size *= 2;
        }
        Some(size)
    }

    /// The speed that does so many tokens in so many seconds; at least what the smallest task needs, which was done.
    fn speed_of(&self, tokens: u64, seconds: u64) -> u32 {
        let needed = self.tokens().div_ceil(u64::from(self.spec.rounds.train_seconds).max(1));
        u32::try_from((tokens / seconds.max(1)).max(needed)).unwrap_or(u32::MAX)
    }

    /// A miner is bound to a result: so fast it was.
    pub(super) fn delivered(&mut self, id: AssignmentId, now: u64) {
        let Some(round) = &self.round else { return };
        let began = match round.stage {
            Stage::Training => round.until.saturating_sub(u64::from(self.spec.rounds.train_seconds)),
            _ => round.began,
        };
        let Some(assignment) = self.works.get(&id).map(|w| &w.assignment) else { return };
        let window = &assignment.window;
        let tokens = u64::from(window.sequences).saturating_mul(u64::from(window.sequence_length));
        let (miner, speed) = (assignment.miner, self.speed_of(tokens, now.saturating_sub(began)));
        if let Some(miner) = self.miners.get_mut(&miner) {
            miner.delivered = Some(speed);
        }
    }

    /// The time of a stage is up, and this task was waited for. If that was the miner's doing, others come before it for a
    /// while: twice as long each time.
    pub(super) fn missed(&mut self, id: AssignmentId, stage: Stage, now: u64) {
        let Some(work) = self.works.get(&id) else { return };
        let own = match stage {
            Stage::Locking => matches!(work.stage, WorkStage::Offered | WorkStage::Paid),
            Stage::Training | Stage::Revealing => true,
            Stage::Judging | Stage::Stepping => false,
        };
        if !own {
            return;
        }
        let (size, key) = (work.assignment.batch / self.spec.inner.batch.max(1), work.assignment.miner);
        // What gives half of this size, but not less than one.
        let tokens = self.tokens().saturating_mul(u64::from(size));
        let seconds = u64::from(self.spec.rounds.train_seconds).max(1);
        let slower = self.speed_of(tokens.div_ceil(seconds).saturating_mul(seconds), seconds);
        let r = &self.spec.rounds;
        let round = [r.lock_seconds, r.train_seconds, r.reveal_seconds, r.verdict_seconds];
        let round: u64 = round.into_iter().map(u64::from).sum();
        let Some(miner) = self.miners.get_mut(&key) else { return };
        miner.missed = miner.missed.saturating_add(1);
        miner.arrears = miner.arrears.saturating_add(MISS);
        if stage == Stage::Training {
            miner.delivered = Some(miner.delivered.unwrap_or(u32::MAX).min(slower));
        }
        if let Some(times) = miner.arrears.checked_sub(PATIENCE + 1) {
            let bench = round.saturating_mul(1 << (times / MISS).min(20)).min(LONGEST);
            miner.benched_until = now.saturating_add(bench);
        }
    }
}
