//! Why an event is not taken.

use thiserror::Error;
use watershed_protocol::market::{SpecError, Unanswerable};
use watershed_protocol::{AssignmentId, EncodeError, PublicKey};

/// A message that changes nothing. Each has a code that does not change.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// Nothing new: whoever says it again is told that all is well, and nothing is written down.
    #[error("this is known already")]
    Known,
    /// The specification.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A specification that nobody can train.
    #[error("nobody can train this: {0}")]
    Untrainable(watershed_rounds::Unfit),
    /// Something too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Not signed by whom it must be.
    #[error("{0} may not say this")]
    NotAllowed(PublicKey),
    /// A miner that did not join.
    #[error("{0} has not joined this run; send a join message first")]
    NotJoined(PublicKey),
    /// A miner that did not pay to join.
    #[error("this run takes a fee of {0} for joining; the answer to a join message says how to pay it")]
    FeeUnpaid(watershed_protocol::Msat),
    /// No such task.
    #[error("there is no assignment {0} in this run, or it is over")]
    NoAssignment(AssignmentId),
    /// Not the right time.
    #[error("the assignment is {stage}; {what} is not possible now")]
    Stage {
        /// Where it stands.
        stage: String,
        /// What was tried.
        what: &'static str,
    },
    /// After its part of the time.
    #[error("{0} came too late")]
    Late(&'static str),
    /// Before its part of the time.
    #[error("{0} came too early")]
    Early(&'static str),
    /// A request that nobody could answer.
    #[error("the request binds nobody: {0}")]
    Unanswerable(#[from] Unanswerable),
    /// A verdict that does not follow from what its validator asked for and was answered.
    #[error("the verdict does not fit what was asked for and answered: {0}")]
    Unfounded(&'static str),
    /// Not the right time for a run.
    #[error("the run is {phase}; {what} is not possible now")]
    Phase {
        /// Where it stands.
        phase: &'static str,
        /// What was tried.
        what: &'static str,
    },
    /// A second, different one.
    #[error("{0} was sent before, with other content")]
    Changed(&'static str),
    /// A count that does not fit.
    #[error("{what}: {found} were sent, {wanted} are needed")]
    Count {
        /// Of what.
        what: &'static str,
        /// Sent.
        found: usize,
        /// Needed.
        wanted: usize,
    },
    /// Secrets that do not release the lots of the share.
    #[error("the preimages are not those of the lots that make up the share")]
    Preimages,
    /// A verdict on something else.
    #[error("the verdict is on another submission, or its windows were drawn from something else")]
    OtherSubmission,
    /// A command that is older than one that was taken.
    #[error("the command is older than one that was taken")]
    Stale,
    /// A miner that changes its mind again and again.
    #[error("this miner has joined and left too often; wait a minute")]
    TooOften,
    /// A number out of range.
    #[error("{0} is out of range")]
    Range(&'static str),
}

impl Refusal {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Spec(_) | Self::Untrainable(_) => "bad-specification",
            Self::Encode(_) => "too-long",
            Self::NotAllowed(_) => "not-allowed",
            Self::NotJoined(_) => "not-joined",
            Self::FeeUnpaid(_) => "fee-unpaid",
            Self::NoAssignment(_) => "no-assignment",
            Self::Stage { .. } => "wrong-stage",
            Self::Late(_) => "too-late",
            Self::Early(_) => "too-early",
            Self::Unanswerable(_) => "unanswerable",
            Self::Unfounded(_) => "unfounded",
            Self::Phase { .. } => "wrong-phase",
            Self::Changed(_) => "changed",
            Self::Count { .. } => "wrong-count",
            Self::Preimages => "wrong-preimages",
            Self::OtherSubmission => "other-submission",
            Self::Stale => "stale-command",
            Self::TooOften => "too-many",
            Self::Range(_) => "out-of-range",
        }
    }
}
