//! How a reward is cut: a part for each holder of secrets, and each part into tiers whose amounts double, so that
//! settling the right ones pays any share in steps of `1 / (2^tiers - 1)`.

use thiserror::Error;
use watershed_protocol::Msat;

/// Most tiers of one holder. Eight give steps of 0.4 %; each is an HTLC, of which a channel carries few.
pub const MAX_TIERS: u32 = 8;

/// Why a reward cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TierError {
    /// Nobody holds secrets.
    #[error("a reward needs at least one holder of secrets")]
    NoHolder,
    /// Too few or too many tiers.
    #[error("{0} tiers are not possible; 1 to {MAX_TIERS} are")]
    Tiers(u32),
    /// Some lot would be nothing.
    #[error(
        "{reward} is too little for {holders} holders with {tiers} tiers each; it takes at least {least}"
    )]
    TooSmall {
        /// The reward.
        reward: Msat,
        /// Holders.
        holders: usize,
        /// Tiers of each.
        tiers: u32,
        /// The least that works.
        least: Msat,
    },
    /// A share above the whole.
    #[error("{share} of {whole} steps are more than the whole")]
    Share {
        /// Asked.
        share: u32,
        /// `2^tiers - 1`.
        whole: u32,
    },
}

/// `2^tiers - 1`.
fn steps(tiers: u32) -> Result<u32, TierError> {
    if (1..=MAX_TIERS).contains(&tiers) { Ok((1 << tiers) - 1) } else { Err(TierError::Tiers(tiers)) }
}

/// The amounts of all lots: one list for each holder, the smallest tier first. They sum to `reward` exactly; msat that do
/// not divide go to the first holders and to the largest tier.
///
/// # Errors
/// [`TierError`].
pub fn split(reward: Msat, holders: usize, tiers: u32) -> Result<Vec<Vec<Msat>>, TierError> {
    let steps = u64::from(steps(tiers)?);
    let count = u64::try_from(holders).unwrap_or(u64::MAX);
    let (part, left) = reward.checked_div_rem(count).ok_or(TierError::NoHolder)?;
    if part.msat() < steps {
        let least = Msat::new(steps.saturating_mul(count));
        return Err(TierError::TooSmall { reward, holders, tiers, least });
    }
    let of_holder = |index: u64| {
        let part = part.msat() + u64::from(index < left.msat());
        let (unit, rest) = (part / steps, part % steps);
        (0..tiers).map(|tier| Msat::new((unit << tier) + if tier + 1 == tiers { rest } else { 0 })).collect()
    };
    Ok((0..count).map(of_holder).collect())
}

/// Which tiers of a holder pay `share` of `2^tiers - 1` steps: true at the tiers to settle, the smallest first.
///
/// # Errors
/// [`TierError::Tiers`] and [`TierError::Share`].
pub fn earned(tiers: u32, share: u32) -> Result<Vec<bool>, TierError> {
    let whole = steps(tiers)?;
    if share > whole {
        return Err(TierError::Share { share, whole });
    }
    Ok((0..tiers).map(|tier| share >> tier & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reward_of_63_units_is_cut_into_doubling_tiers() {
        let lots = split(Msat::new(63_000), 1, 6).unwrap();
        let msat: Vec<_> = lots[0].iter().map(|m| m.msat()).collect();
        assert_eq!(msat, [1000, 2000, 4000, 8000, 16_000, 32_000]);
        assert_eq!(earned(6, 5).unwrap(), [true, false, true, false, false, false]);
        assert!(split(Msat::new(62), 1, 6).unwrap_err().to_string().contains("0.063 sat"));
        assert_eq!(split(Msat::new(62), 0, 6), Err(TierError::NoHolder));
        assert_eq!(split(Msat::new(62), 1, 9), Err(TierError::Tiers(9)));
        assert_eq!(earned(6, 64), Err(TierError::Share { share: 64, whole: 63 }));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_a_larger_share_never_pays_less(
            reward in 3_000u64..u64::MAX, holders in 1usize..10, tiers in 1u32..=8,
        ) {
            let lots = split(Msat::new(reward), holders, tiers).unwrap();
            let sum: u64 = lots.iter().flatten().map(|m| m.msat()).sum();
            prop_assert_eq!(sum, reward);
            let paid = |share| -> u64 {
                let earned = earned(tiers, share).unwrap();
                lots[0].iter().zip(earned).filter(|(_, earned)| *earned).map(|(m, _)| m.msat()).sum()
            };
            let whole = (1u32 << tiers) - 1;
            let paid: Vec<_> = (0..=whole).map(paid).collect();
            prop_assert!(paid.is_sorted());
            prop_assert_eq!(paid[whole as usize], lots[0].iter().map(|m| m.msat()).sum::<u64>());
        }
    }
}
