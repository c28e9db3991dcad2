//! Why a task is declined, as the coordinator is told: never more than it needs, and nothing of this machine.

use thiserror::Error;

/// The reasons there are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Declined {
    #[error("the state of the round before is lost here")]
    LostState,
    /// Of the offer; made of what the coordinator sent.
    #[error("{0}")]
    Offer(String),
    #[error("there is no room for it on the disk")]
    NoRoom,
    #[error("it could not be computed here")]
    NotComputed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_that_this_machine_makes_names_a_file() {
        for reason in [Declined::LostState, Declined::NoRoom, Declined::NotComputed] {
            assert!(!reason.to_string().contains(['/', '\\']), "{reason}");
        }
    }
}
