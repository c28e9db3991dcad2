//! A whole market on one machine, made of the real programs: a Bitcoin network of its own, a coordinator, validators,
//! miners and a sponsor. Each is a process that can be killed and started again; all end with this one.

mod programs;
mod summary;
mod world;

pub use programs::{Failed, Programs};
pub use summary::{Party, Summary, sat};
pub use world::{MinerKind, Options, ValidatorKind, World, registers, stages};
