//! How far a miner has proved itself in a run, and what of its pay is held back until it has. Coordinator, record, miner and
//! audit all ask here.

use serde::{Deserialize, Serialize};

use super::dispute::{Spoken, is_sound, score_of};
use super::spec::{RewardSpec, RoundsSpec};
use crate::amount::Msat;
use crate::hash::{Digest, Domain, TaggedHasher};
use crate::id::{RoundNumber, RunId};
use crate::key::PublicKey;

/// What became of a task when its round was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Judged {
    /// Its submission is sound and lowers the loss.
    Accepted,
    /// Somebody found a fault in it, and that holds.
    Rejected,
    /// Neither: it was not shown, not judged, or lowers no loss.
    Neither,
}

/// Where a miner stands in a run. A function of what the record says of its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Submissions that were accepted since the last one that was rejected.
    pub good: u32,
    /// Earned and held back, as far as it is not paid yet.
    pub owed: Msat,
}

impl Judged {
    /// What verdicts come to that are not disputed, or were ruled on.
    pub fn of<'a>(verdicts: impl Iterator<Item = Spoken<'a>> + Clone) -> Self {
        match (verdicts.clone().next().is_some(), is_sound(verdicts.clone()), score_of(verdicts)) {
            (true, true, Some(score)) if score.helps() => Self::Accepted,
            (true, false, _) => Self::Rejected,
            _ => Self::Neither,
        }
    }
}

impl Standing {
    /// Whether it has proved itself: nothing more is held back, and what was is paid with its next tasks.
    pub fn is_proven(&self, reward: &RewardSpec) -> bool {
        self.good >= reward.proven_after
    }

    /// Largest multiple of `inner.batch` that it is given: twice as much after each accepted submission. A new key's word
    /// about its speed is worth one.
    pub fn most_size(&self, rounds: &RoundsSpec) -> u32 {
        1u32.checked_shl(self.good).map_or(rounds.max_size, |size| size.min(rounds.max_size))
    }

    /// The least and the most that its next task may offer: less than the whole until it has proved itself, then the whole; and up
    /// to as much again of what it is owed, but for what is `promised` already: offered with tasks whose lots have not ended. None
    /// beyond what can be counted.
    pub fn rewards(&self, reward: &RewardSpec, size: u32, promised: Msat) -> Option<(Msat, Msat)> {
        if !self.is_proven(reward) {
            let least = reward.least(size)?;
            return Some((least, least));
        }
        let whole = reward.whole(size)?;
        let free = self.owed.checked_sub(promised).unwrap_or_default();
        Some((whole, whole.checked_add(free.min(whole))?))
    }

    /// A task of its is over. Of what is found wrong nothing is paid, and of what was held back before nothing either: it has
    /// to prove itself again.
    pub fn judged(&mut self, judged: Judged) {
        match judged {
            Judged::Accepted => self.good = self.good.saturating_add(1),
            Judged::Rejected => *self = Self::default(),
            Judged::Neither => {}
        }
    }

    /// All lots of a task that is over have ended, and nothing was rejected since it was given out: of a submission that was
    /// accepted the held back part is owed in the share that was paid; of what was owed before, that share is paid.
    pub fn settled(&mut self, whole: Msat, offered: Msat, paid: Msat, judged: Judged) {
        let part = |of: Msat, up: bool| {
            let (product, all) = (
                u128::from(of.msat()) * u128::from(paid.min(offered).msat()),
                u128::from(offered.msat().max(1)),
            );
            let part = if up { product.div_ceil(all) } else { product / all };
            Msat::new(u64::try_from(part).unwrap_or(u64::MAX))
        };
        if let Some(extra) = offered.checked_sub(whole) {
            self.owed = self.owed.checked_sub(part(extra, true)).unwrap_or_default();
        } else if judged == Judged::Accepted {
            let held_back = whole.checked_sub(offered).unwrap_or_default();
            self.owed = self.owed.checked_add(part(held_back, false)).unwrap_or(self.owed);
        }
    }

    /// What it is paid when the run is over. Whoever has not proved itself is paid nothing more.
    pub fn due(&self, reward: &RewardSpec) -> Msat {
        if self.is_proven(reward) { self.owed } else { Msat::ZERO }
    }
}

impl RewardSpec {
    /// What a task of so many batches pays to whoever has proved itself.
    pub fn whole(&self, size: u32) -> Option<Msat> {
        self.per_assignment.checked_mul(u64::from(size))
    }

    /// What a task of so many batches pays to a newcomer at first.
    pub fn least(&self, size: u32) -> Option<Msat> {
        let whole = self.whole(size)?;
        let held_back = u128::from(whole.msat()) * u128::from(self.held_back.get()) / 10_000;
        whole.checked_sub(Msat::new(u64::try_from(held_back).ok()?))
    }

    /// The most that a task of so many batches can pay, with what was held back before.
    pub fn most(&self, size: u32) -> Option<Msat> {
        let whole = self.whole(size)?;
        if self.held_back.get() == 0 { Some(whole) } else { whole.checked_mul(2) }
    }
}

impl RoundsSpec {
    /// Places of a round that are kept for miners which have not proved themselves, as long as there are any: one at least
    /// where there are two.
    pub fn newcomer_places(&self) -> usize {
        let share = u64::from(self.max_miners) * u64::from(self.newcomers.get()) / 10_000;
        let least = u64::from(self.max_miners >= 2);
        usize::try_from(share.max(least)).unwrap_or(usize::MAX)
    }
}

/// A miner's lot in a round, by which places are given to miners that nothing else tells apart: the smallest come first. Nobody
/// knows it before the checkpoint, so it is fair to whoever had joined by then.
pub fn lot_of(run: RunId, round: RoundNumber, checkpoint: Digest, miner: PublicKey) -> Digest {
    let mut hasher = TaggedHasher::new(Domain::Places);
    hasher.update(&run.to_bytes());
    hasher.update(&round.0.to_le_bytes());
    hasher.update(&checkpoint.to_bytes());
    hasher.update(&miner.to_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BasisPoints;
    use crate::market::RunSpec;

    fn reward(held_back: u16, proven_after: u32) -> RewardSpec {
        let mut reward = RunSpec::smallest([]).reward;
        reward.per_assignment = Msat::new(1_001);
        reward.held_back = BasisPoints::try_from(held_back).unwrap();
        reward.proven_after = proven_after;
        reward
    }

    /// Plays tasks that are paid in shares of a hundred; what is paid in all, and where the miner stands then.
    fn play(reward: &RewardSpec, shares: &[(u64, Judged)]) -> (u64, Standing) {
        let (mut standing, mut all) = (Standing::default(), 0);
        for (share, judged) in shares {
            let (least, offered) = standing.rewards(reward, 1, Msat::ZERO).unwrap();
            assert!(least <= offered && least >= reward.least(1).unwrap());
            assert!(offered <= reward.most(1).unwrap());
            let paid = Msat::new(offered.msat() * share / 100);
            all += paid.msat();
            standing.judged(*judged);
            standing.settled(reward.whole(1).unwrap(), offered, paid, *judged);
        }
        (all, standing)
    }

    #[test]
    fn what_is_held_back_is_paid_to_the_last_millisatoshi_once_a_miner_has_proved_itself() {
        let reward = reward(5_000, 4);
        let good = (100, Judged::Accepted);
        let (paid, standing) = play(&reward, &[good; 4]);
        assert_eq!((paid, standing), (4 * 501, Standing { good: 4, owed: Msat::new(2_000) }));
        assert_eq!(standing.due(&reward), Msat::new(2_000));
        let (paid, standing) = play(&reward, &[good; 6]);
        assert_eq!((paid, standing.owed), (6 * 1_001, Msat::ZERO), "two more tasks pay it");
        assert_eq!(play(&reward, &[good; 20]).0, 20 * 1_001);
        // A task that pays a share pays that share of it.
        let half = (50, Judged::Accepted);
        let shares = [good, good, good, good, half, good, good, good];
        let (paid, standing) = play(&reward, &shares);
        assert!((7 * 1_001 + 499..=7 * 1_001 + 500).contains(&paid) && standing.owed == Msat::ZERO, "{paid}");
    }

    #[test]
    fn whoever_is_found_out_is_paid_nothing_of_what_was_held_back_and_begins_again() {
        let reward = reward(5_000, 2);
        let (good, bad) = ((100, Judged::Accepted), (0, Judged::Rejected));
        assert_eq!(play(&reward, &[good, bad]), (501, Standing::default()));
        // Also whoever had proved itself before: a name is lost at once.
        assert_eq!(play(&reward, &[good, good, bad]).1, Standing::default());
        let (paid, standing) = play(&reward, &[good, bad, good, good, good]);
        assert_eq!((paid, standing.owed), (501 + 2 * 501 + 2 * 1_001 - 1, Msat::ZERO));
        // What a validator gives away for work that is not accepted leads to nothing.
        let (_, standing) = play(&reward, &[(100, Judged::Neither)]);
        assert_eq!(standing, Standing::default());
        // And whoever was paid what it was owed without a verdict is not owed it still.
        let (_, standing) = play(&reward, &[good, good, (100, Judged::Neither)]);
        assert_eq!(standing.owed, Msat::ZERO);
        assert_eq!(Standing { good: 1, owed: Msat::new(5) }.due(&reward), Msat::ZERO);
    }

    #[test]
    fn nothing_is_held_back_where_the_run_says_so_and_nothing_overflows() {
        let none = reward(0, 4);
        assert_eq!(none.least(1), none.most(1));
        assert_eq!(
            play(&none, &[(100, Judged::Accepted); 9]),
            (9 * 1_001, Standing { good: 9, owed: Msat::ZERO })
        );
        let mut huge = reward(9_000, 1);
        huge.per_assignment = Msat::new(u64::MAX);
        let standing = Standing { good: 1, owed: Msat::new(u64::MAX) };
        assert_eq!(standing.rewards(&huge, 1, Msat::ZERO), None);
        let all = Msat::new(u64::MAX);
        assert_eq!(standing.rewards(&huge, 1, all), Some((all, all)), "it is promised already");
        assert!(huge.least(1).is_some() && huge.whole(2).is_none());
        let mut most = standing;
        most.settled(Msat::new(u64::MAX), Msat::new(1), Msat::new(1), Judged::Accepted);
        assert_eq!(most.owed, Msat::new(u64::MAX));
    }

    #[test]
    fn a_new_key_is_given_one_batch_and_twice_as_much_each_time() {
        let mut rounds = RunSpec::smallest([]).rounds;
        rounds.max_size = 8;
        let sizes = [0, 1, 2, 3, 40].map(|good| Standing { good, owed: Msat::ZERO }.most_size(&rounds));
        assert_eq!(sizes, [1, 2, 4, 8, 8]);
    }

    #[test]
    fn places_are_kept_for_newcomers_where_there_are_two() {
        let mut rounds = RunSpec::smallest([]).rounds;
        for (miners, share, places) in
            [(1, 2_500, 0), (2, 0, 1), (2, 2_500, 1), (256, 2_500, 64), (8, 10_000, 8)]
        {
            rounds.max_miners = miners;
            rounds.newcomers = BasisPoints::try_from(share).unwrap();
            assert_eq!(rounds.newcomer_places(), places, "{miners} at {share}");
        }
    }
}
