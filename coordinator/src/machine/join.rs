//! Miners that come, change their node, and leave; and what becomes of the channels to them.

use watershed_payments::wallet::NodeAddress;
use watershed_protocol::PublicKey;
use watershed_protocol::market::Join;

use super::{Effect, Event, Miner, Phase, Refusal, Run, Work};

/// How often a key may have a channel opened in a run: each costs the operator fees.
const CHANNELS: u32 = 8;

/// How long the channel of a miner that left is kept, in seconds: it may only be started again.
pub const LEFT: u64 = 900;

/// How long the channel of a miner that is not heard of is kept, in seconds.
pub const AWAY: u64 = 86_400;

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
        let known = self.miners.get(&signer);
        if known.is_none() && self.miners.len() >= 100_000 {
            return Err(Refusal::Range("the number of miners"));
        }
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
        let miner = Miner {
            node: join.node.clone(),
            tokens_per_second: join.tokens_per_second,
            min_price: join.min_per_million_tokens,
            active: true,
            channel,
            asked,
            last: known.and_then(|m| m.last).filter(|_| !join.lost_state),
            record: known.map_or((0, 0), |m| m.record),
            missed: known.map_or(0, |m| m.missed),
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
        let mut effects = Vec::new();
        if let Some(old) = known.filter(|m| same.is_none() && m.asked != 0) {
            effects.push(Effect::Part { miner: signer, node: old.node.clone(), version });
        }
        self.miners.insert(signer, miner);
        if asked == version {
            effects.push(Effect::Channel { miner: signer, version });
        }
        Ok(effects)
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
