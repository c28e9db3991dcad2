//! Whether a validator does its work.

use clap::ValueEnum;

/// What a false validator does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Falsehood {
    /// Asks, does not look at the answer, and says that everything is right.
    Lazy,
    /// Says that everything is wrong.
    Lying,
    /// Gives hashes and never a verdict.
    Offline,
    /// Gives its secrets to every miner at once, whatever it handed in.
    Colluding,
}

/// How a validator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// As it should.
    Honest,
    /// Otherwise.
    False(Falsehood),
}
