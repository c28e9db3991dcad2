//! What sponsors get back: by itself where they wanted it, or for their token.

use futures_util::{StreamExt as _, stream};
use watershed_payments::escrow::HoldState;
use watershed_payments::ledger::Account;
use watershed_payments::treasury::{Claim, PledgeStatus, RemitState, Remittance};
use watershed_payments::wallet::{Destination, Wallet as _};
use watershed_protocol::market::view::{PledgeMade, PledgeView};
use watershed_protocol::{Msat, PaymentHash, RunId};

use super::money::{MoneyError, Refunded};
use super::sum;
use super::treasury::{PAYOUT, TreasuryMoney, name, other, since_1970};

/// How often a destination that was left with a pledge is tried: for more than a day.
const TRIES: u32 = 16;

/// How many sponsors are paid at the same time.
const AT_ONCE: usize = 8;

/// 32 random bytes as text.
fn token() -> Result<String, MoneyError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(other)?;
    Ok(hex::encode(random))
}

fn account(pledge: PaymentHash) -> Result<Account, MoneyError> {
    Ok(Account::Sponsor(name(&pledge.to_string())?))
}

/// The remittance that was asked for with the pledge.
fn by_itself(pledge: PaymentHash) -> String {
    format!("refund/{pledge}")
}

impl TreasuryMoney {
    pub(super) async fn make_pledge(
        &self,
        run: RunId,
        sponsor: &str,
        amount: Msat,
        refund_to: Option<&str>,
    ) -> Result<PledgeMade, MoneyError> {
        let to: Option<Destination> = refund_to.map(str::parse).transpose()?;
        if let Some(to) = &to {
            to.check_lasting(&self.addresses, self.treasury.wallet().network(), since_1970())?;
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(other)?;
        let campaign = name(&run.to_string())?;
        let hold = self.treasury.pledge(&campaign, name(sponsor)?, amount, secret).await?;
        let claim = token()?;
        self.treasury.keep_claim(&claim, campaign, hold.hash, to)?;
        Ok(PledgeMade { pledge: self.find_pledge(run, &hold.hash.to_string())?, claim })
    }

    pub(super) fn find_pledge(&self, run: RunId, hash: &str) -> Result<PledgeView, MoneyError> {
        let status = self.status(run)?;
        let found = status.pledges.iter().find(|p| p.hold.hash.to_string() == hash);
        self.view(run, found.ok_or_else(|| other(format!("this run has no pledge {hash}")))?)
    }

    fn view(&self, run: RunId, pledge: &PledgeStatus) -> Result<PledgeView, MoneyError> {
        let state = match &pledge.hold.state {
            HoldState::Invoiced => "invoiced",
            HoldState::Held { .. } => "held",
            HoldState::Claiming { .. } => "claiming",
            HoldState::Settled { .. } => "settled",
            HoldState::GivenBack { .. } => "given-back",
        };
        let hash = pledge.hold.hash;
        let mut view = PledgeView {
            invoice: pledge.hold.invoice.to_string(),
            hash: hash.to_string(),
            state: state.to_owned(),
            amount: pledge.hold.amount,
            left: Msat::ZERO,
            refunded: Msat::ZERO,
            refund: "none".to_owned(),
        };
        if !matches!(pledge.hold.state, HoldState::Settled { .. }) {
            return Ok(view);
        }
        let debit = account(hash)?;
        let remittances = self.treasury.remittances(&debit)?;
        view.left = self.treasury.available(&debit)?;
        view.refunded = sum(remittances.iter().filter_map(paid).map(|p| p.amount));
        let claims = self.treasury.claims(&name(&run.to_string())?)?;
        if claims.iter().any(|c| c.pledge == hash && c.to.is_some()) {
            let of_itself = remittances.iter().find(|r| r.key == by_itself(hash)).map(|r| &r.state);
            view.refund = match of_itself {
                Some(RemitState::Paid { .. }) => "paid",
                Some(RemitState::GivenUp { .. }) => "claim",
                _ => "waiting",
            }
            .to_owned();
        }
        Ok(view)
    }

    pub(super) async fn pay_claim(&self, run: RunId, token: &str, to: &str) -> Result<Refunded, MoneyError> {
        let campaign = name(&run.to_string())?;
        let claim = self.treasury.claim(token)?.filter(|c| c.campaign == campaign);
        let pledge = claim.ok_or(MoneyError::NoClaim)?.pledge;
        let to: Destination = to.parse()?;
        to.check(&self.addresses, self.treasury.wallet().network(), since_1970())?;
        let debit = account(pledge)?;
        let key = match &to {
            // Asking for the same again is told how it went.
            Destination::Invoice(invoice) => format!("claim/{pledge}/{}", invoice.hash()),
            _ => format!("claim/{pledge}/{}", self::token()?),
        };
        let known = self.treasury.remittances(&debit)?.iter().any(|r| r.key == key);
        if !known && self.treasury.available(&debit)? == Msat::ZERO {
            return Err(MoneyError::NothingLeft);
        }
        self.treasury.remit(&key, debit, to, 1)?;
        let found = self.treasury.settle_remittance(&key, &self.addresses, PAYOUT).await?;
        match found.map(|r| r.state) {
            Some(RemitState::Paid { payment, amount, .. }) => Ok(Refunded { pledge, payment, amount }),
            Some(RemitState::GivenUp { reason } | RemitState::Waiting { reason, .. }) => {
                Err(MoneyError::NotPaid(reason))
            }
            Some(RemitState::Sending { .. } | RemitState::Asking { .. }) => Err(MoneyError::UnderWay),
            None => Err(MoneyError::NothingLeft),
        }
    }

    /// Pays what is left of one pledge where it was wanted; whether nothing more can be done.
    async fn pay_one(&self, claim: &Claim) -> Result<bool, MoneyError> {
        let Some(to) = &claim.to else { return Ok(true) };
        let (debit, key) = (account(claim.pledge)?, by_itself(claim.pledge));
        let known = self.treasury.remittances(&debit)?.iter().any(|r| r.key == key);
        if !known && self.treasury.available(&debit)? == Msat::ZERO {
            return Ok(true);
        }
        self.treasury.remit(&key, debit, to.clone(), TRIES)?;
        let found = self.treasury.settle_remittance(&key, &self.addresses, PAYOUT).await?;
        Ok(found.is_none_or(|r| matches!(r.state, RemitState::Paid { .. } | RemitState::GivenUp { .. })))
    }

    pub(super) async fn pay_all(&self, run: RunId) -> Result<bool, MoneyError> {
        let claims = self.treasury.claims(&name(&run.to_string())?)?;
        let paying = stream::iter(claims).map(|claim| async move { self.pay_one(&claim).await });
        let done: Vec<Result<bool, MoneyError>> = paying.buffer_unordered(AT_ONCE).collect().await;
        let mut all = true;
        for one in done {
            all &= one?;
        }
        Ok(all)
    }

    pub(super) fn all_paid(&self, run: RunId) -> Result<Vec<Refunded>, MoneyError> {
        let mut all = Vec::new();
        let pledges = self.treasury.claims(&name(&run.to_string())?)?.into_iter().map(|c| c.pledge);
        for pledge in pledges {
            let remittances = self.treasury.remittances(&account(pledge)?)?;
            all.extend(remittances.iter().filter_map(paid).map(|p| Refunded { pledge, ..p }));
        }
        Ok(all)
    }
}

fn paid(remittance: &Remittance) -> Option<Refunded> {
    match &remittance.state {
        RemitState::Paid { payment, amount, .. } => {
            // Whose it is, its caller knows.
            Some(Refunded { pledge: *payment, payment: *payment, amount: *amount })
        }
        _ => None,
    }
}
