//! Whether the node still remembers the payment of a record.

use serde::{Deserialize, Serialize};

/// Whether the node has to remember a payment. It keeps every payment in memory, and reads all of them at each start, until
/// it is told to forget them; our record stays, and keeps a payment from being made twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeMemory {
    /// The payment may still change.
    #[default]
    Needed,
    /// It was seen to have ended at that height.
    Ended(u32),
    /// Forgotten there.
    Forgotten,
}

impl NodeMemory {
    /// Whether nothing was noted yet.
    pub fn is_needed(&self) -> bool {
        *self == Self::Needed
    }

    /// Whether it may be forgotten at height `tip`, `blocks` after it has ended.
    pub fn is_due(&self, tip: u32, blocks: u32) -> bool {
        matches!(self, Self::Ended(at) if tip >= at.saturating_add(blocks))
    }
}
