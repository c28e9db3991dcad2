//! From scores to shares of the reward.

use watershed_protocol::market::RewardSpec;

/// Steps that a reward is paid in: `2^tiers - 1`.
pub fn whole(reward: &RewardSpec) -> u32 {
    (1u32 << reward.tiers.min(8)) - 1
}

/// What each of a round's sound submissions earns, in steps of [`whole`], from their gains.
///
/// What lowers no loss (a gain of 0 or less, or no finite one) earns nothing. What does earns the base; the rest grows with the
/// gain, up to the given share of the median of all positive gains (the lower middle one), so that one submission that is far
/// ahead does not make the others poor.
pub fn shares(reward: &RewardSpec, gains: &[f32]) -> Vec<u32> {
    let mut positive: Vec<f32> = gains.iter().copied().filter(|g| *g > 0.0 && g.is_finite()).collect();
    positive.sort_by(f32::total_cmp);
    let median = positive.get(positive.len().saturating_sub(1) / 2).copied();
    let (base, full_at) = (f64::from(reward.base.get()) / 1e4, f64::from(reward.full_at.get()) / 1e4);
    let of = |gain: &f32| {
        let Some(median) = median.filter(|_| *gain > 0.0 && gain.is_finite()) else { return 0 };
        let quality = (f64::from(*gain) / (f64::from(median) * full_at).max(f64::MIN_POSITIVE)).min(1.0);
        ((base + (1.0 - base) * quality) * f64::from(whole(reward)) + 1e-9) as u32
    };
    gains.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use watershed_protocol::market::RunSpec;
    use watershed_protocol::{BasisPoints, Msat};

    use super::*;

    #[test]
    fn work_at_half_the_median_is_paid_in_full_and_worse_work_less() {
        let bp = |n| BasisPoints::try_from(n).unwrap();
        let reward = RewardSpec {
            per_assignment: Msat::new(63_000),
            base: bp(5000),
            full_at: bp(5000),
            tiers: 6,
            ..RunSpec::smallest([]).reward
        };
        assert_eq!(whole(&reward), 63);
        assert_eq!(shares(&reward, &[0.2, 0.1, 0.4, 0.05]), [63, 63, 63, 63]);
        assert_eq!(shares(&reward, &[0.2, 0.2, 0.05]), [63, 63, 47]);
        assert_eq!(shares(&reward, &[0.2, 0.001]), [63, 63], "half of the smaller one in the middle");
        assert_eq!(shares(&reward, &[0.2, 0.2, 1e-6]), [63, 63, 31]);
    }

    #[test]
    fn what_lowers_no_loss_earns_nothing() {
        let reward = RewardSpec { tiers: 6, ..RunSpec::smallest([]).reward };
        assert_eq!(shares(&reward, &[0.2, 0.0, -0.0, -1.0, f32::NAN]), [63, 0, 0, 0, 0]);
        assert_eq!(shares(&reward, &[-0.1, -0.2]), [0, 0]);
        assert_eq!(shares(&reward, &[f32::INFINITY, f32::NEG_INFINITY, 0.1]), [0, 0, 63]);
        assert!(shares(&reward, &[]).is_empty());
    }
}
