//! Two bits for a value: a sign, and which of two levels.
//!
//! The levels of a chunk are `s` and `s * ratio(k)`, the scale `s` a power of the fourth root of two: code 1 is 2^-55, each
//! code a quarter octave more, 255 is 2^8.5. Code 0 is the chunk of zeros. Smaller scales become zeros, larger ones the
//! largest; what is lost stays in the error feedback.

/// Fourth roots of two, as f32.
const ROOTS: [f32; 4] = [1.0, 1.189_207_1, std::f32::consts::SQRT_2, 1.681_792_9];

/// Octave of code 1.
const LOWEST: i32 = -55;

/// Ratio of the two levels. What a fixed ratio costs against the best for each chunk depends on the tail that is left
/// above the k-th magnitude: the denser the selection, the wider it is. No ratio is a whole number of quarter octaves: the
/// upper level of one scale would be the lower of another, and a chunk of one magnitude would have two codes.
pub(super) fn ratio(k: usize) -> f32 {
    match k {
        0..=96 => 1.25,
        97..=768 => 1.5,
        _ => 1.9,
    }
}

/// The lower level of a scale code.
pub(super) fn scale(code: u8) -> f32 {
    if code == 0 {
        return 0.0;
    }
    let steps = i32::from(code) - 1;
    ROOTS[(steps % 4) as usize] * f32::from_bits(((127 + LOWEST + steps / 4) as u32) << 23)
}

/// The code whose scale is nearest to `s >= 0` on the logarithmic scale.
pub(super) fn nearest(s: f64) -> u8 {
    // Boundaries lie at odd eighths of an octave; comparing fourth roots of two times 2^(1/8) needs no logarithm.
    const EIGHTH: f64 = 1.090_507_732_665_257_7;
    let (mut low, mut high) = (0u8, 255u8);
    // The largest code with scale(code) / 2^(1/8) <= s; code 0 always qualifies.
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if f64::from(scale(middle)) <= s * EIGHTH {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// The code of the scale for these magnitudes: they are split at their mean, and the scale fits both parts in least
/// squares. Sums run in f64 in the order of positions.
pub(super) fn fit(magnitudes: &[f32], ratio: f32) -> u8 {
    let mean = magnitudes.iter().fold(0f64, |sum, m| sum + f64::from(*m)) / magnitudes.len().max(1) as f64;
    let (mut weighted, mut squares) = (0f64, 0f64);
    for m in magnitudes {
        let level = if f64::from(*m) > mean { f64::from(ratio) } else { 1.0 };
        weighted += level * f64::from(*m);
        squares += level * level;
    }
    if squares > 0.0 { nearest(weighted / squares) } else { 0 }
}

/// The two bits of `e`: 1 for negative, 2 for the upper level. Levels part half-way.
pub(super) fn code(e: f32, scale: f32, ratio: f32) -> u8 {
    if scale == 0.0 {
        return 0;
    }
    let upper = f64::from(e.abs()) > f64::from(scale) * (1.0 + f64::from(ratio)) * 0.5;
    u8::from(e.is_sign_negative()) | (u8::from(upper) << 1)
}

/// The value of two bits.
pub(super) fn value(code: u8, scale: f32, ratio: f32) -> f32 {
    let magnitude = if code & 2 != 0 { scale * ratio } else { scale };
    if code & 1 != 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_magnitude_belongs_to_two_scales() {
        for k in [64, 512, 4096] {
            let mut levels: Vec<u32> = (1..=255)
                .flat_map(|code| [value(0, scale(code), ratio(k)), value(2, scale(code), ratio(k))])
                .map(f32::to_bits)
                .collect();
            levels.sort_unstable();
            levels.dedup();
            assert_eq!(levels.len(), 2 * 255, "k {k}");
        }
    }

    #[test]
    fn scales_rise_by_a_quarter_octave_and_are_their_own_nearest() {
        assert_eq!(scale(1), 2f32.powi(-55));
        for code in 1..=255u8 {
            assert_eq!(nearest(f64::from(scale(code))), code);
            if code > 1 {
                let step = f64::from(scale(code)) / f64::from(scale(code - 1));
                assert!((step - 2f64.powf(0.25)).abs() < 1e-6);
            }
        }
        assert_eq!((nearest(0.0), nearest(1e-30), nearest(1e30)), (0, 0, 255));
    }
}
