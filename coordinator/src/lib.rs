//! The run as a pure state machine, and the server around it.

pub mod blobs;
pub mod cli;
pub mod http;
pub mod journal;
pub mod machine;
pub mod market;
pub mod office;
