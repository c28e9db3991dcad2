//! What keeps a run from being trained or paid, as far as its numbers alone tell it. Whoever signs, opens, records or works for
//! a run asks here, so that no run is signed that a miner then refuses.

use super::assignment::{Reveal, StepClaim};
use super::message::Message;
use super::record::{Entry, Stepped};
use super::spec::{RunSpec, SpecError};
use crate::amount::Msat;
use crate::codec::{Wire as _, encode};
use crate::data::WindowSpec;
use crate::hash::Digest;
use crate::id::{AssignmentId, RoundNumber, RunId};

/// More than an entry and an envelope add to a message: signer, signature, lengths.
const ENVELOPE: usize = 256;

fn fault(field: &'static str, found: &dyn std::fmt::Display, wanted: impl Into<String>) -> SpecError {
    SpecError::Range { field, found: found.to_string(), wanted: wanted.into() }
}

impl RunSpec {
    /// Most lots of one reward: the HTLCs that BOLT 2 lets a channel carry in one direction.
    pub const MAX_LOTS: u64 = 483;

    /// Most blocks that a reward or a pledge can be held: the network carries locks of 2016, of which a node keeps 45 for itself.
    pub const MAX_WINDOW: u32 = 1_971;

    /// The most that an assignment pays: what the largest channel carries that a wallet opens unless it is told otherwise.
    pub const MAX_REWARD: Msat = Msat::new(7_984_000_000);

    /// Tokens of an assignment of one batch size: steps times batch times length of a sequence.
    pub fn tokens(&self) -> u64 {
        u64::from(self.inner.steps)
            .saturating_mul(u64::from(self.inner.batch))
            .saturating_mul(u64::from(self.data.sequence_length))
    }

    /// The most that an assignment of so many batches can cost: its reward, whether paid at once or held back, and a fee for the
    /// verdict of everybody.
    pub fn cost(&self, size: u32) -> Option<Msat> {
        let fees = self.reward.verdict_fee.checked_mul(self.committee.len() as u64)?;
        self.reward.whole(size)?.checked_add(fees)
    }

    /// The most that a round of the fewest miners can cost.
    pub fn smallest_round(&self) -> Option<Msat> {
        self.cost(1)?.checked_mul(u64::from(self.rounds.min_miners))
    }

    /// Numbers with which nobody could train, or nobody could be paid.
    pub(super) fn untrainable(&self) -> Vec<SpecError> {
        let mut faults = Vec::new();
        let mut check = |field, found: &dyn std::fmt::Display, ok: bool, wanted: &str| {
            if !ok {
                faults.push(fault(field, found, wanted));
            }
        };
        let (i, d) = (&self.inner, &self.data);
        let longest = WindowSpec::MAX_LENGTH.min(self.model.max_seq);
        let fits = (1..=longest).contains(&d.sequence_length);
        check(
            "data.sequence_length",
            &d.sequence_length,
            fits,
            &format!("1 to {longest}, and at most model.max_seq"),
        );
        check("data.max_epochs", &d.max_epochs, d.max_epochs > 0, "1 or more");
        let total = self.total_steps();
        let wanted = format!("at most {total}, the steps of all rounds (rounds.count times inner.steps)");
        check("inner.warmup_steps", &i.warmup_steps, i.warmup_steps <= total, &wanted);
        for (field, bits) in [("inner.precision", i.precision.0), ("inner.precision", i.precision.1)] {
            check(field, &bits, (8..=16).contains(&bits), "8 to 16 bits for each operand");
        }
        // What is no number is in no range.
        for (field, value, ok, wanted) in [
            ("inner.peak_lr", i.peak_lr, i.peak_lr > 0.0 && i.peak_lr.is_finite(), "above 0"),
            ("inner.floor", i.floor, (0.0..=1.0).contains(&i.floor), "0 to 1"),
            ("inner.beta1", i.beta1, (0.0..1.0).contains(&i.beta1), "at least 0 and below 1"),
            ("inner.beta2", i.beta2, (0.0..1.0).contains(&i.beta2), "at least 0 and below 1"),
            ("inner.eps", i.eps, i.eps > 0.0 && i.eps.is_finite(), "above 0"),
            ("inner.weight_decay", i.weight_decay, (0.0..=1.0).contains(&i.weight_decay), "0 to 1"),
            ("inner.clip", i.clip, i.clip > 0.0 && i.clip.is_finite(), "above 0"),
            (
                "compression.error_decay",
                self.compression.error_decay,
                (0.0..=1.0).contains(&self.compression.error_decay),
                "0 to 1",
            ),
            ("outer.rate", self.outer.rate, self.outer.rate > 0.0 && self.outer.rate.is_finite(), "above 0"),
        ] {
            check(field, &value, ok, wanted);
        }
        let sequences = u64::from(i.steps) * u64::from(i.batch) * u64::from(self.rounds.max_size);
        let most = u64::from(WindowSpec::MAX_SEQUENCES);
        let wanted = format!("such that it times inner.steps and rounds.max_size is at most {most}");
        check("inner.batch", &i.batch, sequences <= most, &wanted);
        faults.extend(self.unpayable());
        faults.extend(self.too_long_to_record());
        faults
    }

    fn unpayable(&self) -> Vec<SpecError> {
        let mut faults = Vec::new();
        let (r, members) = (&self.reward, self.committee.len() as u64);
        let lots = members.saturating_mul(u64::from(r.tiers));
        if lots > Self::MAX_LOTS {
            faults.push(fault(
                "reward.tiers",
                &r.tiers,
                format!("such that all validators' lots are at most {}", Self::MAX_LOTS),
            ));
        }
        // The smallest lot of each validator is one of 2^tiers - 1 equal steps, and has at least a millisatoshi.
        let least =
            1u64.checked_shl(r.tiers).unwrap_or(u64::MAX).saturating_sub(1).saturating_mul(members.max(1));
        // A newcomer is paid less at first, and later up to twice as much.
        let at_first = 10_000u64.saturating_sub(u64::from(r.held_back.get())).max(1);
        let least = least.saturating_mul(10_000).div_ceil(at_first);
        let later = if r.held_back.get() > 0 { 2 } else { 1 };
        let most = Self::MAX_REWARD.msat() / u64::from(self.rounds.max_size.max(1)) / later;
        if !(least..=most).contains(&r.per_assignment.msat()) {
            let wanted =
                format!("{least} to {most} msat: something for each lot, and no more than a channel carries");
            faults.push(fault("reward.per_assignment", &r.per_assignment.msat(), wanted));
        }
        let windows = [("reward.window", r.window), ("funding.window", self.funding.window)];
        for (field, blocks) in windows.into_iter().filter(|(_, blocks)| *blocks > Self::MAX_WINDOW) {
            let wanted = format!("at most {} blocks, which is what the network carries", Self::MAX_WINDOW);
            faults.push(fault(field, &blocks, wanted));
        }
        let goal = self.funding.goal;
        match self.smallest_round() {
            Some(round) if goal > Msat::ZERO && goal < round => {
                let wanted =
                    format!("0, or at least {} msat, what a round of rounds.min_miners costs", round.msat());
                faults.push(fault("funding.goal", &goal.msat(), wanted));
            }
            Some(_) => {}
            None => faults.push(fault(
                "reward.verdict_fee",
                &r.verdict_fee.msat(),
                "less: a round's cost cannot be counted",
            )),
        }
        faults
    }

    /// Entries of the record that would be longer than it takes.
    fn too_long_to_record(&self) -> Vec<SpecError> {
        let mut faults = Vec::new();
        let (none, assignment) = (Digest([0; 32]), AssignmentId::from_bytes([0; 32]));
        // What is out of range is told as that, and not counted.
        let (steps, miners) = (self.inner.steps.min(10_000), self.rounds.max_miners.min(4_096));
        let steps = vec![StepClaim { state: none, loss: u32::MAX }; steps as usize];
        let reveal = encode(&Message::Reveal(Reveal { assignment, blob: none, start: none, steps }));
        if reveal.is_ok_and(|bytes| bytes.len() + ENVELOPE > Entry::MAX_BYTES) {
            faults.push(fault(
                "inner.steps",
                &self.inner.steps,
                "fewer: what a miner shows of so many is too long for the record",
            ));
        }
        let checkpoint = Entry::Checkpoint(Stepped {
            run: RunId::from_bytes([0; 32]),
            round: RoundNumber(u32::MAX),
            checkpoint: none,
            blob: none,
            velocity: Some(none),
            accepted: vec![assignment; miners as usize],
            loss: u32::MAX,
        });
        if encode(&checkpoint).is_err() {
            faults.push(fault(
                "rounds.max_miners",
                &self.rounds.max_miners,
                "fewer: the list of so many is too long for the record",
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn faults(change: impl FnOnce(&mut RunSpec)) -> Vec<String> {
        let mut spec = RunSpec::smallest([SecretKey::from_entropy([1; 32]).unwrap().public()]);
        change(&mut spec);
        let named = |fault| match fault {
            SpecError::Range { field, .. } => field.to_owned(),
            SpecError::Twice(_) => "committee".to_owned(),
        };
        spec.faults().into_iter().map(named).collect()
    }

    /// What the first operator of a run met: the defaults of `run new`, then `steps = 15` and `count = 5`.
    #[test]
    fn a_warm_up_that_is_longer_than_the_run_is_named_before_anybody_signs() {
        let edited = |s: &mut RunSpec| (s.rounds.count, s.inner.steps, s.inner.warmup_steps) = (5, 15, 100);
        assert_eq!(faults(edited), ["inner.warmup_steps"]);
        assert_eq!(faults(|s| (s.rounds.count, s.inner.steps, s.inner.warmup_steps) = (5, 15, 75)), [""; 0]);
    }

    #[test]
    fn every_number_that_nobody_could_train_or_be_paid_with_is_named_and_all_of_them_at_once() {
        assert_eq!(faults(|_| {}), [""; 0]);
        assert_eq!(faults(|s| s.data.sequence_length = 9), ["data.sequence_length"]);
        assert_eq!(faults(|s| s.data.max_epochs = 0), ["data.max_epochs"]);
        assert_eq!(faults(|s| s.inner.precision = (7, 17)), ["inner.precision"; 2]);
        assert_eq!(
            faults(|s| (s.inner.peak_lr, s.inner.beta2) = (f32::NAN, 1.0)),
            ["inner.peak_lr", "inner.beta2"]
        );
        assert_eq!(faults(|s| s.compression.error_decay = 1.5), ["compression.error_decay"]);
        assert_eq!(faults(|s| s.outer.rate = f32::INFINITY), ["outer.rate"]);
        assert_eq!(faults(|s| s.reward.per_assignment = Msat::ZERO), ["reward.per_assignment"]);
        assert_eq!(faults(|s| s.reward.per_assignment = Msat::new(u64::MAX)), ["reward.per_assignment"]);
        let both = |s: &mut RunSpec| {
            (s.reward.per_assignment, s.reward.verdict_fee) = (Msat::new(u64::MAX), Msat::new(1));
        };
        assert_eq!(faults(both), ["reward.per_assignment", "reward.verdict_fee"]);
        assert_eq!(faults(|s| s.reward.window = 2_000), ["reward.window"]);
        assert_eq!(faults(|s| s.funding.goal = Msat::new(999)), ["funding.goal"]);
        assert_eq!(faults(|s| s.funding.goal = Msat::new(1_000)), [""; 0]);
        assert_eq!(faults(|s| s.inner.steps = 2_000), ["inner.steps"]);
        assert_eq!(faults(|s| s.rounds.max_miners = 2_100), ["rounds.max_miners"]);
    }

    #[test]
    fn money_that_is_taken_has_a_day_on_which_it_comes_back() {
        assert_eq!(faults(|s| s.funding.idle_seconds = 0), [""; 0]);
        let without = |s: &mut RunSpec| (s.funding.goal, s.funding.idle_seconds) = (Msat::new(1_000), 0);
        assert_eq!(faults(without), ["funding.idle_seconds"]);
        assert_eq!(faults(|s| s.funding.idle_seconds = 239), ["funding.idle_seconds"]);
        assert_eq!(faults(|s| s.funding.idle_seconds = 240), [""; 0]);
        assert_eq!(faults(|s| s.funding.idle_seconds = u32::MAX), ["funding.idle_seconds"]);
    }
}
