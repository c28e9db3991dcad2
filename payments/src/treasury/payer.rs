//! Escrows that we pay: offer, lock, confirm, watch.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use watershed_protocol::{Msat, PaymentHash, Subject};

use super::{ATTEMPTS, Treasury, TreasuryError};
use crate::escrow::{CameBack, Lot, LotState, Terms};
use crate::ledger::Account;
use crate::store::{Change, Filter, NodeMemory, Store, StoreError, Versioned, get, list};
use crate::treasury::Payout;
use crate::wallet::{Invoice, InvoiceError, NodeId, Outgoing, PayLimits, Wallet, WalletError};

/// An escrow that we want to pay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// What for, how long, which lots.
    pub terms: Terms,
    /// To whom.
    pub payee: NodeId,
    /// From what.
    pub budget: Account,
    /// In whose name it is earned.
    pub earner: Account,
}

/// A lot as we, its payer, see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LotStatus {
    /// Which.
    pub hash: PaymentHash,
    /// How much.
    pub amount: Msat,
    /// Where it stands.
    #[serde(flatten)]
    pub state: LotState,
}

impl From<Lot> for LotStatus {
    fn from(lot: Lot) -> Self {
        Self { hash: lot.hash, amount: lot.amount, state: lot.state }
    }
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Writes down an escrow that is to be paid. Offering it again changes nothing.
    ///
    /// # Errors
    /// [`TreasuryError::Terms`], [`TreasuryError::OtherTerms`], [`TreasuryError::HashUsed`]; a window that the network
    /// forbids.
    pub fn offer(&self, offer: &Offer) -> Result<(), TreasuryError> {
        let Offer { terms, payee, budget, earner } = offer;
        terms.check()?;
        if *payee == self.wallet.node_id() {
            return Err(WalletError::Itself.into());
        }
        self.wallet.limits().final_cltv_for(terms.window)?;
        for account in [budget, earner] {
            if account.is_place() || matches!(account, Account::RoutingFees | Account::OnChainFees) {
                return Err(TreasuryError::NotAClaim(account.clone()));
            }
        }
        let lots = terms.lots.iter().map(|lot| Lot {
            hash: lot.hash,
            subject: terms.subject,
            payee: *payee,
            amount: lot.amount,
            window: terms.window,
            budget: budget.clone(),
            earner: earner.clone(),
            attempt: 0,
            state: LotState::Offered,
            memory: NodeMemory::Needed,
        });
        let lots: Vec<_> = lots.collect();
        let known = self.lots(terms.subject)?;
        if !known.is_empty() {
            let offered = |lot: &Lot| Lot {
                attempt: 0,
                state: LotState::Offered,
                memory: NodeMemory::Needed,
                ..lot.clone()
            };
            let same = known.iter().map(|l| offered(&l.record)).eq(lots.iter().cloned());
            return if same { Ok(()) } else { Err(TreasuryError::OtherTerms(terms.subject)) };
        }
        let mut change = Change::new();
        for lot in &lots {
            // The node pays a hash once: a second record of it would book that payment twice.
            if get::<Payout>(self.store.as_ref(), &lot.hash.to_string())?.is_some() {
                return Err(TreasuryError::HashUsed(lot.hash));
            }
            change.put(lot, 0)?;
        }
        match self.commit(&change) {
            Err(TreasuryError::Store(StoreError::Conflict { id, .. })) => {
                let hash = id.parse().unwrap_or(PaymentHash::from_bytes([0; 32]));
                Err(TreasuryError::HashUsed(hash))
            }
            other => other,
        }
    }

    fn lots(&self, subject: Subject) -> Result<Vec<Versioned<Lot>>, TreasuryError> {
        Ok(list::<Lot>(self.store.as_ref(), Filter::Group(&subject.to_string()))?)
    }

    /// What an account may still spend: its claim, less what is locked in its name.
    ///
    /// # Errors
    /// Those of the store.
    pub fn available(&self, account: &Account) -> Result<Msat, TreasuryError> {
        let claim = self.store.balances()?.get(account).copied().unwrap_or(0).checked_neg().unwrap_or(0);
        let claim = Msat::new(u64::try_from(claim).unwrap_or(0));
        let open = list::<Lot>(self.store.as_ref(), Filter::Open)?.into_iter().map(|l| l.record);
        let locked = open.filter(|lot| lot.budget == *account && lot.state != LotState::Offered);
        let locked = locked.fold(Msat::ZERO, |sum, lot| sum.checked_add(lot.amount).unwrap_or(sum));
        let leaving = self.paying_out(account)?.checked_add(self.withdrawing(account)?).unwrap_or(claim);
        Ok(claim.checked_sub(locked).and_then(|left| left.checked_sub(leaving)).unwrap_or_default())
    }

    /// Locks the lots of an escrow: checks every invoice, the budget and the channels, writes it down, then sends all at
    /// once. Lots that are on the way or settled are left alone; those that came back are locked again.
    ///
    /// # Errors
    /// [`TreasuryError`]; then nothing was sent. A lot that the node refuses to send is no error: it is back at once.
    pub async fn lock(
        &self,
        subject: Subject,
        invoices: &[Invoice],
    ) -> Result<Vec<LotStatus>, TreasuryError> {
        let lots = self.lots(subject)?;
        let Some(payee) = lots.first().map(|l| l.record.payee) else {
            return Err(TreasuryError::NoEscrow(subject));
        };
        let by_hash: BTreeMap<_, _> = invoices.iter().map(|i| (i.hash(), i)).collect();
        let waiting = |lot: &Lot| matches!(lot.state, LotState::Offered | LotState::CameBack { .. });
        let (tip, now) = (self.wallet.tip().await?, self.now());
        let (network, limits) = (self.wallet.network(), self.wallet.limits());
        let (mut change, mut sending, mut needed) = (Change::new(), Vec::new(), Msat::ZERO);
        let open = lots.iter().filter(|l| waiting(&l.record)).count();
        for Versioned { record, version } in lots.iter().filter(|l| waiting(&l.record)) {
            let Some(invoice) = by_hash.get(&record.hash) else {
                let strange = by_hash.keys().find(|hash| lots.iter().all(|l| l.record.hash != **hash));
                return Err(match strange {
                    Some(found) => InvoiceError::Hash { found: *found, wanted: record.hash }.into(),
                    None => TreasuryError::InvoiceCount { invoices: invoices.len(), lots: open },
                });
            };
            let step = record.pay((*invoice).clone(), (network, &limits), tip, now)?;
            needed = needed.checked_add(record.amount).unwrap_or(Msat::new(u64::MAX));
            change.put(&step.next, *version)?;
            change.book(step.entry);
            sending.push(((*invoice).clone(), record.attempt > 0));
        }
        if sending.is_empty() {
            return self.escrow(subject);
        }
        if let Some(budget) = lots.first().map(|l| l.record.budget.clone()) {
            let available = self.available(&budget)?;
            if available < needed {
                return Err(TreasuryError::Budget { account: budget, available, needed });
            }
        }
        let amounts: Vec<_> = sending.iter().map(|(invoice, _)| invoice.amount()).collect();
        let capacity = self.capacity(payee).await?;
        if capacity.free_htlcs < sending.len() {
            return Err(TreasuryError::Slots { payee, needed: sending.len(), free: capacity.free_htlcs });
        }
        if capacity.spendable < needed {
            return Err(TreasuryError::Spendable { payee, needed, spendable: capacity.spendable });
        }
        if let Some(lot) = amounts.iter().copied().find(|amount| *amount > capacity.largest) {
            return Err(TreasuryError::Largest { payee, lot, largest: capacity.largest });
        }
        let dust = amounts.iter().filter(|amount| **amount < capacity.dust_below);
        let dust = dust.fold(Msat::ZERO, |sum, amount| sum.checked_add(*amount).unwrap_or(sum));
        if dust > capacity.free_dust {
            return Err(TreasuryError::Dust {
                below: capacity.dust_below,
                sum: dust,
                free: capacity.free_dust,
            });
        }
        let hashes: Vec<_> = sending.iter().map(|(invoice, _)| invoice.hash()).collect();
        let _sending = self.payments.read().await;
        self.moving().sending.extend(hashes.iter().copied());
        let sent = match self.commit(&change) {
            Ok(()) => self.send_all(sending).await,
            Err(e) => Err(e),
        };
        self.moving().sending.retain(|hash| !hashes.contains(hash));
        sent?;
        self.escrow(subject)
    }

    /// Sends one after the other: the node chooses the channel when it is asked, so it must have seen the one before. The
    /// HTLCs share commitments all the same. With each goes whether it was sent before and came back.
    async fn send_all(&self, lots: Vec<(Invoice, bool)>) -> Result<(), TreasuryError> {
        for (invoice, again) in lots {
            let hash = invoice.hash();
            // Then whatever the node says of it from now on is said of this attempt.
            let sent = if again && !self.wallet.forget(vec![hash]).await.is_ok_and(|gone| !gone.is_empty()) {
                Err(WalletError::NotSent("the node has not done with it yet"))
            } else {
                self.wallet.pay(&invoice, escrow_limits(&invoice)).await
            };
            match self.reconciled(hash, sent).await? {
                Ok(()) | Err(WalletError::AlreadyPaying) => {}
                Err(e @ (WalletError::NotSent(_) | WalletError::HashIsOurs)) => {
                    self.bring_back(hash, &e)?;
                }
                Err(e) => {
                    self.notice(format!(
                        "nobody knows whether the lot {hash} was sent, so it is asked for again: {e}"
                    ));
                    self.moving().unknown.insert(hash);
                }
            }
        }
        Ok(())
    }

    /// Books a lot back of which it is proved that nothing was sent.
    fn bring_back(&self, hash: PaymentHash, why: &WalletError) -> Result<(), TreasuryError> {
        self.step::<Lot, ()>(&hash.to_string(), |found, change| {
            if let Some(step) = found.record.not_sent(why.to_string())? {
                change.put(&step.next, found.version)?;
                change.book(step.entry);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Asks the node again for a lot of which nobody knows whether it was sent. Whether no more asking is needed.
    pub(super) async fn ask_lot_again(&self, hash: PaymentHash, tip: u32) -> Result<bool, TreasuryError> {
        let Some(found) = get::<Lot>(self.store.as_ref(), &hash.to_string())? else { return Ok(true) };
        let Lot { payee, amount, state: LotState::Paying { invoice, .. }, .. } = found.record else {
            return Ok(true);
        };
        if self.wallet.outgoing(hash).await?.is_some() {
            self.observe_lot(hash, None).await?;
            return Ok(true);
        }
        // LDK looks for a route before it looks whether it is paying already, so a refusal says nothing of the first time:
        // it is asked when it must find one. What cannot be asked for any more ends with `expire_lot`.
        if self.now() >= invoice.expires_at() {
            return Ok(true);
        }
        let channels = self.wallet.channels().await?;
        if !channels.iter().any(|c| c.peer == payee && c.usable && c.next_htlc >= amount) {
            return Ok(false);
        }
        let _sending = self.payments.read().await;
        let limits = self.wallet.limits();
        self.step::<Lot, ()>(&hash.to_string(), |found, change| {
            if let Some(step) = found.record.ask_again(tip, &limits) {
                change.put(&step.next, found.version)?;
            }
            Ok(())
        })?;
        let sent = self.wallet.pay(&invoice, escrow_limits(&invoice)).await;
        match self.reconciled(hash, sent).await? {
            Ok(()) | Err(WalletError::AlreadyPaying) => Ok(true),
            Err(e @ WalletError::HashIsOurs) => {
                self.bring_back(hash, &e)?;
                Ok(true)
            }
            // LDK Node has noted this refusal as a failure of the payment.
            Err(WalletError::NotSent(_)) => {
                self.wallet.forget(vec![hash]).await?;
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    /// Takes the payee's word that lots are locked, as far as our own node bears it out.
    ///
    /// # Errors
    /// [`crate::escrow::LotError`] of the first lot whose report does not hold.
    pub async fn confirm(
        &self,
        subject: Subject,
        reports: &[(PaymentHash, u32)],
    ) -> Result<Vec<LotStatus>, TreasuryError> {
        let tip = self.wallet.tip().await?;
        let mut in_flight = BTreeMap::new();
        for (hash, _) in reports {
            in_flight.insert(*hash, self.wallet.outgoing(*hash).await?);
        }
        let mut left = ATTEMPTS;
        loop {
            let lots = self.lots(subject)?;
            // All at once: one write for an escrow, not one for each lot.
            let mut change = Change::new();
            for (hash, deadline) in reports {
                let found = lots.iter().find(|l| l.record.hash == *hash);
                let found = found.ok_or(TreasuryError::NoPayment(*hash))?;
                let node = in_flight.get(hash).copied().flatten();
                if let Some(step) = found.record.confirm(*deadline, tip, node)? {
                    change.put(&step.next, found.version)?;
                }
            }
            match self.commit(&change) {
                // News of one of them came between.
                Err(TreasuryError::Store(StoreError::Conflict { .. })) if left > 0 => left -= 1,
                other => {
                    other?;
                    break;
                }
            }
        }
        self.escrow(subject)
    }

    /// How the lots of an escrow that we pay stand.
    ///
    /// # Errors
    /// [`TreasuryError::NoEscrow`].
    pub fn escrow(&self, subject: Subject) -> Result<Vec<LotStatus>, TreasuryError> {
        let lots = self.lots(subject)?;
        if lots.is_empty() {
            return Err(TreasuryError::NoEscrow(subject));
        }
        Ok(lots.into_iter().map(|l| l.record.into()).collect())
    }

    /// Withdraws the offer of lots that are not locked.
    ///
    /// # Errors
    /// [`TreasuryError::NoEscrow`]; [`crate::escrow::LotError::NotWithdrawable`] for the first lot that is on the way.
    pub fn withdraw_offer(&self, subject: Subject) -> Result<Vec<LotStatus>, TreasuryError> {
        for lot in self.lots(subject)? {
            self.step::<Lot, ()>(&lot.record.hash.to_string(), |found, change| {
                if let Some(step) = found.record.withdraw()? {
                    change.put(&step.next, found.version)?;
                }
                Ok(())
            })?;
        }
        self.escrow(subject)
    }

    /// Looks at what became of a lot. `told` is what an event said: it counts if it proves itself, or if the node has lost
    /// its record and there was one attempt only.
    pub(super) async fn observe_lot(
        &self,
        hash: PaymentHash,
        told: Option<Outgoing>,
    ) -> Result<(), TreasuryError> {
        let Some(found) = get::<Lot>(self.store.as_ref(), &hash.to_string())? else { return Ok(()) };
        let node = match (self.wallet.outgoing(hash).await?, told) {
            (_, Some(paid @ Outgoing::Succeeded { .. })) => paid,
            (Some(known), _) => known,
            (None, Some(told)) if found.record.attempt == 1 => told,
            (None, _) => return Ok(()),
        };
        if node == Outgoing::Failed && self.is_sending(hash) {
            return Ok(());
        }
        let tip = self.wallet.tip().await?;
        self.step::<Lot, ()>(&hash.to_string(), |found, change| {
            if let Some(step) = found.record.observe(node, tip)? {
                match (&found.record.state, &step.next.state) {
                    (_, LotState::CameBack { how: how @ CameBack::TimedOut { .. } }) => {
                        self.notice(format!("the lot {hash} came back: {how}"));
                    }
                    (LotState::CameBack { .. }, _) => {
                        self.notice(format!("the lot {hash} was thought to be back, and was paid"));
                    }
                    _ => {}
                }
                change.put(&step.next, found.version)?;
                change.book(step.entry);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Gives up on a lot that the node has lost.
    pub(super) async fn expire_lot(&self, lot: &Lot, tip: u32) -> Result<(), TreasuryError> {
        let (hash, limits) = (lot.hash, self.wallet.limits());
        if lot.expired(tip, &limits)?.is_none() {
            return Ok(());
        }
        if let Some(Outgoing::Succeeded { .. } | Outgoing::Failed) = self.wallet.outgoing(hash).await? {
            return self.observe_lot(hash, None).await;
        }
        if self.wallet.forget(vec![hash]).await?.is_empty() {
            return Ok(());
        }
        self.step::<Lot, ()>(&hash.to_string(), |found, change| {
            if let Some(step) = found.record.expired(tip, &limits)? {
                self.notice(format!("the lot {hash} was never sent: the node lost it when it was killed"));
                change.put(&step.next, found.version)?;
                change.book(step.entry);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// After a crash: a lot that was being paid is asked for again if the node never heard of it.
    pub(super) async fn resume_lot(&self, lot: &Lot) -> Result<(), TreasuryError> {
        match (&lot.state, self.wallet.outgoing(lot.hash).await?) {
            (LotState::Paying { .. }, None) => {
                self.moving().unknown.insert(lot.hash);
                Ok(())
            }
            (_, Some(_)) => self.observe_lot(lot.hash, None).await,
            (_, None) => Ok(()),
        }
    }
}

/// Room for the window and no detour: escrows go over channels with the payee itself.
fn escrow_limits(invoice: &Invoice) -> PayLimits {
    let max_cltv = u32::try_from(invoice.final_cltv()).unwrap_or(u32::MAX).saturating_add(1);
    PayLimits { max_fee: Msat::ZERO, max_cltv }
}
