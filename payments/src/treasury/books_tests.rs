use super::*;
use crate::escrow::test_node;

fn open(funding: &str) -> ChannelRecord {
    ChannelRecord {
        name: funding.into(),
        channel_id: format!("id-{funding}"),
        peer: test_node(7),
        sats: 100_000,
        funding_txid: funding.into(),
        opened_by_us: true,
        closed: None,
        cooperative: false,
        quiet: None,
        settled: false,
    }
}

fn closed(funding: &str) -> ChannelRecord {
    ChannelRecord { closed: Some("by force".into()), ..open(funding) }
}

fn owed(sats: u64, sweep: Option<&str>, closed_in_block: bool) -> ClosedChannelFunds {
    ClosedChannelFunds {
        channel_id: Some("id-f".into()),
        sats,
        sweep_txid: sweep.map(str::to_owned),
        in_wallet: false,
        closed_in_block,
        claimable_from: None,
    }
}

fn payment(txid: &str, outgoing: bool, sats: u64, fee: u64) -> ChainPayment {
    let (amount, fee) = (Msat::new(sats * 1000), Msat::new(fee * 1000));
    ChainPayment { txid: txid.into(), outgoing, amount, fee, confirmed: true }
}

fn withdrawal(sats: u64, all: bool, txid: Option<&str>) -> Withdrawal {
    let state = match txid {
        Some(txid) => WithdrawalState::Sent { txid: txid.into() },
        None => WithdrawalState::Asked,
    };
    Withdrawal { id: format!("{sats}{all}"), address: "a".into(), sats, all, tip: 1, state }
}

/// What each account gets, in sat.
fn booked(placed: Placed) -> Vec<(String, i64)> {
    let (Placed::Booked(entry) | Placed::Withdrawn(entry, _)) = placed else { unreachable!("{placed:?}") };
    let mut sums = BTreeMap::new();
    for posting in entry.unwrap().postings() {
        *sums.entry(posting.account.to_string()).or_insert(0) += posting.msat / 1000;
    }
    sums.into_iter().collect()
}

fn is(placed: Placed, expected: &[(&str, i64)]) {
    let expected: Vec<_> = expected.iter().map(|(a, s)| ((*a).to_owned(), *s)).collect();
    assert_eq!(booked(placed), expected);
}

#[test]
fn a_funding_transaction_costs_its_fee_and_what_is_above_the_channel() {
    let placed =
        chain_entry(&payment("f", true, 100_000, 150), &[open("f")], (&[], Msat::ZERO), &[]).unwrap();
    is(placed, &[("on-chain", -150), ("on-chain-fees", 150)]);
    let placed =
        chain_entry(&payment("f", true, 100_330, 150), &[closed("f")], (&[], Msat::ZERO), &[]).unwrap();
    is(placed, &[("on-chain", -480), ("on-chain-fees", 480)]);
}

#[test]
fn a_withdrawal_is_the_operators_also_while_a_channel_closes() {
    let out = payment("w", true, 50_000, 150);
    let closing = (&[owed(70_000, None, true)][..], Msat::new(70_000_000));
    let sent = [withdrawal(50_000, false, None), withdrawal(50_001, false, Some("w"))];
    let placed = chain_entry(&out, &[closed("f")], closing, &sent).unwrap();
    assert!(matches!(&placed, Placed::Withdrawn(_, id) if *id == sent[1].id), "the transaction tells best");
    is(placed, &[("on-chain", -50_150), ("operator", 50_150)]);
    let placed = chain_entry(&out, &[closed("f")], closing, &sent[..1]).unwrap();
    assert!(matches!(&placed, Placed::Withdrawn(_, id) if *id == sent[0].id));
    let all = [withdrawal(50_150, true, None)];
    let placed = chain_entry(&out, &[closed("f")], closing, &all).unwrap();
    is(placed, &[("on-chain", -50_150), ("operator", 50_150)]);
    let other = [withdrawal(50_149, true, None), withdrawal(40_000, false, None)];
    let placed = chain_entry(&out, &[closed("f")], closing, &other).unwrap();
    is(placed, &[("on-chain", -50_150), ("on-chain-fees", 50_150)]);
}

#[test]
fn what_nobody_asked_for_pays_for_a_closing_or_was_spent_elsewhere() {
    let bump = payment("b", true, 0, 400);
    is(
        chain_entry(&bump, &[closed("f")], (&[], Msat::ZERO), &[]).unwrap(),
        &[("on-chain", -400), ("on-chain-fees", 400)],
    );
    let gone = payment("g", true, 30_000, 100);
    is(
        chain_entry(&gone, &[open("f")], (&[], Msat::ZERO), &[]).unwrap(),
        &[("on-chain", -30_100), ("operator", 30_100)],
    );
}

#[test]
fn what_comes_in_is_from_a_closed_channel_or_a_deposit_or_waits() {
    let place = |txid: &str, sats, fee, channels: &[ChannelRecord], closing: &[ClosedChannelFunds]| {
        let owing = Msat::new(9_000_000);
        chain_entry(&payment(txid, false, sats, fee), channels, (closing, owing), &[]).unwrap()
    };
    let deposit: &[_] = &[("on-chain", 9_000), ("operator", -9_000)];
    let swept: &[_] = &[("closing", -9_000), ("on-chain", 9_000)];
    is(place("d", 9_000, 0, &[open("f")], &[]), deposit);
    let channels = [closed("f")];
    is(place("s", 9_000, 0, &channels, &[owed(9_500, Some("s"), true)]), swept);
    is(place("s", 9_000, 0, &channels, &[owed(9_000, None, true)]), swept);
    is(place("s", 9_000, 200, &channels, &[owed(9_500, None, true)]), swept);
    is(place("s", 9_000, 0, &channels, &[]), swept);
    // could be some of it, or the closing is in no block yet
    assert_eq!(place("s", 9_000, 0, &channels, &[owed(9_500, None, true)]), Placed::Later);
    assert_eq!(place("s", 9_000, 0, &channels, &[owed(100, None, false)]), Placed::Later);
    // more than is on the way, and the node has done with it; or more than the books miss
    is(place("s", 9_000, 0, &channels, &[owed(8_000, None, true)]), swept);
    is(place("d", 9_001, 0, &channels, &[]), &[("on-chain", 9_001), ("operator", -9_001)]);
}
