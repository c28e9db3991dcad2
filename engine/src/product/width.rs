//! How many bits the integers of each operand have: part of a run's specification, since it changes results.

use std::fmt;
use std::str::FromStr;

/// Bits of one quantised operand, sign included: 8 to 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Width(u8);

/// A width outside 8..=16, or text that is not `<bits>x<bits>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WidthError {
    /// Not between 8 and 16.
    #[error("{0} bits: an operand has 8 to 16 bits")]
    Bits(u32),
    /// Not of the form `12x12`.
    #[error("{0:?} is not a precision; write the bits of both operands, such as 12x12 or 8x16")]
    Text(String),
}

impl Width {
    /// 8 bits.
    pub const W8: Self = Self(8);
    /// 12 bits.
    pub const W12: Self = Self(12);
    /// 16 bits.
    pub const W16: Self = Self(16);

    /// A width of `bits`; refused outside 8..=16.
    pub fn new(bits: u32) -> Result<Self, WidthError> {
        match u8::try_from(bits) {
            Ok(narrow @ 8..=16) => Ok(Self(narrow)),
            _ => Err(WidthError::Bits(bits)),
        }
    }

    /// Bits, 8 to 16.
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// The largest quantised magnitude, `2^(bits-1) - 1`.
    pub fn largest(self) -> i32 {
        (1 << (self.bits() - 1)) - 1
    }
}

impl TryFrom<u32> for Width {
    type Error = WidthError;
    fn try_from(bits: u32) -> Result<Self, WidthError> {
        Self::new(bits)
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The widths of both operands, written `12x12`: left, then right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Precision {
    /// Width of the left operand.
    pub a: Width,
    /// Width of the right operand.
    pub b: Width,
}

impl Precision {
    /// 8 bits on both sides.
    pub const P8X8: Self = Self { a: Width::W8, b: Width::W8 };
    /// 12 bits on both sides: the most one pass of a 16-bit multiply-add instruction sums without widening.
    pub const P12X12: Self = Self { a: Width::W12, b: Width::W12 };
    /// 8 bits left, 16 right.
    pub const P8X16: Self = Self { a: Width::W8, b: Width::W16 };
    /// 16 bits on both sides.
    pub const P16X16: Self = Self { a: Width::W16, b: Width::W16 };

    /// Bits of both operands together, 16 to 32.
    pub(crate) fn total_bits(self) -> u32 {
        self.a.bits() + self.b.bits()
    }
}

impl Default for Precision {
    fn default() -> Self {
        Self::P12X12
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.a, self.b)
    }
}

impl FromStr for Precision {
    type Err = WidthError;
    fn from_str(text: &str) -> Result<Self, WidthError> {
        let refuse = || WidthError::Text(text.chars().take(40).collect());
        let part = |digits: &str| -> Result<Width, WidthError> {
            // u32::from_str takes a sign, which would give one precision two spellings
            if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|c| c.is_ascii_digit()) {
                return Err(refuse());
            }
            Width::new(digits.parse().map_err(|_| refuse())?)
        };
        let (a, b) = text.split_once('x').ok_or_else(refuse)?;
        Ok(Self { a: part(a)?, b: part(b)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_survives_its_own_text() {
        for a in 8..=16 {
            for b in 8..=16 {
                let precision = Precision { a: Width::new(a).unwrap(), b: Width::new(b).unwrap() };
                assert_eq!(precision.to_string().parse(), Ok(precision));
            }
        }
        assert_eq!(Precision::P8X16.to_string(), "8x16");
    }

    #[test]
    fn other_text_is_refused() {
        for bad in [
            "",
            "12",
            "x",
            "12x",
            "7x12",
            "12x17",
            "12X12",
            " 12x12",
            "+12x12",
            "012x12",
            "12x12x12",
            "99999999999x12",
        ] {
            assert!(bad.parse::<Precision>().is_err(), "{bad:?} was taken");
        }
        assert_eq!(Width::new(0), Err(WidthError::Bits(0)));
        assert_eq!(Width::new(264), Err(WidthError::Bits(264)));
    }
}
