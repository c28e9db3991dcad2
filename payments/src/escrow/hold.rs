//! The payee's side: a hold invoice from its making to its end. Lots and pledges are both holds.
//!
//! ```text
//! Invoiced -> Held -> Claiming -> Settled
//!     |         |         |
//!     +---------+---------+-> GivenBack (by us, or by the node after the deadline)
//! ```
//!
//! Everything here is a pure function of the hold, the event and the height. The steps it returns are written down
//! before their effects are carried out; after a crash the effects of open holds are carried out again.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::{Msat, PaymentHash, Preimage, Subject};

use crate::ledger::{Account, Entry, EntryError, Legs, Name};
use crate::store::{NodeMemory, Record};
use crate::wallet::Invoice;

/// Blocks before the deadline at which a hold is given back. At the deadline itself LDK does so silently, and a claim
/// that comes a block too late is accepted and lost.
pub const DEADLINE_MARGIN: u32 = 6;

/// What a hold is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A lot of an escrow; somebody else knows the preimage.
    Lot {
        /// The escrow.
        subject: Subject,
    },
    /// A sponsor's pledge; the preimage is ours.
    Pledge {
        /// For what.
        campaign: Name,
        /// Whose.
        sponsor: Name,
        /// What claims it.
        preimage: Preimage,
    },
}

/// Why money went back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum BackReason {
    /// The one who decides said so.
    #[error("{reason}")]
    Decided {
        /// In its words.
        reason: String,
    },
    /// The deadline was near.
    #[error("nobody settled it before block {deadline}")]
    Deadline {
        /// The node's.
        deadline: u32,
    },
    /// The node gave it back by itself.
    #[error("the node gave it back after block {deadline}")]
    TimedOut {
        /// The node's.
        deadline: u32,
    },
    /// The payer locked less than agreed.
    #[error("{found} were locked, {wanted} were agreed")]
    Underpaid {
        /// Locked.
        found: Msat,
        /// Agreed.
        wanted: Msat,
    },
    /// The payer locked for less time than agreed.
    #[error("it was locked for {found} blocks, {wanted} were agreed")]
    WindowTooShort {
        /// From the tip to the deadline.
        found: u32,
        /// Agreed.
        wanted: u32,
    },
    /// Nobody paid the invoice in time.
    #[error("the invoice expired unpaid")]
    Expired,
}

/// Where a hold stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum HoldState {
    /// Nothing is locked yet.
    Invoiced,
    /// Locked: ours to claim before the deadline.
    Held {
        /// What a claim brings.
        locked: Msat,
        /// The height at which the node gives it back by itself.
        deadline: u32,
    },
    /// The preimage is known and given to the node.
    Claiming {
        /// What a claim brings.
        locked: Msat,
        /// The proof.
        preimage: Preimage,
        /// The height at which the node gives it back by itself.
        deadline: u32,
    },
    /// Ours.
    Settled {
        /// What came.
        received: Msat,
        /// The proof.
        preimage: Preimage,
    },
    /// Gone back to the payer.
    GivenBack {
        /// Why.
        reason: BackReason,
        /// While the node may still hold it: the height from which it cannot.
        until: Option<u32>,
    },
}

/// A hold invoice of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Names it.
    pub hash: PaymentHash,
    /// What for.
    pub purpose: Purpose,
    /// What was agreed.
    pub amount: Msat,
    /// For how many blocks it must be ours to decide.
    pub window: u32,
    /// What the payer was given.
    pub invoice: Invoice,
    /// Where it stands.
    pub state: HoldState,
    /// Whether the node remembers it.
    #[serde(default, skip_serializing_if = "NodeMemory::is_needed")]
    pub memory: NodeMemory,
}

impl Record for Hold {
    const KIND: &'static str = "hold";
    fn id(&self) -> String {
        self.hash.to_string()
    }
    fn group(&self) -> String {
        match &self.purpose {
            Purpose::Lot { subject } => subject.to_string(),
            Purpose::Pledge { campaign, .. } => format!("campaign/{campaign}"),
        }
    }
    fn is_open(&self) -> bool {
        match &self.state {
            HoldState::Settled { .. } => false,
            HoldState::GivenBack { until, .. } => until.is_some(),
            _ => true,
        }
    }
    fn is_kept(&self) -> bool {
        self.memory != NodeMemory::Forgotten
    }
}

/// What happens to a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldEvent {
    /// The node holds the payment.
    Claimable {
        /// What a claim brings.
        amount: Msat,
        /// When it ends, if the node says.
        deadline: Option<u32>,
    },
    /// Somebody gave out the preimage.
    Settle(Preimage),
    /// The one who decides wants it to go back.
    GiveBack(String),
    /// The node has claimed it.
    Received {
        /// What came.
        amount: Msat,
    },
    /// Time went by. The boolean says whether the invoice has expired.
    Tip {
        /// Whether the invoice can still be paid.
        invoice_expired: bool,
    },
}

/// What to ask the node for, after the step is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEffect {
    /// [`crate::wallet::Wallet::claim`].
    Claim {
        /// Which.
        hash: PaymentHash,
        /// What it brings.
        amount: Msat,
        /// The proof.
        preimage: Preimage,
    },
    /// [`crate::wallet::Wallet::fail`].
    GiveBack {
        /// Which.
        hash: PaymentHash,
    },
}

/// The hold after an event, with what to book.
#[derive(Clone, Debug)]
pub struct HoldStep {
    /// The hold.
    pub next: Hold,
    /// What to book.
    pub entry: Option<Entry>,
}

/// Why an event is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HoldError {
    /// Not the secret.
    #[error("this preimage releases {found}, not {wanted}")]
    Preimage {
        /// Its hash.
        found: PaymentHash,
        /// The hold's.
        wanted: PaymentHash,
    },
    /// Nothing is locked.
    #[error("nothing is locked under {0}; a preimage given out now could be taken without paying")]
    NotHeld(PaymentHash),
    /// The deadline is here.
    #[error("it is block {tip}, and {hash} goes back at block {deadline}: too late to settle")]
    TooLate {
        /// Which.
        hash: PaymentHash,
        /// Now.
        tip: u32,
        /// The node's.
        deadline: u32,
    },
    /// It went back.
    #[error("{hash} went back to its payer: {reason}")]
    WentBack {
        /// Which.
        hash: PaymentHash,
        /// Why.
        reason: BackReason,
    },
    /// It is ours already.
    #[error("{0} is settled and cannot go back")]
    Settled(PaymentHash),
    /// The node claimed what we did not ask it to.
    #[error("the node says that it received {0}, which it was not asked to claim")]
    Unasked(PaymentHash),
    /// The ledger.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl Hold {
    /// The hold after `event` at height `tip`; none if the event changes nothing, which a repeated one never does.
    ///
    /// # Errors
    /// [`HoldError`]; the hold is as it was.
    pub fn on(&self, event: &HoldEvent, tip: u32) -> Result<Option<HoldStep>, HoldError> {
        let hash = self.hash;
        let back = |reason, until| HoldState::GivenBack { reason, until };
        let next = match (&self.state, event) {
            (HoldState::Invoiced, HoldEvent::Claimable { amount, deadline }) => {
                let deadline = deadline.unwrap_or(tip);
                let blocks = deadline.saturating_sub(tip);
                // It is given back at once, but the node may have to be told again after a crash.
                if *amount < self.amount {
                    back(BackReason::Underpaid { found: *amount, wanted: self.amount }, Some(deadline))
                } else if blocks < self.window {
                    back(BackReason::WindowTooShort { found: blocks, wanted: self.window }, Some(deadline))
                } else {
                    HoldState::Held { locked: *amount, deadline }
                }
            }
            // A payment that comes after we gave up on it: remember until when the node has it.
            (HoldState::GivenBack { reason, until: None }, HoldEvent::Claimable { deadline, .. }) => {
                back(reason.clone(), Some(deadline.unwrap_or(tip)))
            }
            (_, HoldEvent::Claimable { .. }) => return Ok(None),

            (_, HoldEvent::Settle(preimage)) if preimage.hash() != hash => {
                return Err(HoldError::Preimage { found: preimage.hash(), wanted: hash });
            }
            (HoldState::Invoiced, HoldEvent::Settle(_)) => return Err(HoldError::NotHeld(hash)),
            (HoldState::Held { deadline, .. }, HoldEvent::Settle(_)) if tip >= *deadline => {
                return Err(HoldError::TooLate { hash, tip, deadline: *deadline });
            }
            (HoldState::Held { locked, deadline }, HoldEvent::Settle(preimage)) => {
                HoldState::Claiming { locked: *locked, preimage: *preimage, deadline: *deadline }
            }
            (HoldState::GivenBack { reason, .. }, HoldEvent::Settle(_)) => {
                return Err(HoldError::WentBack { hash, reason: reason.clone() });
            }
            (_, HoldEvent::Settle(_)) => return Ok(None),

            (HoldState::Invoiced, HoldEvent::GiveBack(reason)) => {
                back(BackReason::Decided { reason: reason.clone() }, None)
            }
            (HoldState::Held { deadline, .. }, HoldEvent::GiveBack(reason)) => {
                back(BackReason::Decided { reason: reason.clone() }, Some(*deadline))
            }
            (HoldState::GivenBack { .. }, HoldEvent::GiveBack(_)) => return Ok(None),
            (_, HoldEvent::GiveBack(_)) => return Err(HoldError::Settled(hash)),

            (HoldState::Claiming { preimage, .. }, HoldEvent::Received { amount }) => {
                HoldState::Settled { received: *amount, preimage: *preimage }
            }
            (HoldState::Settled { .. }, HoldEvent::Received { .. }) => return Ok(None),
            (_, HoldEvent::Received { .. }) => return Err(HoldError::Unasked(hash)),

            (HoldState::Invoiced, HoldEvent::Tip { invoice_expired: true }) => {
                back(BackReason::Expired, None)
            }
            (HoldState::Held { deadline, .. }, HoldEvent::Tip { .. }) if tip >= *deadline => {
                back(BackReason::TimedOut { deadline: *deadline }, None)
            }
            (HoldState::Held { deadline, .. }, HoldEvent::Tip { .. })
                if tip.saturating_add(DEADLINE_MARGIN) >= *deadline =>
            {
                back(BackReason::Deadline { deadline: *deadline }, Some(*deadline))
            }
            // The node takes back what was not claimed in time; what it did claim has been reported long before.
            (HoldState::Claiming { deadline, .. }, HoldEvent::Tip { .. })
                if tip >= deadline.saturating_add(DEADLINE_MARGIN) =>
            {
                back(BackReason::TimedOut { deadline: *deadline }, None)
            }
            (HoldState::GivenBack { reason, until: Some(until) }, HoldEvent::Tip { .. }) if tip >= *until => {
                back(reason.clone(), None)
            }
            (_, HoldEvent::Tip { .. }) => return Ok(None),
        };
        let entry = match &next {
            HoldState::Settled { received, .. } => self.received(*received)?,
            _ => None,
        };
        Ok(Some(HoldStep { next: Self { state: next, ..self.clone() }, entry }))
    }

    /// What the node must be asked for as long as the hold stands as it does. Asking again is harmless.
    pub fn effect(&self) -> Option<HoldEffect> {
        match &self.state {
            HoldState::Claiming { locked, preimage, .. } => {
                Some(HoldEffect::Claim { hash: self.hash, amount: *locked, preimage: *preimage })
            }
            HoldState::GivenBack { until: Some(_), .. } => Some(HoldEffect::GiveBack { hash: self.hash }),
            _ => None,
        }
    }

    fn received(&self, amount: Msat) -> Result<Option<Entry>, EntryError> {
        let key = format!("hold/{}/received", self.hash);
        match &self.purpose {
            Purpose::Lot { subject } => Legs::new()
                .leg(&Account::Operator, &Account::Channels, amount)?
                .entry(key, format!("earned for {subject}")),
            Purpose::Pledge { campaign, sponsor, .. } => Legs::new()
                .leg(&Account::Sponsor(sponsor.clone()), &Account::Channels, amount)?
                .leg(&Account::Budget(campaign.clone()), &Account::Sponsor(sponsor.clone()), amount)?
                .entry(key, format!("{sponsor} pledged for {campaign}")),
        }
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
