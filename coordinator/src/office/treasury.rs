//! Money over a real wallet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use watershed_payments::escrow::{HoldState, LotState, LotTerms, Terms};
use watershed_payments::l402::Desk;
use watershed_payments::ledger::{Account, Name};
use watershed_payments::store::SqliteStore;
use watershed_payments::treasury::{
    CampaignState, CampaignStatus, LotStatus, Offer, PayoutState, Treasury, TreasuryError,
};
use watershed_payments::wallet::ldk::LdkWallet;
use watershed_payments::wallet::{
    AddressClient, ChainTrouble, Invoice, NodeAddress, Wallet as _, WalletError,
};
use watershed_protocol::market::RunSpec;
use watershed_protocol::market::view::{PledgeMade, PledgeView};
use watershed_protocol::{AssignmentId, Msat, PaymentHash, PublicKey, RunId};

use super::fees::Made;
use super::money::{Campaign, Funds, Money, MoneyError, Refunded, Unpaid};
use super::sum;
use crate::machine::Work;

/// How long a call may wait before it is made again.
const TURN: Duration = Duration::from_secs(3600);

/// How long a payout is waited for before the caller is told that it is under way.
pub(super) const PAYOUT: Duration = Duration::from_secs(30);

/// Most that a payout may cost on its way: a hundredth, and something for small ones.
fn max_fee(amount: Msat) -> Msat {
    Msat::new(amount.msat() / 100 + 5_000)
}

/// The wallet and books of a coordinator.
#[derive(Clone)]
pub struct TreasuryMoney {
    pub(super) treasury: Treasury<LdkWallet, SqliteStore>,
    pub(super) addresses: AddressClient,
    pub(super) desk: Desk,
    pub(super) made: Made,
}

pub(super) fn other(text: impl std::fmt::Display) -> MoneyError {
    MoneyError::Other(text.to_string())
}

pub(super) fn name(text: &str) -> Result<Name, MoneyError> {
    text.parse().map_err(other)
}

pub(super) fn budget(run: RunId, spec: &RunSpec) -> Result<Account, MoneyError> {
    // Without pledges the operator pays.
    if spec.funding.goal > Msat::ZERO {
        Ok(Account::Budget(name(&run.to_string())?))
    } else {
        Ok(Account::Operator)
    }
}

/// Time since 1970.
pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl TreasuryMoney {
    /// With what asks the servers of Lightning addresses, and what sells joining.
    pub fn new(treasury: Treasury<LdkWallet, SqliteStore>, addresses: AddressClient, desk: Desk) -> Self {
        Self { treasury, addresses, desk, made: Made::default() }
    }

    pub(super) fn status(&self, run: RunId) -> Result<CampaignStatus, MoneyError> {
        Ok(self.treasury.campaign(&name(&run.to_string())?)?)
    }

    async fn paid_out(&self, hash: PaymentHash) -> Result<Msat, MoneyError> {
        let treasury = &self.treasury;
        let end = tokio::time::Instant::now() + PAYOUT;
        loop {
            let payout = treasury.payout(hash)?;
            match payout.state {
                PayoutState::Paid { .. } => return Ok(payout.amount),
                PayoutState::Failed { .. } => {
                    return Err(other("no route carried the payment; try a smaller amount, or later"));
                }
                PayoutState::Paying if tokio::time::Instant::now() > end => {
                    return Err(other("the payment is under way; ask again to see how it ends"));
                }
                PayoutState::Paying => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

impl Money for TreasuryMoney {
    async fn campaign(&self, run: RunId, spec: &RunSpec) -> Result<Campaign, MoneyError> {
        let treasury = &self.treasury;
        treasury.start_campaign(name(&run.to_string())?, spec.funding.goal, spec.funding.window, None)?;
        loop {
            let mut changes = treasury.changes();
            let status = self.status(run)?;
            match status.campaign.state {
                CampaignState::Collecting => {}
                CampaignState::Funded if status.campaign.done => {
                    let taken = status.pledges.iter().filter_map(|p| match p.hold.state {
                        HoldState::Settled { received, .. } => Some((p.hold.hash, received)),
                        _ => None,
                    });
                    return Ok(Campaign::Funded(taken.collect()));
                }
                CampaignState::Cancelled { reason } if status.campaign.done => {
                    return Ok(Campaign::Over(reason));
                }
                CampaignState::Funded | CampaignState::Cancelled { .. } => {}
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
        }
    }

    async fn cancel_campaign(&self, run: RunId, reason: &str) -> Result<(), MoneyError> {
        match self.treasury.cancel_campaign(&name(&run.to_string())?, reason).await {
            // It was funded in this moment, or cancelled before.
            Ok(_) | Err(TreasuryError::CampaignOver { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn pledge(
        &self,
        run: RunId,
        sponsor: &str,
        amount: Msat,
        refund_to: Option<&str>,
    ) -> Result<PledgeMade, MoneyError> {
        self.make_pledge(run, sponsor, amount, refund_to).await
    }

    fn pledge_state(&self, run: RunId, hash: &str) -> Result<PledgeView, MoneyError> {
        self.find_pledge(run, hash)
    }

    fn raised(&self, run: RunId) -> Result<(Msat, Msat), MoneyError> {
        let status = self.status(run)?;
        Ok((status.raised, status.campaign.goal))
    }

    async fn channel(&self, node: &str, reward: Msat, lots: usize) -> Result<(), MoneyError> {
        let node: NodeAddress = node.parse().map_err(other)?;
        self.treasury.ensure_capacity(&node, reward, lots).await?;
        Ok(())
    }

    async fn part(&self, node: &str) -> Result<(), MoneyError> {
        let node: NodeAddress = node.parse().map_err(other)?;
        match self.treasury.release(node.id, false).await {
            Ok(_) | Err(TreasuryError::Wallet(WalletError::NoChannel(_))) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn funds(&self) -> Result<Funds, MoneyError> {
        let wallet = self.treasury.wallet();
        let channels = wallet.channels().await.map_err(TreasuryError::from)?;
        let balances = wallet.balances().await.map_err(TreasuryError::from)?;
        let usable: Vec<_> = channels.iter().filter(|c| c.usable).collect();
        Ok(Funds {
            channels: channels.len(),
            usable: usable.len(),
            spendable: sum(usable.iter().map(|c| c.next_htlc)),
            on_chain_sats: balances.on_chain_spendable_sats,
            chain_trouble: self.treasury.chain_trouble().map(ChainTrouble::with_advice),
        })
    }

    async fn offer(
        &self,
        run: RunId,
        spec: &RunSpec,
        assignment: AssignmentId,
        work: &Work,
        node: &str,
    ) -> Result<(), MoneyError> {
        let lots: Vec<LotTerms> =
            work.lots.iter().map(|lot| LotTerms { hash: lot.hash, amount: lot.amount }).collect();
        self.channel(node, work.assignment.reward, lots.len()).await?;
        let node: NodeAddress = node.parse().map_err(other)?;
        let offer = Offer {
            terms: Terms { subject: assignment.subject(), window: spec.reward.window, lots },
            payee: node.id,
            budget: budget(run, spec)?,
            earner: Account::Miner(name(&work.assignment.miner.to_string())?),
        };
        Ok(self.treasury.offer(&offer)?)
    }

    async fn lock(&self, assignment: AssignmentId, invoices: &[String]) -> Result<(), MoneyError> {
        let subject = assignment.subject();
        let parsed: Result<Vec<Invoice>, _> = invoices.iter().map(|i| i.parse::<Invoice>()).collect();
        let locked = match parsed {
            Ok(invoices) => self.treasury.lock(subject, &invoices).await.map_err(MoneyError::from),
            Err(e) => Err(other(e)),
        };
        let lots = match locked {
            Ok(lots) => lots,
            Err(e) => {
                self.treasury.withdraw_offer(subject)?;
                return Err(e);
            }
        };
        let back = lots.iter().find_map(|lot| match &lot.state {
            LotState::CameBack { how } => Some(how.to_string()),
            _ => None,
        });
        back.map_or(Ok(()), |how| Err(other(how)))
    }

    async fn confirm(
        &self,
        assignment: AssignmentId,
        reports: &[(PaymentHash, u32)],
    ) -> Result<(), MoneyError> {
        self.treasury.confirm(assignment.subject(), reports).await?;
        Ok(())
    }

    async fn withdraw(&self, assignment: AssignmentId) -> Result<(), MoneyError> {
        match self.treasury.withdraw_offer(assignment.subject()) {
            // What is in flight has to come back by itself.
            Ok(_) | Err(TreasuryError::NoEscrow(_) | TreasuryError::Lot(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn ended(
        &self,
        assignment: AssignmentId,
        tried: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(Msat, Msat), MoneyError> {
        let subject = assignment.subject();
        let end = tokio::time::Instant::now() + TURN;
        loop {
            let mut changes = self.treasury.changes();
            let lots: Vec<LotStatus> = match self.treasury.escrow(subject) {
                Ok(lots) => lots,
                Err(TreasuryError::NoEscrow(_)) => return Ok((Msat::ZERO, Msat::ZERO)),
                Err(e) => return Err(e.into()),
            };
            let offered = lots.iter().any(|l| l.state == LotState::Offered);
            if offered && tried() {
                self.withdraw(assignment).await?;
                continue;
            }
            let ended =
                |l: &&LotStatus| matches!(l.state, LotState::Settled { .. } | LotState::CameBack { .. });
            if lots.iter().filter(ended).count() == lots.len() {
                let settled = lots.iter().filter(|l| matches!(l.state, LotState::Settled { .. }));
                let back = lots.iter().filter(|l| matches!(l.state, LotState::CameBack { .. }));
                return Ok((sum(settled.map(|l| l.amount)), sum(back.map(|l| l.amount))));
            }
            if tokio::time::Instant::now() > end {
                return Err(other("lots are still open"));
            }
            let _ = tokio::time::timeout(Duration::from_secs(2), changes.changed()).await;
        }
    }

    async fn fee(
        &self,
        run: RunId,
        spec: &RunSpec,
        assignment: AssignmentId,
        validator: PublicKey,
    ) -> Result<(), MoneyError> {
        let to = Account::Validator(name(&validator.to_string())?);
        let key = format!("verdict/{assignment}/{validator}");
        let memo = format!("verdict on {assignment}");
        Ok(self.treasury.transfer(&key, &budget(run, spec)?, &to, spec.reward.verdict_fee, &memo)?)
    }

    async fn finish(
        &self,
        run: RunId,
        spec: &RunSpec,
        pledged: Msat,
        due: &[(PublicKey, Msat)],
    ) -> Result<Msat, MoneyError> {
        for (miner, amount) in due {
            let to = Account::Miner(name(&miner.to_string())?);
            let memo = format!("held back of what was earned in run {run}");
            self.treasury.transfer(
                &format!("due/{run}/{miner}"),
                &budget(run, spec)?,
                &to,
                *amount,
                &memo,
            )?;
        }
        if spec.funding.goal == Msat::ZERO {
            return Ok(Msat::ZERO);
        }
        let from = budget(run, spec)?;
        let status = self.status(run)?;
        // Repeated after a kill: what was divided already is counted by its transfers.
        let mut left = self.treasury.available(&from)?;
        let mut parts = Msat::ZERO;
        let taken: Vec<(PaymentHash, Msat)> = status
            .pledges
            .iter()
            .filter_map(|p| match p.hold.state {
                HoldState::Settled { received, .. } => Some((p.hold.hash, received)),
                _ => None,
            })
            .collect();
        if taken.is_empty() {
            // Joining fees of a run that never began: there is nobody to give them to.
            self.treasury.transfer(&format!("left/{run}"), &from, &Account::Operator, left, "no pledges")?;
            return Ok(Msat::ZERO);
        }
        for (hash, _) in &taken {
            let part = self.treasury.available(&Account::Sponsor(name(&hash.to_string())?))?;
            left = left.checked_add(part).unwrap_or(left);
        }
        for (hash, amount) in &taken {
            let share =
                u128::from(left.msat()) * u128::from(amount.msat()) / u128::from(pledged.msat().max(1));
            let share = Msat::new(u64::try_from(share).unwrap_or(0));
            if share > Msat::ZERO {
                let to = Account::Sponsor(name(&hash.to_string())?);
                let memo = "the pledge's part of what the run did not spend";
                self.treasury.transfer(&format!("left/{run}/{hash}"), &from, &to, share, memo)?;
                parts = parts.checked_add(share).unwrap_or(parts);
            }
        }
        Ok(parts)
    }

    async fn refund(&self, run: RunId, claim: &str, to: &str) -> Result<Refunded, MoneyError> {
        self.pay_claim(run, claim, to).await
    }

    async fn pay_refunds(&self, run: RunId) -> Result<bool, MoneyError> {
        self.pay_all(run).await
    }

    fn refunds(&self, run: RunId) -> Result<Vec<Refunded>, MoneyError> {
        self.all_paid(run)
    }

    async fn joining_fee(
        &self,
        run: RunId,
        spec: &RunSpec,
        miner: PublicKey,
        headers: &HeaderMap,
    ) -> Result<Result<PaymentHash, Unpaid>, MoneyError> {
        self.ask_joining_fee(run, spec, miner, headers).await
    }

    fn book_joining_fee(&self, run: RunId, spec: &RunSpec, miner: PublicKey) -> Result<(), MoneyError> {
        self.move_joining_fee(run, spec, miner)
    }

    async fn pay_out(&self, key: PublicKey, invoice: &str) -> Result<Msat, MoneyError> {
        let invoice: Invoice = invoice.parse().map_err(other)?;
        let (name, amount) = (name(&key.to_string())?, invoice.amount());
        let (miner, most) = (Account::Miner(name.clone()), max_fee(amount));
        // A miner may ask for all that it is due: to its own node, over the channel with it, that costs nothing.
        let (from, most) = match self.treasury.available(&miner)?.checked_sub(amount) {
            Some(rest) => (miner, most.min(rest)),
            None => (Account::Validator(name), most),
        };
        self.treasury.pay_out(&invoice, most, from).await?;
        self.paid_out(invoice.hash()).await
    }
}

impl std::fmt::Debug for TreasuryMoney {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreasuryMoney({})", self.treasury.wallet().node_id())
    }
}
