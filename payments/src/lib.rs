//! Everything about money, on real Lightning, ignorant of training.

pub mod cli;
pub mod control;
pub mod escrow;
pub mod l402;
pub mod ledger;
pub mod regtest;
pub mod store;
pub mod treasury;
pub mod wallet;
