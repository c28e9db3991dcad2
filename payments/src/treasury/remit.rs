//! Paying what is owed to a destination that was named beforehand: a BOLT 12 offer, a Lightning address, an invoice.
//!
//! # Steps
//! ```text
//! Waiting -> Sending (an invoice, as a payout)   -> Paid
//!        \-> Asking  (an offer)                  -> Paid
//! ```
//! What fails goes back to `Waiting` until its time comes again, or is given up when there are no tries left. What is
//! given up stays on the account, to be paid elsewhere. Between `Waiting` and a payment's being written down no other
//! payment from such an account begins, so an account never pays more than it has.
//!
//! # After a crash
//! `Sending` has the invoice, and its payout is resumed as all are. `Asking` has the note by which the node is asked what
//! became of it. A note that the node does not know was most likely never sent; but the node writes a payment down a
//! moment after it begins it, so that moment is waited for: a request for an invoice lives for two minutes.
//!
//! # Costs
//! The payee gets the whole amount; what the way costs, within a limit, is the house's.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, PaymentHash, Preimage};

use super::{Payout, PayoutState, Treasury, TreasuryError};
use crate::ledger::{Account, Legs};
use crate::store::{Change, Filter, Record, Store, StoreError, Versioned, get, list};
use crate::wallet::{
    AddressClient, Destination, Invoice, InvoiceError, Offer, OfferError, Outgoing, PayLimits, Wallet,
    WalletError,
};

/// First pause after a failure; each further one is twice as long.
const PAUSE: u64 = 10;

/// Longest pause.
const LONGEST_PAUSE: u64 = 6 * 3600;

/// How long the node must have run without knowing a note, in seconds, before it counts as never sent.
const FORGOTTEN: u64 = 600;

/// How a remittance stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RemitState {
    /// To be tried from a time on, in seconds since 1970.
    Waiting {
        /// When.
        until: u64,
        /// Why the last attempt failed; empty before the first.
        reason: String,
    },
    /// An invoice is being paid.
    Sending {
        /// Which.
        invoice: Invoice,
    },
    /// An offer is being paid.
    Asking {
        /// By which the node knows it.
        note: String,
        /// How much.
        amount: Msat,
        /// Since when the node has been asked in vain.
        missing: Option<u64>,
    },
    /// Done.
    Paid {
        /// Names the payment.
        payment: PaymentHash,
        /// How much arrived.
        amount: Msat,
        /// The proof.
        preimage: Preimage,
        /// Kept by forwarding nodes.
        fee: Msat,
    },
    /// Not to be tried again.
    GivenUp {
        /// Why.
        reason: String,
    },
}

/// Something owed, on its way to where it was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remittance {
    /// Names it.
    pub key: String,
    /// Whose claim shrinks.
    pub debit: Account,
    /// Where it goes.
    pub to: Destination,
    /// How often it was tried.
    pub attempt: u32,
    /// How often it may be.
    pub tries: u32,
    /// How it stands.
    #[serde(flatten)]
    pub state: RemitState,
}

impl Record for Remittance {
    const KIND: &'static str = "remittance";
    fn id(&self) -> String {
        self.key.clone()
    }
    fn group(&self) -> String {
        self.debit.to_string()
    }
    fn is_open(&self) -> bool {
        !matches!(self.state, RemitState::Paid { .. } | RemitState::GivenUp { .. })
    }
}

impl Remittance {
    /// What it holds of its account beyond what payouts hold.
    pub(super) fn holds(&self) -> Msat {
        match &self.state {
            RemitState::Asking { amount, .. } => *amount,
            _ => Msat::ZERO,
        }
    }

    /// What becomes of it when an attempt fails. Pure.
    fn failed(&self, reason: &str, lasting: bool, now: u64) -> RemitState {
        if lasting || self.attempt >= self.tries {
            return RemitState::GivenUp { reason: reason.to_owned() };
        }
        let pause = PAUSE.saturating_mul(1 << self.attempt.saturating_sub(1).min(20)).min(LONGEST_PAUSE);
        RemitState::Waiting { until: now.saturating_add(pause), reason: reason.to_owned() }
    }
}

/// Most that a way may cost: a hundredth, and something for small amounts.
fn max_fee(amount: Msat) -> Msat {
    Msat::new(amount.msat() / 100 + 5_000)
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Writes down that everything an account has is to go to a destination, to be tried so many times; an invoice gets
    /// what it asks for. Repeating it changes nothing. [`Treasury::advance`] carries it out.
    ///
    /// # Errors
    /// [`TreasuryError::NotAClaim`]; those of the store.
    pub fn remit(
        &self,
        key: &str,
        debit: Account,
        to: Destination,
        tries: u32,
    ) -> Result<Remittance, TreasuryError> {
        super::payments::claims_only(&debit)?;
        let state = RemitState::Waiting { until: 0, reason: String::new() };
        let made = Remittance { key: key.to_owned(), debit, to, attempt: 0, tries, state };
        let mut change = Change::new();
        change.put(&made, 0)?;
        match self.commit(&change) {
            Ok(()) => Ok(made),
            Err(TreasuryError::Store(StoreError::Conflict { .. })) => {
                Ok(self.remittance(key)?.map_or(made, |found| found.record))
            }
            Err(e) => Err(e),
        }
    }

    fn remittance(&self, key: &str) -> Result<Option<Versioned<Remittance>>, TreasuryError> {
        Ok(get::<Remittance>(self.store.as_ref(), key)?)
    }

    /// All remittances from an account, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remittances(&self, debit: &Account) -> Result<Vec<Remittance>, TreasuryError> {
        let found = list::<Remittance>(self.store.as_ref(), Filter::Group(&debit.to_string()))?;
        Ok(found.into_iter().map(|r| r.record).collect())
    }

    /// Does what a remittance calls for now: tries it when its time has come, looks what became of it when it is under way.
    /// Safe to repeat.
    ///
    /// # Errors
    /// Those of the store and the node. What goes wrong with the payment is in the remittance.
    pub async fn advance(
        &self,
        key: &str,
        addresses: &AddressClient,
    ) -> Result<Option<Remittance>, TreasuryError> {
        let Some(found) = self.remittance(key)? else { return Ok(None) };
        match &found.record.state {
            RemitState::Waiting { until, .. } if self.now().as_secs() >= *until => {
                self.try_remittance(&found.record, addresses).await?;
            }
            RemitState::Sending { invoice } => {
                let _one = self.remitting.lock().await;
                self.look_at_payout(key, invoice).await?;
            }
            RemitState::Asking { .. } => self.observe_offers().await?,
            _ => {}
        }
        Ok(self.remittance(key)?.map(|found| found.record))
    }

    async fn try_remittance(&self, r: &Remittance, addresses: &AddressClient) -> Result<(), TreasuryError> {
        let (network, now) = (self.wallet.network(), self.now());
        let amount = self.available(&r.debit)?;
        match &r.to {
            Destination::Invoice(invoice) => self.send_invoice(&r.key, invoice, invoice.amount()).await,
            _ if amount == Msat::ZERO => {
                // What another remittance holds may come back.
                let held = self.remittances(&r.debit)?.iter().any(|o| o.key != r.key && o.is_open());
                self.postpone(&r.key, "nothing is left", !held)
            }
            Destination::Address(address) => match addresses.invoice(address, amount, network, now).await {
                Ok(invoice) => self.send_invoice(&r.key, &invoice, amount).await,
                Err(e) => self.postpone(&r.key, &e.to_string(), false),
            },
            Destination::Offer(offer) => match offer.check_amount(amount, network, now) {
                Ok(()) => self.send_offer(&r.key, offer, amount).await,
                Err(e) => self.postpone(&r.key, &e.to_string(), !matches!(e, OfferError::Little { .. })),
            },
        }
    }

    /// Steps a remittance that waits; whether it did.
    fn begin(&self, key: &str, state: &RemitState) -> Result<Option<Remittance>, TreasuryError> {
        let begun = self.step::<Remittance, _>(key, |found, change| {
            if !matches!(found.record.state, RemitState::Waiting { .. }) {
                return Ok(None);
            }
            let attempt = found.record.attempt + 1;
            let next = Remittance { attempt, state: state.clone(), ..found.record.clone() };
            change.put(&next, found.version)?;
            if let RemitState::Asking { amount, .. } = state {
                let lock = Legs::new().leg(&Account::Channels, &Account::Escrow, *amount)?;
                change.book(lock.entry(format!("remit/{key}/send/{attempt}"), "an offer is being paid")?);
            }
            Ok(Some(next))
        })?;
        Ok(begun.flatten())
    }

    /// Counts an attempt that did not get as far as a payment.
    fn postpone(&self, key: &str, reason: &str, lasting: bool) -> Result<(), TreasuryError> {
        let now = self.now().as_secs();
        self.step::<Remittance, ()>(key, |found, change| {
            if matches!(found.record.state, RemitState::Waiting { .. }) {
                let tried = Remittance { attempt: found.record.attempt + 1, ..found.record.clone() };
                let state = tried.failed(reason, lasting, now);
                change.put(&Remittance { state, ..tried }, found.version)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    async fn send_invoice(&self, key: &str, invoice: &Invoice, amount: Msat) -> Result<(), TreasuryError> {
        let _one = self.remitting.lock().await;
        let Some(found) = self.remittance(key)? else { return Ok(()) };
        let available = self.available(&found.record.debit)?;
        if available < amount {
            return self.postpone(key, &format!("{available} are left, {amount} are needed"), true);
        }
        let used = get::<Payout>(self.store.as_ref(), &invoice.hash().to_string())?.is_some();
        if used || self.wallet.outgoing(invoice.hash()).await?.is_some() {
            return self.postpone(key, "this invoice was paid or tried before; give a new one", true);
        }
        if self.begin(key, &RemitState::Sending { invoice: invoice.clone() })?.is_some() {
            self.look_at_payout(key, invoice).await?;
        }
        Ok(())
    }

    /// With the lock held: begins the payout if it is not there, or ends the remittance as it ended.
    async fn look_at_payout(&self, key: &str, invoice: &Invoice) -> Result<(), TreasuryError> {
        let Some(found) = self.remittance(key)? else { return Ok(()) };
        let payout = match self.payout(invoice.hash()) {
            Ok(payout) => payout,
            Err(TreasuryError::NoPayment(_)) => {
                let (debit, fee) = (found.record.debit, max_fee(invoice.amount()));
                match self.begin_payout(invoice, fee, debit, invoice.amount()).await {
                    Ok(payout) => payout,
                    Err(e @ (TreasuryError::Invoice(_) | TreasuryError::Budget { .. })) => {
                        let expired = matches!(e, TreasuryError::Invoice(InvoiceError::Expired(_)));
                        let lasting = matches!(found.record.to, Destination::Invoice(_)) || !expired;
                        return self.end_sending(key, Err((e.to_string(), lasting)));
                    }
                    Err(e) => return Err(e),
                }
            }
            Err(e) => return Err(e),
        };
        match payout.state {
            PayoutState::Paying => Ok(()),
            PayoutState::Paid { preimage, fee } => {
                let (payment, amount) = (payout.hash, payout.amount);
                self.end_sending(key, Ok(RemitState::Paid { payment, amount, preimage, fee }))
            }
            PayoutState::Failed { reason } => {
                // The same invoice would be refused as used before.
                let lasting = matches!(found.record.to, Destination::Invoice(_));
                self.end_sending(key, Err((reason, lasting)))
            }
        }
    }

    fn end_sending(&self, key: &str, end: Result<RemitState, (String, bool)>) -> Result<(), TreasuryError> {
        let now = self.now().as_secs();
        self.step::<Remittance, ()>(key, |found, change| {
            if matches!(found.record.state, RemitState::Sending { .. }) {
                let state = match &end {
                    Ok(state) => state.clone(),
                    Err((reason, lasting)) => found.record.failed(reason, *lasting, now),
                };
                change.put(&Remittance { state, ..found.record.clone() }, found.version)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    async fn send_offer(&self, key: &str, offer: &Offer, amount: Msat) -> Result<(), TreasuryError> {
        let _one = self.remitting.lock().await;
        let Some(found) = self.remittance(key)? else { return Ok(()) };
        let available = self.available(&found.record.debit)?;
        if available < amount {
            return self.postpone(key, &format!("{available} are left, {amount} are needed"), false);
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| WalletError::Task(format!("no random bytes: {e}")))?;
        let note = format!("watershed {}", hex::encode(random));
        if self.begin(key, &RemitState::Asking { note: note.clone(), amount, missing: None })?.is_none() {
            return Ok(());
        }
        let limits = PayLimits { max_fee: max_fee(amount), max_cltv: 1008 };
        match self.wallet.pay_offer(offer, amount, note, limits).await {
            Ok(()) => Ok(()),
            Err(WalletError::NotSent(reason)) => self.end_asking(key, Err(reason.to_owned())),
            // It may have been sent: the node is asked about its note.
            Err(e) => {
                self.notice(format!("whether an offer is being paid is found out: {e}"));
                Ok(())
            }
        }
    }

    fn end_asking(
        &self,
        key: &str,
        end: Result<(PaymentHash, Preimage, Msat), String>,
    ) -> Result<(), TreasuryError> {
        let now = self.now().as_secs();
        self.step::<Remittance, ()>(key, |found, change| {
            let Remittance { debit, attempt, .. } = &found.record;
            let RemitState::Asking { amount, .. } = found.record.state else { return Ok(()) };
            let (state, entry) = match &end {
                Ok((payment, preimage, fee)) => (
                    RemitState::Paid { payment: *payment, amount, preimage: *preimage, fee: *fee },
                    Legs::new()
                        .leg(&Account::Escrow, debit, amount)?
                        .leg(&Account::Channels, &Account::RoutingFees, *fee)?
                        .entry(format!("remit/{key}/paid"), "an offer was paid")?,
                ),
                Err(reason) => (
                    found.record.failed(reason, false, now),
                    Legs::new()
                        .leg(&Account::Escrow, &Account::Channels, amount)?
                        .entry(format!("remit/{key}/back/{attempt}"), reason.clone())?,
                ),
            };
            change.put(&Remittance { state, ..found.record.clone() }, found.version)?;
            change.book(entry);
            Ok(())
        })?;
        Ok(())
    }

    fn asking(&self) -> Result<Vec<Remittance>, TreasuryError> {
        let open = list::<Remittance>(self.store.as_ref(), Filter::Open)?.into_iter().map(|r| r.record);
        Ok(open.filter(|r| matches!(r.state, RemitState::Asking { .. })).collect())
    }

    /// Asks the node what became of offers that are being paid.
    pub(super) async fn observe_offers(&self) -> Result<(), TreasuryError> {
        // While one is being sent the node does not know it yet.
        let Ok(_one) = self.remitting.try_lock() else { return Ok(()) };
        for r in self.asking()? {
            let RemitState::Asking { note, missing, .. } = &r.state else { continue };
            let Some(found) = self.wallet.offer_payment(note.clone()).await? else {
                let now = self.now().as_secs();
                match missing {
                    Some(since) if now.saturating_sub(*since) > FORGOTTEN => {
                        self.end_asking(&r.key, Err("the node never heard of it".to_owned()))?;
                    }
                    Some(_) => {}
                    None => self.set_missing(&r.key, Some(now))?,
                }
                continue;
            };
            match (found.outcome, found.hash) {
                (Outgoing::Succeeded { preimage, fee }, hash) => {
                    self.end_asking(&r.key, Ok((hash.unwrap_or(preimage.hash()), preimage, fee)))?;
                }
                (Outgoing::Failed, _) => {
                    let reason = "the payee did not answer, or no route carried the payment";
                    self.end_asking(&r.key, Err(reason.to_owned()))?;
                }
                (Outgoing::Pending, _) => {}
            }
        }
        Ok(())
    }

    fn set_missing(&self, key: &str, missing: Option<u64>) -> Result<(), TreasuryError> {
        self.step::<Remittance, ()>(key, |found, change| {
            if let RemitState::Asking { note, amount, .. } = &found.record.state {
                let state = RemitState::Asking { note: note.clone(), amount: *amount, missing };
                change.put(&Remittance { state, ..found.record.clone() }, found.version)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// After a start: the time for which a note is missed counts from now, as requests for invoices do.
    pub(super) async fn resume_offers(&self) -> Result<(), TreasuryError> {
        for r in self.asking()? {
            self.set_missing(&r.key, None)?;
        }
        self.observe_offers().await
    }

    /// A payment of ours arrived that is none of our records': if exactly one offer is being paid of which the node has no
    /// note, because it was killed in that moment, this is it.
    pub(super) fn adopt_sent(
        &self,
        hash: PaymentHash,
        preimage: Preimage,
        fee: Msat,
    ) -> Result<(), TreasuryError> {
        let store = self.store.as_ref();
        let known = get::<Payout>(store, &hash.to_string())?.is_some()
            || get::<crate::escrow::Lot>(store, &hash.to_string())?.is_some();
        let lost = |r: &Remittance| matches!(r.state, RemitState::Asking { missing: Some(_), .. });
        let lost: Vec<Remittance> = self.asking()?.into_iter().filter(lost).collect();
        match &lost[..] {
            [one] if !known => self.end_asking(&one.key, Ok((hash, preimage, fee))),
            _ => Ok(()),
        }
    }

    /// Offers that were paid, for the comparison with the node.
    pub(super) fn offers_paid(&self) -> Result<Vec<(PaymentHash, Msat, Msat)>, TreasuryError> {
        let all = list::<Remittance>(self.store.as_ref(), Filter::Latest(u32::MAX))?;
        let paid = all.into_iter().filter_map(|r| match (r.record.to, r.record.state) {
            (Destination::Offer(_), RemitState::Paid { payment, amount, fee, .. }) => {
                Some((payment, amount, fee))
            }
            _ => None,
        });
        Ok(paid.collect())
    }

    /// Waits until a remittance is no longer under way, as long as `limit`; how it stands then.
    ///
    /// # Errors
    /// Those of the store and the node.
    pub async fn settle_remittance(
        &self,
        key: &str,
        addresses: &AddressClient,
        limit: Duration,
    ) -> Result<Option<Remittance>, TreasuryError> {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let mut changes = self.changes();
            let found = self.advance(key, addresses).await?;
            let waits = |r: &Remittance| matches!(r.state, RemitState::Waiting { .. });
            if found.as_ref().is_none_or(|r| !r.is_open() || waits(r)) || tokio::time::Instant::now() > end {
                return Ok(found);
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_tries_end() {
        let mut r = Remittance {
            key: "k".into(),
            debit: Account::Operator,
            to: "ada@example.org".parse().unwrap(),
            attempt: 1,
            tries: 16,
            state: RemitState::Waiting { until: 0, reason: String::new() },
        };
        let until = |r: &Remittance| match r.failed("x", false, 1000) {
            RemitState::Waiting { until, .. } => until - 1000,
            other => panic!("{other:?}"),
        };
        let pauses: Vec<u64> = (1..16)
            .map(|attempt| {
                r.attempt = attempt;
                until(&r)
            })
            .collect();
        assert_eq!(pauses[..4], [10, 20, 40, 80]);
        assert!(pauses.windows(2).all(|w| w[0] <= w[1]) && pauses[14] == LONGEST_PAUSE);
        assert!(pauses.iter().sum::<u64>() > 24 * 3600, "a server may be away for a day");
        r.attempt = 16;
        assert!(matches!(r.failed("x", false, 0), RemitState::GivenUp { .. }));
        r.attempt = 1;
        assert!(matches!(r.failed("x", true, 0), RemitState::GivenUp { .. }));
    }
}
