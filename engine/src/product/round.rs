//! The scale of a row and the rounding of one element to an integer, as straight-line code that vectorises.

use super::width::Width;

/// Rows whose largest biased exponent is below this count as zero: `2^-100`.
pub(crate) const SMALLEST_EXPONENT: u32 = 27;

/// `1.5 * 2^23`: added to `|x| < 2^22` it leaves `round_ties_even(x)` in the low bits of the sum, because there the spacing
/// of f32 is 1 and the constant is even.
const ROUNDER: f32 = 12_582_912.0;
const ROUNDER_BITS: i32 = 0x4b40_0000;

/// Which part of a quantised integer is stored: a wide operand is cut as `256 * HIGH + LOW` with `LOW` in -128..=127.
pub(crate) mod part {
    pub(crate) const WHOLE: u8 = 0;
    pub(crate) const HIGH: u8 = 1;
    pub(crate) const LOW: u8 = 2;
}

/// How a row is scaled.
#[derive(Clone, Copy)]
pub(crate) struct Scaling {
    /// What elements are multiplied by before rounding; 0 for a zero or poisoned row.
    pub(crate) multiplier: f32,
    /// What the integers are worth: a normal power of two, 1 for a zero row, NaN marks a poisoned row.
    pub(crate) scale: f32,
}

/// The scaling of a row whose largest magnitude has the bits `magnitude`.
#[inline(always)]
pub(crate) fn scaling(magnitude: u32, width: Width) -> Scaling {
    // selections instead of branches, so that sixteen rows are scaled at once
    let exponent = magnitude >> 23;
    let counts = (SMALLEST_EXPONENT..255).contains(&exponent);
    // biased exponents of 2^(125 + w - emax) and 2^(emax - 125 - w): both within 1..=254 if the row counts
    let up = (252 + width.bits()).wrapping_sub(exponent);
    let down = 254u32.wrapping_sub(up);
    let rest = if exponent == 255 { f32::NAN } else { 1.0 };
    Scaling {
        multiplier: if counts { f32::from_bits(up << 23) } else { 0.0 },
        scale: if counts { f32::from_bits(down << 23) } else { rest },
    }
}

/// The bits of `|x|`; they order like the magnitudes, with infinities and NaNs on top.
#[inline(always)]
pub(crate) fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Rounds elements to integers of one width.
#[derive(Clone, Copy)]
pub(crate) struct Rounder {
    lowest: i32,
    highest: i32,
}

impl Rounder {
    #[inline(always)]
    pub(crate) fn new(width: Width) -> Self {
        Self { lowest: ROUNDER_BITS - width.largest(), highest: ROUNDER_BITS + width.largest() }
    }

    /// The integer, or a part of it; only the low 16 bits count. The product is exact unless it is below `2^-126`, so there
    /// is one rounding, in the addition. A poisoned row (NaN here) gives some integer of the width, never used.
    #[inline(always)]
    pub(crate) fn round<const PART: u8>(self, x: f32, multiplier: f32) -> u32 {
        let bits = ((x * multiplier + ROUNDER).to_bits() as i32).max(self.lowest).min(self.highest);
        match PART {
            part::WHOLE => bits as u32,
            part::HIGH => ((bits - ROUNDER_BITS + 128) >> 8) as u32,
            _ => (((bits + 128) & 255) - 128) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let rounder = Rounder::new(Width::W16);
        for q in -32767..=32767i32 {
            let whole = |v: u32| i32::from(v as u16 as i16);
            let x = q as f32;
            assert_eq!(whole(rounder.round::<{ part::WHOLE }>(x, 1.0)), q);
            let (high, low) = (
                whole(rounder.round::<{ part::HIGH }>(x, 1.0)),
                whole(rounder.round::<{ part::LOW }>(x, 1.0)),
            );
            assert_eq!(256 * high + low, q);
            assert!((-128..=128).contains(&high) && (-128..=127).contains(&low));
        }
    }

    #[test]
    fn scales_are_normal_powers_of_two_over_the_whole_range() {
        for width in 8..=16 {
            let width = Width::new(width).unwrap();
            for exponent in SMALLEST_EXPONENT..255 {
                let s = scaling(exponent << 23, width);
                assert!(s.multiplier.is_normal() && s.scale.is_normal());
                assert_eq!(s.multiplier * s.scale, 1.0);
                assert_eq!(s.scale.to_bits() >> 23, 127 + exponent - 125 - width.bits());
            }
        }
    }
}
