//! Money: millisatoshi, never a float, never unchecked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An amount in thousandths of a satoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Msat(u64);

/// Text that is no amount.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Without a unit, or with an unknown one.
    #[error("{0:?} has no unit; write for example `1500 sat` or `1500000 msat`")]
    Unit(String),
    /// Not a whole number.
    #[error("{0:?} is not a whole number of its unit")]
    Number(String),
    /// More than 2^64 msat.
    #[error("{0:?} is more than can be counted")]
    TooLarge(String),
}

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// That many msat.
    pub const fn new(msat: u64) -> Self {
        Self(msat)
    }

    /// That many sat; none if that is more than 2^64 msat.
    pub fn from_sat(sat: u64) -> Option<Self> {
        sat.checked_mul(1000).map(Self)
    }

    /// In msat.
    pub const fn msat(self) -> u64 {
        self.0
    }

    /// The sum; none if it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference; none if it is below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product; none if it does not fit.
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }

    /// Quotient and remainder, so that nothing is lost in division; none for division by zero.
    pub fn checked_div_rem(self, parts: u64) -> Option<(Self, Self)> {
        Some((Self(self.0.checked_div(parts)?), Self(self.0.checked_rem(parts)?)))
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (sat, 0) => write!(f, "{sat} sat"),
            (sat, msat) => write!(f, "{sat}.{msat:03} sat"),
        }
    }
}

impl FromStr for Msat {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (number, per_unit) = match text.rsplit_once(' ') {
            Some((number, "sat")) => (number, 1000),
            Some((number, "msat")) => (number, 1),
            _ => return Err(AmountError::Unit(text.to_owned())),
        };
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountError::Number(text.to_owned()));
        }
        let amount = number.parse::<u64>().ok().and_then(|n| n.checked_mul(per_unit));
        amount.map(Self).ok_or_else(|| AmountError::TooLarge(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_show_msat_where_they_matter_and_read_back_by_unit() {
        assert_eq!(Msat::new(1_500_000).to_string(), "1500 sat");
        assert_eq!(Msat::new(1_500_007).to_string(), "1500.007 sat");
        assert_eq!("1500 sat".parse(), Ok(Msat::new(1_500_000)));
        assert_eq!("7 msat".parse(), Ok(Msat::new(7)));
        assert!(matches!("1500".parse::<Msat>(), Err(AmountError::Unit(_))));
        assert!(matches!("1.5 sat".parse::<Msat>(), Err(AmountError::Number(_))));
        assert!(matches!("-1 sat".parse::<Msat>(), Err(AmountError::Number(_))));
        assert!(matches!("18446744073709552 sat".parse::<Msat>(), Err(AmountError::TooLarge(_))));
    }

    #[test]
    fn arithmetic_never_wraps_and_never_loses_a_msat() {
        let (a, b) = (Msat::new(u64::MAX), Msat::new(10));
        assert_eq!((a.checked_add(b), b.checked_sub(a), a.checked_mul(2)), (None, None, None));
        assert_eq!((Msat::from_sat(u64::MAX), b.checked_div_rem(0)), (None, None));
        assert_eq!(b.checked_div_rem(3), Some((Msat::new(3), Msat::new(1))));
    }
}
