//! What a coordinator that cannot be trusted does. Never set but by the program that is there to be caught.

use clap::ValueEnum;
use watershed_protocol::market::Message;

use crate::machine::Run;

/// A coordinator's cheat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Falsehood {
    /// Publishes other parameters than the submissions give.
    SwapCheckpoint,
    /// Leaves an accepted submission out of the checkpoint.
    DropSubmission,
    /// Signs that it took a miner's submission, and forgets it.
    ForgetSubmission,
    /// Signs its log again without a message that everybody has seen in it.
    RewritesHistory,
    /// Shows nobody the verdicts, so that miners do not get their secrets from it.
    WithholdSecrets,
    /// Tells a miner that its round is over as soon as it has shown its work, so that it lets go of its reward.
    EarlyJudged,
}

impl Falsehood {
    /// Whether it forgets what a miner says: the submission of one miner in each round in which several work.
    pub(crate) fn forgets(self, message: &Message, run: &Run) -> bool {
        let Message::Reveal(reveal) = message else { return false };
        let working = || run.current().filter(|(_, w)| w.commitment.is_some()).map(|(id, _)| *id);
        self == Self::ForgetSubmission && working().count() > 1 && working().max() == Some(reveal.assignment)
    }
}
