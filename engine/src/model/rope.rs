//! Rotary position tables without the platform's `sin`, `cos` or `pow`.
//!
//! Everything is f64 addition, subtraction, multiplication and division in a written order, rounded once to f32, so the
//! table has the same bits on every platform. Angles and frequencies are those of RoFormer (arXiv 2104.09864) as
//! `transformers` uses them: position `t`, pair `j`: `t * theta^(-2j/head_dim)`.

/// `ln 2`, rounded to f64.
const LN_2: f64 = std::f64::consts::LN_2;
/// `pi / 2` in two parts: the first has 33 significant bits, so its product with a quadrant below 2^20 is exact.
const HALF_PI_HIGH: f64 = 1.570_796_326_734_125_6;
const HALF_PI_LOW: f64 = 6.077_100_506_506_192e-11;

/// `ln x` for finite `x >= 1`: halve until below 2, then `2 artanh((x-1)/(x+1))`.
fn ln(mut x: f64) -> f64 {
    let mut halvings = 0.0;
    while x >= 2.0 {
        x *= 0.5;
        halvings += 1.0;
    }
    let z = (x - 1.0) / (x + 1.0);
    let z2 = z * z;
    let mut sum = 0.0;
    let mut n = 39.0;
    while n >= 1.0 {
        sum = sum * z2 + 1.0 / n;
        n -= 2.0;
    }
    halvings * LN_2 + 2.0 * z * sum
}

/// `exp(-x)` for `0 <= x < 700`: halve to below 1/16, Taylor, square back.
fn exp_negative(x: f64) -> f64 {
    let mut y = x;
    let mut squarings = 0;
    while y > 0.0625 {
        y *= 0.5;
        squarings += 1;
    }
    let mut sum = 1.0;
    let mut n = 14.0;
    while n >= 1.0 {
        sum = 1.0 - y / n * sum;
        n -= 1.0;
    }
    for _ in 0..squarings {
        sum *= sum;
    }
    sum
}

/// `(cos x, sin x)` for `0 <= x < 2^20`, absolute error below 1e-13.
fn cos_sin(x: f64) -> (f64, f64) {
    let quadrant = (x / std::f64::consts::FRAC_PI_2 + 0.5).floor();
    let r = (x - quadrant * HALF_PI_HIGH) - quadrant * HALF_PI_LOW;
    let r2 = r * r;
    let (mut c, mut s) = (1.0, 1.0);
    let mut n = 18.0;
    while n >= 2.0 {
        c = 1.0 - r2 / (n * (n - 1.0)) * c;
        s = 1.0 - r2 / (n * (n + 1.0)) * s;
        n -= 2.0;
    }
    let s = s * r;
    match quadrant as u64 % 4 {
        0 => (c, s),
        1 => (-s, c),
        2 => (-c, -s),
        _ => (s, -c),
    }
}

/// The table `[seq, head_dim]`: for each position `head_dim/2` cosines, then as many sines.
///
/// `theta` is at least 1 and `seq` below 2^20 (both checked by [`super::ModelConfig::validate`]).
pub fn table(seq: usize, head_dim: usize, theta: f32) -> Vec<f32> {
    let half = head_dim / 2;
    let log_theta = ln(f64::from(theta));
    let frequencies: Vec<f64> =
        (0..half).map(|j| exp_negative(2.0 * j as f64 / head_dim as f64 * log_theta)).collect();
    let mut out = vec![0f32; seq * head_dim];
    for (t, row) in out.chunks_exact_mut(head_dim.max(1)).enumerate() {
        let (cos, sin) = row.split_at_mut(half);
        for ((c, s), f) in cos.iter_mut().zip(sin).zip(&frequencies) {
            let (cosine, sine) = cos_sin(t as f64 * f);
            *c = cosine as f32;
            *s = sine as f32;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_platform_to_the_last_bits_of_f32() {
        for (head_dim, theta) in [(32, 10_000.0f32), (64, 500_000.0), (128, 1e6), (2, 1.0)] {
            let seq = 3000;
            let table = table(seq, head_dim, theta);
            for t in (0..seq).step_by(7) {
                for j in 0..head_dim / 2 {
                    let angle = t as f64 * f64::from(theta).powf(-2.0 * j as f64 / head_dim as f64);
                    let (c, s) = (table[t * head_dim + j], table[t * head_dim + head_dim / 2 + j]);
                    assert!((f64::from(c) - angle.cos()).abs() < 6.1e-8, "cos {t} {j}: {c} {}", angle.cos());
                    assert!((f64::from(s) - angle.sin()).abs() < 6.1e-8, "sin {t} {j}: {s} {}", angle.sin());
                }
            }
        }
    }
}
