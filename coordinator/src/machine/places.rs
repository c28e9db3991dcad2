//! Who has a place in a round: whom it may ask, and in which order.

use std::collections::BTreeMap;

use watershed_protocol::market::lot_of;
use watershed_protocol::{Digest, PublicKey, RoundNumber};

use super::{Miner, Run, WorkStage};

/// Rewards that a key, or all keys of one Lightning node, leave locked after their tasks are over before they are given more.
/// Whoever does its part lets go of a reward or claims it within seconds.
const LEFT_LOCKED: usize = 3;

/// The same for all keys whose nodes listen at one address, of all rounds but the newest: where many miners are at home, what that
/// one did not pay is on its way back.
const LEFT_LOCKED_AT: usize = 16;

/// Order of miners that want a place: smaller comes first.
type Rank = (bool, u32, bool, bool, Digest);

/// Where a node listens, without the port; none for this machine, where nobody else is.
fn address(node: &str) -> Option<&str> {
    let (_, at) = node.split_once('@')?;
    let host = at.rsplit_once(':').map_or(at, |(host, _)| host);
    let own = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    (!own).then_some(host)
}

/// The name of a node.
fn name(node: &str) -> &str {
    node.split('@').next().unwrap_or_default()
}

impl Run {
    /// Miners that could be given work now, of those that are there.
    pub fn able(&self, live: &[PublicKey]) -> Vec<PublicKey> {
        // What is still locked for tasks that are over: by key, node and address.
        let (mut keys, mut nodes, mut addresses) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let over = |w: &super::Work| w.judged || matches!(w.stage, WorkStage::Dropped { .. });
        for work in self.works.values().filter(|w| w.escrow_open && over(w)) {
            let key = work.assignment.miner;
            *keys.entry(key).or_insert(0) += 1;
            let Some(miner) = self.miners.get(&key) else { continue };
            *nodes.entry(name(&miner.node)).or_insert(0) += 1;
            let before = work.assignment.window.first < self.newest_sequence;
            if let Some(address) = address(&miner.node).filter(|_| before) {
                *addresses.entry(address).or_insert(0) += 1;
            }
        }
        let able = |key: &&PublicKey| {
            let Some(miner) = self.miners.get(key) else { return false };
            let left = |found: Option<&usize>, most: usize| found.is_some_and(|n| *n >= most);
            let holds = left(keys.get(*key), LEFT_LOCKED)
                || left(nodes.get(name(&miner.node)), LEFT_LOCKED)
                || address(&miner.node).is_some_and(|at| left(addresses.get(at), LEFT_LOCKED_AT));
            miner.active && miner.channel == Some(Ok(())) && !holds && self.size_for(miner).is_some()
        };
        let mut able: Vec<PublicKey> = live.iter().filter(able).copied().collect();
        able.sort_unstable();
        able.dedup();
        able
    }

    /// Those miners in the order in which they are taken. First come as many that have not proved themselves as places are kept
    /// for, drawn by lot; then whoever owes nothing, those that have proved themselves before the others, drawn by lot too. So
    /// neither a record nor a price keeps anybody out for ever. Who came after the checkpoint, from which lots are drawn, could
    /// have chosen its key by it, and comes after those that were there.
    pub(super) fn in_order(&self, able: Vec<PublicKey>, now: u64) -> Vec<(PublicKey, Miner)> {
        let (round, checkpoint) = (RoundNumber(self.next_round), self.checkpoint().map(|c| c.checkpoint));
        let rank = |key: &PublicKey, miner: &Miner| -> Rank {
            let late = miner.joined >= self.checkpoints.len() as u64;
            let lot = lot_of(self.id, round, checkpoint.unwrap_or(Digest([0; 32])), *key);
            let proven = miner.standing.is_proven(&self.spec.reward);
            (now < miner.benched_until, miner.outstanding(), late, !proven, lot)
        };
        let known = able.into_iter().filter_map(|key| Some((key, self.miners.get(&key)?.clone())));
        let mut order: Vec<(Rank, PublicKey, Miner)> =
            known.map(|(key, m)| (rank(&key, &m), key, m)).collect();
        order.sort_unstable_by_key(|(rank, ..)| *rank);
        let (places, mut kept) = (self.spec.rounds.newcomer_places(), 0);
        let mut first = |(rank, ..): &(Rank, PublicKey, Miner)| {
            let (benched, _, _, newcomer, _) = *rank;
            let place = newcomer && !benched && kept < places;
            kept += usize::from(place);
            place
        };
        let (mut all, others): (Vec<_>, Vec<_>) = order.into_iter().partition(&mut first);
        all.extend(others);
        all.into_iter().map(|(_, key, miner)| (key, miner)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_without_their_ports() {
        for (node, found) in [
            ("02ab@10.0.0.7:9735", Some("10.0.0.7")),
            ("02ab@10.0.0.7:9736", Some("10.0.0.7")),
            ("02ab@[2001:db8::1]:9735", Some("[2001:db8::1]")),
            ("02ab@host.example:9735", Some("host.example")),
            ("02ab@127.0.0.1:9735", None),
            ("02ab@localhost:1", None),
            ("", None),
        ] {
            assert_eq!(address(node), found, "{node}");
        }
        assert_eq!(name("02ab@10.0.0.7:9735"), "02ab");
    }
}
