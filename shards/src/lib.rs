//! From a person's text to the exact tokens of a training step, with the way back.
//!
//! ```text
//! text -> deposit -> snapshot -> shard set -> window -> tokens
//!         (signed)   (in force)  (tokenised)  (drawn)
//!            ^                                   |
//!            +----------- attribution -----------+
//! ```
//!
//! Every arrow is a pure function of what is left of it, and every thing is named by its hash; so whoever has the deposits can
//! recompute a batch, and whoever has a batch can list the deposits it read. The crate knows nothing of models or of money.

pub mod consents;
pub mod export;
pub mod import;
pub mod library;
pub mod license;
pub mod measure;
pub mod near;
pub mod reading;
pub mod shard;
pub mod snapshot;
pub mod text;
pub mod tokenizer;
pub mod trace;
pub mod transfer;
pub mod verify;
pub mod window;
