//! Campaigns: sponsors' pledges towards a goal, all taken when it is reached, all given back when it is not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use watershed_protocol::{Msat, Preimage};

use super::{HoldStatus, Treasury, TreasuryError};
use crate::escrow::{Hold, HoldError, HoldEvent, HoldState, Purpose};
use crate::ledger::Name;
use crate::store::{Change, Filter, NodeMemory, Record, Store, StoreError, get, list};
use crate::wallet::{Wallet, WalletError};

/// How long a pledge's invoice can be paid.
const INVOICE_EXPIRY: Duration = Duration::from_secs(3600);

/// Most pledges of one campaign that are not paid yet: each costs nothing to ask for, an hour of room here and at the node.
const UNPAID: usize = 100;

/// The same for all campaigns.
const UNPAID_IN_ALL: usize = 1000;

/// Whether a campaign still takes pledges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum CampaignState {
    /// Below its goal.
    Collecting,
    /// The goal is reached: what is held is being taken.
    Funded,
    /// It ended without: everything goes back.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// A goal that sponsors pledge for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Names it, and the budget that the pledges end in.
    pub name: Name,
    /// The sum that has to be held at the same time.
    pub goal: Msat,
    /// Blocks for which a pledge waits at least for the goal.
    pub window: u32,
    /// Seconds since 1970 at which it ends without success.
    pub ends: Option<u64>,
    /// Whether all holds have ended too.
    pub done: bool,
    /// How it stands.
    #[serde(flatten)]
    pub state: CampaignState,
}

impl Record for Campaign {
    const KIND: &'static str = "campaign";
    fn id(&self) -> String {
        self.name.to_string()
    }
    fn group(&self) -> String {
        String::new()
    }
    fn is_open(&self) -> bool {
        !self.done
    }
}

/// A campaign with its pledges.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CampaignStatus {
    /// The campaign.
    #[serde(flatten)]
    pub campaign: Campaign,
    /// Held now, or taken.
    pub raised: Msat,
    /// Every pledge that was asked for.
    pub pledges: Vec<PledgeStatus>,
}

/// A pledge with its sponsor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PledgeStatus {
    /// Whose.
    pub sponsor: Name,
    /// The hold.
    #[serde(flatten)]
    pub hold: HoldStatus,
}

/// What a campaign should become, given what is held; none if it stays. Pure.
fn decide(campaign: &Campaign, held: Msat, now: u64) -> Option<CampaignState> {
    match &campaign.state {
        CampaignState::Collecting if held >= campaign.goal => Some(CampaignState::Funded),
        CampaignState::Collecting if campaign.ends.is_some_and(|ends| now >= ends) => {
            Some(CampaignState::Cancelled {
                reason: format!("{held} of {} were pledged in time", campaign.goal),
            })
        }
        _ => None,
    }
}

fn raised(holds: &[Hold]) -> Msat {
    let ours = holds.iter().filter_map(|hold| match hold.state {
        HoldState::Held { locked, .. } | HoldState::Claiming { locked, .. } => Some(locked),
        HoldState::Settled { received, .. } => Some(received),
        _ => None,
    });
    ours.fold(Msat::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(sum))
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Starts a campaign. Starting the same again changes nothing.
    ///
    /// # Errors
    /// [`TreasuryError::OtherCampaign`]; a window that the network forbids.
    pub fn start_campaign(
        &self,
        name: Name,
        goal: Msat,
        window: u32,
        ends: Option<u64>,
    ) -> Result<CampaignStatus, TreasuryError> {
        self.wallet.limits().final_cltv_for(window)?;
        let campaign = Campaign {
            name: name.clone(),
            goal,
            window,
            ends,
            done: false,
            state: CampaignState::Collecting,
        };
        let mut change = Change::new();
        change.put(&campaign, 0)?;
        match self.commit(&change) {
            Ok(()) => {}
            Err(TreasuryError::Store(StoreError::Conflict { .. })) => {
                let known = self.campaign(&name)?.campaign;
                if (known.goal, known.window, known.ends) != (goal, window, ends) {
                    return Err(TreasuryError::OtherCampaign(name));
                }
            }
            Err(e) => return Err(e),
        }
        self.campaign(&name)
    }

    /// A campaign and its pledges.
    ///
    /// # Errors
    /// [`TreasuryError::NoCampaign`].
    pub fn campaign(&self, name: &Name) -> Result<CampaignStatus, TreasuryError> {
        let found = get::<Campaign>(self.store.as_ref(), name.as_ref())?;
        let campaign = found.ok_or_else(|| TreasuryError::NoCampaign(name.clone()))?.record;
        let holds = self.pledges(name)?;
        let raised = raised(&holds);
        let status = |hold: Hold| match hold.purpose.clone() {
            Purpose::Pledge { sponsor, .. } => Some(PledgeStatus { sponsor, hold: hold.into() }),
            Purpose::Lot { .. } => None,
        };
        Ok(CampaignStatus { campaign, raised, pledges: holds.into_iter().filter_map(status).collect() })
    }

    fn pledges(&self, name: &Name) -> Result<Vec<Hold>, TreasuryError> {
        Ok(self.holds(&format!("campaign/{name}"))?.into_iter().map(|h| h.record).collect())
    }

    /// [`Treasury::pledge`] with a secret of this machine's.
    ///
    /// # Errors
    /// As [`Treasury::pledge`].
    pub async fn pledge_with_random_secret(
        &self,
        name: &Name,
        sponsor: Name,
        amount: Msat,
    ) -> Result<HoldStatus, TreasuryError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| WalletError::Task(format!("no random bytes: {e}")))?;
        self.pledge(name, sponsor, amount, secret).await
    }

    /// A hold invoice for a pledge; any Lightning wallet can pay it. `secret` is 32 random bytes.
    ///
    /// # Errors
    /// [`TreasuryError::NoCampaign`], [`TreasuryError::CampaignOver`], [`TreasuryError::TooManyPledges`].
    pub async fn pledge(
        &self,
        name: &Name,
        sponsor: Name,
        amount: Msat,
        secret: [u8; 32],
    ) -> Result<HoldStatus, TreasuryError> {
        let campaign = self.campaign(name)?.campaign;
        match campaign.state {
            CampaignState::Collecting => {}
            CampaignState::Funded => {
                return Err(TreasuryError::CampaignOver { name: name.clone(), state: "funded" });
            }
            CampaignState::Cancelled { .. } => {
                return Err(TreasuryError::CampaignOver { name: name.clone(), state: "cancelled" });
            }
        }
        let open = list::<Hold>(self.store.as_ref(), Filter::Open)?;
        let unpaid = open.iter().map(|h| &h.record).filter(|h| h.state == HoldState::Invoiced);
        let of = unpaid.filter_map(|h| match &h.purpose {
            Purpose::Pledge { campaign, .. } => Some(campaign),
            Purpose::Lot { .. } => None,
        });
        let (of_this, of_all) = of.fold((0, 0), |(this, all), c| (this + usize::from(c == name), all + 1));
        for (found, most) in [(of_this, UNPAID), (of_all, UNPAID_IN_ALL)] {
            if found >= most {
                return Err(TreasuryError::TooManyPledges { most });
            }
        }
        let preimage = Preimage::from_bytes(secret);
        let (hash, window) = (preimage.hash(), campaign.window);
        let description = format!("pledge for {name}: taken if {} are raised, else returned", campaign.goal);
        let invoice = self.hold_invoice(hash, amount, window, INVOICE_EXPIRY, description).await?;
        let purpose = Purpose::Pledge { campaign: name.clone(), sponsor, preimage };
        let (state, memory) = (HoldState::Invoiced, NodeMemory::Needed);
        let hold = Hold { hash, purpose, amount, window, invoice, state, memory };
        let mut change = Change::new();
        change.put(&hold, 0)?;
        self.commit(&change)?;
        Ok(hold.into())
    }

    /// Ends a campaign that is not funded: everything goes back.
    ///
    /// # Errors
    /// [`TreasuryError::NoCampaign`]; [`TreasuryError::CampaignOver`] if it is funded.
    pub async fn cancel_campaign(&self, name: &Name, reason: &str) -> Result<CampaignStatus, TreasuryError> {
        let stepped =
            self.step::<Campaign, ()>(name.as_ref(), |found, change| match &found.record.state {
                CampaignState::Collecting => {
                    let state = CampaignState::Cancelled { reason: reason.to_owned() };
                    change.put(&Campaign { state, ..found.record.clone() }, found.version)?;
                    Ok(())
                }
                CampaignState::Cancelled { .. } => Ok(()),
                CampaignState::Funded => {
                    Err(TreasuryError::CampaignOver { name: name.clone(), state: "funded" })
                }
            })?;
        stepped.ok_or_else(|| TreasuryError::NoCampaign(name.clone()))?;
        self.advance_campaign(name).await?;
        self.campaign(name)
    }

    /// Decides a campaign and carries the decision out on its pledges. Safe to repeat.
    pub(super) async fn advance_campaign(&self, name: &Name) -> Result<(), TreasuryError> {
        let now = self.now().as_secs();
        let held = raised(&self.pledges(name)?);
        let state = self.step::<Campaign, _>(name.as_ref(), |found, change| {
            let Some(state) = decide(&found.record, held, now) else { return Ok(found.record.state.clone()) };
            change.put(&Campaign { state: state.clone(), ..found.record.clone() }, found.version)?;
            Ok(state)
        })?;
        let Some(state) = state else { return Ok(()) };
        if state == CampaignState::Collecting {
            return Ok(());
        }
        for hold in self.pledges(name)? {
            let Purpose::Pledge { preimage, .. } = hold.purpose else { continue };
            let event = match (&state, &hold.state) {
                (CampaignState::Funded, HoldState::Held { .. }) => HoldEvent::Settle(preimage),
                (CampaignState::Funded, HoldState::Invoiced) => {
                    HoldEvent::GiveBack("the goal was reached".into())
                }
                (CampaignState::Cancelled { reason }, HoldState::Held { .. } | HoldState::Invoiced) => {
                    HoldEvent::GiveBack(reason.clone())
                }
                _ => continue,
            };
            match self.step_hold(hold.hash, &event).await {
                // It went back before we came to it: the others are taken all the same.
                Err(TreasuryError::Hold(e @ (HoldError::TooLate { .. } | HoldError::WentBack { .. }))) => {
                    self.notice(format!("a pledge for {name} is lost: {e}"));
                }
                other => other?,
            }
        }
        if self.pledges(name)?.iter().all(|hold| !hold.is_open()) {
            self.step::<Campaign, ()>(name.as_ref(), |found, change| {
                Ok(change.put(&Campaign { done: true, ..found.record.clone() }, found.version)?)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_funded_at_its_goal_and_ends_at_its_time() {
        let campaign = Campaign {
            name: "run".parse().unwrap(),
            goal: Msat::new(100),
            window: 144,
            ends: Some(50),
            done: false,
            state: CampaignState::Collecting,
        };
        assert_eq!(decide(&campaign, Msat::new(99), 49), None);
        assert_eq!(decide(&campaign, Msat::new(100), 49), Some(CampaignState::Funded));
        assert_eq!(
            decide(&campaign, Msat::new(100), 51),
            Some(CampaignState::Funded),
            "the goal comes first"
        );
        assert!(matches!(decide(&campaign, Msat::new(99), 50), Some(CampaignState::Cancelled { .. })));
        let funded = Campaign { state: CampaignState::Funded, ..campaign };
        assert_eq!(decide(&funded, Msat::ZERO, 99), None, "a decision stands");
    }
}
