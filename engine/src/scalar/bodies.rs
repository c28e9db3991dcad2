//! The one text of the exact scalar functions, as a macro that is compiled twice: as plain Rust (`super::host`) and,
//! with `#[cube]` as the attribute, inside GPU kernels. It never uses a device's own exp, log, division or root.
//!
//! Whoever instantiates the macro provides `mulhi(a, b)` and `mullo(a, b)`, the high and low 32 bits of the 64-bit
//! product of two `u32`, because hosts have 64-bit integers and WGSL does not.
//!
//! The text keeps to what kernel compilers understand: 32-bit integers, `if` as a statement, counted loops, no early
//! return, no addition that overflows and no shift by 32 or more, for any input. Every path is computed and the
//! special cases are selected at the end, so that a host compiler can vectorise loops over these functions.
//!
//! Notation: `Q31` is a fixed-point number with 31 fractional bits held in a `u32`. An "ulp" is the spacing of `f32`
//! at the true result.

/// Defines the exact scalar functions, each carrying the attributes given. See the module's documentation for what
/// the place of use must provide.
macro_rules! exact_scalar_functions {
    ($(#[$attr:meta])*) => {
        /// `exp(x)`, bits in, bits out; error below 0.55 ulp.
        ///
        /// A result below 2^-126 (before rounding) is +0, one above the largest `f32` is +inf, NaN gives 0x7fc00000.
        /// Subnormal inputs give exactly 1.
        ///
        /// `|x| log2(e) = n + f` is formed in 64-bit fixed point; `2^f - 1` is a minimax polynomial of degree 6
        /// (Remez, relative error 2^-28.9) in Q32 whose coefficients are positive and add up to less than 1, so
        /// Horner's rule cannot overflow.
        $(#[$attr])*
        pub fn exp_bits(x: u32) -> u32 {
            let magnitude = x & 0x7fffffffu32;
            let mantissa = ((x & 0x7fffffu32) | 0x800000u32) << 8u32;
            // below 2^-33 everything rounds to 1; from 2^7 on everything overflows or underflows
            let mut e = magnitude >> 23u32;
            if e < 94u32 {
                e = 94u32;
            }
            if e > 134u32 {
                e = 134u32;
            }
            let mut left = 0u32;
            let mut right = 0u32;
            if e > 125u32 {
                left = e - 125u32;
            } else {
                right = 125u32 - e;
            }
            // mantissa * log2(e): log2(e) = (3098164009 + 1545072827 * 2^-32) * 2^-31; the low word keeps 24 bits so
            // that its carry is visible
            let low = (mullo(mantissa, 3098164009u32) >> 8u32) + (mulhi(mantissa, 1545072827u32) >> 8u32);
            let hi = mulhi(mantissa, 3098164009u32) + (low >> 24u32);
            let lo = (low & 0xffffffu32) << 8u32;
            // shifts by 32 - left, in two parts because left may be 0
            let n = (hi >> 1u32) >> (31u32 - left);
            let mut f = ((hi << left) | ((lo >> 1u32) >> (31u32 - left))) >> right;
            // biased exponent of the result, plus 256 so that it stays unsigned
            let mut exponent = 383u32 + n;
            if (x >> 31u32) == 1u32 {
                exponent = 383u32 - n;
                if f != 0u32 {
                    f = (f ^ 0xffffffffu32) + 1u32;
                    exponent -= 1u32;
                }
            }
            let mut acc = mulhi(928268u32, f) + 5354899u32;
            acc = mulhi(acc, f) + 41555748u32;
            acc = mulhi(acc, f) + 238307466u32;
            acc = mulhi(acc, f) + 1031777011u32;
            acc = mulhi(acc, f) + 2977043887u32;
            let y = mulhi(acc, f);
            let mut fraction = y >> 9u32;
            if (y & 0x1ffu32) + (fraction & 1u32) > 0x100u32 {
                fraction += 1u32;
            }
            let mut biased = exponent;
            if biased < 256u32 {
                biased = 256u32;
            }
            if biased > 511u32 {
                biased = 511u32;
            }
            // a fraction rounded up to 1 carries into the exponent, as it should
            let mut out = ((biased - 256u32) << 23u32) + fraction;
            if exponent <= 256u32 {
                out = 0u32;
            }
            if exponent >= 511u32 {
                out = 0x7f800000u32;
            }
            if magnitude > 0x7f800000u32 {
                out = 0x7fc00000u32;
            }
            out
        }

        /// `1/x`, bits in, bits out, correctly rounded (round to nearest even).
        ///
        /// Zero and subnormal inputs give infinity of the same sign; a result below 2^-126 is a zero of the same
        /// sign; NaN gives 0x7fc00000. The definition is the correctly rounded quotient, so where a device divides
        /// in IEEE arithmetic, its division is equal for all inputs and results that are not subnormal.
        $(#[$attr])*
        pub fn recip_bits(x: u32) -> u32 {
            let magnitude = x & 0x7fffffffu32;
            let mantissa = (x & 0x7fffffu32) | 0x800000u32;
            let mut e = magnitude >> 23u32;
            if e > 253u32 {
                e = 253u32;
            }
            // d in [1/2, 1) as Q32; the quadratic Chebyshev seed (420 - 576 d + 256 d^2)/99 as Q29 is within 1/99
            let d = mantissa << 8u32;
            let inner = 3123612579u32 - mulhi(1388272257u32, d);
            let mut r = (2277634172u32 - mulhi(inner, d)) << 2u32;
            // two Newton steps in Q31, r = r (2 - d r). They approach 1/d from below, and the complement, which takes
            // d r as one unit larger than its truncated value, keeps rounding below it too: r stays under 2.
            let mut t = mulhi(d, r);
            r = mulhi(r, t ^ 0xffffffffu32) << 1u32;
            t = mulhi(d, r);
            r = mulhi(r, t ^ 0xffffffffu32) << 1u32;
            // the first 24 bits are the true quotient's or one less; the exact remainder 2^47 - mantissa * q decides.
            // It is below 2 mantissas, so 32 bits of it are all of it, and it is never 0. A tie is impossible: it
            // would make an odd number divide a power of two.
            let mut q = r >> 8u32;
            let remainder = (mullo(mantissa, q) ^ 0xffffffffu32) + 1u32;
            let mut up = 0u32;
            if remainder * 2u32 > mantissa {
                up = 1u32;
            }
            if remainder * 2u32 > mantissa * 3u32 {
                up = 2u32;
            }
            q += up;
            let mut out = ((253u32 - e) << 23u32) + (q - 0x800000u32);
            if out < 0x800000u32 {
                out = 0u32;
            }
            if magnitude >= 0x7f000000u32 {
                out = 0u32;
            }
            if magnitude < 0x800000u32 {
                out = 0x7f800000u32;
            }
            out = out | (x & 0x80000000u32);
            if magnitude > 0x7f800000u32 {
                out = 0x7fc00000u32;
            }
            out
        }

        /// `1/sqrt(x)`, bits in, bits out; error below 0.51 ulp.
        ///
        /// Zeros and subnormals of either sign give +inf, +inf gives +0, other negative numbers and NaN give
        /// 0x7fc00000. No result is ever subnormal.
        $(#[$attr])*
        pub fn rsqrt_bits(x: u32) -> u32 {
            let magnitude = x & 0x7fffffffu32;
            let e = magnitude >> 23u32;
            // d in [1/4, 1) as Q32, so that what remains of the exponent is even
            let mut d = ((x & 0x7fffffu32) | 0x800000u32) << 8u32;
            if (e & 1u32) == 1u32 {
                d = d >> 1u32;
            }
            // quadratic minimax seed as Q30 (Remez, relative error 0.0241), then three Newton steps
            // r = r (3 - d r^2) / 2; they approach from below, so r, a Q31, stays under 2 (tests: for every d)
            let inner = 3527625347u32 - mulhi(1759399240u32, d);
            let mut r = (2867787798u32 - mulhi(inner, d)) << 1u32;
            let mut t = mulhi(d, mulhi(r, r));
            r = mulhi(r, 3221225472u32 - t) << 1u32;
            t = mulhi(d, mulhi(r, r));
            r = mulhi(r, 3221225472u32 - t) << 1u32;
            t = mulhi(d, mulhi(r, r));
            r = mulhi(r, 3221225472u32 - t) << 1u32;
            let mut mantissa = r >> 8u32;
            if (r & 0xffu32) + (mantissa & 1u32) > 0x80u32 {
                mantissa += 1u32;
            }
            let mut out = (((380u32 - e) >> 1u32) << 23u32) + (mantissa - 0x800000u32);
            if magnitude == 0x7f800000u32 {
                out = 0u32;
            }
            if magnitude > 0x7f800000u32 || (x >> 31u32) == 1u32 {
                out = 0x7fc00000u32;
            }
            if magnitude < 0x800000u32 {
                out = 0x7f800000u32;
            }
            out
        }

        /// Natural logarithm, bits in, bits out; error below 0.55 ulp for every normal `x > 0`. The bound is relative
        /// also next to 1, where the absolute error shrinks with the result.
        ///
        /// Zeros and subnormals give -inf, +inf gives +inf, negative normals and NaN give 0x7fc00000; `ln 1` is +0.
        ///
        /// With `x = 2^k z` and z in [0.7070, 1.4141), `ln x = k ln 2 + (z - 1) P(z)`, where P is a minimax
        /// polynomial of degree 11 (Remez, relative error 2^-33.2) for `ln(z)/(z - 1)`. Since z - 1 is exact, the
        /// product keeps its relative precision as x approaches 1. The sum is formed with 54 fractional bits.
        $(#[$attr])*
        pub fn ln_bits(x: u32) -> u32 {
            let magnitude = x & 0x7fffffffu32;
            let e = (magnitude >> 23u32) as i32;
            let mantissa = (x & 0x7fffffu32) | 0x800000u32;
            // z as Q24; 0xb50000 is near sqrt(1/2)
            let mut k = e - 126i32;
            let mut z = mantissa;
            if mantissa < 0xb50000u32 {
                k = e - 127i32;
                z = mantissa << 1u32;
            }
            // w = z / 0.70703125 - 1 in [0, 1) as Q32; on it the coefficients alternate in sign, and every partial
            // result of Horner's rule with subtraction is positive
            let w = mulhi((z - 0xb50000u32) << 8u32, 3037324939u32) << 1u32;
            let mut acc = 20144041u32 - mulhi(2840119u32, w);
            acc = 66965565u32 - mulhi(acc, w);
            acc = 142210968u32 - mulhi(acc, w);
            acc = 225383147u32 - mulhi(acc, w);
            acc = 299894364u32 - mulhi(acc, w);
            acc = 369404890u32 - mulhi(acc, w);
            acc = 451682564u32 - mulhi(acc, w);
            acc = 571779142u32 - mulhi(acc, w);
            acc = 775481935u32 - mulhi(acc, w);
            acc = 1197328524u32 - mulhi(acc, w);
            acc = 2541194303u32 - mulhi(acc, w);
            // |z - 1| as Q25 times P as Q31: 56 fractional bits in two words; the low word is cut to 30 bits so that
            // two of them can be added or subtracted as i32
            let mut distance = 0u32;
            if z < 0x1000000u32 {
                distance = (0x1000000u32 - z) << 1u32;
            } else {
                distance = (z - 0x1000000u32) << 1u32;
            }
            let mut near_hi = mulhi(distance, acc) as i32;
            let mut near_lo = (mullo(distance, acc) >> 2u32) as i32;
            if z < 0x1000000u32 {
                near_hi = -near_hi;
                near_lo = -near_lo;
            }
            // |k| ln 2 with ln 2 = (11629079 + 4157722489 * 2^-32) * 2^-24
            let mut steps = k as u32;
            if k < 0i32 {
                steps = (-k) as u32;
            }
            let mut far_hi = (steps * 11629079u32 + mulhi(steps, 4157722489u32)) as i32;
            let mut far_lo = (mullo(steps, 4157722489u32) >> 2u32) as i32;
            if k < 0i32 {
                far_hi = -far_hi;
                far_lo = -far_lo;
            }
            let low = near_lo + far_lo;
            let mut hi = near_hi + far_hi + (low >> 30i32);
            let mut lo = low & 0x3fffffffi32;
            let mut sign = 0u32;
            if hi < 0i32 {
                sign = 0x80000000u32;
                if lo == 0i32 {
                    hi = -hi;
                } else {
                    hi = -hi - 1i32;
                    lo = 1073741824i32 - lo;
                }
            }
            let hi_word = hi as u32;
            let lo_word = (lo as u32) << 2u32;
            let mut out = round_pair(hi_word, lo_word, sign, 134i32);
            if magnitude == 0x7f800000u32 {
                out = 0x7f800000u32;
            }
            if magnitude > 0x7f800000u32 || (x >> 31u32) == 1u32 {
                out = 0x7fc00000u32;
            }
            if magnitude < 0x800000u32 {
                out = 0xff800000u32;
            }
            out
        }

        /// `1 / (1 + exp(-x))`, bits in, bits out, composed of [`exp_bits`], one IEEE addition and [`recip_bits`];
        /// error below 2.6 ulp. `zero` is as for [`flush`]. NaN gives 0x7fc00000.
        $(#[$attr])*
        pub fn sigmoid_bits(x: u32, zero: u32) -> u32 {
            let decay = f32::from_bits(exp_bits(x ^ 0x80000000u32));
            let sum = flush(1.0f32 + decay, zero);
            recip_bits(sum.to_bits())
        }

        /// The value with magnitudes below 2^-125 replaced by a zero of the same sign, and a barrier: `zero` is 0, but on a GPU it
        /// is read at run time, so the compiler cannot see through the exclusive or and can neither contract nor
        /// reassociate what is on both sides of it.
        ///
        /// The lowest binade of normal numbers goes with the subnormals: a device that flushes before it rounds gives 0
        /// for a result just below 2^-126 where another rounds up to 2^-126, and this makes both the same.
        ///
        /// Every intermediate of a fused elementwise computation passes through here. The payload of a NaN is not
        /// part of the contract: callers refuse states that are not finite.
        $(#[$attr])*
        pub fn flush(x: f32, zero: u32) -> f32 {
            let bits = x.to_bits() ^ zero;
            let mut out = bits;
            if (bits & 0x7f000000u32) == 0u32 {
                out = bits & 0x80000000u32;
            }
            f32::from_bits(out)
        }

        /// The integer that stands for `x` in an exact matrix product: `x * 2^(125 + width - emax)`, rounded to
        /// nearest even and clamped to `+-(2^(width - 1) - 1)`.
        ///
        /// `emax` is the biased exponent of the largest magnitude in the row or column of `x`. The result is 0 when
        /// `emax < 27` (the whole row is below 2^-100), when `emax` is 255 (the caller makes the products NaN), and
        /// for zero and subnormal x. An x above its row's maximum, infinities and NaN included, clamps.
        /// `width` is from 2 to 24 bits; run specifications use 8 to 16.
        $(#[$attr])*
        pub fn quantise(x_bits: u32, emax: u32, width: u32) -> i32 {
            let e = (x_bits >> 23u32) & 0xffu32;
            let mantissa = (x_bits & 0x7fffffu32) | 0x800000u32;
            let limit = (1u32 << (width - 1u32)) - 1u32;
            let mut below = 0u32;
            if e < emax {
                below = emax - e;
            }
            // the value is below 1/2 from a shift of 25 on
            let mut shift = 25u32 - width + below;
            if shift > 25u32 {
                shift = 25u32;
            }
            let mut q = (mantissa + ((1u32 << (shift - 1u32)) - 1u32) + ((mantissa >> shift) & 1u32)) >> shift;
            if q > limit || e > emax {
                q = limit;
            }
            if emax < 27u32 || emax == 255u32 || e == 0u32 {
                q = 0u32;
            }
            let mut out = q as i32;
            if (x_bits >> 31u32) == 1u32 {
                out = -out;
            }
            out
        }

        /// The bits of the `f32` nearest (ties to even) to `(hi * 2^16 + mid * 2^8 + lo) * 2^(exponent_sum - 250 -
        /// width_sum)`: the end of an exact matrix product whose operands went through [`quantise`].
        ///
        /// `exponent_sum` is the sum of the two `emax` (at most 508; a 255 among them is the caller's to turn into
        /// NaN), `width_sum` that of the two widths. The three partial sums may be any `i32`. A result below 2^-126
        /// before rounding is +0; one above the largest `f32` is infinity of its sign.
        $(#[$attr])*
        pub fn round_sum(hi: i32, mid: i32, lo: i32, exponent_sum: u32, width_sum: u32) -> u32 {
            // limbs of 16 bits, so that no partial sum overflows
            let first = ((mid & 0xffi32) << 8i32) + (lo & 0xffffi32);
            let second =
                (hi & 0xffffi32) + ((mid >> 8i32) & 0xffffi32) + ((lo >> 16i32) & 0xffffi32) + (first >> 16i32);
            let mut top = (hi >> 16i32) + (mid >> 24i32) + (lo >> 31i32) + (second >> 16i32);
            let mut low = (((second & 0xffffi32) as u32) << 16u32) | ((first & 0xffffi32) as u32);
            let mut sign = 0u32;
            if top < 0i32 {
                sign = 0x80000000u32;
                if low == 0u32 {
                    top = -top;
                } else {
                    top = -top - 1i32;
                    low = (low ^ 0xffffffffu32) + 1u32;
                }
            }
            let scale = (exponent_sum as i32) - 60i32 - (width_sum as i32);
            round_pair(top as u32, low, sign, scale)
        }

        /// The bits of the `f32` nearest (ties to even) to `(hi * 2^32 + lo) * 2^(scale - 190)`, with `sign` (0 or
        /// 0x80000000) applied: `scale` is the biased exponent of the result where the highest bit of `hi` is set.
        ///
        /// A value below 2^-126 before rounding is +0; one above the largest `f32` is infinity of its sign.
        /// `|scale|` is at most 2^30.
        $(#[$attr])*
        pub fn round_pair(hi: u32, lo: u32, sign: u32, scale: i32) -> u32 {
            let mut h = hi;
            let mut l = lo;
            let mut biased = scale;
            if h == 0u32 {
                h = l;
                l = 0u32;
                biased -= 32i32;
            }
            let mut step = 16u32;
            for _i in 0..5u32 {
                if (h >> (32u32 - step)) == 0u32 {
                    h = (h << step) | (l >> (32u32 - step));
                    l = l << step;
                    biased -= step as i32;
                }
                step = step >> 1u32;
            }
            let mut fraction = (h >> 8u32) & 0x7fffffu32;
            let mut odd_or_sticky = fraction & 1u32;
            if l != 0u32 {
                odd_or_sticky = 1u32;
            }
            if (h & 0xffu32) + odd_or_sticky > 0x80u32 {
                fraction += 1u32;
            }
            let mut clamped = biased;
            if clamped < 0i32 {
                clamped = 0i32;
            }
            if clamped > 255i32 {
                clamped = 255i32;
            }
            // a fraction rounded up to 1 carries into the exponent, at the top into infinity
            let mut out = (((clamped as u32) << 23u32) + fraction) | sign;
            if biased >= 255i32 {
                out = 0x7f800000u32 | sign;
            }
            if h == 0u32 || biased <= 0i32 {
                out = 0u32;
            }
            out
        }

        /// First moment of AdamW after a step: `flush(flush(m * beta1) + flush(g * (1 - beta1)))`, where
        /// `one_minus_beta1` is given so that both factors are rounded once, by the caller.
        $(#[$attr])*
        pub fn adamw_first(m: f32, g: f32, beta1: f32, one_minus_beta1: f32, zero: u32) -> f32 {
            let kept = flush(m * beta1, zero);
            let added = flush(g * one_minus_beta1, zero);
            flush(kept + added, zero)
        }

        /// Second moment of AdamW after a step:
        /// `flush(flush(v * beta2) + flush(flush(g * g) * (1 - beta2)))`.
        $(#[$attr])*
        pub fn adamw_second(v: f32, g: f32, beta2: f32, one_minus_beta2: f32, zero: u32) -> f32 {
            let kept = flush(v * beta2, zero);
            let square = flush(g * g, zero);
            let added = flush(square * one_minus_beta2, zero);
            flush(kept + added, zero)
        }

        /// A parameter after an AdamW step (decoupled weight decay, Loshchilov and Hutter, arXiv 1711.05101), given
        /// its moments `m` and `v` after the step:
        ///
        /// ```text
        /// variance  = flush(flush(v * c2) + eps_squared)
        /// direction = flush(flush(m * c1) * rsqrt(variance))
        /// p'        = flush(flush(p - flush(direction * lr)) - flush(p * lr_decay))
        /// ```
        ///
        /// `c1`, `c2` are the bias corrections `1/(1 - beta^t)`; `eps_squared` is a normal positive number and stands
        /// under the root, where PyTorch adds eps to it; `lr_decay` is the learning rate times the weight decay.
        $(#[$attr])*
        pub fn adamw_parameter(
            p: f32,
            m: f32,
            v: f32,
            c1: f32,
            c2: f32,
            eps_squared: f32,
            lr: f32,
            lr_decay: f32,
            zero: u32,
        ) -> f32 {
            let corrected = flush(v * c2, zero);
            let variance = flush(corrected + eps_squared, zero);
            let inverse_root = f32::from_bits(rsqrt_bits(variance.to_bits()));
            let mean = flush(m * c1, zero);
            let direction = flush(mean * inverse_root, zero);
            let step = flush(direction * lr, zero);
            let moved = flush(p - step, zero);
            let decay = flush(p * lr_decay, zero);
            flush(moved - decay, zero)
        }
    };
}

pub(crate) use exact_scalar_functions;
