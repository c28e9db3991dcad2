//! What can be wrong with a record.

use thiserror::Error;
use watershed_protocol::market::Unanswerable;
use watershed_protocol::{AssignmentId, DecodeError, EnvelopeError, Msat, PaymentHash, PublicKey, RunId};

/// The first thing that is wrong, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// Not an entry.
    #[error("it is no entry: {0}")]
    Entry(#[from] DecodeError),
    /// A signature that does not hold.
    #[error("{0}")]
    Signature(#[from] EnvelopeError),
    /// A specification that makes no run.
    #[error("the specification is not one: {0}")]
    Specification(String),
    /// Twice the same.
    #[error("{0} is there twice")]
    Twice(String),
    /// A run that was not opened.
    #[error("the run {0} was never opened")]
    NoRun(RunId),
    /// A task that was not given out.
    #[error("the assignment {0} was never given out")]
    NoAssignment(AssignmentId),
    /// Signed by somebody else.
    #[error("{0} may not say this")]
    Signer(PublicKey),
    /// A task that does not follow from the run.
    #[error("the assignment is not what the run calls for: {0}")]
    Assignment(String),
    /// Out of order.
    #[error("{0} came out of order")]
    Order(&'static str),
    /// What was shown is not what was committed.
    #[error("the trajectory that was shown is not the one that was committed")]
    Trajectory,
    /// A request that nobody could answer.
    #[error(
        "{validator} asks for what nobody could open, and the coordinator took it into the record: {what}"
    )]
    Unanswerable {
        /// Who asks.
        validator: PublicKey,
        /// What is wrong with it.
        what: Unanswerable,
    },
    /// An answer that does not fit.
    #[error("what {signer} opens does not fit: {what}")]
    Opening {
        /// Whose.
        signer: PublicKey,
        /// Why.
        what: &'static str,
    },
    /// A verdict that does not fit.
    #[error("the verdict of {validator} does not fit: {what}")]
    Verdict {
        /// Whose.
        validator: PublicKey,
        /// Why.
        what: &'static str,
    },
    /// A receipt that does not fit.
    #[error("the receipt for {0} is not for a lot of this assignment")]
    Receipt(PaymentHash),
    /// Money that does not add up.
    #[error("{what}: {found} instead of {wanted}")]
    Sum {
        /// Of what.
        what: &'static str,
        /// In the record.
        found: Msat,
        /// By computation.
        wanted: Msat,
    },
    /// Another text than the specification's.
    #[error("the text that is named is not the run's")]
    Text,
    /// The end of submissions, told otherwise than it was.
    #[error(
        "round {0} is closed with other submissions than were shown, or draws its scores from something else"
    )]
    Closed(u32),
    /// A checkpoint made of other submissions than were accepted.
    #[error("the checkpoint after round {0} is not made of the submissions that were accepted")]
    Accepted(u32),
    /// Two tasks read the same sequences.
    #[error("the windows of {0} and {1} overlap")]
    Overlap(AssignmentId, AssignmentId),
}
