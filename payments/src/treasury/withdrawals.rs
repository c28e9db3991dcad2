//! Withdrawals to the chain: the operator's, and nobody else's, money.

use serde::{Deserialize, Serialize};
use watershed_protocol::Msat;

use super::{Treasury, TreasuryError};
use crate::ledger::{Account, Entry, EntryError, Legs};
use crate::store::{Change, Filter, Record, Store, list};
use crate::wallet::{ChainPayment, Wallet, WalletError, Withdraw};

/// What is kept free for the fee of a withdrawal of a fixed sum, as the node tells the fee only afterwards.
const FEE_ROOM: Msat = Msat::new(20_000_000);

/// Blocks in which a withdrawal shows, if the node ever made it.
const SHOWS: u32 = 6;

/// How a withdrawal stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum WithdrawalState {
    /// Written down; the node may have made it.
    Asked,
    /// The node made it.
    Sent {
        /// Its transaction.
        txid: String,
    },
    /// In the books, with its fee.
    Booked {
        /// Its transaction.
        txid: String,
    },
    /// Never made.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A withdrawal to the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Names it.
    pub id: String,
    /// To where.
    pub address: String,
    /// How much, without the fee; with `all` the most that it can be, fee included.
    pub sats: u64,
    /// Whether it takes all that can be spent.
    pub all: bool,
    /// The height at which it was asked for.
    pub tip: u32,
    /// How it stands.
    #[serde(flatten)]
    pub state: WithdrawalState,
}

impl Record for Withdrawal {
    const KIND: &'static str = "withdrawal";
    fn id(&self) -> String {
        self.id.clone()
    }
    fn group(&self) -> String {
        String::new()
    }
    fn is_open(&self) -> bool {
        matches!(self.state, WithdrawalState::Asked | WithdrawalState::Sent { .. })
    }
}

impl Withdrawal {
    fn amount(&self) -> Msat {
        Msat::from_sat(self.sats).unwrap_or(Msat::new(u64::MAX))
    }

    /// What it may take from the operator.
    fn needed(&self) -> Msat {
        if self.all {
            return self.amount();
        }
        self.amount().checked_add(FEE_ROOM).unwrap_or(Msat::new(u64::MAX))
    }

    /// Whether an on-chain payment of ours is this withdrawal. If the node's answer was lost, the amount tells.
    pub(super) fn is(&self, payment: &ChainPayment) -> bool {
        match &self.state {
            WithdrawalState::Sent { txid } => *txid == payment.txid,
            WithdrawalState::Asked if self.all => {
                let whole = payment.amount.checked_add(payment.fee);
                whole.is_some_and(|whole| whole <= self.amount())
            }
            WithdrawalState::Asked => payment.amount == self.amount(),
            _ => false,
        }
    }

    /// Amount and fee of a payment that left for good: the operator's.
    pub(super) fn entry(payment: &ChainPayment, memo: &str) -> Result<Option<Entry>, EntryError> {
        Legs::new()
            .leg(&Account::OnChain, &Account::Operator, payment.amount)?
            .leg(&Account::OnChain, &Account::Operator, payment.fee)?
            .entry(format!("chain/{}", payment.txid), memo)
    }
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// A withdrawal to the chain from the operator's account, which pays its fee too.
    ///
    /// # Errors
    /// [`TreasuryError::Budget`] for what is not the operator's; those of the wallet.
    pub async fn withdraw(&self, address: String, what: Withdraw) -> Result<String, TreasuryError> {
        let (sats, all) = match what {
            Withdraw::Sats(sats) => (sats, false),
            Withdraw::All => (self.wallet.balances().await?.on_chain_spendable_sats, true),
        };
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| WalletError::Task(format!("no random bytes: {e}")))?;
        let (id, tip, state) = (hex::encode(id), self.wallet.tip().await?, WithdrawalState::Asked);
        let made = Withdrawal { id, address: address.clone(), sats, all, tip, state };
        let (available, needed) = (self.available(&Account::Operator)?, made.needed());
        if available < needed {
            return Err(TreasuryError::Budget { account: Account::Operator, available, needed });
        }
        let mut change = Change::new();
        change.put(&made, 0)?;
        self.commit(&change)?;
        let sent = self.spend_on_chain(sats, self.wallet.withdraw(address, what)).await;
        let state = match &sent {
            Ok(txid) => WithdrawalState::Sent { txid: txid.clone() },
            Err(e) => WithdrawalState::Failed { reason: e.to_string() },
        };
        self.step::<Withdrawal, ()>(&made.id, |found, change| {
            // It may be in the books by now.
            if found.record.state == WithdrawalState::Asked {
                change.put(&Withdrawal { state: state.clone(), ..found.record.clone() }, found.version)?;
            }
            Ok(())
        })?;
        sent
    }

    /// What withdrawals that are not in the books yet hold of an account.
    pub(super) fn withdrawing(&self, account: &Account) -> Result<Msat, TreasuryError> {
        if *account != Account::Operator {
            return Ok(Msat::ZERO);
        }
        let open = list::<Withdrawal>(self.store.as_ref(), Filter::Open)?;
        let sum = |sum: Msat, w: Msat| sum.checked_add(w).unwrap_or(Msat::new(u64::MAX));
        Ok(open.iter().map(|w| w.record.needed()).fold(Msat::ZERO, sum))
    }

    /// Closes withdrawals that are in the books, and those that the node never made.
    pub(super) fn close_withdrawals(&self, tip: u32) -> Result<(), TreasuryError> {
        for open in list::<Withdrawal>(self.store.as_ref(), Filter::Open)? {
            let state = match &open.record.state {
                WithdrawalState::Sent { txid } if self.store.is_booked(&format!("chain/{txid}"))? => {
                    WithdrawalState::Booked { txid: txid.clone() }
                }
                WithdrawalState::Asked if tip >= open.record.tip.saturating_add(SHOWS) => {
                    WithdrawalState::Failed { reason: "the node never made it".into() }
                }
                _ => continue,
            };
            let mut change = Change::new();
            change.put(&Withdrawal { state, ..open.record }, open.version)?;
            self.commit(&change)?;
        }
        Ok(())
    }
}
