//! The public record, how it is read, and what is computed from it.

pub mod client;
pub mod log;
pub mod record;
