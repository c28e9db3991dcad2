//! Carrying a request out.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use watershed_protocol::{Msat, told};

use super::request::{Reply, Request};
use crate::escrow::{HoldState, LotState};
use crate::ledger::Account;
use crate::store::Store;
use crate::treasury::{
    Books, CampaignState, CampaignStatus, HoldStatus, LotStatus, Payout, PayoutState, RequestState, Treasury,
    TreasuryError,
};
use crate::wallet::{ChainTrouble, Channel, Wallet, Withdraw};

type Outcome = Result<Reply, TreasuryError>;

/// Carries a request out; what is refused is a reply too.
pub async fn execute<W: Wallet, S: Store>(treasury: &Treasury<W, S>, request: Request) -> Reply {
    match carry_out(treasury, request).await {
        Ok(reply) => reply,
        Err(e) => Reply::Error { message: told(&e) },
    }
}

fn ok<T: Serialize>(value: &T, lines: Vec<String>) -> Outcome {
    let value = serde_json::to_value(value).unwrap_or_default();
    Ok(Reply::Ok { value, lines })
}

async fn carry_out<W: Wallet, S: Store>(treasury: &Treasury<W, S>, request: Request) -> Outcome {
    let wallet = treasury.wallet();
    match request {
        Request::Show => {
            let (node, network, chain) = (wallet.node_id(), wallet.network(), wallet.chain().await?);
            let (tip, trouble) = (chain.tip, treasury.chain_trouble().map(ChainTrouble::with_advice));
            let beside = chain.source.filter(|source| *source != tip);
            let beside = beside.map(|source| format!(" (its bitcoind is at {source})")).unwrap_or_default();
            let channels = wallet.channels().await?;
            let usable = channels.iter().filter(|c| c.usable).count();
            let value = json!({"node": node, "network": network, "tip": tip, "source": chain.source, "heard": chain.heard, "trouble": trouble,
                "channels": channels.len(), "usable": usable});
            let mut lines = vec![
                format!("node      {node}"),
                format!("network   {network}, block {tip}{beside}"),
                format!("channels  {}, of which {usable} usable now", channels.len()),
            ];
            lines.extend(trouble.map(|trouble| format!("look      {trouble}")));
            ok(&value, lines)
        }
        Request::Sync => {
            wallet.sync().await?;
            treasury.book_chain().await?;
            let tip = wallet.tip().await?;
            ok(&json!({"tip": tip}), vec![format!("block {tip}")])
        }
        Request::Address => {
            let address = wallet.address().await?;
            ok(&json!({"address": address}), vec![address.clone()])
        }
        Request::Balance => balance(treasury).await,
        Request::Channels { all } => {
            let open = wallet.channels().await?;
            let closed: Vec<_> = if all { treasury.channel_history()? } else { Vec::new() };
            let closed: Vec<_> = closed.into_iter().filter(|c| c.closed.is_some()).collect();
            let mut lines: Vec<_> = open.iter().flat_map(channel_lines).collect();
            lines.extend(closed.iter().map(|c| {
                let why = c.closed.as_deref().unwrap_or_default();
                format!("closed: {} sat with {}: {why}", c.sats, c.peer)
            }));
            if lines.is_empty() {
                lines.push("no channels".into());
            }
            ok(&json!({"open": open, "closed": closed}), lines)
        }
        Request::Connect { peer } => {
            let line = format!("connected to {peer}");
            wallet.connect(peer).await?;
            ok(&json!({}), vec![line])
        }
        Request::Open { peer, sats, public } => {
            let line = format!(
                "opening a channel of {sats} sat with {}; it is usable once it is confirmed",
                peer.id
            );
            let name = if public {
                treasury.open_public_channel(&peer, sats).await?
            } else {
                treasury.open_channel(&peer, sats).await?
            };
            ok(&json!({ "channel": name }), vec![line])
        }
        Request::Ensure { peer, amount, htlcs } => {
            let capacity = treasury.ensure_capacity(&peer, amount, htlcs).await?;
            let line = format!(
                "{} channels with {}: {} can be held in up to {} lots",
                capacity.channels, peer.id, capacity.spendable, capacity.free_htlcs
            );
            ok(&capacity, vec![line])
        }
        Request::Close { peer, force } => {
            let channels = treasury.release(peer, force).await?;
            ok(&json!({"closing": channels}), vec![format!("closing {channels} channels with {peer}")])
        }
        Request::Send { invoice, max_fee, from } => payout(&treasury.pay_out(&invoice, max_fee, from).await?),
        Request::Sent { hash } => payout(&treasury.payout(hash)?),
        Request::Receive { amount, memo, expiry, to } => {
            let made = treasury.request(amount, memo, Duration::from_secs(u64::from(expiry)), to).await?;
            ok(&made, vec![made.invoice.to_string()])
        }
        Request::Received { hash } => {
            let found = treasury.requested(hash)?;
            let line = match found.state {
                RequestState::Open => format!("{} not paid yet", found.amount),
                RequestState::Paid { received } => format!("{received} received"),
            };
            ok(&found, vec![line])
        }
        Request::WithdrawOnChain { address, what } => {
            if what == Withdraw::All {
                something_on_chain(treasury).await?;
            }
            let txid = treasury.withdraw(address, what).await?;
            ok(&json!({"txid": txid}), vec![format!("sent in transaction {txid}")])
        }
        Request::Offer(offer) => {
            treasury.offer(&offer)?;
            lots(treasury.escrow(offer.terms.subject)?)
        }
        Request::Lock { subject, invoices } => lots(treasury.lock(subject, &invoices).await?),
        Request::Confirm { subject, lots: reports } => lots(treasury.confirm(subject, &reports).await?),
        Request::Escrow { subject } => lots(treasury.escrow(subject)?),
        Request::WithdrawOffer { subject } => lots(treasury.withdraw_offer(subject)?),
        Request::Accept(terms) => holds(treasury.accept(&terms).await?),
        Request::Held { subject } => holds(treasury.held(subject)?),
        Request::Settle { preimages } => {
            treasury.settle(&preimages).await?;
            ok(&json!({}), vec![format!("claiming {} lots", preimages.len())])
        }
        Request::GiveBack { subject, hashes, reason } => {
            let only = (!hashes.is_empty()).then_some(hashes.as_slice());
            holds(treasury.give_back(subject, only, &reason).await?)
        }
        Request::Receipts { subject } => {
            let receipts = treasury.receipts(subject)?;
            let lines = receipts.iter().map(|r| serde_json::to_string(r).unwrap_or_default()).collect();
            ok(&receipts, lines)
        }
        Request::StartCampaign { name, goal, window, ends } => {
            campaign(treasury.start_campaign(name, goal, window, ends)?)
        }
        Request::Campaign { name } => campaign(treasury.campaign(&name)?),
        Request::Pledge { name, sponsor, amount } => {
            let pledge = treasury.pledge_with_random_secret(&name, sponsor, amount).await?;
            ok(&pledge, vec![pledge.invoice.to_string()])
        }
        Request::CancelCampaign { name, reason } => campaign(treasury.cancel_campaign(&name, &reason).await?),
        Request::Accounts => {
            treasury.book_chain().await?;
            let balances = treasury.store().balances()?;
            let lines = balances.iter().map(|(account, msat)| account_line(account, *msat)).collect();
            ok(&balances, lines)
        }
        Request::Entries { account, after, limit } => {
            let entries = treasury.store().entries(account.as_ref(), after, limit)?;
            let lines = entries.iter().flat_map(|booked| {
                let head = format!("{} {} ({})", booked.number, booked.entry.memo(), booked.entry.key());
                let postings = booked
                    .entry
                    .postings()
                    .iter()
                    .map(|p| format!("    {}", account_line(&p.account, p.msat)));
                std::iter::once(head).chain(postings).collect::<Vec<_>>()
            });
            ok(&entries, lines.collect())
        }
        Request::Transfer { key, from, to, amount } => {
            treasury.transfer(&key, &from, &to, amount, "by hand")?;
            ok(&json!({}), vec![format!("{amount} moved from {from} to {to}")])
        }
        Request::Reconcile => reconciled(&treasury.reconcile().await?),
    }
}

fn signed(msat: i64) -> String {
    let amount = Msat::new(msat.unsigned_abs());
    if msat < 0 { format!("-{amount}") } else { amount.to_string() }
}

fn account_line(account: &Account, msat: i64) -> String {
    format!("{:<28} {:>24}", account.to_string(), signed(msat))
}

/// Says where the money is, if a transaction could send nothing of it.
async fn something_on_chain<W: Wallet, S: Store>(treasury: &Treasury<W, S>) -> Result<(), TreasuryError> {
    let found = treasury.wallet().balances().await?;
    if found.on_chain_spendable_sats > 0 {
        return Ok(());
    }
    let channels = treasury.wallet().channels().await?;
    let sum = channels.iter().map(|c| c.spendable.msat()).fold(0, u64::saturating_add);
    let kept = found.anchor_reserve_sats.min(found.on_chain_sats);
    let lightning = Msat::new(sum);
    Err(TreasuryError::NothingOnChain { kept, lightning })
}

async fn balance<W: Wallet, S: Store>(treasury: &Treasury<W, S>) -> Outcome {
    let found = treasury.wallet().balances().await?;
    let channels = treasury.wallet().channels().await?;
    let sum = |of: fn(&Channel) -> Msat| {
        channels.iter().map(of).fold(Msat::ZERO, |sum, m| sum.checked_add(m).unwrap_or(sum))
    };
    let (send, receive) = (sum(|c| c.spendable), sum(|c| c.receivable));
    let closing: u64 = found.closing.iter().filter(|c| !c.in_wallet).map(|c| c.sats).sum();
    let value = json!({
        "on_chain_sat": found.on_chain_sats, "on_chain_spendable_sat": found.on_chain_spendable_sats,
        "kept_for_closing_sat": found.anchor_reserve_sats, "lightning_msat": send, "receivable_msat": receive,
        "closing_sat": closing, "closing": found.closing,
    });
    let mut lines = vec![
        format!("Lightning   {send} to send, {receive} to receive"),
        format!(
            "on chain    {} sat, of which {} can be spent",
            found.on_chain_sats, found.on_chain_spendable_sats
        ),
    ];
    if found.anchor_reserve_sats > 0 {
        lines.push(format!(
            "            {} sat are kept for the closing of channels",
            found.anchor_reserve_sats
        ));
    }
    if closing > 0 {
        lines.push(format!("closing     {closing} sat are on the way from closed channels"));
    }
    ok(&value, lines)
}

fn channel_lines(channel: &Channel) -> Vec<String> {
    let state = match (channel.ready, channel.usable) {
        (_, true) => "usable",
        (true, false) => "the peer is away",
        (false, false) => "being opened",
    };
    vec![
        format!("{} sat with {} ({state})", channel.sats, channel.peer),
        format!("    {} to send, {} to receive", channel.spendable, channel.receivable),
    ]
}

fn payout(payout: &Payout) -> Outcome {
    let line = match &payout.state {
        PayoutState::Paying => format!("{} on the way", payout.amount),
        PayoutState::Paid { fee, .. } => format!("{} paid, fee {fee}", payout.amount),
        PayoutState::Failed { reason } => format!("{} not paid: {reason}", payout.amount),
    };
    ok(payout, vec![line])
}

fn lots(lots: Vec<LotStatus>) -> Outcome {
    let line = |lot: &LotStatus| {
        let more = match &lot.state {
            LotState::Locked { deadline, .. } => format!(" until block {deadline}"),
            LotState::CameBack { how } => format!(": {how}"),
            _ => String::new(),
        };
        format!("{}  {}, {}{more}", lot.hash, lot.amount, lot.state.word())
    };
    let lines = lots.iter().map(line).collect();
    ok(&lots, lines)
}

fn holds(holds: Vec<HoldStatus>) -> Outcome {
    let lines = holds.iter().map(hold_line).collect();
    ok(&holds, lines)
}

fn hold_line(hold: &HoldStatus) -> String {
    let state = match &hold.state {
        HoldState::Invoiced => "not paid yet".to_owned(),
        HoldState::Held { deadline, .. } => format!("held until block {deadline}"),
        HoldState::Claiming { .. } => "being claimed".to_owned(),
        HoldState::Settled { received, .. } => format!("{received} received"),
        HoldState::GivenBack { reason, .. } => format!("given back: {reason}"),
    };
    format!("{}  {}, {state}", hold.hash, hold.amount)
}

fn campaign(status: CampaignStatus) -> Outcome {
    let campaign = &status.campaign;
    let state = match &campaign.state {
        CampaignState::Collecting => "collecting".to_owned(),
        CampaignState::Funded => "funded".to_owned(),
        CampaignState::Cancelled { reason } => format!("cancelled: {reason}"),
    };
    let mut lines = vec![format!("{}: {} of {}, {state}", campaign.name, status.raised, campaign.goal)];
    lines.extend(status.pledges.iter().map(|p| format!("    {}: {}", p.sponsor, hold_line(&p.hold))));
    ok(&status, lines)
}

fn reconciled(books: &Books) -> Outcome {
    let mut lines: Vec<_> =
        books.balances.iter().map(|(account, msat)| account_line(account, *msat)).collect();
    if books.report.agrees() {
        let precision = if books.report.exact { "msat" } else { "sat" };
        lines.push(format!("ledger and node agree to the {precision}"));
    }
    for difference in &books.report.differences {
        lines.push(format!("DIFFERENCE {}", serde_json::to_string(difference).unwrap_or_default()));
    }
    ok(books, lines)
}
