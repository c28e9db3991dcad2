//! What a run waits for, so that nobody has to guess why nothing happens.

use watershed_protocol::PublicKey;
use watershed_protocol::market::view::WaitView;

use super::{Phase, Run, Stage, WorkStage};

/// What keeps a run from getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Sponsors have not pledged the goal yet.
    Pledges,
    /// The first checkpoint is being made.
    Checkpoint,
    /// The operator paused it, or an outer step failed.
    Operator,
    /// Too few miners want its work.
    Miners {
        /// So many could be given work now.
        there: usize,
        /// So many make a round.
        needed: usize,
        /// So many more are there, and are too slow or want more than it pays.
        unfit: usize,
    },
    /// Miners without a channel that rewards could be locked in.
    Channels(Vec<PublicKey>),
    /// Validators that have to give payment hashes, or their verdicts.
    Validators(Vec<PublicKey>),
    /// A round of which nobody locked anything is tried again at this time, in seconds since 1970.
    Pause(u64),
    /// Miners whose rewards are still locked.
    Rewards(Vec<PublicKey>),
}

impl Wait {
    fn view(self) -> WaitView {
        let of = |what: &str, text: String, keys| WaitView { what: what.to_owned(), text, keys };
        let number = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
        match self {
            Self::Pledges => of("pledges", "pledges: its goal is not reached yet".to_owned(), Vec::new()),
            Self::Checkpoint => {
                of("checkpoint", "the coordinator, which makes the first checkpoint".to_owned(), Vec::new())
            }
            Self::Operator => of("operator", "the operator, who has to resume it".to_owned(), Vec::new()),
            Self::Miners { there, needed, unfit } => {
                let slow = match unfit {
                    0 => String::new(),
                    n => format!("; {} more would be too slow or want more than it pays", number(n, "miner")),
                };
                let verb = if there == 1 { "is" } else { "are" };
                let text = format!("miners: {there} {verb} there, and a round needs {needed}{slow}");
                of("miners", text, Vec::new())
            }
            Self::Channels(keys) => {
                let text =
                    format!("channels to {}, in which rewards are locked", number(keys.len(), "miner"));
                of("channels", text, keys)
            }
            Self::Validators(keys) => of("validators", number(keys.len(), "validator"), keys),
            Self::Pause(_) => {
                let text = "a while, because nobody locked a reward in the last attempt at this round";
                of("pause", text.to_owned(), Vec::new())
            }
            Self::Rewards(keys) => {
                let text = format!(
                    "{} whose rewards are still locked, and who must run again",
                    number(keys.len(), "miner")
                );
                of("rewards", text, keys)
            }
        }
    }
}

impl Run {
    /// What it waits for at `now`, of which `live` are the miners that were heard of lately. Nothing while miners train, or
    /// when it is over.
    pub fn waits(&self, now: u64, live: &[PublicKey]) -> Vec<Wait> {
        match &self.phase {
            Phase::Funding => vec![Wait::Pledges],
            Phase::Preparing => vec![Wait::Checkpoint],
            Phase::Running => match &self.round {
                Some(round) => self.round_waits(round.stage),
                None => self.next_round_waits(now, live),
            },
            Phase::Closing { .. } => Some(self.waits_for())
                .filter(|keys| !keys.is_empty())
                .map(Wait::Rewards)
                .into_iter()
                .collect(),
            Phase::Ended { .. } => Vec::new(),
        }
    }

    /// As it is shown.
    pub fn wait_views(&self, now: u64, live: &[PublicKey]) -> Vec<WaitView> {
        self.waits(now, live).into_iter().map(Wait::view).collect()
    }

    fn round_waits(&self, stage: Stage) -> Vec<Wait> {
        if self.trouble.is_some() {
            return vec![Wait::Operator];
        }
        let waited = self.current().filter(|(_, w)| self.is_waited_for(w)).map(|(_, w)| w);
        let silent: Vec<PublicKey> = match stage {
            Stage::Locking => waited
                .filter(|w| w.stage == WorkStage::Hashing)
                .flat_map(|w| w.holders.iter().filter(|key| !w.hashes.contains_key(*key)).copied())
                .collect(),
            Stage::Judging => waited
                .flat_map(|w| w.hashes.keys().filter(|key| !w.verdicts.contains_key(*key)).copied())
                .collect(),
            _ => Vec::new(),
        };
        let silent: std::collections::BTreeSet<_> = silent.into_iter().collect();
        if silent.is_empty() { Vec::new() } else { vec![Wait::Validators(silent.into_iter().collect())] }
    }

    fn next_round_waits(&self, now: u64, live: &[PublicKey]) -> Vec<Wait> {
        if self.paused {
            return vec![Wait::Operator];
        }
        if !self.can_pay_a_round() {
            // What is locked may come back; else the run would have ended.
            let open = self.works.values().filter(|w| w.escrow_open).map(|w| w.assignment.miner);
            let keys: std::collections::BTreeSet<_> = open.collect();
            return vec![Wait::Rewards(keys.into_iter().collect())];
        }
        let needed = self.spec.rounds.min_miners as usize;
        let able = self.able(live);
        if able.len() >= needed {
            return if now < self.not_before { vec![Wait::Pause(self.not_before)] } else { Vec::new() };
        }
        let wants = |key: &&PublicKey| self.miners.get(*key).is_some_and(|m| m.active);
        let fits = |key: &PublicKey| self.miners.get(key).is_some_and(|m| self.size_for(m).is_some());
        let (fit, unfit): (Vec<&PublicKey>, Vec<&PublicKey>) =
            live.iter().filter(wants).partition(|key| fits(key));
        let ready = |key: &PublicKey| self.miners.get(key).is_some_and(|m| m.channel == Some(Ok(())));
        let unable = fit.iter().map(|key| **key).filter(|key| !able.contains(key));
        // Whoever has a channel leaves too many rewards locked.
        let (holding, without): (Vec<PublicKey>, Vec<PublicKey>) = unable.partition(ready);
        let mut waits = Vec::new();
        if fit.len() < needed {
            waits.push(Wait::Miners { there: fit.len(), needed, unfit: unfit.len() });
        }
        if !without.is_empty() {
            waits.push(Wait::Channels(without));
        }
        if !holding.is_empty() {
            waits.push(Wait::Rewards(holding));
        }
        waits
    }
}
