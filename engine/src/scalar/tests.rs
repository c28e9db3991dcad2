//! The error bounds and special cases that the bodies promise, against f64 and wide-integer references.

use super::host::*;

/// SplitMix64: a seedable stream for the tests.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number with a uniformly distributed count of significant bits, up to `bits`, of either sign.
    fn signed(&mut self, bits: u32) -> i64 {
        let width = 1 + self.next() % u64::from(bits);
        let magnitude = (self.next() >> (64 - width)) as i64;
        if self.next() & 1 == 0 { magnitude } else { -magnitude }
    }
}

const NAN: u32 = 0x7fc0_0000;
const INF: u32 = 0x7f80_0000;
const NEG: u32 = 0x8000_0000;

/// 2^n as f64, for normal results.
fn pow2(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// Distance between `bits` and the true value in ulps of f32 at the true value.
fn ulps(bits: u32, truth: f64) -> f64 {
    let exponent = ((truth.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    (f64::from(f32::from_bits(bits)) - truth).abs() / pow2(exponent - 23)
}

/// Largest error of `function` over `inputs`, and where it occurs.
fn worst(inputs: impl Iterator<Item = u32>, function: fn(u32) -> u32, truth: fn(f64) -> f64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for bits in inputs {
        let x = f32::from_bits(bits);
        let error = ulps(function(bits), truth(f64::from(x)));
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

#[test]
fn reciprocal_is_correctly_rounded_for_every_mantissa() {
    let mut checked = 0u32;
    for mantissa in 0..1u32 << 23 {
        let bits = 0x3f80_0000 | mantissa;
        // IEEE division is correctly rounded
        assert_eq!(recip_bits(bits), (1.0 / f32::from_bits(bits)).to_bits(), "1/{:e}", f32::from_bits(bits));
        checked += 1;
    }
    assert_eq!(checked, 1 << 23);
}

#[test]
fn reciprocal_covers_all_exponents_and_flushes_to_signed_zero() {
    let mut stream = Stream(1);
    let mut flushed = 0;
    for exponent in 0..256u32 {
        for i in 0..4000 {
            let mantissa =
                if i < 4 { [0, 1, 0x7f_ffff, 0x40_0000][i] } else { stream.next() as u32 & 0x7f_ffff };
            let sign = (stream.next() as u32) & NEG;
            let bits = sign | (exponent << 23) | mantissa;
            let x = f32::from_bits(bits);
            let want = if x.is_nan() {
                NAN
            } else if x.abs() < f32::MIN_POSITIVE {
                INF | sign
            } else if (1.0 / x).abs() < f32::MIN_POSITIVE {
                flushed += 1;
                sign
            } else {
                (1.0 / x).to_bits()
            };
            assert_eq!(recip_bits(bits), want, "1/{x:e}");
        }
    }
    assert!(flushed > 4000);
    assert_eq!(recip_bits(2f32.powi(126).to_bits()), f32::MIN_POSITIVE.to_bits());
}

#[test]
fn reciprocal_root_is_within_its_bound_for_every_mantissa() {
    for base in [0x3f80_0000u32, 0x4000_0000] {
        let (error, at) = worst((0..1u32 << 23).map(|m| base | m), rsqrt_bits, |x| 1.0 / x.sqrt());
        println!("rsqrt: {error:.4} ulp at {at:e}");
        assert!(error > 0.4 && error < 0.51, "{error} at {at:e}");
    }
}

#[test]
fn reciprocal_root_covers_all_exponents_and_special_values() {
    let mut stream = Stream(2);
    for exponent in 1..255u32 {
        for _ in 0..1000 {
            let bits = (exponent << 23) | (stream.next() as u32 & 0x7f_ffff);
            let truth = 1.0 / f64::from(f32::from_bits(bits)).sqrt();
            assert!(ulps(rsqrt_bits(bits), truth) < 0.51);
        }
        // powers of four are exact
        if exponent & 1 == 1 {
            assert_eq!(
                f64::from(f32::from_bits(rsqrt_bits(exponent << 23))),
                1.0 / pow2(exponent as i32 - 127).sqrt()
            );
        }
    }
    for zero in [0, NEG, 1, NEG | 1, 0x7f_ffff] {
        assert_eq!(rsqrt_bits(zero), INF);
    }
    assert_eq!(rsqrt_bits(INF), 0);
    for bad in [NEG | INF, NAN, NEG | NAN, 0x7f80_0001, (-1.0f32).to_bits(), (-f32::MIN_POSITIVE).to_bits()] {
        assert_eq!(rsqrt_bits(bad), NAN);
    }
}

#[test]
fn exponential_is_within_its_bound_over_the_normal_range() {
    let mut stream = Stream(3);
    let inputs = (0..4_000_000).map(|i| {
        let x = match i % 4 {
            0 => stream.unit() * 176.0 - 87.3,
            1 => stream.unit() * 4.0 - 2.0,
            2 => (stream.unit() - 0.5) * pow2(-((i / 4) % 40)),
            // close to multiples of ln 2, where the reduced argument is next to 0 or 1
            _ => (f64::from((i / 4) % 250 - 124)) * std::f64::consts::LN_2 + (stream.unit() - 0.5) * 1e-5,
        };
        (x as f32).to_bits()
    });
    let normal = inputs.filter(|&bits| {
        let y = f64::from(f32::from_bits(bits)).exp();
        y >= f64::from(f32::MIN_POSITIVE) && y <= f64::from(f32::MAX)
    });
    let mut count = 0;
    let (error, at) = worst(normal.inspect(|_| count += 1), exp_bits, f64::exp);
    println!("exp: {error:.4} ulp at {at:e} of {count}");
    assert!(count > 3_900_000);
    assert!(error > 0.4 && error < 0.55, "{error} at {at:e}");
}

#[test]
fn exponential_is_total_and_never_decreases_by_more_than_its_error() {
    let mut previous = 0u32;
    // every 509th float from -inf up to +inf
    let negative = (0..=(INF / 509)).map(|i| NEG | (INF - i * 509));
    let positive = (0..=(INF / 509)).map(|i| i * 509);
    for bits in negative.chain(positive) {
        let x = f64::from(f32::from_bits(bits));
        let y = exp_bits(bits);
        assert!(y <= INF && (y == 0 || y >= 0x80_0000), "exp({x:e}) = {y:08x}");
        assert!(y + 1 >= previous, "exp falls at {x:e}");
        previous = y;
        if x.exp() < 1.17e-38 {
            assert_eq!(y, 0, "exp({x:e})");
        }
        if x.exp() > 3.41e38 {
            assert_eq!(y, INF, "exp({x:e})");
        }
    }
    assert_eq!(exp_bits(INF), INF);
    assert_eq!(exp_bits(NEG | INF), 0);
    for nan in [NAN, NEG | NAN, 0x7f80_0001, 0xffff_ffff] {
        assert_eq!(exp_bits(nan), NAN);
    }
    for tiny in [0, NEG, 1, NEG | 1, 0x7f_ffff, 1e-30f32.to_bits(), (-1e-30f32).to_bits()] {
        assert_eq!(exp_bits(tiny), 1f32.to_bits());
    }
}

#[test]
fn logarithm_is_within_its_bound_over_all_normals_and_next_to_one() {
    let mut stream = Stream(4);
    let spread =
        (0..2_000_000).map(|_| (1 + stream.next() as u32 % 254) << 23 | (stream.next() as u32 & 0x7f_ffff));
    let (error, at) = worst(spread, ln_bits, f64::ln);
    println!("ln, all exponents: {error:.4} ulp at {at:e}");
    assert!(error > 0.4 && error < 0.55, "{error} at {at:e}");
    let mut stream = Stream(5);
    // half the inputs within 2^-24 .. 2^-1 of 1, on both sides; ln_1p keeps the reference's own relative precision
    let near = (0..2_000_000u32).map(|i| {
        let offset = (1u32 << (i % 23)) + (stream.next() as u32 & ((1 << (i % 23)) - 1));
        if i & 1 == 0 { 0x3f80_0000 + offset } else { 0x3f80_0000 - offset }
    });
    let (error, at) = worst(near, ln_bits, |x| (x - 1.0).ln_1p());
    println!("ln, next to 1: {error:.4} ulp at {at:e}");
    assert!(error > 0.4 && error < 0.55, "{error} at {at:e}");
}

#[test]
fn logarithm_of_every_mantissa_around_one() {
    let all = (0x3f00_0000u32..0x4000_0000).step_by(5);
    let (error, at) = worst(all, ln_bits, |x| (x - 1.0).ln_1p());
    println!("ln on [1/2, 2): {error:.4} ulp at {at:e}");
    assert!(error < 0.55, "{error} at {at:e}");
    assert_eq!(ln_bits(1f32.to_bits()), 0);
}

#[test]
fn logarithm_of_special_values() {
    for zero in [0, NEG, 1, NEG | 0x7f_ffff] {
        assert_eq!(ln_bits(zero), NEG | INF);
    }
    assert_eq!(ln_bits(INF), INF);
    for bad in [NAN, NEG | NAN, NEG | INF, 0x7f80_0001, (-1f32).to_bits(), (-f32::MIN_POSITIVE).to_bits()] {
        assert_eq!(ln_bits(bad), NAN);
    }
}

#[test]
fn sigmoid_is_within_its_bound_and_total() {
    let mut stream = Stream(6);
    let inputs = (0..2_000_000).map(|i| {
        let range = if i % 2 == 0 { 170.0 } else { 8.0 };
        ((stream.unit() - 0.5) * range) as f32
    });
    let (error, at) = worst(inputs.map(f32::to_bits), |x| sigmoid_bits(x, 0), |x| 1.0 / (1.0 + (-x).exp()));
    println!("sigmoid: {error:.4} ulp at {at:e}");
    assert!(error > 1.0 && error < 2.6, "{error} at {at:e}");
    assert_eq!(sigmoid_bits(0, 0), 0.5f32.to_bits());
    assert_eq!(sigmoid_bits(INF, 0), 1f32.to_bits());
    assert_eq!(sigmoid_bits(NEG | INF, 0), 0);
    assert_eq!(sigmoid_bits((-100f32).to_bits(), 0), 0);
    assert_eq!(sigmoid_bits(NEG | NAN, 0), NAN);
}

#[test]
fn flush_removes_what_lies_below_the_second_binade_only() {
    let lowest = 0x100_0000;
    let cases =
        [(1, 0), (0x7f_ffff, 0), (NEG | 1, NEG), (NEG, NEG), (0, 0), (lowest - 1, 0), (lowest, lowest)];
    for (bits, want) in cases {
        assert_eq!(flush(f32::from_bits(bits), 0).to_bits(), want);
    }
    let mut stream = Stream(7);
    for _ in 0..100_000 {
        let x = f32::from_bits(stream.next() as u32);
        if x.abs() >= f32::from_bits(lowest) {
            assert_eq!(flush(x, 0).to_bits(), x.to_bits());
        }
    }
}

/// The definition of `quantise`, in f64: the product with a power of two and the rounding are exact there.
fn quantise_reference(bits: u32, emax: u32, width: u32) -> i32 {
    let x = f32::from_bits(bits);
    if emax < 27 || emax == 255 || x.abs() < f32::MIN_POSITIVE {
        return 0;
    }
    let limit = f64::from((1i32 << (width - 1)) - 1);
    if x.is_nan() {
        return if x.is_sign_negative() { -limit as i32 } else { limit as i32 };
    }
    let scaled = f64::from(x) * pow2(125 + width as i32 - emax as i32);
    scaled.round_ties_even().clamp(-limit, limit) as i32
}

#[test]
fn quantise_matches_its_definition() {
    let mut stream = Stream(8);
    let mut distinct = std::collections::BTreeSet::new();
    for i in 0..1_000_000u32 {
        let width = 2 + (stream.next() % 23) as u32;
        let emax = stream.next() as u32 & 0xff;
        // mostly close below emax, sometimes anything, sometimes few mantissa bits so that ties occur
        let e = if i % 3 == 0 {
            stream.next() as u32 & 0xff
        } else {
            emax.saturating_sub((stream.next() % 26) as u32)
        };
        let mantissa = if i & 1 == 0 { stream.next() as u32 } else { (stream.next() as u32 & 0xfff) << 11 };
        let bits = (stream.next() as u32 & NEG) | (e << 23) | (mantissa & 0x7f_ffff);
        let q = quantise(bits, emax, width);
        assert_eq!(q, quantise_reference(bits, emax, width), "x {bits:08x} emax {emax} width {width}");
        distinct.insert(q);
    }
    assert!(distinct.len() > 10_000);
    // the maximum of a row stays below the clamp unless it rounds up to it
    assert_eq!(quantise(1f32.to_bits(), 127, 16), 1 << 14);
    assert_eq!(quantise(f32::from_bits(0x3fff_ffff).to_bits(), 127, 16), 32767);
    assert_eq!(quantise(1f32.to_bits(), 26, 16), 0);
    assert_eq!(quantise(1f32.to_bits(), 255, 16), 0);
}

/// The definition of `round_sum` for sums that f64 holds exactly: one conversion to f32, which rounds to nearest even.
fn round_sum_reference(sum: i64, exponent_sum: u32, width_sum: u32) -> u32 {
    assert!(sum.unsigned_abs() < 1 << 53);
    let value = sum as f64 * pow2(exponent_sum as i32 - 250 - width_sum as i32);
    if value.abs() < f64::from(f32::MIN_POSITIVE) { 0 } else { (value as f32).to_bits() }
}

#[test]
fn round_sum_matches_its_definition() {
    let mut stream = Stream(9);
    let (mut zero, mut infinite, mut ties) = (0, 0, 0);
    for i in 0..2_000_000u32 {
        let (hi, mid, lo) = match i % 6 {
            0 => (stream.signed(31), stream.signed(31), stream.signed(31)),
            1 => (0, 0, stream.signed(31)),
            2 => (0, stream.signed(31), stream.signed(31)),
            // exactly half way between two floats, or one unit beside it
            3 => {
                let odd = (stream.signed(24) & 0xff_ffff) | 0x80_0000;
                ties += 1;
                (odd, 128, i64::from(i / 6 % 3) - 1)
            }
            // cancellation between the limbs
            4 => {
                let hi = stream.signed(20);
                (hi, -(hi << 8), stream.signed(6))
            }
            _ => {
                let extreme = [i64::from(i32::MIN), i64::from(i32::MIN + 1), -1, 0, 1, i64::from(i32::MAX)];
                let mut pick = || extreme[(stream.next() % 6) as usize];
                (pick(), pick(), pick())
            }
        };
        let width_sum = 16 + (stream.next() % 17) as u32;
        let exponent_sum = match i % 4 {
            0 => (stream.next() % 509) as u32,
            // around the smallest normal result
            1 => 80 + (stream.next() % 80) as u32,
            // around the largest
            2 => 330 + (stream.next() % 110) as u32,
            _ => 254,
        };
        let sum = hi * 65536 + mid * 256 + lo;
        let got = round_sum(hi as i32, mid as i32, lo as i32, exponent_sum, width_sum);
        let want = round_sum_reference(sum, exponent_sum, width_sum);
        assert_eq!(got, want, "{hi} {mid} {lo}, exponents {exponent_sum}, widths {width_sum}");
        zero += u32::from(got == 0 && sum != 0);
        infinite += u32::from(got & !NEG == INF);
    }
    assert!(zero > 1000 && infinite > 1000 && ties > 1000, "{zero} {infinite} {ties}");
}

#[test]
fn round_sum_decides_underflow_before_rounding() {
    // (2^25 - 1) * 2^-151 is just below 2^-126 and would round up to it
    let below = round_sum(0, 0, (1 << 25) - 1, 250 + 16 - 151, 16);
    assert_eq!(below, 0);
    assert_eq!(round_sum(0, 0, 1 << 25, 250 + 16 - 151, 16), f32::MIN_POSITIVE.to_bits());
    assert_eq!(round_sum(0, 0, -(1 << 25), 250 + 16 - 151, 16), (-f32::MIN_POSITIVE).to_bits());
}

/// The definition of `round_pair` in 128-bit integers.
fn round_pair_reference(magnitude: u64, sign: u32, exponent: i32) -> u32 {
    if magnitude == 0 {
        return 0;
    }
    let top = 63 - magnitude.leading_zeros() as i32;
    if top + exponent < -126 {
        return 0;
    }
    // 24 bits and everything below them
    let wide = u128::from(magnitude) << 64;
    let drop = (64 + top - 23) as u32;
    let (mut mantissa, rest) = ((wide >> drop) as u64, wide & ((1 << drop) - 1));
    let half = 1u128 << (drop - 1);
    if rest > half || (rest == half && mantissa & 1 == 1) {
        mantissa += 1;
    }
    let biased = top + exponent + 127 + i32::from(mantissa >> 24 == 1);
    if biased >= 255 { sign | INF } else { sign | (biased as u32) << 23 | (mantissa as u32 & 0x7f_ffff) }
}

#[test]
fn round_pair_matches_its_definition() {
    let mut stream = Stream(10);
    let mut flushed = 0;
    for i in 0..1_000_000 {
        let width = 1 + stream.next() % 64;
        let mut magnitude = stream.next() >> (64 - width);
        if i % 4 == 0 {
            // few set bits: ties
            magnitude &= stream.next() & stream.next() & stream.next();
        }
        let sign = stream.next() as u32 & NEG;
        let exponent = (stream.next() % 400) as i32 - 250;
        let got = round_pair((magnitude >> 32) as u32, magnitude as u32, sign, exponent + 190);
        assert_eq!(got, round_pair_reference(magnitude, sign, exponent), "{magnitude:x} * 2^{exponent}");
        flushed += u32::from(got == 0 && magnitude != 0);
    }
    assert!(flushed > 1000);
    assert_eq!(round_pair(u32::MAX, u32::MAX, 0, 1 << 30), INF);
    assert_eq!(round_pair(u32::MAX, u32::MAX, NEG, -(1 << 30)), 0);
    assert_eq!(round_pair(0, 0, NEG, 0), 0);
}

#[test]
fn adamw_follows_the_formula_and_ignores_subnormals() {
    let (beta1, beta2, lr, decay, eps) = (0.9f32, 0.95f32, 1e-3f32, 0.1f32, 1e-8f32);
    let mut stream = Stream(11);
    let (mut p, mut m, mut v) = (0.5f32, 0.0f32, 0.0f32);
    let (mut rp, mut rm, mut rv) = (0.5f64, 0.0f64, 0.0f64);
    for t in 1..=200 {
        let g = (stream.unit() - 0.4) as f32;
        let c1 = (1.0 / (1.0 - 0.9f64.powi(t))) as f32;
        let c2 = (1.0 / (1.0 - 0.95f64.powi(t))) as f32;
        m = adamw_first(m, g, beta1, 1.0 - beta1, 0);
        v = adamw_second(v, g, beta2, 1.0 - beta2, 0);
        p = adamw_parameter(p, m, v, c1, c2, eps * eps, lr, lr * decay, 0);
        rm = rm * 0.9 + f64::from(g) * 0.1;
        rv = rv * 0.95 + f64::from(g) * f64::from(g) * 0.05;
        let direction = rm / (1.0 - 0.9f64.powi(t)) / (rv / (1.0 - 0.95f64.powi(t))).sqrt();
        rp = rp - 1e-3 * direction - 1e-4 * rp;
        assert!((f64::from(p) - rp).abs() < 1e-5, "step {t}: {p} against {rp}");
    }
    assert!((p - 0.5).abs() > 0.01);
    // a gradient whose square underflows leaves no subnormal behind
    let tiny = adamw_second(0.0, 1e-20, beta2, 1.0 - beta2, 0);
    assert_eq!(tiny.to_bits(), 0);
    assert_eq!(adamw_first(f32::MIN_POSITIVE, 0.0, 0.5, 0.5, 0).to_bits(), 0);
    // at zero moments only the decay acts
    assert_eq!(adamw_parameter(1.0, 0.0, 0.0, 1.0, 1.0, 1e-16, lr, 0.25, 0), 0.75);
}
