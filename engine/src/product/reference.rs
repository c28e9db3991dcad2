//! The definition of the product, literally: one integer at a time, no floating-point arithmetic but the bias. Slow; every
//! fast implementation, here or on a GPU, is tested against it bit for bit.

use super::CANONICAL_NAN;
use super::view::View;
use super::width::{Precision, Width};

/// A row after quantisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Holds an infinity or a NaN.
    Poisoned,
    /// Every magnitude is below `2^-100`.
    Zero,
    /// Element `i` is `integers[i] * 2^exponent`.
    Scaled {
        /// Power of two of one unit, `emax - 125 - w`.
        exponent: i32,
        /// Integers of `w` bits.
        integers: Vec<i32>,
    },
}

/// `magnitude / 2^shift` to the nearest integer, ties to even.
fn shift_right_even(magnitude: u64, shift: u32) -> u64 {
    if shift == 0 {
        return magnitude;
    }
    if shift > 63 {
        return 0;
    }
    let (whole, rest, half) = (magnitude >> shift, magnitude & ((1 << shift) - 1), 1 << (shift - 1));
    whole + u64::from(rest > half || (rest == half && whole % 2 == 1))
}

/// Quantises the elements of one row to `width` bits.
pub fn quantise(row: impl Iterator<Item = f32> + Clone, width: Width) -> Row {
    let exponent = |x: f32| (x.to_bits() >> 23) & 255;
    let emax = row.clone().map(exponent).max().unwrap_or(0);
    match emax {
        255 => return Row::Poisoned,
        0..27 => return Row::Zero,
        _ => {}
    }
    let integer = |x: f32| {
        let e = exponent(x);
        if e == 0 {
            return 0;
        }
        // x = mantissa * 2^(e - 150), to be multiplied by 2^(125 + w - emax)
        let mantissa = u64::from(x.to_bits() & 0x7f_ffff | 0x80_0000);
        let rounded = shift_right_even(mantissa, emax - e + 25 - width.bits());
        // at most 2^15, so it fits
        let magnitude = (rounded as i32).min(width.largest());
        if x.is_sign_negative() { -magnitude } else { magnitude }
    };
    Row::Scaled { exponent: emax as i32 - 125 - width.bits() as i32, integers: row.map(integer).collect() }
}

/// `sum * 2^exponent` as f32: `+0` below `2^-126`, else to the nearest, ties to even, then a signed infinity.
pub fn round(sum: i128, exponent: i32) -> f32 {
    // MAX_K products of 30 bits are below 2^50
    let magnitude = sum.unsigned_abs() as u64;
    if magnitude == 0 {
        return 0.0;
    }
    let length = u64::BITS - magnitude.leading_zeros();
    let mut top = length as i32 - 1 + exponent;
    if top < -126 {
        return 0.0;
    }
    let mut mantissa =
        if length <= 24 { magnitude << (24 - length) } else { shift_right_even(magnitude, length - 24) };
    if mantissa == 1 << 24 {
        mantissa >>= 1;
        top += 1;
    }
    let bits =
        if top > 127 { 0x7f80_0000 } else { ((top + 127) as u32) << 23 | (mantissa as u32 & 0x7f_ffff) };
    f32::from_bits(bits | if sum < 0 { 0x8000_0000 } else { 0 })
}

/// One result from a row of each operand; the rows are equally long.
pub fn dot(a: &Row, b: &Row) -> f32 {
    match (a, b) {
        (Row::Poisoned, _) | (_, Row::Poisoned) => f32::from_bits(CANONICAL_NAN),
        (Row::Zero, _) | (_, Row::Zero) => 0.0,
        (Row::Scaled { exponent: ea, integers: qa }, Row::Scaled { exponent: eb, integers: qb }) => {
            let sum = qa.iter().zip(qb).map(|(&a, &b)| i128::from(a) * i128::from(b)).sum();
            round(sum, ea + eb)
        }
    }
}

/// Adds a bias to a result.
pub fn add_bias(result: f32, bias: f32) -> f32 {
    let sum = result + bias;
    if sum.is_nan() {
        f32::from_bits(CANONICAL_NAN)
    } else if sum.is_subnormal() {
        f32::from_bits(sum.to_bits() & 0x8000_0000)
    } else {
        sum
    }
}

/// The rows of every matrix of a view, quantised.
fn rows(view: &View<'_>, width: Width) -> Vec<Vec<Row>> {
    let row = |item: usize, r: usize| {
        let start = view.batch.offset(item) + r * view.row_stride;
        quantise((0..view.k).map(move |k| view.data[start + k * view.k_stride]), width)
    };
    (0..view.items).map(|item| (0..view.rows).map(|r| row(item, r)).collect()).collect()
}

/// The product of two views with equal batch and contraction lengths, contiguous `[items, left rows, right rows]`. Lengths
/// that differ are cut to the shorter one.
pub fn product(left: &View<'_>, right: &View<'_>, precision: Precision, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = Vec::new();
    for (a, b) in rows(left, precision.a).iter().zip(&rows(right, precision.b)) {
        for a in a {
            for (n, b) in b.iter().enumerate() {
                let result = dot(a, b);
                out.push(bias.and_then(|bias| bias.get(n)).map_or(result, |&bias| add_bias(result, bias)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_to_even_and_are_clamped() {
        // emax of 1.0 is 127: one unit of 8 bits is 2^-6
        let row = [1.0, 0.5 / 64.0, 1.5 / 64.0, -2.5 / 64.0, -0.51 / 64.0, 1e-40, -0.0];
        let expected = vec![64, 0, 2, -2, -1, 0, 0];
        assert_eq!(quantise(row.into_iter(), Width::W8), Row::Scaled { exponent: -6, integers: expected });
        let top = [1.999_999_9f32, -1.999_999_9];
        assert_eq!(
            quantise(top.into_iter(), Width::W8),
            Row::Scaled { exponent: -6, integers: vec![127, -127] }
        );
        assert_eq!(quantise([f32::INFINITY, 1.0].into_iter(), Width::W8), Row::Poisoned);
        assert_eq!(quantise([f32::NAN].into_iter(), Width::W8), Row::Poisoned);
        let edge = f32::from_bits(27 << 23);
        assert_eq!(edge, 2f32.powi(-100));
        assert!(matches!(quantise([edge].into_iter(), Width::W8), Row::Scaled { .. }));
        assert_eq!(quantise([f32::from_bits(edge.to_bits() - 1)].into_iter(), Width::W8), Row::Zero);
    }

    #[test]
    fn results_round_once() {
        assert_eq!(round(0, 5).to_bits(), 0);
        assert_eq!(round(3, 0), 3.0);
        assert_eq!(round(-((1 << 24) + 1), 0), -16_777_216.0, "a tie goes to even");
        assert_eq!(round((1 << 24) + 3, 0), 16_777_220.0);
        assert_eq!(round(1, -126), f32::MIN_POSITIVE);
        // 2^25 - 1 units round up to 2^-126, but the value is below it
        assert_eq!(round((1 << 25) - 1, -151).to_bits(), 0);
        assert_eq!(round(-((1 << 25) - 1), -151).to_bits(), 0, "and a negative one gives +0");
        assert_eq!(round((1 << 24) - 1, 104), f32::MAX);
        assert_eq!(round((1 << 25) - 1, 103), f32::INFINITY);
        assert_eq!(round(-1, 128), f32::NEG_INFINITY);
    }
}
