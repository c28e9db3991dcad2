//! The code of a block of first moments: sign, 4 exponent bits and 3 mantissa bits below an exponent that the block
//! shares. It knows one block; bytes around it are the caller's.
//!
//! The scale is the biased exponent of the largest magnitude, after rounding to 3 mantissa bits; 0 stands for a block
//! of zeros. A code is `sign << 7 | field << 3 | mantissa`:
//!
//! ```text
//! field 1 to 15:  +- (1 + mantissa/8) * 2^(scale - 127 - 15 + field)
//! field 0:        +- mantissa * 2^(scale - 127 - 17)
//! ```
//!
//! Values are rounded to the nearest code, ties to even. The error is at most 1/16 of the value down to 2^-14 of the
//! block's largest, and below that at most 2^-18 of the power of two below the largest. Blocks that stay below 2^-109
//! are zero, so that no decoded value is subnormal. There is no negative zero.

use super::Defect;

/// Scale at which the smallest nonzero value is the smallest normal number.
const LOWEST_SCALE: u32 = 18;
const HIGHEST_SCALE: u32 = 254;

/// 2^23: adding it to a number below 2^22 leaves that number, rounded to nearest even, in the low bits.
const ROUNDER: f32 = 8_388_608.0;

/// The magnitude bits rounded to 3 mantissa bits: `biased exponent << 3 | mantissa`, kept below infinity.
fn rounded(magnitude: u32) -> u32 {
    ((magnitude + 0x7_ffff + ((magnitude >> 20) & 1)) >> 20).min((HIGHEST_SCALE << 3) | 7)
}

/// Writes the codes of `values` (as many as there are `codes`) and returns their scale, or the position of the first
/// value that is not finite.
pub(super) fn encode(values: &[f32], codes: &mut [u8]) -> Result<u8, usize> {
    let largest = values.iter().fold(0, |largest, v| largest.max(v.to_bits() & 0x7fff_ffff));
    if largest >= 0x7f80_0000 {
        return Err(values.iter().position(|v| !v.is_finite()).unwrap_or(0));
    }
    let scale = rounded(largest) >> 3;
    if scale < LOWEST_SCALE {
        codes.fill(0);
        return Ok(0);
    }
    let lowest_normal = (scale - 14) << 23;
    let per_step = f32::from_bits((127 + 144 - scale) << 23);
    for (code, value) in codes.iter_mut().zip(values) {
        let magnitude = value.to_bits() & 0x7fff_ffff;
        let normal = rounded(magnitude).wrapping_sub((scale - 15) << 3);
        let small =
            (f32::from_bits(magnitude) * per_step + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits());
        let field = if magnitude >= lowest_normal { normal } else { small };
        let sign = if field == 0 { 0 } else { (value.to_bits() >> 24) & 0x80 };
        *code = (field | sign) as u8;
    }
    Ok(scale as u8)
}

/// Reads the codes of a block into `values`, which is as long.
pub(super) fn decode(scale: u8, codes: &[u8], values: &mut [f32]) -> Result<(), Defect> {
    let bits = u32::from(scale);
    if scale == 0 {
        values.fill(0.0);
        return if codes.iter().all(|&code| code == 0) { Ok(()) } else { Err(Defect::NotZero) };
    }
    if !(LOWEST_SCALE..=HIGHEST_SCALE).contains(&bits) {
        return Err(Defect::Scale(scale.into()));
    }
    let offset = (bits - 15) << 23;
    let step = f32::from_bits((bits - 17) << 23);
    let (mut reached, mut negative_zero) = (false, false);
    for (value, &code) in values.iter_mut().zip(codes) {
        let code = u32::from(code);
        let field = code & 0x7f;
        reached |= field >= 0x78;
        negative_zero |= code == 0x80;
        let small = (field as f32 * step).to_bits();
        let magnitude = if field >= 8 { (field << 20) + offset } else { small };
        *value = f32::from_bits(magnitude | ((code & 0x80) << 24));
    }
    match (negative_zero, reached) {
        (true, _) => Err(Defect::Code),
        (false, false) => Err(Defect::Loose),
        (false, true) => Ok(()),
    }
}
