//! Escrows that we pay: offer, lock, confirm, watch.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use watershed_protocol::{Msat, PaymentHash, Subject};

use super::{ATTEMPTS, Treasury, TreasuryError};
use crate::escrow::{CameBack, Lot, LotState, Terms};
use crate::ledger::Account;
use crate::store::{Change, Filter, Store, StoreError, Versioned, get, list};
use crate::wallet::{Invoice, NodeId, Outgoing, PayLimits, Wallet, WalletError};

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
    /// [`TreasuryError::Terms`], [`TreasuryError::OtherTerms`], [`TreasuryError::HashUsed`].
    pub fn offer(&self, offer: &Offer) -> Result<(), TreasuryError> {
        let Offer { terms, payee, budget, earner } = offer;
        terms.check()?;
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
        });
        let lots: Vec<_> = lots.collect();
        let known = self.lots(terms.subject)?;
        if !known.is_empty() {
            let offered = |lot: &Lot| Lot { attempt: 0, state: LotState::Offered, ..lot.clone() };
            let same = known.iter().map(|l| offered(&l.record)).eq(lots.iter().cloned());
            return if same { Ok(()) } else { Err(TreasuryError::OtherTerms(terms.subject)) };
        }
        let mut change = Change::new();
        for lot in &lots {
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
        let paying = self.paying_out(account)?;
        Ok(claim.checked_sub(locked).and_then(|left| left.checked_sub(paying)).unwrap_or_default())
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
        let (mut change, mut sending, mut needed) = (Change::new(), Vec::new(), Msat::ZERO);
        let open = lots.iter().filter(|l| waiting(&l.record)).count();
        for Versioned { record, version } in lots.iter().filter(|l| waiting(&l.record)) {
            let Some(invoice) = by_hash.get(&record.hash) else {
                return Err(TreasuryError::InvoiceCount { invoices: invoices.len(), lots: open });
            };
            let step = record.pay((*invoice).clone(), self.wallet.network(), tip, now)?;
            needed = needed.checked_add(record.amount).unwrap_or(Msat::new(u64::MAX));
            change.put(&step.next, *version)?;
            change.book(step.entry);
            sending.push((*invoice).clone());
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
        let capacity = self.capacity(payee).await?;
        if capacity.free_htlcs < sending.len() {
            return Err(TreasuryError::Slots { payee, needed: sending.len(), free: capacity.free_htlcs });
        }
        if capacity.spendable < needed {
            return Err(TreasuryError::Spendable { payee, needed, spendable: capacity.spendable });
        }
        let dust = sending.iter().map(Invoice::amount).filter(|amount| *amount < capacity.dust_below);
        let dust = dust.fold(Msat::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(sum));
        if dust > capacity.free_dust {
            return Err(TreasuryError::Dust {
                below: capacity.dust_below,
                sum: dust,
                free: capacity.free_dust,
            });
        }
        let hashes: Vec<_> = sending.iter().map(Invoice::hash).collect();
        self.sending().extend(hashes.iter().copied());
        let sent = match self.commit(&change) {
            Ok(()) => self.send_all(sending).await,
            Err(e) => Err(e),
        };
        self.sending().retain(|hash| !hashes.contains(hash));
        sent?;
        self.escrow(subject)
    }

    /// Sends one after the other: the node chooses the channel when it is asked, so it must have seen the one before. The
    /// HTLCs share commitments all the same.
    async fn send_all(&self, invoices: Vec<Invoice>) -> Result<(), TreasuryError> {
        for invoice in invoices {
            // Room for the window and no detour: escrows go over channels with the payee itself.
            let max_cltv = u32::try_from(invoice.final_cltv()).unwrap_or(u32::MAX).saturating_add(1);
            match self.wallet.pay(&invoice, PayLimits { max_fee: Msat::ZERO, max_cltv }).await {
                Ok(()) | Err(WalletError::AlreadyPaying) => {}
                Err(e) => {
                    self.step::<Lot, ()>(&invoice.hash().to_string(), |found, change| {
                        if let Some(step) = found.record.not_sent(e.to_string())? {
                            change.put(&step.next, found.version)?;
                            change.book(step.entry);
                        }
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
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

    /// Looks at what became of a lot.
    pub(super) async fn observe_lot(&self, hash: PaymentHash) -> Result<(), TreasuryError> {
        if get::<Lot>(self.store.as_ref(), &hash.to_string())?.is_none() {
            return Ok(());
        }
        let Some(node) = self.wallet.outgoing(hash).await? else { return Ok(()) };
        if node == Outgoing::Failed && self.sending().contains(&hash) {
            return Ok(());
        }
        let tip = self.wallet.tip().await?;
        self.step::<Lot, ()>(&hash.to_string(), |found, change| {
            if let Some(step) = found.record.observe(node, tip)? {
                if let LotState::CameBack { how: how @ CameBack::TimedOut { .. } } = &step.next.state {
                    self.notice(format!("the lot {hash} came back: {how}"));
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
        if lot.expired(tip)?.is_none()
            || self.wallet.outgoing(lot.hash).await? != Some(Outgoing::Pending)
            || !self.wallet.forget(lot.hash).await?
        {
            return Ok(());
        }
        self.step::<Lot, ()>(&lot.hash.to_string(), |found, change| {
            if let Some(step) = found.record.expired(tip)? {
                self.notice(format!(
                    "the lot {} was never sent: the node lost it when it was killed",
                    lot.hash
                ));
                change.put(&step.next, found.version)?;
                change.book(step.entry);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// After a crash: a lot that was being paid is sent if the node never heard of it.
    pub(super) async fn resume_lot(&self, lot: &Lot) -> Result<(), TreasuryError> {
        match (&lot.state, self.wallet.outgoing(lot.hash).await?) {
            (LotState::Paying { invoice, .. }, None) => self.send_all(vec![invoice.clone()]).await,
            // A failure of an earlier attempt says nothing of this one, which was perhaps never sent.
            (LotState::Paying { invoice, .. }, Some(Outgoing::Failed)) if lot.attempt > 1 => {
                self.send_all(vec![invoice.clone()]).await
            }
            (_, Some(_)) => self.observe_lot(lot.hash).await,
            (_, None) => Ok(()),
        }
    }
}
