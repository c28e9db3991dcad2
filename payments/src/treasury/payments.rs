//! Plain payments: requests that anybody may pay, and payouts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, PaymentHash, Preimage};

use super::{Treasury, TreasuryError};
use crate::ledger::{Account, Legs};
use crate::store::{Change, Filter, Record, Store, StoreError, get, list};
use crate::wallet::{Invoice, Outgoing, PayLimits, Wallet, WalletError};

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
}

impl Record for Request {
    const KIND: &'static str = "request";
    fn id(&self) -> String {
        self.hash.to_string()
    }
    fn group(&self) -> String {
        self.credit.to_string()
    }
    // Nothing is watched: an unpaid request costs nothing and needs no turn.
    fn is_open(&self) -> bool {
        false
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
    /// How it stands.
    #[serde(flatten)]
    pub state: PayoutState,
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
        let request =
            Request { hash: invoice.hash(), amount, memo, invoice, credit, state: RequestState::Open };
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
    /// [`TreasuryError::Budget`], [`TreasuryError::Invoice`]; then nothing was sent.
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
        let (hash, amount) = (invoice.hash(), invoice.amount());
        let known = get::<Payout>(self.store.as_ref(), &hash.to_string())?;
        let (attempt, version) = match &known {
            Some(found) if !matches!(found.record.state, PayoutState::Failed { .. }) => {
                return Ok(found.record.clone());
            }
            Some(found) => (found.record.attempt + 1, found.version),
            None => (1, 0),
        };
        invoice.check_payable(self.wallet.network(), self.now())?;
        let available = self.available(&debit)?;
        if available < needed {
            return Err(TreasuryError::Budget { account: debit, available, needed });
        }
        let state = PayoutState::Paying;
        let payout = Payout { hash, amount, max_fee, invoice: invoice.clone(), debit, attempt, state };
        let mut change = Change::new();
        change.put(&payout, version)?;
        let lock = Legs::new().leg(&Account::Channels, &Account::Escrow, amount)?;
        change.book(lock.entry(format!("payout/{hash}/send/{attempt}"), "a payment is under way")?);
        self.sending().insert(hash);
        let sent = match self.commit(&change) {
            // Somebody else pays it at this moment.
            Err(TreasuryError::Store(StoreError::Conflict { .. })) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.send_payout(&payout).await,
        };
        self.sending().remove(&hash);
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

    async fn send_payout(&self, payout: &Payout) -> Result<(), TreasuryError> {
        // 1008 blocks, a week, is what LDK allows a route by default.
        let limits = PayLimits { max_fee: payout.max_fee, max_cltv: 1008 };
        match self.wallet.pay(&payout.invoice, limits).await {
            Ok(()) | Err(WalletError::AlreadyPaying) => Ok(()),
            Err(e) => self.end_payout(payout.hash, PayoutState::Failed { reason: e.to_string() }),
        }
    }

    fn end_payout(&self, hash: PaymentHash, state: PayoutState) -> Result<(), TreasuryError> {
        self.step::<Payout, ()>(&hash.to_string(), |found, change| {
            let Payout { amount, debit, attempt, state: before, .. } = &found.record;
            if *before != PayoutState::Paying {
                return Ok(());
            }
            let entry = match &state {
                PayoutState::Paid { fee, .. } => Legs::new()
                    .leg(&Account::Escrow, debit, *amount)?
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

    pub(super) async fn observe_payout(&self, hash: PaymentHash) -> Result<(), TreasuryError> {
        match get::<Payout>(self.store.as_ref(), &hash.to_string())? {
            Some(found) if found.record.is_open() => {}
            _ => return Ok(()),
        }
        match self.wallet.outgoing(hash).await? {
            None | Some(Outgoing::Pending) => Ok(()),
            Some(Outgoing::Succeeded { preimage, fee }) => {
                self.end_payout(hash, PayoutState::Paid { preimage, fee })
            }
            Some(Outgoing::Failed) if self.sending().contains(&hash) => Ok(()),
            Some(Outgoing::Failed) => {
                let reason = "no route carried it, or the payee refused it".to_owned();
                self.end_payout(hash, PayoutState::Failed { reason })
            }
        }
    }

    pub(super) async fn resume_payout(&self, payout: &Payout) -> Result<(), TreasuryError> {
        match self.wallet.outgoing(payout.hash).await? {
            None => self.send_payout(payout).await,
            // As for lots: a failure of an earlier attempt says nothing of this one.
            Some(Outgoing::Failed) if payout.attempt > 1 => self.send_payout(payout).await,
            Some(_) => self.observe_payout(payout.hash).await,
        }
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
