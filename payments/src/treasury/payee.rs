//! Escrows that we are paid by: accept, hold, settle or give back, receipt.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Envelope, Msat, PaymentHash, Preimage, Receipt, Subject};

use super::{Treasury, TreasuryError};
use crate::escrow::{Hold, HoldEffect, HoldError, HoldEvent, HoldState, Purpose, Terms};
use crate::store::{Change, Filter, NodeMemory, Store, StoreError, Versioned, get, list};
use crate::wallet::{HoldRequest, Incoming, Invoice, Wallet};

/// How long the invoices of an escrow can be paid.
const INVOICE_EXPIRY: Duration = Duration::from_secs(3600);

/// A hold as we, its payee, see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Which.
    pub hash: PaymentHash,
    /// What was agreed.
    pub amount: Msat,
    /// To be paid.
    pub invoice: Invoice,
    /// Where it stands.
    #[serde(flatten)]
    pub state: HoldState,
}

impl From<Hold> for HoldStatus {
    fn from(hold: Hold) -> Self {
        Self { hash: hold.hash, amount: hold.amount, invoice: hold.invoice, state: hold.state }
    }
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Makes the hold invoices of an escrow. Accepting the same terms again gives the same invoices, while they last.
    ///
    /// # Errors
    /// [`TreasuryError::Terms`], [`TreasuryError::OtherTerms`], [`TreasuryError::HashUsed`].
    pub async fn accept(&self, terms: &Terms) -> Result<Vec<HoldStatus>, TreasuryError> {
        terms.check()?;
        let known = self.holds(&terms.subject.to_string())?;
        if !known.is_empty() {
            let same = known.len() == terms.lots.len()
                && known.iter().zip(&terms.lots).all(|(hold, lot)| {
                    let hold = &hold.record;
                    (hold.hash, hold.amount, hold.window) == (lot.hash, lot.amount, terms.window)
                });
            if !same {
                return Err(TreasuryError::OtherTerms(terms.subject));
            }
            return self.held(terms.subject);
        }
        let mut change = Change::new();
        for lot in &terms.lots {
            if get::<Hold>(self.store.as_ref(), &lot.hash.to_string())?.is_some() {
                return Err(TreasuryError::HashUsed(lot.hash));
            }
            let invoice = self
                .hold_invoice(
                    lot.hash,
                    lot.amount,
                    terms.window,
                    INVOICE_EXPIRY,
                    format!("escrow {}", terms.subject),
                )
                .await?;
            let purpose = Purpose::Lot { subject: terms.subject };
            let (hash, amount, window) = (lot.hash, lot.amount, terms.window);
            let (state, memory) = (HoldState::Invoiced, NodeMemory::Needed);
            change.put(&Hold { hash, purpose, amount, window, invoice, state, memory }, 0)?;
        }
        match self.commit(&change) {
            // Somebody accepted the same terms meanwhile.
            Err(TreasuryError::Store(StoreError::Conflict { .. })) => self.held(terms.subject),
            other => {
                other?;
                self.held(terms.subject)
            }
        }
    }

    pub(super) async fn hold_invoice(
        &self,
        hash: PaymentHash,
        amount: Msat,
        window: u32,
        expiry: Duration,
        description: String,
    ) -> Result<Invoice, TreasuryError> {
        let final_cltv = self.wallet.limits().final_cltv_for(window)?;
        Ok(self.wallet.hold_invoice(HoldRequest { hash, amount, description, expiry, final_cltv }).await?)
    }

    pub(super) fn holds(&self, group: &str) -> Result<Vec<Versioned<Hold>>, TreasuryError> {
        Ok(list::<Hold>(self.store.as_ref(), Filter::Group(group))?)
    }

    /// How the lots of an escrow that we are paid by stand.
    ///
    /// # Errors
    /// [`TreasuryError::NoEscrow`].
    pub fn held(&self, subject: Subject) -> Result<Vec<HoldStatus>, TreasuryError> {
        let holds = self.holds(&subject.to_string())?;
        if holds.is_empty() {
            return Err(TreasuryError::NoEscrow(subject));
        }
        Ok(holds.into_iter().map(|h| h.record.into()).collect())
    }

    /// Claims the lots whose secrets these are. One wrong secret does not keep the others from being claimed.
    ///
    /// # Errors
    /// The first [`HoldError`], after all others were claimed; [`TreasuryError::NoPayment`] for an unknown secret.
    pub async fn settle(&self, preimages: &[Preimage]) -> Result<(), TreasuryError> {
        let mut first = Ok(());
        for preimage in preimages {
            let settled = self.step_hold(preimage.hash(), &HoldEvent::Settle(*preimage)).await;
            if first.is_ok() {
                first = settled;
            }
        }
        first
    }

    /// Gives lots of an escrow back: those named, or all that are not settled.
    ///
    /// # Errors
    /// [`HoldError::Settled`] for a lot that was named and is ours; [`TreasuryError::NoEscrow`].
    pub async fn give_back(
        &self,
        subject: Subject,
        only: Option<&[PaymentHash]>,
        reason: &str,
    ) -> Result<Vec<HoldStatus>, TreasuryError> {
        for hold in self.held(subject)? {
            let event = HoldEvent::GiveBack(reason.to_owned());
            match only {
                Some(hashes) if hashes.contains(&hold.hash) => self.step_hold(hold.hash, &event).await?,
                Some(_) => {}
                None => match self.step_hold(hold.hash, &event).await {
                    Err(TreasuryError::Hold(HoldError::Settled(_))) => {}
                    other => other?,
                },
            }
        }
        self.held(subject)
    }

    /// Signed receipts for the lots of an escrow that were settled.
    ///
    /// # Errors
    /// [`TreasuryError::NoEscrow`]; signing.
    pub fn receipts(&self, subject: Subject) -> Result<Vec<Envelope>, TreasuryError> {
        let mut receipts = Vec::new();
        for hold in self.held(subject)? {
            if let HoldState::Settled { received: amount, .. } = hold.state {
                receipts.push(self.wallet.sign_receipt(&Receipt {
                    payment_hash: hold.hash,
                    amount,
                    subject,
                })?);
            }
        }
        Ok(receipts)
    }

    /// Steps a hold, then asks the node for what follows.
    pub(super) async fn step_hold(&self, hash: PaymentHash, event: &HoldEvent) -> Result<(), TreasuryError> {
        let tip = self.wallet.tip().await?;
        let stepped = self.step::<Hold, _>(&hash.to_string(), |found, change| {
            let Some(step) = found.record.on(event, tip)? else { return Ok(found.record.effect()) };
            change.put(&step.next, found.version)?;
            change.book(step.entry);
            if let HoldState::GivenBack { reason, .. } = &step.next.state
                && found.record.state != HoldState::Invoiced
            {
                self.notice(format!("{hash} goes back to its payer: {reason}"));
            }
            Ok(step.next.effect())
        })?;
        match stepped {
            Some(Some(effect)) => self.ask(effect).await,
            Some(None) => Ok(()),
            None => Err(TreasuryError::NoPayment(hash)),
        }
    }

    async fn ask(&self, effect: HoldEffect) -> Result<(), TreasuryError> {
        match effect {
            HoldEffect::Claim { hash, amount, preimage } => {
                Ok(self.wallet.claim(hash, amount, preimage).await?)
            }
            HoldEffect::GiveBack { hash } => Ok(self.wallet.fail(hash).await?),
        }
    }

    pub(super) async fn on_claimable(
        &self,
        hash: PaymentHash,
        amount: Msat,
        deadline: Option<u32>,
    ) -> Result<(), TreasuryError> {
        match self.step_hold(hash, &HoldEvent::Claimable { amount, deadline }).await {
            Err(TreasuryError::NoPayment(_)) => {
                self.notice(format!("{hash} was paid, which nothing here is waiting for; it goes back"));
                return Ok(self.wallet.fail(hash).await?);
            }
            other => other?,
        }
        self.advance_campaign_of(hash).await
    }

    async fn advance_campaign_of(&self, pledge: PaymentHash) -> Result<(), TreasuryError> {
        match get::<Hold>(self.store.as_ref(), &pledge.to_string())?.map(|h| h.record.purpose) {
            Some(Purpose::Pledge { campaign, .. }) => self.advance_campaign(&campaign).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn on_received(&self, hash: PaymentHash, amount: Msat) -> Result<(), TreasuryError> {
        match self.step_hold(hash, &HoldEvent::Received { amount }).await {
            Err(TreasuryError::NoPayment(_)) => self.on_request_paid(hash, amount),
            other => {
                other?;
                self.advance_campaign_of(hash).await
            }
        }
    }

    pub(super) async fn on_tip(&self, hold: &Hold, tip: u32) -> Result<(), TreasuryError> {
        let invoice_expired = self.now() > hold.invoice.expires_at() + Duration::from_secs(60);
        let event = HoldEvent::Tip { invoice_expired };
        if hold.on(&event, tip)?.is_none() {
            return Ok(());
        }
        // What the node claimed in time is ours, though we were not there to hear of it.
        if self.claimed(hold).await? {
            return Ok(());
        }
        self.step_hold(hold.hash, &event).await
    }

    async fn claimed(&self, hold: &Hold) -> Result<bool, TreasuryError> {
        if let HoldState::Claiming { locked: amount, .. } = hold.state
            && self.wallet.incoming(hold.hash).await? == Some(Incoming::Succeeded)
        {
            self.step_hold(hold.hash, &HoldEvent::Received { amount }).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// After a crash: what was being claimed or given back is asked for again.
    pub(super) async fn resume_hold(&self, hold: &Hold) -> Result<(), TreasuryError> {
        if self.claimed(hold).await? {
            return Ok(());
        }
        match hold.effect() {
            Some(effect) => self.ask(effect).await,
            None => Ok(()),
        }
    }
}
