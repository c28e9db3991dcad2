//! A run as a pure state machine: `(state, event, now) -> (state, effects)`.
//!
//! ```text
//! run    Funding -> Preparing -> Running -> Closing -> Ended
//! round  Locking -> Training -> Revealing -> Judging -> Stepping
//! work   Hashing -> Offering -> Offered -> Locking -> Paid -> Confirming -> Locked -> Committed -> Revealed
//!                                any of them -> Dropped
//! ```
//!
//! Events are facts: a message whose signature was checked, the outcome of an effect, a deadline that passed. An event is
//! written down together with the effects it calls for, and only then are these carried out, so a process that is killed
//! finds in its journal what it still has to do. Applying the same message twice changes nothing the second time.

mod apply;
mod budget;
mod dispute;
mod due;
mod effect;
mod event;
mod idle;
mod join;
mod keep;
mod litter;
mod places;
mod purse;
mod refusal;
mod reputation;
mod round;
mod state;
mod wait;
mod work;

pub use effect::Effect;
pub use event::Event;
pub use join::{AWAY, LEFT};
pub use purse::Purse;
pub use refusal::Refusal;
pub use state::{Litter, Miner, Phase, Round, Run, Stage, Totals, VerdictKept, Work, WorkStage};
pub use wait::Wait;
