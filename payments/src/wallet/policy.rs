//! How large the channels are that we open to payees.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[channels]` of `wallet.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelPolicy {
    /// Smallest, in sat: a channel costs fees to open and to close, whatever its size.
    pub min_sats: u64,
    /// Largest, in sat: what one payee may keep from other uses.
    pub max_sats: u64,
    /// Seconds to wait for a channel to be usable.
    pub patience_s: u64,
}

impl Default for ChannelPolicy {
    fn default() -> Self {
        Self { min_sats: 100_000, max_sats: 10_000_000, patience_s: 60 }
    }
}

impl ChannelPolicy {
    /// The size of a channel that has room for `msat` beside what there is: reserves take 1 %, commitment fees and a rise
    /// of the fee rate some more. The size that is needed if the policy forbids it.
    ///
    /// # Errors
    /// The size, in sat.
    pub(crate) fn size(&self, msat: u64) -> Result<u64, u64> {
        let needed = msat.div_ceil(1000).saturating_mul(5) / 4 + 20_000;
        let sats = needed.max(self.min_sats);
        if sats > self.max_sats { Err(sats) } else { Ok(sats) }
    }

    /// How long to wait for a channel to be usable.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_sized_by_need_within_the_policy() {
        let policy = ChannelPolicy::default();
        assert_eq!(policy.size(1_000_000), Ok(100_000));
        assert_eq!(policy.size(1_000_000_000), Ok(1_270_000));
        assert_eq!(policy.size(100_000_000_000), Err(125_020_000));
        assert!(policy.size(u64::MAX).is_err());
        // What a specification may promise is what this carries.
        let most = watershed_protocol::market::RunSpec::MAX_REWARD.msat();
        assert!(policy.size(most).is_ok() && policy.size(most + 1_000).is_err());
        let small = ChannelPolicy { min_sats: 30_000, max_sats: 1_000_000, ..policy };
        assert_eq!(small.size(1_000_000), Ok(30_000));
        assert_eq!(small.size(1_000_000_000), Err(1_270_000));
    }
}
