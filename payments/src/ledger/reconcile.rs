//! The ledger against the node: every difference by name. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use watershed_protocol::{Msat, PaymentHash};

use super::account::Account;
use crate::wallet::{Holdings, LightningPayment};

/// What our records say of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    hash: PaymentHash,
    outgoing: bool,
    amount: Msat,
    // None while the outcome is open
    fee: Option<Msat>,
}

impl Expected {
    /// One whose outcome is open.
    pub fn pending(hash: PaymentHash, outgoing: bool, amount: Msat) -> Self {
        Self { hash, outgoing, amount, fee: None }
    }

    /// One that succeeded.
    pub fn succeeded(hash: PaymentHash, outgoing: bool, amount: Msat, fee: Msat) -> Self {
        Self { hash, outgoing, amount, fee: Some(fee) }
    }
}

/// Something on which ledger and node do not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Difference {
    /// The ledger itself is broken.
    Sum {
        /// Of all balances, in msat.
        msat: i128,
    },
    /// A place holds another amount.
    Place {
        /// Which.
        place: String,
        /// In the ledger, in msat.
        ledger_msat: i64,
        /// At the node, in msat.
        node_msat: i64,
    },
    /// A payment of our records that the node sees otherwise.
    Payment {
        /// Which.
        hash: PaymentHash,
        /// In our records.
        ledger: String,
        /// At the node.
        node: String,
    },
    /// A payment of the node's that no record of ours has.
    Unknown {
        /// Which.
        hash: PaymentHash,
        /// Whether we paid.
        outgoing: bool,
        /// Its amount.
        amount: Msat,
        /// Whether its outcome is open.
        pending: bool,
    },
}

/// The comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Everything that does not agree.
    pub differences: Vec<Difference>,
    /// Whether the node's side is known to the msat; otherwise to the sat.
    pub exact: bool,
    /// Deposits that no block has yet; not in the ledger.
    pub unconfirmed: Msat,
}

impl Report {
    /// Whether ledger and node agree.
    pub fn agrees(&self) -> bool {
        self.differences.is_empty()
    }

    /// Compares. `payments` is all that the node remembers, `expected` all that our records have that is pending or
    /// succeeded, `unbooked_in` what is on the way to the on-chain wallet.
    pub fn of(
        balances: &BTreeMap<Account, i64>,
        expected: &[Expected],
        payments: &[LightningPayment],
        holdings: &Holdings,
        on_chain_sats: u64,
        unbooked_in: Msat,
    ) -> Self {
        let mut differences = Vec::new();
        let msat: i128 = balances.values().map(|m| i128::from(*m)).sum();
        if msat != 0 {
            differences.push(Difference::Sum { msat });
        }
        let at_node: BTreeMap<(PaymentHash, bool), &LightningPayment> =
            payments.iter().map(|p| ((p.hash, p.outgoing), p)).collect();
        let mut known = BTreeMap::new();
        for e in expected {
            known.insert((e.hash, e.outgoing), ());
            let ledger = match e.fee {
                None => format!("{} pending", e.amount),
                Some(fee) => format!("{} paid, fee {fee}", e.amount),
            };
            let node = match at_node.get(&(e.hash, e.outgoing)) {
                Some(LightningPayment { amount, fee, pending, succeeded, .. }) => {
                    match (pending, succeeded) {
                        (true, _) => format!("{amount} pending"),
                        (_, true) => {
                            format!("{amount} paid, fee {}", if e.outgoing { *fee } else { Msat::ZERO })
                        }
                        _ => format!("{amount} failed"),
                    }
                }
                None => "unknown".to_owned(),
            };
            if ledger != node {
                differences.push(Difference::Payment { hash: e.hash, ledger, node });
            }
        }
        let mut in_flight = 0i64;
        for ((hash, outgoing), payment) in &at_node {
            let LightningPayment { amount, pending, succeeded, .. } = payment;
            if *outgoing && *pending {
                in_flight = in_flight.saturating_add(signed(*amount));
            }
            // An incoming payment that is pending is an invoice that may never be paid.
            let counts = *succeeded || (*outgoing && *pending);
            if counts && !known.contains_key(&(*hash, *outgoing)) {
                let (hash, outgoing, amount, pending) = (*hash, *outgoing, *amount, *pending);
                differences.push(Difference::Unknown { hash, outgoing, amount, pending });
            }
        }
        let ledger = |account: &Account| balances.get(account).copied().unwrap_or(0);
        let mut place = |place: &str, ledger_msat: i64, node_msat: i64| {
            if ledger_msat != node_msat {
                differences.push(Difference::Place { place: place.to_owned(), ledger_msat, node_msat });
            }
        };
        let on_chain = Msat::from_sat(on_chain_sats).map_or(i64::MAX, signed) - signed(unbooked_in);
        place("on-chain", ledger(&Account::OnChain), on_chain);
        place("escrow", ledger(&Account::Escrow), in_flight);
        let channels = ledger(&Account::Channels) + ledger(&Account::ChannelReserves);
        let ours = signed(holdings.ours);
        // If the node tells no more than sat, a difference below a sat says nothing.
        if holdings.exact || channels / 1000 != ours / 1000 {
            place("channels and channel-reserves", channels, ours);
        }
        Self { differences, exact: holdings.exact, unconfirmed: unbooked_in }
    }
}

fn signed(amount: Msat) -> i64 {
    i64::try_from(amount.msat()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> PaymentHash {
        PaymentHash::from_bytes([n; 32])
    }

    fn paid(n: u8, amount: u64) -> LightningPayment {
        let (amount, fee) = (Msat::new(amount), Msat::ZERO);
        LightningPayment { hash: hash(n), outgoing: true, amount, fee, pending: false, succeeded: true }
    }

    #[test]
    fn every_difference_is_named_to_the_msat() {
        let balances: BTreeMap<_, _> = [
            (Account::OnChain, 5_000),
            (Account::Channels, 9_000),
            (Account::ChannelReserves, 1_000),
            (Account::Operator, -15_000),
        ]
        .into();
        let holdings = Holdings { ours: Msat::new(10_000), reserved: Msat::new(1_000), exact: true };
        let settled = [Expected::succeeded(hash(1), true, Msat::new(7), Msat::ZERO)];
        let report = |expected: &[Expected], payments: &[LightningPayment], holdings: &Holdings, sats| {
            Report::of(&balances, expected, payments, holdings, sats, Msat::ZERO).differences
        };
        assert_eq!(report(&settled, &[paid(1, 7)], &holdings, 5), []);
        assert!(matches!(report(&settled, &[], &holdings, 5)[..], [Difference::Payment { .. }]));
        assert!(matches!(report(&settled, &[paid(1, 8)], &holdings, 5)[..], [Difference::Payment { .. }]));
        assert!(matches!(report(&[], &[paid(1, 7)], &holdings, 5)[..], [Difference::Unknown { .. }]));
        assert!(matches!(report(&[], &[], &holdings, 6)[..], [Difference::Place { node_msat: 6_000, .. }]));
        let less = Holdings { ours: Msat::new(9_999), ..holdings };
        assert!(matches!(report(&[], &[], &less, 5)[..], [Difference::Place { node_msat: 9_999, .. }]));
        let broken: BTreeMap<_, _> = [(Account::OnChain, 1)].into();
        let none = Holdings { ours: Msat::ZERO, reserved: Msat::ZERO, exact: true };
        let found = Report::of(&broken, &[], &[], &none, 0, Msat::new(0)).differences;
        assert!(matches!(found[..], [Difference::Sum { msat: 1 }, Difference::Place { .. }]));
    }
}
