//! Miners that come, change their node, and leave; and what becomes of the channels to them.

use watershed_payments::wallet::NodeAddress;
use watershed_protocol::PublicKey;
use watershed_protocol::market::Join;

use super::{Effect, Event, Miner, Phase, Refusal, Run, Work};

/// How often a key may have a channel opened in a run: each costs the operator fees.
const CHANNELS: u32 = 8;

/// Most miners of a run that are remembered.
const MINERS: usize = 100_000;

/// A key's joins and leaves that change something are written down, so a key may have so many seconds' worth of them at once.
const CHANGES: u64 = 300;

/// What each of them costs of that.
const CHANGE: u64 = 30;

/// How long the channel of a miner that left is kept, in seconds: it may only be started again.
pub const LEFT: u64 = 900;

/// How long the channel of a miner that is not heard of is kept, in seconds.
pub const AWAY: u64 = 86_400;

impl Miner {
    /// Counts a join or leave that changes something: a few may come at once, more only as time passes.
    fn change(&mut self, now: u64) -> Result<(), Refusal> {
        let changed = self.changed.max(now).saturating_add(CHANGE);
        if changed > now.saturating_add(CHANGES) {
            return Err(Refusal::TooOften);
        }
        self.changed = changed;
        Ok(())
    }
}

impl Run {
    pub(super) fn join(&mut self, signer: PublicKey, join: &Join, now: u64) -> Result<Vec<Effect>, Refusal> {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Ended { .. }) {
            return Err(Refusal::Phase { phase: "over", what: "joining" });
        }
        if join.node.len() > 300 || join.node.parse::<NodeAddress>().is_err() {
            return Err(Refusal::Range("the node address"));
        }
        if !self.may_join(&signer) {
            return Err(Refusal::FeeUnpaid(self.spec.funding.joining_fee));
        }
        let version = self.version;
        let mut effects = Vec::new();
        let known = self.miners.get(&signer);
        let forgotten = match known {
            None if self.miners.len() >= MINERS => {
                Some(self.forgettable().ok_or(Refusal::Range("the number of miners"))?)
            }
            _ => None,
        };
        let same = known.filter(|m| m.node == join.node);
        if same.is_none() {
            // The record names the node whose key signs the receipts: it must be the one that is paid.
            let paying = |w: &&Work| w.assignment.miner == signer && w.stage.is_being_paid();
            if let Some(work) = self.current().map(|(_, w)| w).find(paying) {
                return Err(super::work::wrong(work, "changing the node"));
            }
        }
        let (channel, asked) = match same {
            // The answer is there, or on its way.
            Some(m) if m.asked != 0 && !matches!(m.channel, Some(Err(_))) => (m.channel.clone(), m.asked),
            _ => (None, version),
        };
        // What failed is tried again as often as one likes: it opened nothing.
        let tried = same.is_some_and(|m| m.asked != 0);
        let channels = known.map_or(0, |m| m.channels) + u32::from(asked == version && !tried);
        if channels > CHANNELS {
            return Err(Refusal::Range("the number of channels for one miner"));
        }
        let mut miner = Miner {
            node: join.node.clone(),
            tokens_per_second: join.tokens_per_second,
            min_price: join.min_per_million_tokens,
            active: true,
            channel,
            asked,
            last: known.and_then(|m| m.last).filter(|_| !join.lost_state),
            record: known.map_or((0, 0), |m| m.record),
            standing: known.map(|m| m.standing).unwrap_or_default(),
            joined: known.map_or(self.checkpoints.len() as u64, |m| m.joined),
            changed: known.map_or(0, |m| m.changed),
            missed: known.map_or(0, |m| m.missed),
            unlocked: known.map_or(0, |m| m.unlocked),
            arrears: known.map_or(0, |m| m.arrears),
            benched_until: known.map_or(0, |m| m.benched_until),
            delivered: known.and_then(|m| m.delivered),
            channels,
            heard: now,
            works: known.map(|m| m.works.clone()).unwrap_or_default(),
        };
        if known.is_some_and(|m| Miner { heard: now, ..m.clone() } == miner) {
            return Err(Refusal::Known);
        }
        miner.change(now)?;
        if let Some(old) = known.filter(|m| same.is_none() && m.asked != 0) {
            effects.push(Effect::Part { miner: signer, node: old.node.clone(), version });
        }
        if let Some(old) = forgotten.and_then(|key| Some((key, self.miners.remove(&key)?)))
            && old.1.asked != 0
        {
            effects.push(Effect::Part { miner: old.0, node: old.1.node, version });
        }
        self.miners.insert(signer, miner);
        if asked == version {
            effects.push(Effect::Channel { miner: signer, version });
        }
        Ok(effects)
    }

    pub(super) fn leave(&mut self, signer: PublicKey, now: u64) -> Result<Vec<Effect>, Refusal> {
        let miner = self.miners.get_mut(&signer).ok_or(Refusal::NotJoined(signer))?;
        if !miner.active {
            return Err(Refusal::Known);
        }
        miner.change(now)?;
        (miner.active, miner.heard) = (false, now);
        Ok(Vec::new())
    }

    /// The miner that loses least by being forgotten, so that a run is never closed to newcomers: one that paid nothing to join,
    /// never had a task and owes or is owed nothing; who left before the others, then who was not heard of for longest. If it
    /// is there all the same, it joins again.
    fn forgettable(&self) -> Option<PublicKey> {
        let nothing = |(key, m): &(&PublicKey, &Miner)| {
            m.works.is_empty()
                && m.record == (0, 0)
                && (m.missed, m.unlocked) == (0, 0)
                && !self.purse.joined.contains_key(key)
        };
        let least = self.miners.iter().filter(nothing).min_by_key(|(key, m)| (m.active, m.heard, **key));
        least.map(|(key, _)| *key)
    }

    /// The miner whose channel is kept for nothing, if any: it left `left` seconds ago, or it was not heard of for `away`.
    /// `live` are those that were heard of lately.
    pub fn gone(&self, now: u64, live: &[PublicKey], left: u64, away: u64) -> Option<Event> {
        let gone = |(key, m): &(&PublicKey, &Miner)| {
            let since = if m.active { away } else { left };
            let silent = !(m.active && live.contains(key)) && m.heard.saturating_add(since) <= now;
            silent && m.asked != 0 && !self.is_owed(key)
        };
        self.miners.iter().find(gone).map(|(key, _)| Event::Away { miner: *key })
    }

    /// Whether money is locked for a miner, or a task of it is under way.
    fn is_owed(&self, key: &PublicKey) -> bool {
        self.works_of(key).any(|(_, w)| w.escrow_open || !w.judged)
    }

    pub(super) fn away(&mut self, key: PublicKey) -> Result<Vec<Effect>, Refusal> {
        let (owed, version) = (self.is_owed(&key), self.version);
        let miner = self.miners.get_mut(&key).filter(|m| m.asked != 0 && !owed).ok_or(Refusal::Known)?;
        (miner.active, miner.channel, miner.asked) = (false, None, 0);
        Ok(vec![Effect::Part { miner: key, node: miner.node.clone(), version }])
    }
}
