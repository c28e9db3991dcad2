//! The double-entry ledger: what the accounts and entries are. Where entries are kept is `store`; what they are compared
//! with is `reconcile`.
//!
//! Every account belongs to one of three kinds. *Places* say where our money is, *claims* to whom it is owed, *costs*
//! what is gone. A deposit adds to a place and, with the opposite sign, to a claim, so the sum over all accounts is zero
//! at all times, and the sum over places is what the node must hold.

mod account;
mod entry;
pub mod reconcile;

pub use account::{Account, AccountError, Name};
pub use entry::{Entry, EntryError, Legs, Posting};
