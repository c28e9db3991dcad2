//! What a node holds, and how much of it is ours to the msat.

use serde::{Deserialize, Serialize};
use watershed_protocol::Msat;

use super::{ChannelName, NodeId};

/// Two anchor outputs of 330 sat each, paid by whoever opened the channel (BOLT 3, `option_anchors`).
const ANCHORS: u64 = 660_000;

/// The dust limit of LDK's commitment transactions (BOLT 3, P2WSH outputs are dust below 330 sat; LDK takes 354).
const TRIMMED: u64 = 354_000;

/// An open channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Channel {
    /// Constant from opening to closing.
    pub name: ChannelName,
    /// The id in messages between nodes, which the funding transaction gives it.
    pub channel_id: String,
    /// With whom.
    pub peer: NodeId,
    /// Its size, in sat.
    pub sats: u64,
    /// Hex; none while it is negotiated.
    pub funding_txid: Option<String>,
    /// Whether we opened it, and so pay for its commitment transactions.
    pub opened_by_us: bool,
    /// Whether it was ever ready.
    pub ready: bool,
    /// Whether the peer is connected and it can be used now.
    pub usable: bool,
    /// Ours and spendable; HTLCs in flight are not in it.
    pub spendable: Msat,
    /// The largest HTLC that can be sent now.
    pub next_htlc: Msat,
    /// The peer's and spendable by it; HTLCs in flight are not in it.
    pub receivable: Msat,
    /// The largest HTLC that the peer takes.
    pub peer_takes: Option<Msat>,
    /// What we must keep.
    pub reserve: Msat,
    /// What the peer must keep.
    pub peer_reserve: Msat,
    /// Fee rate of the commitment transactions, in sat for 1000 units of weight.
    pub feerate_per_kw: u32,
    /// Our side if it were closed by force now, HTLCs aside, rounded down to sat and before fees.
    pub ours_on_close: Option<Msat>,
    /// Whether it has anchor outputs, as far as can be seen: from outside only for channels that we opened.
    pub anchors: bool,
}

impl Channel {
    /// HTLCs below this have no output of their own. BOLT 3 takes the dust limit, 354 sat, and the fee of the transaction
    /// that claims the HTLC, 703 units of weight; LDK counts with a fee rate that may still rise by a quarter, and with
    /// 2530 sat for 1000 units at least. With anchors there is no such fee, and the limit is lower.
    pub fn dust_below(&self) -> Msat {
        let rate = (u64::from(self.feerate_per_kw) * 5 / 4).max(2530);
        Msat::new((354 + 703 * rate / 1000) * 1000)
    }

    /// Whether an HTLC to us is claimed but not yet signed off by the peer: the amount is ours already, but cannot be
    /// spent.
    pub fn is_claiming(&self) -> bool {
        let spent = self.ours_seen().unwrap_or(self.reserve.msat());
        self.ours_on_close.is_some_and(|ours| ours.msat() >= spent + 1000)
    }

    fn value(&self) -> u64 {
        self.sats.saturating_mul(1000)
    }

    /// Our side, where the node shows it: below the reserve it shows zero.
    fn ours_seen(&self) -> Option<u64> {
        let anchors = if self.opened_by_us && self.anchors { ANCHORS } else { 0 };
        (self.spendable > Msat::ZERO).then(|| self.spendable.msat() + self.reserve.msat() + anchors)
    }

    /// The peer's side, where the node shows it.
    fn peers_seen(&self) -> Option<u64> {
        (self.receivable > Msat::ZERO).then(|| self.receivable.msat() + self.peer_reserve.msat())
    }
}

/// What is left of a closed channel and not yet in the on-chain wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedChannelFunds {
    /// The id in messages between nodes.
    pub channel_id: Option<String>,
    /// In sat, before fees.
    pub sats: u64,
    /// The transaction that brings it to the wallet, once there is one.
    pub sweep_txid: Option<String>,
    /// Whether the on-chain wallet counts it already.
    pub in_wallet: bool,
    /// Whether the closing transaction is in a block; until then the node only knows what a forced close would bring.
    pub closed_in_block: bool,
    /// For an HTLC whose outcome is open: the first height at which it can be claimed.
    pub claimable_from: Option<u32>,
}

/// What there is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Balances {
    /// The on-chain wallet, in sat, confirmed or not.
    pub on_chain_sats: u64,
    /// As much of it as can be spent now.
    pub on_chain_spendable_sats: u64,
    /// Kept back so that forced closes can pay their fees.
    pub anchor_reserve_sats: u64,
    /// Of closed channels.
    pub closing: Vec<ClosedChannelFunds>,
}

/// Our side of all open channels together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Holdings {
    /// All of it, reserves and anchors included, HTLCs in flight not.
    pub ours: Msat,
    /// What of it must be kept.
    pub reserved: Msat,
    /// Whether `ours` is known to the msat, or only to the sat.
    pub exact: bool,
}

impl Holdings {
    /// From the channels, and what is in flight over them in both directions.
    ///
    /// A node shows neither its own side below the reserve nor the peer's, but a channel's parts sum to its value. So
    /// where our side is hidden it is what the peer's side and the HTLCs leave. Which HTLC is on which channel is not
    /// shown either; those not on channels with both sides in view must be on the others. The node's figure for a forced
    /// close, which is rounded to the sat, tells whether that was right.
    pub fn of(channels: &[Channel], in_flight: Msat) -> Self {
        let open = || channels.iter().filter(|c| c.funding_txid.is_some());
        let seen: u64 = open().filter_map(Channel::ours_seen).fold(0, u64::saturating_add);
        let on_others = open()
            .filter_map(|c| Some(c.value().saturating_sub(c.ours_seen()?).saturating_sub(c.peers_seen()?)))
            .fold(in_flight.msat(), u64::saturating_sub);
        let hidden: Vec<_> = open().filter(|c| c.ours_seen().is_none()).collect();
        let (mut ours, mut exact) = (seen, true);
        if !hidden.is_empty() {
            let rounded =
                hidden.iter().filter_map(|c| c.ours_on_close).map(Msat::msat).fold(0, u64::saturating_add);
            let rest = hidden.iter().try_fold(0u64, |sum, c| {
                let anchors = if c.opened_by_us && c.anchors { ANCHORS } else { 0 };
                Some(sum + c.value().checked_sub(c.peers_seen()?)?.saturating_sub(anchors))
            });
            // Anchors of channels that the peer opened are not shown; at most one pair for each.
            let possible = rest.into_iter().flat_map(|rest| {
                (0..=hidden.len() as u64)
                    .filter_map(move |n| rest.checked_sub(on_others)?.checked_sub(n * ANCHORS))
            });
            // What is too little for an output of its own counts as nothing in the node's figure.
            let unshown = |c: &&&Channel| c.ours_on_close.is_none_or(|ours| ours == Msat::ZERO);
            let trimmed = hidden.iter().filter(unshown).count() as u64 * TRIMMED;
            let within =
                |msat: &u64| (rounded..rounded + 1000 * hidden.len() as u64 + trimmed).contains(msat);
            match possible.into_iter().find(within) {
                Some(msat) => ours = ours.saturating_add(msat),
                None => {
                    ours = ours.saturating_add(rounded);
                    exact = false;
                }
            }
        }
        let reserved = open().map(|c| match c.ours_seen() {
            Some(seen) => seen - c.spendable.msat(),
            None => c.ours_on_close.map_or(0, Msat::msat).min(c.reserve.msat()),
        });
        let reserved = reserved.fold(0, u64::saturating_add).min(ours);
        Self { ours: Msat::new(ours), reserved: Msat::new(reserved), exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel of 1,000,000 sat with 1 % reserves, seen from a side that has `ours` while `in_flight` is under way.
    fn channel(ours: u64, in_flight: u64, opened_by_us: bool, anchors: bool) -> Channel {
        let (value, reserve) = (1_000_000_000u64, 10_000_000u64);
        let fee = if anchors { ANCHORS } else { 0 };
        let peers = value - ours - in_flight - fee;
        let (mine, theirs) = (ours.saturating_sub(reserve), peers.saturating_sub(reserve));
        Channel {
            name: "1".into(),
            channel_id: "aa".into(),
            peer: "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap(),
            sats: 1_000_000,
            funding_txid: Some("bb".into()),
            opened_by_us,
            ready: true,
            usable: true,
            spendable: Msat::new(mine),
            next_htlc: Msat::new(mine),
            receivable: Msat::new(theirs),
            peer_takes: None,
            reserve: Msat::new(reserve),
            peer_reserve: Msat::new(reserve),
            feerate_per_kw: 253,
            ours_on_close: Some(Msat::new(ours / 1000 * 1000)),
            anchors: anchors && opened_by_us,
        }
    }

    #[test]
    fn our_side_is_known_to_the_msat_above_and_below_the_reserve() {
        for (ours, in_flight) in [(500_000_123, 0), (500_000_123, 7_001), (4_321, 0), (4_321, 50_001), (0, 9)]
        {
            for anchors in [false, true] {
                let holdings =
                    Holdings::of(&[channel(ours, in_flight, false, anchors)], Msat::new(in_flight));
                assert_eq!(
                    (holdings.ours.msat(), holdings.exact),
                    (ours, true),
                    "{ours} {in_flight} {anchors}"
                );
                assert_eq!(holdings.reserved.msat() <= ours, holdings.reserved <= holdings.ours);
            }
        }
    }

    #[test]
    fn a_side_too_small_for_an_output_is_seen_all_the_same() {
        for ours in [0, 1, 353_999] {
            let trimmed = Channel { ours_on_close: Some(Msat::ZERO), ..channel(ours, 0, false, false) };
            let holdings = Holdings::of(&[trimmed], Msat::ZERO);
            assert_eq!((holdings.ours.msat(), holdings.exact), (ours, true));
        }
    }

    #[test]
    fn a_claim_that_is_not_signed_off_shows() {
        let rest = channel(500_000_123, 0, false, false);
        assert!(!rest.is_claiming());
        let claiming = Channel { ours_on_close: Some(Msat::new(500_005_000)), ..rest };
        assert!(claiming.is_claiming());
        let first = Channel { spendable: Msat::ZERO, ours_on_close: Some(Msat::new(12_000_000)), ..claiming };
        assert!(first.is_claiming(), "above the reserve and yet nothing to spend");
        assert!(!Channel { ours_on_close: Some(Msat::new(9_000_000)), ..first }.is_claiming());
        assert_eq!(channel(0, 0, true, false).dust_below(), Msat::new(2_132_000));
    }

    #[test]
    fn what_is_in_flight_is_told_apart_by_channel() {
        // 70,001 msat on a channel with both sides in view, 50,003 on one where ours is hidden
        let channels = [channel(400_000_000, 70_001, false, false), channel(4_321, 50_003, false, false)];
        let holdings = Holdings::of(&channels, Msat::new(120_004));
        assert_eq!((holdings.ours.msat(), holdings.exact), (400_004_321, true));
        // a node that says less is in flight than there is: then only the sat are known
        let unknown = Holdings::of(&channels, Msat::new(70_001));
        assert_eq!((unknown.ours.msat(), unknown.exact), (400_004_000, false));
    }
}
