//! How much of each register is read.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::kind::{Register, UnknownName};
use crate::id::BasisPoints;

/// Shares of the registers, in basis points that sum to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "[u16; 7]", into = "[u16; 7]")]
pub struct Mixture([u16; Register::ALL.len()]);

/// Shares that are no mixture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MixtureError {
    /// They do not make a whole.
    #[error("the shares sum to {0} basis points; they must sum to 10000")]
    Sum(u32),
    /// A part that is not `register=share`.
    #[error("{0:?} is not of the form register=basis-points, such as narrative=2500")]
    Part(String),
    /// A register that is named twice.
    #[error("{0} is given twice")]
    Twice(Register),
    /// A register that does not exist.
    #[error(transparent)]
    Register(#[from] UnknownName),
    /// No text at all to take natural shares of.
    #[error("there is nothing to mix: no register has any tokens")]
    Nothing,
}

impl Mixture {
    /// Nothing but one register.
    pub fn only(register: Register) -> Self {
        let mut shares = [0; Register::ALL.len()];
        shares[usize::from(register.number())] = BasisPoints::WHOLE.get();
        Self(shares)
    }

    /// The share of a register.
    pub fn share(&self, register: Register) -> u16 {
        self.0[usize::from(register.number())]
    }

    /// Registers with their shares, those of share 0 left out, in the order of registers.
    pub fn parts(&self) -> impl Iterator<Item = (Register, u16)> + '_ {
        Register::ALL.iter().map(|r| (*r, self.share(*r))).filter(|(_, share)| *share > 0)
    }

    /// Shares in proportion to `tokens`, by largest remainders; of equal remainders the earlier register wins.
    ///
    /// # Errors
    /// [`MixtureError::Nothing`] if all are 0.
    pub fn natural(tokens: [u64; Register::ALL.len()]) -> Result<Self, MixtureError> {
        let whole = u128::from(BasisPoints::WHOLE.get());
        let total: u128 = tokens.iter().map(|t| u128::from(*t)).sum();
        if total == 0 {
            return Err(MixtureError::Nothing);
        }
        let mut shares = tokens.map(|t| (u128::from(t) * whole / total) as u16);
        let missing = usize::from(BasisPoints::WHOLE.get() - shares.iter().sum::<u16>());
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(u128::from(tokens[*i]) * whole % total));
        for i in order.into_iter().take(missing) {
            shares[i] += 1;
        }
        Ok(Self(shares))
    }
}

impl TryFrom<[u16; 7]> for Mixture {
    type Error = MixtureError;
    fn try_from(shares: [u16; 7]) -> Result<Self, MixtureError> {
        let sum = shares.iter().map(|s| u32::from(*s)).sum();
        if sum == u32::from(BasisPoints::WHOLE.get()) {
            Ok(Self(shares))
        } else {
            Err(MixtureError::Sum(sum))
        }
    }
}

impl From<Mixture> for [u16; 7] {
    fn from(mixture: Mixture) -> Self {
        mixture.0
    }
}

impl std::fmt::Display for Mixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (register, share)) in self.parts().enumerate() {
            write!(f, "{}{register}={share}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Mixture {
    type Err = MixtureError;
    /// Reads `narrative=4000,technical=6000`.
    fn from_str(text: &str) -> Result<Self, MixtureError> {
        let mut shares = [0u16; Register::ALL.len()];
        let mut seen = [false; Register::ALL.len()];
        for part in text.split(',') {
            let misfit = || MixtureError::Part(part.chars().take(60).collect());
            let (name, share) = part.split_once('=').ok_or_else(misfit)?;
            let register: Register = name.trim().parse()?;
            let at = usize::from(register.number());
            if std::mem::replace(&mut seen[at], true) {
                return Err(MixtureError::Twice(register));
            }
            shares[at] = share.trim().parse().map_err(|_| misfit())?;
        }
        Self::try_from(shares)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mixture_reads_back_and_says_what_is_wrong() {
        let mixture: Mixture = "narrative=4000, technical=6000".parse().unwrap();
        assert_eq!(mixture.to_string().parse(), Ok(mixture));
        assert_eq!(mixture.share(Register::Technical), 6000);
        assert_eq!("narrative=4000".parse::<Mixture>(), Err(MixtureError::Sum(4000)));
        assert_eq!("lyric=1,lyric=9999".parse::<Mixture>(), Err(MixtureError::Twice(Register::Lyric)));
        assert!(matches!("narrative".parse::<Mixture>(), Err(MixtureError::Part(_))));
        assert!(matches!("prose=10000".parse::<Mixture>(), Err(MixtureError::Register(_))));
        assert!(serde_json::from_str::<Mixture>("[10000,1,0,0,0,0,0]").is_err());
        assert_eq!(Mixture::natural([0; 7]), Err(MixtureError::Nothing));
    }

    proptest! {
        #[test]
        fn natural_shares_make_a_whole(tokens: [u64; 7]) {
            if let Ok(mixture) = Mixture::natural(tokens) {
                prop_assert_eq!(Mixture::try_from(<[u16; 7]>::from(mixture)), Ok(mixture));
                for (register, share) in mixture.parts() {
                    let exact = tokens[usize::from(register.number())] as f64 * 1e4 / tokens.iter().map(|t| *t as f64).sum::<f64>();
                    prop_assert!((exact - f64::from(share)).abs() <= 1.0);
                }
            }
        }
    }
}
