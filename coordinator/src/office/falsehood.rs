//! What a coordinator that cannot be trusted does. Never set but by the program that is there to be caught.

use clap::ValueEnum;

/// A coordinator's cheat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Falsehood {
    /// Publishes other parameters than the submissions give.
    SwapCheckpoint,
    /// Leaves an accepted submission out of the checkpoint.
    DropSubmission,
    /// Signs its log again without a message that everybody has seen in it.
    RewritesHistory,
    /// Shows nobody the verdicts, so that miners do not get their secrets from it.
    WithholdSecrets,
    /// Tells a miner that its round is over as soon as it has shown its work, so that it lets go of its reward.
    EarlyJudged,
}
