//! The payer's side: a lot from the offer to its end.
//!
//! ```text
//! Offered -> Paying -> Locked -> Settled
//!              |         |
//!              +---------+-> CameBack (may be paid again, with a new invoice)
//! ```
//!
//! Pure, like `hold`. A lot is `Paying` before the node is asked to send, so a crash between the two ends in asking
//! again, which the node answers with "already paying" if it was sent. What became of a lot is read from the node, never
//! concluded from an error or from silence; a preimage is proof, wherever it comes from.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::{Msat, PaymentHash, Preimage, Subject};

use super::hold::DEADLINE_MARGIN;
use crate::ledger::{Account, Entry, EntryError, Legs};
use crate::store::{NodeMemory, Record};
use crate::wallet::{Expected, Invoice, InvoiceError, Limits, Network, NodeId, Outgoing, WalletError};

/// How a lot's money comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum CameBack {
    /// It never left.
    #[error("it was never sent: {reason}")]
    NotSent {
        /// The node's words.
        reason: String,
    },
    /// The payee gave it back, or no route carried it.
    #[error("the payee gave it back, or no channel could carry it")]
    Failed,
    /// The payee let the deadline pass.
    #[error("the payee let block {deadline} pass")]
    TimedOut {
        /// When it should have been settled.
        deadline: u32,
    },
    /// The offer was withdrawn.
    #[error("the offer was withdrawn")]
    Withdrawn,
}

/// Where a lot stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum LotState {
    /// The payee has the terms.
    Offered,
    /// The node was asked to send.
    Paying {
        /// What is paid.
        invoice: Invoice,
        /// The latest deadline that can result.
        latest_deadline: u32,
    },
    /// The payee confirmed that it can decide until the deadline.
    Locked {
        /// What is paid.
        invoice: Invoice,
        /// When the payee's node gives it back.
        deadline: u32,
    },
    /// Paid.
    Settled {
        /// The secret.
        preimage: Preimage,
        /// Kept by forwarding nodes.
        fee: Msat,
    },
    /// With us again.
    CameBack {
        /// How.
        how: CameBack,
    },
}

/// A lot that we pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// Names it.
    pub hash: PaymentHash,
    /// The escrow it belongs to.
    pub subject: Subject,
    /// Who gets it.
    pub payee: NodeId,
    /// How much.
    pub amount: Msat,
    /// For how many blocks the payee must be able to decide.
    pub window: u32,
    /// Who pays.
    pub budget: Account,
    /// In whose name it is earned.
    pub earner: Account,
    /// How often it was locked.
    pub attempt: u32,
    /// Where it stands.
    pub state: LotState,
    /// Whether the node remembers it.
    #[serde(default, skip_serializing_if = "NodeMemory::is_needed")]
    pub memory: NodeMemory,
}

impl Record for Lot {
    const KIND: &'static str = "lot";
    fn id(&self) -> String {
        self.hash.to_string()
    }
    fn group(&self) -> String {
        self.subject.to_string()
    }
    fn is_open(&self) -> bool {
        !matches!(self.state, LotState::Settled { .. } | LotState::CameBack { .. })
    }
    fn is_kept(&self) -> bool {
        self.memory != NodeMemory::Forgotten
    }
}

/// The lot after an event, with what to book.
#[derive(Clone, Debug)]
pub struct LotStep {
    /// The lot.
    pub next: Lot,
    /// What to book.
    pub entry: Option<Entry>,
}

/// Why an event is refused.
#[derive(Debug, Error)]
pub enum LotError {
    /// Not what was agreed.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// The window.
    #[error(transparent)]
    Window(#[from] WalletError),
    /// It is not waiting for an invoice.
    #[error("the lot {hash} is {state} and cannot be locked again")]
    NotOffered {
        /// Which.
        hash: PaymentHash,
        /// In a word.
        state: &'static str,
    },
    /// The payee says that it holds what was not sent, or is back.
    #[error("the payee says that {hash} is locked, but it is {state}")]
    NotInFlight {
        /// Which.
        hash: PaymentHash,
        /// In a word.
        state: &'static str,
    },
    /// The payee names a deadline that this payment cannot have.
    #[error(
        "the payee says that {hash} is locked until block {deadline}; what was sent ends at block {latest} at the latest"
    )]
    DeadlineLie {
        /// Which.
        hash: PaymentHash,
        /// Claimed.
        deadline: u32,
        /// Possible.
        latest: u32,
    },
    /// The payee cannot hold it as long as agreed.
    #[error("{hash} is locked until block {deadline}, which is {left} blocks from now; {window} were agreed")]
    WindowTooShort {
        /// Which.
        hash: PaymentHash,
        /// Claimed.
        deadline: u32,
        /// From the tip.
        left: u32,
        /// Agreed.
        window: u32,
    },
    /// It is in flight or ended.
    #[error("the lot {hash} is {state} and cannot be withdrawn")]
    NotWithdrawable {
        /// Which.
        hash: PaymentHash,
        /// In a word.
        state: &'static str,
    },
    /// The node paid with a secret that is not this lot's.
    #[error("the node names a preimage of {found} for {wanted}")]
    Preimage {
        /// Its hash.
        found: PaymentHash,
        /// The lot's.
        wanted: PaymentHash,
    },
    /// The ledger.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl LotState {
    /// In a word, for people.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Paying { .. } => "being paid",
            Self::Locked { .. } => "locked",
            Self::Settled { .. } => "settled",
            Self::CameBack { .. } => "back",
        }
    }
}

impl Lot {
    /// The final CLTV that its invoice must ask for: the window and what the network needs. A few blocks more are
    /// accepted from a payee that is careful.
    fn final_cltv(&self, limits: &Limits) -> Result<(u64, u64), WalletError> {
        let least = u64::from(limits.final_cltv_for(self.window)?);
        Ok((least, least + 6))
    }

    /// The lot with the payee's invoice, ready to be sent.
    ///
    /// # Errors
    /// [`LotError::NotOffered`], [`LotError::Invoice`], [`LotError::Window`], [`LotError::Entry`].
    pub fn pay(
        &self,
        invoice: Invoice,
        (network, limits): (Network, &Limits),
        tip: u32,
        now: Duration,
    ) -> Result<LotStep, LotError> {
        let (hash, amount) = (self.hash, self.amount);
        if !matches!(self.state, LotState::Offered | LotState::CameBack { .. }) {
            return Err(LotError::NotOffered { hash, state: self.state.word() });
        }
        let final_cltv = self.final_cltv(limits)?;
        invoice.check(&Expected { network, payee: self.payee, hash, amount, final_cltv }, now)?;
        // `PayLimits::max_cltv` leaves one block more than the final CLTV.
        let latest_deadline = limits.latest_deadline(tip, invoice.final_cltv());
        let attempt = self.attempt + 1;
        let entry = Legs::new()
            .leg(&Account::Channels, &Account::Escrow, amount)?
            .entry(format!("lot/{hash}/lock/{attempt}"), format!("locked for {}", self.subject))?;
        let (state, memory) = (LotState::Paying { invoice, latest_deadline }, NodeMemory::Needed);
        Ok(LotStep { next: Self { attempt, state, memory, ..self.clone() }, entry })
    }

    /// The lot that the node is about to be asked for again at height `tip`, as nobody knows whether it took it the first
    /// time: what is sent now has a later deadline.
    pub fn ask_again(&self, tip: u32, limits: &Limits) -> Option<LotStep> {
        let LotState::Paying { invoice, latest_deadline } = &self.state else { return None };
        let later = limits.latest_deadline(tip, invoice.final_cltv());
        (later > *latest_deadline).then(|| {
            let state = LotState::Paying { invoice: invoice.clone(), latest_deadline: later };
            LotStep { next: Self { state, ..self.clone() }, entry: None }
        })
    }

    /// The lot after the node proved that it did not send it.
    ///
    /// # Errors
    /// [`LotError::Entry`].
    pub fn not_sent(&self, reason: String) -> Result<Option<LotStep>, LotError> {
        match self.state {
            LotState::Paying { .. } => self.back(CameBack::NotSent { reason }).map(Some),
            _ => Ok(None),
        }
    }

    /// The lot after the payee's word that it is locked, at our height `tip`, while our node says `node`.
    ///
    /// # Errors
    /// [`LotError::NotInFlight`], [`LotError::DeadlineLie`] and [`LotError::WindowTooShort`].
    pub fn confirm(
        &self,
        deadline: u32,
        tip: u32,
        node: Option<Outgoing>,
    ) -> Result<Option<LotStep>, LotError> {
        let hash = self.hash;
        let (invoice, latest) = match &self.state {
            LotState::Paying { invoice, latest_deadline } => (invoice, *latest_deadline),
            LotState::Locked { deadline: known, .. } if *known == deadline => return Ok(None),
            LotState::Locked { deadline: latest, .. } => {
                return Err(LotError::DeadlineLie { hash, deadline, latest: *latest });
            }
            LotState::Settled { .. } => return Ok(None),
            other => return Err(LotError::NotInFlight { hash, state: other.word() }),
        };
        match node {
            Some(Outgoing::Pending) => {}
            // The news of it is on the way.
            Some(Outgoing::Succeeded { .. }) => return Ok(None),
            Some(Outgoing::Failed) => return Err(LotError::NotInFlight { hash, state: "back" }),
            None => return Err(LotError::NotInFlight { hash, state: "not sent yet" }),
        }
        if deadline > latest {
            return Err(LotError::DeadlineLie { hash, deadline, latest });
        }
        let left = deadline.saturating_sub(tip);
        if left < self.window {
            return Err(LotError::WindowTooShort { hash, deadline, left, window: self.window });
        }
        let state = LotState::Locked { invoice: invoice.clone(), deadline };
        Ok(Some(LotStep { next: Self { state, ..self.clone() }, entry: None }))
    }

    /// The lot after looking at what the node knows of its payment, at height `tip`.
    ///
    /// # Errors
    /// [`LotError::Preimage`] and [`LotError::Entry`].
    pub fn observe(&self, node: Outgoing, tip: u32) -> Result<Option<LotStep>, LotError> {
        let (hash, amount) = (self.hash, self.amount);
        // What came back was paid all the same, against all that the node had said; it is not in escrow any more.
        let belated = matches!(self.state, LotState::CameBack { .. })
            && self.attempt > 0
            && matches!(node, Outgoing::Succeeded { .. });
        if !belated && !matches!(self.state, LotState::Paying { .. } | LotState::Locked { .. }) {
            return Ok(None);
        }
        match node {
            Outgoing::Pending => Ok(None),
            Outgoing::Succeeded { preimage, .. } if preimage.hash() != hash => {
                Err(LotError::Preimage { found: preimage.hash(), wanted: hash })
            }
            Outgoing::Succeeded { preimage, fee } => {
                // Earned and paid in one entry: the earner's account ends where it was, and its statement shows both.
                let entry = Legs::new()
                    .leg(&self.earner, &self.budget, amount)?
                    .leg(if belated { &Account::Channels } else { &Account::Escrow }, &self.earner, amount)?
                    .leg(&Account::Channels, &Account::RoutingFees, fee)?
                    .entry(
                        format!("lot/{hash}/settle"),
                        format!("{} was paid for {}", self.payee, self.subject),
                    )?;
                let state = LotState::Settled { preimage, fee };
                Ok(Some(LotStep { next: Self { state, ..self.clone() }, entry }))
            }
            Outgoing::Failed => {
                let how = match self.state {
                    LotState::Locked { deadline, .. } if tip.saturating_add(DEADLINE_MARGIN) >= deadline => {
                        CameBack::TimedOut { deadline }
                    }
                    _ => CameBack::Failed,
                };
                self.back(how).map(Some)
            }
        }
    }

    /// The lot at a height at which nothing of it can be in flight any more, though the node calls it pending or does not
    /// know it: a node that was killed just as it sent may remember the payment and not the HTLC, and then no news of it
    /// ever comes.
    ///
    /// # Errors
    /// [`LotError::Entry`].
    pub fn expired(&self, tip: u32, limits: &Limits) -> Result<Option<LotStep>, LotError> {
        match self.state {
            LotState::Paying { latest_deadline, .. } if tip >= limits.resolved(latest_deadline) => {
                let reason = "the node lost it when it was killed".to_owned();
                self.back(CameBack::NotSent { reason }).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The lot without its offer.
    ///
    /// # Errors
    /// [`LotError::NotWithdrawable`].
    pub fn withdraw(&self) -> Result<Option<LotStep>, LotError> {
        match self.state {
            LotState::Offered => {
                let state = LotState::CameBack { how: CameBack::Withdrawn };
                Ok(Some(LotStep { next: Self { state, ..self.clone() }, entry: None }))
            }
            LotState::CameBack { .. } => Ok(None),
            _ => Err(LotError::NotWithdrawable { hash: self.hash, state: self.state.word() }),
        }
    }

    fn back(&self, how: CameBack) -> Result<LotStep, LotError> {
        let (hash, attempt) = (self.hash, self.attempt);
        let entry = Legs::new()
            .leg(&Account::Escrow, &Account::Channels, self.amount)?
            .entry(format!("lot/{hash}/back/{attempt}"), how.to_string())?;
        Ok(LotStep { next: Self { state: LotState::CameBack { how }, ..self.clone() }, entry })
    }
}

#[cfg(test)]
#[path = "lot_tests.rs"]
mod tests;
