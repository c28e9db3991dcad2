//! Assignments from their text to the next checkpoint: honest work passes every check, and every way of handing in
//! something else is found, with the fault that it is.
#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "assignment/chunks.rs"]
mod chunks;
#[path = "assignment/devices.rs"]
mod devices;
#[path = "assignment/honest.rs"]
mod honest;
#[path = "assignment/reveal.rs"]
mod reveal;
#[path = "assignment/shares.rs"]
mod shares;
#[path = "assignment/steps.rs"]
mod steps;
#[path = "assignment/verdicts.rs"]
mod verdicts;
#[path = "assignment/world.rs"]
mod world;
