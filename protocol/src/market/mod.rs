//! The market: what a run is, what its parties say to each other, and what is kept of it in the record.

mod assignment;
mod dispute;
mod holders;
mod message;
mod opening;
mod promise;
mod record;
mod smallest;
mod spec;
mod standing;
mod times;
mod trainable;
mod verdict;
pub mod view;

pub use assignment::{
    Assignment, Commitment, Opened, Opening, Reveal, StepClaim, TermsOffered, TrajectoryHash,
};
pub use dispute::{Spoken, is_disputed, is_sound, score_of};
pub use holders::holders;
pub use message::{Command, Join, Message, PayoutRequest, Present, Upload};
pub use opening::Unanswerable;
pub use promise::Promise;
pub use record::{Entry, FinalState, Stepped, TextSource};
pub use spec::{
    ChecksSpec, CommitteeMember, CompressionSpec, DataSpec, FundingSpec, InnerSpec, ModelSpec, OuterSpec,
    RewardSpec, RoundsSpec, RunSpec, SpecError,
};
pub use standing::{Judged, Standing, lot_of};
pub use times::JudgingTimes;
pub use verdict::{Fault, Outcome, Score, Verdict};
