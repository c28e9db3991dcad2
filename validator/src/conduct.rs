//! Whether a validator does its work.

use clap::ValueEnum;

/// What a false validator does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Falsehood {
    /// Says that everything is right, without looking.
    Lazy,
    /// Says that everything is wrong.
    Lying,
    /// Gives hashes and never a verdict.
    Offline,
}

/// How a validator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// As it should.
    Honest,
    /// Otherwise.
    False(Falsehood),
}
