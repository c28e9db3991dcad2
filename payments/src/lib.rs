//! Everything about money, on real Lightning, ignorant of training: wallets, escrow in lots, pledges, the ledger, L402.
//!
//! Start with [`treasury::Treasury`], a wallet with books; `docs/MONEY.md` explains what it does and why.
//!
//! ```
//! use watershed_payments::escrow::{earned, split};
//! use watershed_protocol::Msat;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A reward for which two validators hold secrets, in six tiers each; 42 of 63 parts are earned.
//! let lots = split(Msat::new(6_300_000), 2, 6)?;
//! assert_eq!(lots[0].iter().map(|m| m.msat()).sum::<u64>(), 3_150_000);
//! assert_eq!(earned(6, 42)?, [false, true, false, true, false, true]);
//! # Ok(())
//! # }
//! ```

pub mod cli;
pub mod control;
pub mod escrow;
pub mod l402;
pub mod ledger;
pub mod lock;
pub mod regtest;
pub mod store;
pub mod treasury;
pub mod wallet;
