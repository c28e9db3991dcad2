//! Stored bytes to f32, exactly: every F16 and BF16 value is also an f32 value.

use safetensors::Dtype;

/// The stored types that can be widened without rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Stored {
    /// The stored type behind a safetensors type, if it is one of ours.
    pub(super) const fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Bytes per value.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Widens little-endian `bytes` into `out`; stops at the shorter of the two.
    pub(super) fn widen(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = from_f16(u16::from_le_bytes(*bytes));
                }
            }
            Self::Bf16 => {
                for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
        }
    }
}

/// The f32 equal to an IEEE 754 binary16.
fn from_f16(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10 & 0x1F);
    let fraction = u32::from(half & 0x3FF);
    let bits = match (exponent, fraction) {
        (0, 0) => 0,
        // Subnormal: fraction * 2^-24. Both factors are f32 values and so is the product.
        (0, _) => (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        // Infinities and NaNs keep their fraction.
        (0x1F, _) => 0x7F80_0000 | fraction << 13,
        // Normal: the exponent's bias goes from 15 to 127.
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value by its definition, in f64.
    fn by_definition(half: u16) -> f64 {
        let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
        let (exponent, fraction) = (i32::from(half >> 10 & 0x1F), f64::from(half & 0x3FF));
        match exponent {
            0 => sign * fraction / 1024.0 / 16384.0,
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            _ => sign * (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
        }
    }

    #[test]
    fn every_half_widens_to_the_value_it_stands_for() {
        for half in 0..=u16::MAX {
            let mut out = [0.0];
            Stored::F16.widen(&half.to_le_bytes(), &mut out);
            let expected = by_definition(half);
            if expected.is_nan() {
                assert!(out[0].is_nan());
            } else {
                assert_eq!(f64::from(out[0]).to_bits(), expected.to_bits(), "{half:#06x}");
            }
        }
    }

    #[test]
    fn a_bf16_is_the_upper_half_of_an_f32() {
        for (bits, value) in [(0x3F80u16, 1.0f32), (0xC049, -3.140625), (0x0001, f32::from_bits(1 << 16))] {
            let mut out = [0.0];
            Stored::Bf16.widen(&bits.to_le_bytes(), &mut out);
            assert_eq!(out[0].to_bits(), value.to_bits());
        }
    }

    #[test]
    fn several_values_are_read_in_order_and_never_past_the_shorter_end() {
        let bytes: Vec<u8> = [1.5f32, -0.0, 7.25].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut out = [9.0; 4];
        Stored::F32.widen(&bytes, &mut out);
        assert_eq!(out.map(f32::to_bits), [1.5f32, -0.0, 7.25, 9.0].map(f32::to_bits));
        let mut out = [9.0; 1];
        Stored::F32.widen(&bytes[..7], &mut out);
        assert_eq!(out, [1.5]);
    }
}
