//! Keeping the ledger true to the chain, and comparing it with the node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, PaymentHash};

use super::archive::{REMEMBERED, Remembered};
use super::withdrawals::{Withdrawal, WithdrawalState};
use super::{Payout, Remittance, Request, RequestState, Treasury, TreasuryError};
use crate::escrow::{Hold, HoldState, Lot, LotState};
use crate::ledger::reconcile::{Difference, Expected, Report};
use crate::ledger::{Account, Entry, EntryError, Legs};
use crate::store::{Change, Filter, Record, Store, StoreError, Versioned, get, list};
use crate::treasury::PayoutState;
use crate::wallet::{
    ChainPayment, Channel, ChannelName, ClosedChannelFunds, Holdings, Known, NodeId, Wallet,
};

/// A channel that was ever seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Constant from opening to closing.
    pub name: ChannelName,
    /// The id in messages between nodes.
    pub channel_id: String,
    /// With whom.
    pub peer: NodeId,
    /// Its size, in sat.
    pub sats: u64,
    /// Its funding transaction.
    pub funding_txid: String,
    /// Whether we paid for it.
    pub opened_by_us: bool,
    /// Why it is closed, if it is.
    pub closed: Option<String>,
    /// Whether both sides agreed to that.
    pub cooperative: bool,
    /// Since which height nothing of it is on the way any more, as far as the node tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<u32>,
    /// Whether everything of it has come back and its cost is booked.
    pub settled: bool,
}

/// Blocks for which nothing of a closed channel must be on the way before its cost is booked. Between the node's noticing
/// that an output can be spent and its setting out to spend it, the output shows nowhere.
const QUIET: u32 = 3;

impl Record for ChannelRecord {
    const KIND: &'static str = "channel";
    fn id(&self) -> String {
        self.name.clone()
    }
    fn group(&self) -> String {
        self.peer.to_string()
    }
    fn is_open(&self) -> bool {
        !self.settled
    }
}

impl ChannelRecord {
    pub(super) fn kind() -> &'static str {
        <Self as Record>::KIND
    }

    /// What left the on-chain wallet for the channel. The fee is booked when the transaction is in a block, as the node
    /// tells it only then; until then the ledger has more on chain than the node, by the fee.
    pub(super) fn funded(&self) -> Result<Option<Entry>, EntryError> {
        let value = Msat::from_sat(self.sats).filter(|_| self.opened_by_us).unwrap_or_default();
        let legs = Legs::new().leg(&Account::OnChain, &Account::Channels, value)?;
        legs.entry(format!("channel/{}/funded", self.name), format!("opened a channel with {}", self.peer))
    }

    pub(super) fn open(channel: &Channel, funding_txid: String) -> Self {
        Self {
            name: channel.name.clone(),
            channel_id: channel.channel_id.clone(),
            peer: channel.peer,
            sats: channel.sats,
            funding_txid,
            opened_by_us: channel.opened_by_us,
            closed: None,
            cooperative: false,
            quiet: None,
            settled: false,
        }
    }
}

/// The ledger beside the node.
#[derive(Clone, Debug, Serialize)]
pub struct Books {
    /// Every account that was used, in msat.
    pub balances: BTreeMap<Account, i64>,
    /// What does not agree.
    #[serde(flatten)]
    pub report: Report,
}

/// Where an on-chain payment belongs. Pure.
///
/// Outgoing: of a funding transaction only the fee is left to book; a withdrawal was written down before it was made;
/// anything else pays for the closing of a channel while one is closing, and otherwise was spent with the same words
/// elsewhere. Incoming: what sweeps a closed channel, or has exactly what one owes us, comes from it; anything
/// else is a deposit. While money of closed channels is on the way, what could be some of it is left for later: the node
/// tells which transaction brought it once that is in a block. `channels` are those that are not settled, `owing` is what
/// closed ones still owe in the books.
fn chain_entry(
    payment: &ChainPayment,
    channels: &[ChannelRecord],
    (closing, owing): (&[ClosedChannelFunds], Msat),
    withdrawals: &[Withdrawal],
) -> Result<Placed, EntryError> {
    let ChainPayment { txid, outgoing, amount, fee, .. } = payment;
    let (amount, fee) = (*amount, *fee);
    let key = format!("chain/{txid}");
    let any_closing = channels.iter().any(|c| c.closed.is_some());
    if *outgoing {
        if let Some(channel) = channels.iter().find(|c| c.opened_by_us && c.funding_txid == *txid) {
            // Its value was booked when the channel was made; what is above it is cost.
            let value = Msat::from_sat(channel.sats).unwrap_or_default();
            let rest = amount.checked_sub(value).unwrap_or_default();
            let legs = Legs::new().leg(&Account::OnChain, &Account::OnChainFees, rest)?.leg(
                &Account::OnChain,
                &Account::OnChainFees,
                fee,
            )?;
            let memo = format!("fee of opening a channel with {}", channel.peer);
            return Ok(Placed::Booked(legs.entry(key, memo)?));
        }
        // Those whose transaction is known first: another may have the same amount.
        let known = |w: &&Withdrawal| matches!(w.state, WithdrawalState::Sent { .. }) && w.is(payment);
        let of = withdrawals.iter().find(known).or_else(|| withdrawals.iter().find(|w| w.is(payment)));
        if let Some(withdrawal) = of {
            let memo = format!("withdrawn to {}", withdrawal.address);
            return Ok(Placed::Withdrawn(Withdrawal::entry(payment, &memo)?, withdrawal.id.clone()));
        }
        if any_closing {
            let legs = Legs::new().leg(&Account::OnChain, &Account::OnChainFees, amount)?.leg(
                &Account::OnChain,
                &Account::OnChainFees,
                fee,
            )?;
            return Ok(Placed::Booked(legs.entry(key, "fees of closing a channel")?));
        }
        return Ok(Placed::Booked(Withdrawal::entry(payment, "spent outside of this program")?));
    }
    let swept = closing.iter().any(|c| c.sweep_txid.as_ref() == Some(txid));
    // The node knows the fee of an incoming transaction only if it spends what the wallet has paid for: a channel of ours.
    let ours = fee > Msat::ZERO;
    let owed = closing.iter().any(|c| Msat::from_sat(c.sats) == Some(amount));
    let on_the_way = closing.iter().filter(|c| !c.in_wallet).map(|c| c.sats).fold(0, u64::saturating_add);
    let on_the_way = Msat::from_sat(on_the_way).unwrap_or_default();
    let (from, memo) = if any_closing && (swept || owed || ours) {
        (Account::Closing, "from a closed channel")
    } else if any_closing && (closing.iter().any(|c| !c.closed_in_block) || amount <= on_the_way) {
        return Ok(Placed::Later);
    } else if any_closing && amount <= owing {
        // The node has done with it already: we were away, or blocks came fast.
        (Account::Closing, "from a closed channel")
    } else {
        (Account::Operator, "deposited")
    };
    Ok(Placed::Booked(Legs::new().leg(&from, &Account::OnChain, amount)?.entry(key, memo)?))
}

/// What is to be done with an on-chain payment.
#[derive(Debug, PartialEq)]
enum Placed {
    Booked(Option<Entry>),
    /// The entry, and the id of the withdrawal.
    Withdrawn(Option<Entry>, String),
    Later,
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    pub(super) fn on_channel_closed(
        &self,
        name: &str,
        reason: &str,
        cooperative: bool,
    ) -> Result<(), TreasuryError> {
        self.step::<ChannelRecord, ()>(name, |found, change| {
            if found.record.closed.is_none() {
                let closed = Some(reason.to_owned());
                change.put(&ChannelRecord { closed, cooperative, ..found.record.clone() }, found.version)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Every channel that was ever seen, the latest first.
    ///
    /// # Errors
    /// Those of the store.
    pub fn channel_history(&self) -> Result<Vec<ChannelRecord>, TreasuryError> {
        let all = list::<ChannelRecord>(self.store.as_ref(), Filter::Latest(u32::MAX))?;
        Ok(all.into_iter().map(|c| c.record).collect())
    }

    /// Tells the node which transactions it need not show: those that are in the books.
    fn known(&self) -> Known {
        let booked = Arc::clone(&self.booked);
        Arc::new(move |txid| booked.lock().unwrap_or_else(PoisonError::into_inner).contains(txid))
    }

    /// The transactions that are not in the books, or not known to be.
    async fn unbooked(&self) -> Result<Vec<ChainPayment>, TreasuryError> {
        let mut unbooked = Vec::new();
        for payment in self.wallet.chain_payments(self.known()).await? {
            if self.store.is_booked(&format!("chain/{}", payment.txid))? {
                self.booked.lock().unwrap_or_else(PoisonError::into_inner).insert(payment.txid);
            } else {
                unbooked.push(payment);
            }
        }
        Ok(unbooked)
    }

    /// Books what happened on chain since the last time: deposits, withdrawals, channels opened and closed. Safe to
    /// repeat, and called at every turn.
    ///
    /// # Errors
    /// Those of the wallet and the store.
    pub async fn book_chain(&self) -> Result<(), TreasuryError> {
        self.note_channels().await?;
        // In this order: the node's wallet hears of a block before its channels do, and a payment must not be placed by
        // what channels owed before it.
        let payments = self.unbooked().await?;
        let in_flight = self.wallet.in_flight().await?;
        let node_channels = self.wallet.channels().await?;
        let balances = self.wallet.balances().await?;
        let store = self.store.as_ref();
        for Versioned { record, .. } in list::<ChannelRecord>(store, Filter::Open)? {
            // The event may have been lost with the process that was told.
            if record.closed.is_none() && !node_channels.iter().any(|c| c.name == record.name) {
                self.on_channel_closed(&record.name, "found closed", false)?;
            }
        }
        let channels: Vec<_> =
            list::<ChannelRecord>(store, Filter::Open)?.into_iter().map(|c| c.record).collect();
        let owing = self.owing(&channels, &node_channels, in_flight)?;
        let mut waiting = false;
        for payment in &payments {
            // What comes in is recognised by what closed channels owe, which the node knows once it is in a block.
            if !payment.outgoing && !payment.confirmed {
                waiting = true;
                continue;
            }
            let withdrawals = list::<Withdrawal>(store, Filter::Open)?;
            let records: Vec<_> = withdrawals.iter().map(|w| w.record.clone()).collect();
            let mut change = Change::new();
            match chain_entry(payment, &channels, (&balances.closing, owing), &records)? {
                Placed::Booked(entry) => change.book(entry),
                Placed::Withdrawn(entry, id) => {
                    change.book(entry);
                    let state = WithdrawalState::Booked { txid: payment.txid.clone() };
                    if let Some(found) = withdrawals.into_iter().find(|w| w.record.id == id) {
                        change.put(&Withdrawal { state, ..found.record }, found.version)?;
                    }
                }
                Placed::Later => waiting = true,
            }
            match self.commit(&change) {
                // The answer of a withdrawal came in this moment: at the next turn.
                Err(TreasuryError::Store(StoreError::Conflict { .. })) => waiting = true,
                other => other?,
            }
        }
        let tip = self.wallet.tip().await?;
        self.close_withdrawals(tip)?;
        // A claim that the peer has not signed off is booked, but the channels do not show it yet.
        let claiming = node_channels.iter().any(Channel::is_claiming);
        if !waiting && !claiming && self.is_quiet()? {
            self.book_closing(&node_channels, &balances.closing, in_flight, tip)?;
        }
        Ok(())
    }

    /// Whether no payment is at a point where node and ledger may differ for a moment.
    fn is_quiet(&self) -> Result<bool, TreasuryError> {
        let store = self.store.as_ref();
        let lots = list::<Lot>(store, Filter::Open)?;
        let holds = list::<Hold>(store, Filter::Open)?;
        Ok(!lots.iter().any(|l| matches!(l.record.state, LotState::Paying { .. }))
            && !holds.iter().any(|h| matches!(h.record.state, HoldState::Claiming { .. }))
            && list::<Payout>(store, Filter::Open)?.is_empty()
            && list::<Remittance>(store, Filter::Open)?.iter().all(|r| r.record.holds() == Msat::ZERO))
    }

    /// Our side of the channels, while payments of ours of `sent` together are under way.
    fn holdings(&self, channels: &[Channel], sent: Msat) -> Result<Holdings, TreasuryError> {
        let held = list::<Hold>(self.store.as_ref(), Filter::Open)?.into_iter().filter_map(|h| {
            match h.record.state {
                HoldState::Held { locked, .. } | HoldState::Claiming { locked, .. } => Some(locked),
                _ => None,
            }
        });
        let in_flight = held.fold(sent, |sum, a| sum.checked_add(a).unwrap_or(sum));
        Ok(Holdings::of(channels, in_flight))
    }

    /// What closed channels took with them and has not come back, as far as the books and open channels tell. What is
    /// locked with their peers may be on them.
    fn owing(
        &self,
        known: &[ChannelRecord],
        open: &[Channel],
        in_flight: Msat,
    ) -> Result<Msat, TreasuryError> {
        let balances = self.store.balances()?;
        let balance = |account: &Account| balances.get(account).copied().unwrap_or(0);
        let ours = i64::try_from(self.holdings(open, in_flight)?.ours.msat()).unwrap_or(i64::MAX);
        let gone = balance(&Account::Channels) + balance(&Account::ChannelReserves) - ours;
        let owing = balance(&Account::Closing).saturating_add(gone.max(0));
        let mut sum = Msat::new(u64::try_from(owing).unwrap_or(0));
        let peers: BTreeSet<_> = known.iter().filter(|c| c.closed.is_some()).map(|c| c.peer).collect();
        for peer in peers {
            for lot in self.open_lots(peer)? {
                sum = sum.checked_add(lot).unwrap_or(sum);
            }
        }
        Ok(sum)
    }

    /// Moves what closed channels took with them out of the channels' account, sorts out reserves, and books the cost of
    /// channels of which nothing more will come.
    fn book_closing(
        &self,
        node_channels: &[Channel],
        closing: &[ClosedChannelFunds],
        in_flight: Msat,
        tip: u32,
    ) -> Result<(), TreasuryError> {
        let open = list::<ChannelRecord>(self.store.as_ref(), Filter::Open)?;
        let closed: Vec<_> = open.into_iter().filter(|c| c.record.closed.is_some()).collect();
        let holdings = self.holdings(node_channels, in_flight)?;
        if !holdings.exact {
            return Ok(());
        }
        let balances = self.store.balances()?;
        let balance = |account: &Account| balances.get(account).copied().unwrap_or(0);
        let number = self.store.last_entry()? + 1;
        let msat = |m: Msat| i64::try_from(m.msat()).unwrap_or(i64::MAX);
        let positive = |m: i64| Msat::new(u64::try_from(m).unwrap_or(0));

        let mut change = Change::new();
        let held = balance(&Account::Channels) + balance(&Account::ChannelReserves);
        let gone = if closed.is_empty() { 0 } else { held - msat(holdings.ours) };
        if gone > 0 {
            let names: Vec<_> = closed.iter().map(|c| c.record.channel_id.as_str()).collect();
            let legs = Legs::new().leg(&Account::Channels, &Account::Closing, positive(gone))?;
            change.book(legs.entry(format!("closing/{number}"), format!("closed: {}", names.join(", ")))?);
        }
        let more = msat(holdings.reserved) - balance(&Account::ChannelReserves);
        if more != 0 && held - gone.max(0) == msat(holdings.ours) {
            let legs = Legs::new().leg(&Account::Channels, &Account::ChannelReserves, positive(more))?.leg(
                &Account::ChannelReserves,
                &Account::Channels,
                positive(-more),
            )?;
            change.book(legs.entry(format!("reserves/{number}"), "what channels must keep has changed")?);
        }
        let coming = |c: &ChannelRecord| {
            let of_it = |f: &&ClosedChannelFunds| f.channel_id.as_deref() == Some(&c.channel_id);
            closing.iter().filter(of_it).any(|f| !f.in_wallet)
        };
        // A lot that is still locked may be on the channel, and then its HTLC is on the chain.
        let mut over = gone <= 0;
        for Versioned { record, version } in &closed {
            let rests = !coming(record) && self.open_lots(record.peer)?.is_empty();
            let quiet = if rests { record.quiet.or(Some(tip)) } else { None };
            over &= quiet.is_some_and(|since| tip >= since.saturating_add(QUIET));
            if quiet != record.quiet {
                change.put(&ChannelRecord { quiet, ..record.clone() }, *version)?;
            }
        }
        if over && !closed.is_empty() {
            let cost = balance(&Account::Closing);
            let legs = Legs::new().leg(&Account::Closing, &Account::OnChainFees, positive(cost))?.leg(
                &Account::OnChainFees,
                &Account::Closing,
                positive(-cost),
            )?;
            change.book(legs.entry(format!("closed/{number}"), "what closing channels cost")?);
            for channel in &closed {
                change.put(&ChannelRecord { settled: true, ..channel.record.clone() }, channel.version)?;
            }
        }
        match self.commit(&change) {
            Err(TreasuryError::Store(StoreError::Conflict { .. })) => Ok(()),
            other => other,
        }
    }

    /// The records that the node has payments of, at height `tip`. The node may already have forgotten those that it is
    /// about to be told to forget: `at_node` says.
    fn kept<R: Remembered>(
        &self,
        tip: u32,
        at_node: impl Fn(PaymentHash) -> bool,
    ) -> Result<Vec<R>, TreasuryError> {
        let kept = list::<R>(self.store.as_ref(), Filter::Kept)?.into_iter().map(|found| found.record);
        Ok(kept
            .filter_map(|mut r| (!r.memory().is_due(tip, REMEMBERED) || at_node(r.hash())).then_some(r))
            .collect())
    }

    /// Compares the ledger with the node, to the msat, payment by payment and place by place. Call it when nothing is on
    /// the move; what is on the move at that moment is named as a difference. Payments that the node was told to forget
    /// were compared for as long as it remembered them.
    ///
    /// # Errors
    /// Those of the wallet and the store.
    pub async fn reconcile(&self) -> Result<Books, TreasuryError> {
        self.book_chain().await?;
        let store = self.store.as_ref();
        let tip = self.wallet.tip().await?;
        let channels = self.wallet.channels().await?;
        let node = self.wallet.balances().await?;
        let payments = self.wallet.lightning_payments().await?;
        let sent = payments.iter().filter(|p| p.outgoing && p.pending).map(|p| p.amount);
        let sent = sent.fold(Msat::ZERO, |sum, a| sum.checked_add(a).unwrap_or(sum));
        let holdings = self.holdings(&channels, sent)?;
        let hashes: BTreeSet<_> = payments.iter().map(|p| p.hash).collect();
        let at_node = |hash| hashes.contains(&hash);
        let mut expected = Vec::new();
        for Lot { hash, amount, state, .. } in self.kept::<Lot>(tip, at_node)? {
            match state {
                LotState::Paying { .. } | LotState::Locked { .. } => {
                    expected.push(Expected::pending(hash, true, amount));
                }
                LotState::Settled { fee, .. } => expected.push(Expected::succeeded(hash, true, amount, fee)),
                LotState::Offered | LotState::CameBack { .. } => {}
            }
        }
        for Payout { hash, amount, state, .. } in self.kept::<Payout>(tip, at_node)? {
            match state {
                PayoutState::Paying => expected.push(Expected::pending(hash, true, amount)),
                PayoutState::Paid { fee, .. } => expected.push(Expected::succeeded(hash, true, amount, fee)),
                PayoutState::Failed { .. } => {}
            }
        }
        for (hash, amount, fee) in self.offers_paid()? {
            expected.push(Expected::succeeded(hash, true, amount, fee));
        }
        for hold in self.kept::<Hold>(tip, at_node)? {
            if let Hold { hash, state: HoldState::Settled { received, .. }, .. } = hold {
                expected.push(Expected::succeeded(hash, false, received, Msat::ZERO));
            }
        }
        for request in self.kept::<Request>(tip, at_node)? {
            if let Request { hash, state: RequestState::Paid { received }, .. } = request {
                expected.push(Expected::succeeded(hash, false, received, Msat::ZERO));
            }
        }
        let mut unbooked_in = Msat::ZERO;
        for payment in self.unbooked().await?.iter().filter(|p| !p.outgoing) {
            unbooked_in = unbooked_in.checked_add(payment.amount).unwrap_or(unbooked_in);
        }
        let balances = store.balances()?;
        let mut report =
            Report::of(&balances, &expected, &payments, &holdings, node.on_chain_sats, unbooked_in);
        // Receipts that nobody asked for are booked without a record of their own.
        let mut unrequested = Vec::new();
        for difference in report.differences.drain(..) {
            let booked = match &difference {
                Difference::Unknown { hash, outgoing: false, .. } => {
                    store.is_booked(&format!("request/{hash}/paid"))?
                }
                _ => false,
            };
            if !booked {
                unrequested.push(difference);
            }
        }
        report.differences = unrequested;
        Ok(Books { balances, report })
    }

    /// One channel that was ever seen.
    ///
    /// # Errors
    /// Those of the store.
    pub fn channel_record(&self, name: &str) -> Result<Option<ChannelRecord>, TreasuryError> {
        Ok(get::<ChannelRecord>(self.store.as_ref(), name)?.map(|c| c.record))
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
