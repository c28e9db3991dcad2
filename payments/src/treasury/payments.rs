//! Plain payments: requests that anybody may pay, and payouts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, PaymentHash, Preimage};

use super::{Treasury, TreasuryError};
use crate::escrow::Lot;
use crate::ledger::{Account, Legs};
use crate::store::{Change, Filter, NodeMemory, Record, Store, StoreError, get, list};
use crate::wallet::{Invoice, InvoiceError, Outgoing, PayLimits, Wallet, WalletError};

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RequestState {
    /// Not paid.
    Open,
    /// Paid.
    Paid {
        /// What came.
        received: Msat,
    },
}

/// An invoice of ours that the node claims by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Names it.
    pub hash: PaymentHash,
    /// What is asked for.
    pub amount: Msat,
    /// For people.
    pub memo: String,
    /// To be paid.
    pub invoice: Invoice,
    /// Whose claim grows.
    pub credit: Account,
    /// How it stands.
    #[serde(flatten)]
    pub state: RequestState,
    /// Whether the node remembers it.
    #[serde(default, skip_serializing_if = "NodeMemory::is_needed")]
    pub memory: NodeMemory,
}

impl Record for Request {
    const KIND: &'static str = "request";
    fn id(&self) -> String {
        self.hash.to_string()
    }
    fn group(&self) -> String {
        self.credit.to_string()
    }
    // Nothing is watched: the node claims it by itself.
    fn is_open(&self) -> bool {
        false
    }
    fn is_kept(&self) -> bool {
        self.memory != NodeMemory::Forgotten
    }
}

/// How a payout stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum PayoutState {
    /// The node was asked to send it.
    Paying,
    /// Paid.
    Paid {
        /// The proof.
        preimage: Preimage,
        /// Kept by forwarding nodes.
        fee: Msat,
    },
    /// Not paid.
    Failed {
        /// Why.
        reason: String,
    },
}

/// An invoice of somebody else's that we pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Names it.
    pub hash: PaymentHash,
    /// How much.
    pub amount: Msat,
    /// Most that forwarding nodes may take.
    pub max_fee: Msat,
    /// What is paid.
    pub invoice: Invoice,
    /// Whose claim shrinks.
    pub debit: Account,
    /// How often it was tried.
    pub attempt: u32,
    /// The height from which nothing of it can be in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<u32>,
    /// How it stands.
    #[serde(flatten)]
    pub state: PayoutState,
    /// Whether the node remembers it.
    #[serde(default, skip_serializing_if = "NodeMemory::is_needed")]
    pub memory: NodeMemory,
}

impl Record for Payout {
    const KIND: &'static str = "payout";
    fn id(&self) -> String {
        self.hash.to_string()
    }
    fn group(&self) -> String {
        self.debit.to_string()
    }
    fn is_open(&self) -> bool {
        self.state == PayoutState::Paying
    }
    fn is_kept(&self) -> bool {
        self.memory != NodeMemory::Forgotten
    }
}

/// Blocks that a payout may be locked on its way: a week, as LDK allows a route by default.
const MAX_CLTV: u32 = 1008;

impl Payout {
    fn limits(&self) -> PayLimits {
        PayLimits { max_fee: self.max_fee, max_cltv: MAX_CLTV }
    }
}

pub(super) fn claims_only(account: &Account) -> Result<(), TreasuryError> {
    if account.is_place() || matches!(account, Account::RoutingFees | Account::OnChainFees) {
        return Err(TreasuryError::NotAClaim(account.clone()));
    }
    Ok(())
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// An invoice that anybody may pay; what comes is credited to `credit`.
    ///
    /// # Errors
    /// [`TreasuryError`].
    pub async fn request(
        &self,
        amount: Msat,
        memo: String,
        expiry: Duration,
        credit: Account,
    ) -> Result<Request, TreasuryError> {
        claims_only(&credit)?;
        let invoice = self.wallet.invoice(amount, memo.clone(), expiry).await?;
        let request = Request {
            hash: invoice.hash(),
            amount,
            memo,
            invoice,
            credit,
            state: RequestState::Open,
            memory: NodeMemory::Needed,
        };
        let mut change = Change::new();
        change.put(&request, 0)?;
        self.commit(&change)?;
        Ok(request)
    }

    /// A request of ours.
    ///
    /// # Errors
    /// [`TreasuryError::NoPayment`].
    pub fn requested(&self, hash: PaymentHash) -> Result<Request, TreasuryError> {
        let found = get::<Request>(self.store.as_ref(), &hash.to_string())?;
        found.map(|r| r.record).ok_or(TreasuryError::NoPayment(hash))
    }

    /// All requests on account of `credit`, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub fn requests(&self, credit: &Account) -> Result<Vec<Request>, TreasuryError> {
        let found = list::<Request>(self.store.as_ref(), Filter::Group(&credit.to_string()))?;
        Ok(found.into_iter().map(|r| r.record).collect())
    }

    /// Books what came in. What nobody asked for belongs to the operator.
    pub(super) fn on_request_paid(&self, hash: PaymentHash, amount: Msat) -> Result<(), TreasuryError> {
        let key = format!("request/{hash}/paid");
        let entry = |credit: &Account, memo: String| {
            Ok::<_, TreasuryError>(
                Legs::new().leg(credit, &Account::Channels, amount)?.entry(key.clone(), memo)?,
            )
        };
        let known = self.step::<Request, ()>(&hash.to_string(), |found, change| {
            if found.record.state == RequestState::Open {
                let paid = Request { state: RequestState::Paid { received: amount }, ..found.record.clone() };
                change.put(&paid, found.version)?;
                change.book(entry(&found.record.credit, found.record.memo.clone())?);
            }
            Ok(())
        })?;
        if known.is_none() {
            let mut change = Change::new();
            change.book(entry(&Account::Operator, "received without a request".into())?);
            self.commit(&change)?;
        }
        Ok(())
    }

    /// Pays an invoice from an account. Asking again while it is paid, or after, changes nothing; after a failure it is
    /// tried again. `max_fee` comes on top of the amount.
    ///
    /// # Errors
    /// [`TreasuryError::Budget`], [`TreasuryError::Invoice`], [`TreasuryError::HashUsed`]; then nothing was sent.
    pub async fn pay_out(
        &self,
        invoice: &Invoice,
        max_fee: Msat,
        debit: Account,
    ) -> Result<Payout, TreasuryError> {
        let needed = invoice.amount().checked_add(max_fee).unwrap_or(Msat::new(u64::MAX));
        self.begin_payout(invoice, max_fee, debit, needed).await
    }

    /// As [`Treasury::pay_out`], if the account has what is `needed` of it.
    pub(super) async fn begin_payout(
        &self,
        invoice: &Invoice,
        max_fee: Msat,
        debit: Account,
        needed: Msat,
    ) -> Result<Payout, TreasuryError> {
        claims_only(&debit)?;
        if invoice.payee() == self.wallet.node_id() {
            return Err(InvoiceError::Own.into());
        }
        let (hash, amount) = (invoice.hash(), invoice.amount());
        let known = get::<Payout>(self.store.as_ref(), &hash.to_string())?;
        let (attempt, version) = match &known {
            Some(found) if !matches!(found.record.state, PayoutState::Failed { .. }) => {
                return Ok(found.record.clone());
            }
            Some(found) => (found.record.attempt + 1, found.version),
            None => (1, 0),
        };
        // The node pays a hash once: a second record of it would book that payment twice.
        if get::<Lot>(self.store.as_ref(), &hash.to_string())?.is_some() {
            return Err(TreasuryError::HashUsed(hash));
        }
        invoice.check_payable(self.wallet.network(), self.now())?;
        let available = self.available(&debit)?;
        if available < needed {
            return Err(TreasuryError::Budget { account: debit, available, needed });
        }
        let over = Some(self.over(self.wallet.tip().await?));
        let (state, memory, invoice) = (PayoutState::Paying, NodeMemory::Needed, invoice.clone());
        let payout = Payout { hash, amount, max_fee, invoice, debit, attempt, over, state, memory };
        let mut change = Change::new();
        change.put(&payout, version)?;
        let lock = Legs::new().leg(&Account::Channels, &Account::Escrow, amount)?;
        change.book(lock.entry(format!("payout/{hash}/send/{attempt}"), "a payment is under way")?);
        let _sending = self.payments.read().await;
        self.moving().sending.insert(hash);
        let sent = match self.commit(&change) {
            // Somebody else pays it at this moment.
            Err(TreasuryError::Store(StoreError::Conflict { .. })) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.send_payout(&payout).await,
        };
        self.moving().sending.remove(&hash);
        sent?;
        self.payout(hash)
    }

    /// A payout of ours.
    ///
    /// # Errors
    /// [`TreasuryError::NoPayment`].
    pub fn payout(&self, hash: PaymentHash) -> Result<Payout, TreasuryError> {
        let found = get::<Payout>(self.store.as_ref(), &hash.to_string())?;
        found.map(|p| p.record).ok_or(TreasuryError::NoPayment(hash))
    }

    /// The height from which nothing of a payout that is sent at height `tip` can be in flight.
    fn over(&self, tip: u32) -> u32 {
        self.wallet.limits().expired(tip.saturating_add(MAX_CLTV))
    }

    async fn send_payout(&self, payout: &Payout) -> Result<(), TreasuryError> {
        let hash = payout.hash;
        // Then whatever the node says of it from now on is said of this attempt.
        let again = payout.attempt > 1;
        let sent = if again && !self.wallet.forget(vec![hash]).await.is_ok_and(|gone| !gone.is_empty()) {
            Err(WalletError::NotSent("the node has not done with it yet"))
        } else {
            self.wallet.pay(&payout.invoice, payout.limits()).await
        };
        match self.reconciled(hash, sent).await? {
            Ok(()) | Err(WalletError::AlreadyPaying) => Ok(()),
            Err(e @ (WalletError::NotSent(_) | WalletError::HashIsOurs)) => {
                self.end_payout(hash, PayoutState::Failed { reason: e.to_string() })
            }
            Err(e) => {
                self.notice(format!(
                    "nobody knows whether the payment {hash} was sent, so it is asked for again: {e}"
                ));
                self.moving().unknown.insert(hash);
                Ok(())
            }
        }
    }

    /// What "already paying" means of a hash: the node says so too of a payment to itself that has this hash, and then nothing
    /// was sent by us.
    pub(super) async fn reconciled(
        &self,
        hash: PaymentHash,
        sent: Result<(), WalletError>,
    ) -> Result<Result<(), WalletError>, TreasuryError> {
        if matches!(sent, Err(WalletError::AlreadyPaying))
            && self.wallet.outgoing(hash).await?.is_none()
            && self.wallet.incoming(hash).await?.is_some()
        {
            return Ok(Err(WalletError::HashIsOurs));
        }
        Ok(sent)
    }

    /// Asks the node again for a payout of which nobody knows whether it was sent. Whether no more asking is needed.
    pub(super) async fn ask_payout_again(&self, hash: PaymentHash, tip: u32) -> Result<bool, TreasuryError> {
        let payout = match get::<Payout>(self.store.as_ref(), &hash.to_string())? {
            Some(found) if found.record.is_open() => found.record,
            _ => return Ok(true),
        };
        if self.wallet.outgoing(hash).await?.is_some() {
            self.observe_payout(hash, None).await?;
            return Ok(true);
        }
        if self.now() >= payout.invoice.expires_at() {
            return Ok(true);
        }
        let _sending = self.payments.read().await;
        let over = Some(self.over(tip));
        self.step::<Payout, ()>(&hash.to_string(), |found, change| {
            if found.record.is_open() && found.record.over < over {
                change.put(&Payout { over, ..found.record.clone() }, found.version)?;
            }
            Ok(())
        })?;
        let sent = self.wallet.pay(&payout.invoice, payout.limits()).await;
        match self.reconciled(hash, sent).await? {
            Ok(()) | Err(WalletError::AlreadyPaying) => Ok(true),
            Err(e @ WalletError::HashIsOurs) => {
                self.end_payout(hash, PayoutState::Failed { reason: e.to_string() })?;
                Ok(true)
            }
            // It says nothing of the first time, as for lots, and LDK Node has noted it as a failure of the payment.
            Err(WalletError::NotSent(_)) => {
                self.wallet.forget(vec![hash]).await?;
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    fn end_payout(&self, hash: PaymentHash, state: PayoutState) -> Result<(), TreasuryError> {
        self.step::<Payout, ()>(&hash.to_string(), |found, change| {
            let Payout { amount, debit, attempt, state: before, .. } = &found.record;
            // What was paid is proved, also if it was thought to be back: then it is not in escrow any more.
            let from = match (before, &state) {
                (PayoutState::Paying, _) => Account::Escrow,
                (PayoutState::Failed { .. }, PayoutState::Paid { .. }) => Account::Channels,
                _ => return Ok(()),
            };
            let entry = match &state {
                PayoutState::Paid { fee, .. } => Legs::new()
                    .leg(&from, debit, *amount)?
                    .leg(&Account::Channels, &Account::RoutingFees, *fee)?
                    .entry(format!("payout/{hash}/paid"), "a payment arrived")?,
                PayoutState::Failed { reason } => Legs::new()
                    .leg(&Account::Escrow, &Account::Channels, *amount)?
                    .entry(format!("payout/{hash}/back/{attempt}"), reason.clone())?,
                PayoutState::Paying => None,
            };
            change.put(&Payout { state: state.clone(), ..found.record.clone() }, found.version)?;
            change.book(entry);
            Ok(())
        })?;
        Ok(())
    }

    /// Looks at what became of a payout. `told` is what an event said, and counts as for lots.
    pub(super) async fn observe_payout(
        &self,
        hash: PaymentHash,
        told: Option<Outgoing>,
    ) -> Result<(), TreasuryError> {
        let Some(found) = get::<Payout>(self.store.as_ref(), &hash.to_string())? else { return Ok(()) };
        let node = match (self.wallet.outgoing(hash).await?, told) {
            (_, Some(paid @ Outgoing::Succeeded { .. })) => paid,
            (Some(known), _) => known,
            (None, Some(told)) if found.record.attempt == 1 => told,
            (None, _) => return Ok(()),
        };
        match node {
            Outgoing::Pending => Ok(()),
            Outgoing::Succeeded { preimage, .. } if preimage.hash() != hash => Ok(()),
            Outgoing::Succeeded { preimage, fee } => {
                self.end_payout(hash, PayoutState::Paid { preimage, fee })
            }
            Outgoing::Failed if self.is_sending(hash) => Ok(()),
            Outgoing::Failed => {
                let reason = "no route carried it, or the payee refused it".to_owned();
                self.end_payout(hash, PayoutState::Failed { reason })
            }
        }
    }

    /// Gives up on a payout that the node has lost.
    pub(super) async fn expire_payout(&self, payout: &Payout, tip: u32) -> Result<(), TreasuryError> {
        let hash = payout.hash;
        match payout.over {
            Some(over) if tip >= over => {}
            Some(_) => return Ok(()),
            // Written by a program that did not know.
            None => {
                let over = Some(self.over(tip));
                self.step::<Payout, ()>(&hash.to_string(), |found, change| {
                    Ok(change.put(&Payout { over, ..found.record.clone() }, found.version)?)
                })?;
                return Ok(());
            }
        }
        if let Some(Outgoing::Succeeded { .. } | Outgoing::Failed) = self.wallet.outgoing(hash).await? {
            return self.observe_payout(hash, None).await;
        }
        if self.wallet.forget(vec![hash]).await?.is_empty() {
            return Ok(());
        }
        let reason = "the node lost it when it was killed".to_owned();
        self.notice(format!("the payment {hash} was never sent: {reason}"));
        self.end_payout(hash, PayoutState::Failed { reason })
    }

    pub(super) async fn resume_payout(&self, payout: &Payout) -> Result<(), TreasuryError> {
        if self.wallet.outgoing(payout.hash).await?.is_some() {
            return self.observe_payout(payout.hash, None).await;
        }
        self.moving().unknown.insert(payout.hash);
        Ok(())
    }

    /// What payouts under way hold of an account, fees included.
    pub(super) fn paying_out(&self, account: &Account) -> Result<Msat, TreasuryError> {
        let open = list::<Payout>(self.store.as_ref(), Filter::Open)?.into_iter().map(|p| p.record);
        let sum = |sum: Msat, p: Payout| {
            p.amount.checked_add(p.max_fee).and_then(|a| sum.checked_add(a)).unwrap_or(Msat::new(u64::MAX))
        };
        let payouts = open.filter(|p| p.debit == *account).fold(Msat::ZERO, sum);
        let offers = self
            .remittances(account)?
            .iter()
            .fold(payouts, |sum, r| sum.checked_add(r.holds()).unwrap_or(Msat::new(u64::MAX)));
        Ok(offers)
    }

    /// Moves a claim from one account to another, once for each `key`.
    ///
    /// # Errors
    /// [`TreasuryError::NotAClaim`], [`TreasuryError::Budget`].
    pub fn transfer(
        &self,
        key: &str,
        from: &Account,
        to: &Account,
        amount: Msat,
        memo: &str,
    ) -> Result<(), TreasuryError> {
        claims_only(from)?;
        claims_only(to)?;
        let available = self.available(from)?;
        let entry = Legs::new().leg(to, from, amount)?.entry(format!("transfer/{key}"), memo)?;
        let mut change = Change::new();
        change.book(entry);
        if available < amount {
            // Unless it is a repetition, which needs nothing.
            if !self.store.is_booked(&format!("transfer/{key}"))? {
                return Err(TreasuryError::Budget { account: from.clone(), available, needed: amount });
            }
        }
        self.commit(&change)
    }
}
