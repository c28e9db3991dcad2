//! The market: what a run is, what its parties say to each other, and what is kept of it in the record.

mod assignment;
mod message;
mod record;
mod spec;
mod verdict;
pub mod view;

pub use assignment::{
    Assignment, Commitment, Opened, Opening, Reveal, StepClaim, TermsOffered, TrajectoryHash,
};
pub use message::{Command, Join, Message, PayoutRequest, Present, Upload};
pub use record::{Entry, FinalState, Stepped};
pub use spec::{
    ChecksSpec, CommitteeMember, CompressionSpec, DataSpec, FundingSpec, InnerSpec, ModelSpec, OuterSpec,
    RewardSpec, RoundsSpec, RunSpec, SpecError,
};
pub use verdict::{Fault, Outcome, Score, Verdict};
