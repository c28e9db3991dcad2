//! How long an HTLC can be held and how much a channel carries: what escrows have to know of a node and its network.

use watershed_protocol::Msat;

use super::WalletError;

/// Blocks after an HTLC's expiry at which it has long been resolved, on the chain if need be.
const RESOLVED: u32 = 100;

/// The limits of a node, as [`super::Wallet::limits`] tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blocks before an HTLC expires at which the node gives it back by itself, to have time for the chain.
    pub fail_back: u32,
    /// Blocks that may come between the payer's sending and the payee's noticing.
    pub notice: u32,
    /// Longest final CLTV of an HTLC that the network carries.
    pub max_final_cltv: u32,
    /// HTLCs that a channel carries in one direction at a time.
    pub htlcs_per_channel: usize,
    /// Most that a channel may hold in HTLCs below the dust limit. They have no output of their own: if the channel is
    /// closed by force they go to the miners of blocks.
    pub max_dust: Msat,
}

impl Limits {
    /// The final CLTV of an HTLC that can be held for `window` blocks.
    ///
    /// # Errors
    /// [`WalletError::HoldTooLong`].
    pub fn final_cltv_for(&self, window: u32) -> Result<u16, WalletError> {
        let overhead = self.fail_back + self.notice;
        let too_long = WalletError::HoldTooLong { asked: window, most: self.max_final_cltv, overhead };
        match window.checked_add(overhead) {
            Some(total) if total <= self.max_final_cltv => u16::try_from(total).map_err(|_| too_long),
            _ => Err(too_long),
        }
    }

    /// The latest height at which the payee's node gives back what is sent at height `tip` with a route that is one block
    /// longer than its final CLTV. The payee may know of a newer tip than we do.
    pub fn latest_deadline(&self, tip: u32, final_cltv: u64) -> u32 {
        let blocks = u32::try_from(final_cltv).unwrap_or(u32::MAX);
        tip.saturating_add(blocks)
            .saturating_add(1)
            .saturating_sub(self.fail_back)
            .saturating_add(self.notice)
    }

    /// The height from which nothing of an HTLC with that deadline can be in flight or undecided on the chain.
    pub fn resolved(&self, deadline: u32) -> u32 {
        self.expired(deadline.saturating_add(self.fail_back))
    }

    /// The same for an HTLC that expires at height `expiry`.
    pub fn expired(&self, expiry: u32) -> u32 {
        expiry.saturating_add(RESOLVED)
    }
}

#[cfg(test)]
mod tests {
    use crate::wallet::ldk::LIMITS;

    #[test]
    fn a_window_that_the_network_forbids_is_refused_with_the_limit() {
        assert_eq!(LIMITS.final_cltv_for(144).unwrap(), 189);
        assert_eq!(LIMITS.final_cltv_for(2016 - 45).unwrap(), 2016);
        let refused = LIMITS.final_cltv_for(2016 - 45 + 1).unwrap_err().to_string();
        assert!(refused.contains("2016") && refused.contains("45"), "{refused}");
        assert!(LIMITS.final_cltv_for(u32::MAX).is_err());
    }

    #[test]
    fn what_was_sent_has_a_latest_deadline_and_an_end() {
        // expires at 290 at the latest, given back 39 blocks before, noticed up to 6 blocks later
        assert_eq!(LIMITS.latest_deadline(100, 189), 257);
        assert_eq!(LIMITS.resolved(257), 257 + 39 + 100);
        assert_eq!(LIMITS.latest_deadline(u32::MAX, u64::MAX), u32::MAX - 33);
    }
}
