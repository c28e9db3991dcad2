//! What a miner does with a task: the work, or something else that a validator must find.

use clap::ValueEnum;

/// What an adversary does instead of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cheat {
    /// Trains nothing and hands in zeros.
    Zero,
    /// Trains nothing and hands in noise.
    Random,
    /// Trains, and hands in ten times the pseudo-gradient.
    Scaled,
    /// Takes half of the inner steps.
    SkippedSteps,
    /// Trains on other text than assigned.
    WrongShard,
    /// Starts from other parameters than assigned.
    WrongCheckpoint,
    /// Computes with operands of fewer bits.
    LowPrecision,
    /// Hands in its submission of an earlier round.
    Stale,
    /// Commits to something and shows another miner's work.
    Copied,
    /// Commits, and uploads bytes that are no pseudo-gradient.
    Garbage,
    /// Commits, and uploads far too much.
    Oversize,
    /// Commits, and shows nothing.
    NoReveal,
    /// Shows something else than it committed to.
    OtherReveal,
    /// Does the work, and opens nothing when a validator asks.
    NoOpening,
    /// Takes half of the inner steps, and answers only those validators that ask for one of them.
    SelectiveOpening,
    /// Does the work, and hands in other values for one chunk of 4096.
    PoisonedChunk,
    /// Asks for work, and declines whatever it is offered.
    Declines,
    /// Has rewards locked, and then declines.
    TakesBack,
}

/// How a miner behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// As it should.
    Honest,
    /// Otherwise, from some round on.
    Cheating {
        /// How.
        cheat: Cheat,
        /// Rounds of honesty before.
        after: u32,
    },
}

impl Conduct {
    /// What it does in a round; nothing unusual if none.
    pub(super) fn in_round(self, round: u32) -> Option<Cheat> {
        match self {
            Self::Cheating { cheat, after } if round >= after => Some(cheat),
            _ => None,
        }
    }
}
