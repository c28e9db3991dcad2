//! How much a miner is given, and what becomes of those that keep others waiting.

use watershed_protocol::{AssignmentId, PublicKey};

use super::{Miner, Run, Stage, WorkStage};

/// What a rejected submission weighs; an accepted one makes up for 1.
const REJECTED: u32 = 8;

/// What a task weighs that others waited for in vain.
const MISSED: u32 = 2;

/// What keeping others waiting adds to a miner's arrears; an accepted submission takes 1 off.
const MISS: u32 = 2;

/// How often a task counts as missed that was given up when its reward was locked.
pub(super) const LOCKED_IN_VAIN: u32 = 2;

/// How often a rejected submission counts like a missed task: a cheat that is found out has to wait before it tries again.
pub(super) const FOUND_OUT: u32 = 2;

/// Arrears up to which a miner is not benched: it may be killed once.
const PATIENCE: u32 = 2;

/// Longest time on the bench.
const LONGEST: u64 = 86_400;

impl Miner {
    /// What is not made up for yet. A reward that could not be locked counts little: whose fault it was nobody can tell.
    pub(super) fn outstanding(&self) -> u32 {
        let (accepted, rejected) = self.record;
        let bad = rejected.saturating_mul(REJECTED).saturating_add(self.missed.saturating_mul(MISSED));
        bad.saturating_add(self.unlocked).saturating_sub(accepted)
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
        let (mut size, most) = (1, miner.standing.most_size(&spec.rounds));
        while size * 2 <= most && able / 2 >= tokens.saturating_mul(u64::from(size) * 2) {
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
        self.kept_waiting(key, 1, now);
        if let Some(miner) = self.miners.get_mut(&key).filter(|_| stage == Stage::Training) {
            miner.delivered = Some(miner.delivered.unwrap_or(u32::MAX).min(slower));
        }
    }

    /// A miner takes a task back that it was given. Others have waited for it as for one that lets a deadline pass; and if its
    /// reward was locked, that money was of no use to anybody meanwhile.
    pub(super) fn took_back(&mut self, id: AssignmentId, now: u64) {
        let Some(work) = self.works.get(&id) else { return };
        let (key, times) = (work.assignment.miner, if work.escrow_open { LOCKED_IN_VAIN } else { 1 });
        self.kept_waiting(key, times, now);
    }

    /// A reward could not be locked.
    pub(super) fn not_locked(&mut self, id: AssignmentId) {
        let key = self.works.get(&id).map(|w| w.assignment.miner);
        if let Some(miner) = key.and_then(|key| self.miners.get_mut(&key)) {
            miner.unlocked = miner.unlocked.saturating_add(1);
        }
    }

    /// Counts what a miner let others wait for in vain.
    pub(super) fn kept_waiting(&mut self, key: PublicKey, times: u32, now: u64) {
        if let Some(miner) = self.miners.get_mut(&key) {
            miner.missed = miner.missed.saturating_add(times);
        }
        self.in_arrears(key, times, now);
    }

    /// Adds to a miner's arrears; beyond some number it is benched, twice as long each time.
    pub(super) fn in_arrears(&mut self, key: PublicKey, times: u32, now: u64) {
        let r = &self.spec.rounds;
        let round = [r.lock_seconds, r.train_seconds, r.reveal_seconds, r.verdict_seconds];
        let round: u64 = round.into_iter().map(u64::from).sum();
        let Some(miner) = self.miners.get_mut(&key) else { return };
        miner.arrears = miner.arrears.saturating_add(MISS.saturating_mul(times));
        if let Some(times) = miner.arrears.checked_sub(PATIENCE + 1) {
            let bench = round.saturating_mul(1 << (times / MISS).min(20)).min(LONGEST);
            miner.benched_until = now.saturating_add(bench);
        }
    }
}
