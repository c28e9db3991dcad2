//! The run as a pure state machine, and the server around it.

pub mod machine;
