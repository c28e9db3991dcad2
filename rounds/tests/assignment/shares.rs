//! From gains to shares.

use proptest::prelude::*;
use watershed_protocol::market::{RewardSpec, RunSpec};
use watershed_protocol::{BasisPoints, Msat};
use watershed_rounds::{shares, whole};

fn reward(base: u16, full_at: u16, tiers: u32) -> RewardSpec {
    let points = |n| BasisPoints::try_from(n).unwrap();
    RewardSpec {
        per_assignment: Msat::new(63_000),
        base: points(base),
        full_at: points(full_at),
        tiers,
        ..RunSpec::smallest([]).reward
    }
}

/// Gains as they come, and numbers that no honest score gives.
fn gain() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -1.0f32..1.0,
        1 => any::<u32>().prop_map(f32::from_bits),
        1 => prop::sample::select(vec![0.0, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NEG_INFINITY]),
    ]
}

proptest! {
    #[test]
    fn a_share_is_from_the_base_to_the_whole_and_nothing_for_what_lowers_no_loss(
        base in 0u16..=10_000,
        full_at in 0u16..=10_000,
        tiers in 1u32..=8,
        gains in prop::collection::vec(gain(), 0..40),
    ) {
        let reward = reward(base, full_at, tiers);
        let found = shares(&reward, &gains);
        prop_assert_eq!(found.len(), gains.len());
        let least = u32::from(base) * whole(&reward) / 10_000;
        for (gain, share) in gains.iter().zip(&found) {
            if !gain.is_finite() || *gain <= 0.0 {
                prop_assert_eq!(*share, 0);
                continue;
            }
            prop_assert!((least..=whole(&reward)).contains(share), "{} earns {}", gain, share);
            for (other, others) in gains.iter().zip(&found).filter(|(other, _)| other.is_finite()) {
                prop_assert!(gain > other || share <= others);
            }
        }
    }

    #[test]
    fn a_larger_gain_never_earns_less_and_the_order_of_others_does_not_matter(
        base in 0u16..=10_000,
        full_at in 0u16..=10_000,
        mut gains in prop::collection::vec(-1.0f32..1.0, 1..20),
        more in 0.0f32..2.0,
    ) {
        let reward = reward(base, full_at, 6);
        let before = shares(&reward, &gains);
        let mut turned: Vec<u32> = shares(&reward, &gains.iter().rev().copied().collect::<Vec<_>>());
        turned.reverse();
        prop_assert_eq!(&turned, &before);
        // The median moves with it, but not faster.
        gains[0] += more;
        prop_assert!(shares(&reward, &gains)[0] >= before[0]);
    }
}
