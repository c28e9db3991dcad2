//! Secrets of lots, made from a seed: nothing has to be stored, and none is used twice.

use watershed_protocol::{AssignmentId, Domain, PaymentHash, Preimage, TaggedHasher};

/// The preimage of one lot.
pub(crate) fn preimage(seed: &[u8; 32], assignment: AssignmentId, tier: u32) -> Preimage {
    let mut hasher = TaggedHasher::new(Domain::LotSecret);
    hasher.update(seed);
    hasher.update(&assignment.to_bytes());
    hasher.update(&tier.to_le_bytes());
    Preimage::from_bytes(hasher.finish().to_bytes())
}

/// The payment hashes of all tiers.
pub(crate) fn hashes(seed: &[u8; 32], assignment: AssignmentId, tiers: u32) -> Vec<PaymentHash> {
    (0..tiers).map(|tier| preimage(seed, assignment, tier).hash()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lot_has_a_secret_of_its_own() {
        let id = |n| AssignmentId::from_bytes([n; 32]);
        let mut all: Vec<_> =
            (1..5).flat_map(|seed| (1..5).flat_map(move |a| hashes(&[seed; 32], id(a), 6))).collect();
        assert_eq!(hashes(&[1; 32], id(1), 6), all[..6]);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 96);
    }
}
