//! The code of a block of second moments: logarithms in quarter octaves below the largest of the block. It knows one
//! block; bytes around it are the caller's.
//!
//! The level of a number is `4 * biased exponent + i`, where i is its mantissa's logarithm rounded to the nearest of
//! 0, 1/4, 1/2, 3/4 and 1 octave. The scale is the level of the largest value (4 to 1019), 0 for a block of zeros.
//! Code 0 is zero; code c > 0 is the level `scale - 255 + c`, and decodes to that power of 2^(1/4), rounded to `f32`.
//!
//! The error is at most 2^(1/8) - 1 = 9.1 % of the value, half of that in its root. The range is 63.5 octaves: what is
//! smaller, but not zero, becomes the smallest nonzero level. It is not made zero, because a step divides by the root:
//! too large a second moment makes it too small, which is safe. Subnormals count as zero.

use super::Defect;

const LOWEST_LEVEL: u32 = 4;
const HIGHEST_LEVEL: u32 = 1019;

/// Mantissas between neighbouring levels, `floor((2^((2i+1)/8) - 1) * 2^23)`: what is larger rounds up.
const BOUNDS: [u32; 4] = [759_233, 2_490_070, 4_548_394, 6_996_166];

/// Mantissas of the levels, `round((2^(i/4) - 1) * 2^23)`.
const MANTISSAS: [u32; 4] = [0, 1_587_184, 3_474_675, 5_719_293];

/// Level of a normal positive number given by its bits; something meaningless, but no panic, for other bits.
fn level(bits: u32) -> u32 {
    let mantissa = bits & 0x7f_ffff;
    let quarter = BOUNDS.iter().map(|&bound| u32::from(mantissa > bound)).sum::<u32>();
    ((bits >> 23) * 4 + quarter).min(HIGHEST_LEVEL)
}

/// Writes the codes of `values` (as many as there are `codes`) and returns their scale, or the position of the first
/// value that is not finite or is negative.
pub(super) fn encode(values: &[f32], codes: &mut [u8]) -> Result<u16, usize> {
    // as unsigned integers, infinity, NaN and negative numbers are above all others; negative zero is zero
    let largest = values.iter().fold(0, |largest, v| {
        let bits = v.to_bits();
        largest.max(if bits == 0x8000_0000 { 0 } else { bits })
    });
    if largest >= 0x7f80_0000 {
        let impossible = |v: &f32| !v.is_finite() || *v < 0.0;
        return Err(values.iter().position(impossible).unwrap_or(0));
    }
    if largest < 0x80_0000 {
        codes.fill(0);
        return Ok(0);
    }
    let scale = level(largest);
    for (code, value) in codes.iter_mut().zip(values) {
        let bits = value.to_bits() & 0x7fff_ffff;
        let below = (scale.wrapping_sub(level(bits))).min(254);
        *code = if bits < 0x80_0000 { 0 } else { (255 - below) as u8 };
    }
    Ok(scale as u16)
}

/// Reads the codes of a block into `values`, which is as long.
pub(super) fn decode(scale: u16, codes: &[u8], values: &mut [f32]) -> Result<(), Defect> {
    let top = u32::from(scale);
    if scale == 0 {
        values.fill(0.0);
        return if codes.iter().all(|&code| code == 0) { Ok(()) } else { Err(Defect::NotZero) };
    }
    if !(LOWEST_LEVEL..=HIGHEST_LEVEL).contains(&top) {
        return Err(Defect::Scale(scale));
    }
    let (mut reached, mut too_low) = (false, false);
    for (value, &code) in values.iter_mut().zip(codes) {
        let code = u32::from(code);
        reached |= code == 255;
        too_low |= code != 0 && top + code < 255 + LOWEST_LEVEL;
        let level = (top + code).wrapping_sub(255);
        // selections, not a table look-up, so that this loop vectorises
        let low = if level & 1 == 0 { MANTISSAS[0] } else { MANTISSAS[1] };
        let high = if level & 1 == 0 { MANTISSAS[2] } else { MANTISSAS[3] };
        let mantissa = if level & 2 == 0 { low } else { high };
        let bits = ((level >> 2) << 23) | mantissa;
        *value = f32::from_bits(if code == 0 { 0 } else { bits });
    }
    match (too_low, reached) {
        (true, _) => Err(Defect::Code),
        (false, false) => Err(Defect::Loose),
        (false, true) => Ok(()),
    }
}
