use proptest::prelude::*;

use super::*;

/// Moments as training leaves them: scales that differ by block and by element, zeros, many octaves.
fn realistic(count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut state = seed;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut first = Vec::with_capacity(count);
    let mut second = Vec::with_capacity(count);
    for i in 0..count {
        let scale = f32::from_bits((127 - 10 - (i as u32 / 256 % 7) - (unit() * 25.0) as u32) << 23);
        let (m, v) = ((unit() - 0.5) * scale, unit() * scale * scale);
        let dead = unit() < 0.03;
        first.push(if dead { 0.0 } else { m });
        second.push(if dead { 0.0 } else { v });
    }
    (first, second)
}

fn round_trip(first: &[f32], second: &[f32]) -> Moments {
    let bytes = encode(first, second).unwrap();
    assert_eq!(bytes.len(), encoded_len(first.len()).unwrap());
    decode(&bytes, first.len()).unwrap()
}

fn exponent(x: f32) -> i32 {
    ((x.to_bits() >> 23) & 0xff) as i32 - 127
}

#[test]
fn errors_stay_within_what_the_format_promises() {
    let (first, second) = realistic(200_003, 1);
    let back = round_trip(&first, &second);
    for (values, decoded) in first.chunks(256).zip(back.first.chunks(256)) {
        let largest = values.iter().fold(0f32, |a, v| a.max(v.abs()));
        let floor = 2f64.powi(exponent(largest) - 14);
        for (v, d) in values.iter().zip(decoded) {
            let error = (f64::from(*v) - f64::from(*d)).abs();
            // rounding may move the scale one octave up
            let bound =
                if f64::from(v.abs()) >= 2.0 * floor { f64::from(v.abs()) / 16.0 } else { floor / 8.0 };
            assert!(error <= bound, "{v:e} became {d:e} below {largest:e}");
            assert!(*d == 0.0 || v.signum() == d.signum());
        }
    }
    let (mut zeros, mut worst) = (0, 0f64);
    for (v, d) in second.iter().zip(&back.second) {
        assert_eq!(*v == 0.0, *d == 0.0, "zero and only zero is zero");
        if *v == 0.0 {
            zeros += 1;
        } else {
            worst = worst.max((f64::from(*d) / f64::from(*v) - 1.0).abs());
        }
    }
    assert!(zeros > 1000);
    assert!(worst > 0.08 && worst < 0.0906, "{worst}");
}

#[test]
fn two_bytes_per_parameter_and_little_more() {
    assert_eq!(encoded_len(0), Some(16));
    assert_eq!(encoded_len(1), Some(21));
    assert_eq!(encoded_len(256), Some(16 + 515));
    assert_eq!(encoded_len(257), Some(16 + 515 + 5));
    assert_eq!(encoded_len(usize::MAX), None);
    assert!((encoded_len(1 << 20).unwrap() as f64) < 2.02 * (1 << 20) as f64);
}

#[test]
fn a_known_block_has_its_known_bytes() {
    let bytes = encode(&[1.0, -0.4375, 1e-4, -1e-9, -0.0], &[1.0, 0.5, 1.2e-19, 1e-30, 0.0]).unwrap();
    let mut want = b"WSMOMv1\0\x05\0\0\0\0\0\0\0".to_vec();
    // scales 127 and 4 * 127; 1 = 15|0; -0.4375 = -1.75 * 2^-2 = sign|13|6; 1e-4 = 1.64 * 2^-14 = 1|5; the rest is 0
    want.extend([127, 0xfc, 0x01, 0x78, 0x80 | 13 << 3 | 6, 1 << 3 | 5, 0, 0]);
    // 1.2e-19 = 2^-62.85 is the level of 2^-62.75, 251 quarter octaves down; 1e-30 is below the range
    want.extend([255, 251, 255 - 251, 1, 0]);
    assert_eq!(bytes, want);
    let back = decode(&bytes, 5).unwrap();
    assert_eq!(back.first, [1.0, -0.4375, 1.625 * 2f32.powi(-14), 0.0, 0.0]);
    assert_eq!(back.first[4].to_bits(), 0);
    assert_eq!(back.second[..2], [1.0, 0.5]);
    assert!((back.second[2] / 2f32.powf(-62.75) - 1.0).abs() < 1e-6);
    assert!((back.second[3] / 2f32.powf(-63.5) - 1.0).abs() < 1e-6);
}

#[test]
fn the_range_reaches_below_two_to_the_minus_sixty() {
    let tiny = 2f32.powi(-60);
    assert_eq!(round_trip(&[0.0, 0.0], &[1.0, tiny]).second, [1.0, tiny]);
    assert_eq!(round_trip(&[1.0, 2f32.powi(-17)], &[0.0, 0.0]).first, [1.0, 2f32.powi(-17)]);
}

#[test]
fn extreme_values_survive() {
    let first = [f32::MAX, -f32::MAX, 0.0, 1.0];
    let second = [f32::MAX, f32::MIN_POSITIVE, 0.0, 1.0];
    let back = round_trip(&first, &second);
    assert!(back.first.iter().chain(&back.second).all(|v| v.is_finite() && !v.is_subnormal()));
    assert_eq!(back.first[0], -back.first[1]);
    assert!(back.second[1] > 0.0);
    let subnormal = f32::from_bits(0x7f_ffff);
    assert_eq!(
        round_trip(&[subnormal, -subnormal], &[subnormal, 0.0]),
        Moments { first: vec![0.0; 2], second: vec![0.0; 2] }
    );
    // a block below 2^-109 has no normal steps left
    assert_eq!(round_trip(&[2f32.powi(-110)], &[f32::MIN_POSITIVE]).first, [0.0]);
    assert_eq!(round_trip(&[2f32.powi(-109)], &[f32::MIN_POSITIVE]).first, [2f32.powi(-109)]);
    assert_eq!(round_trip(&[0.0], &[f32::MIN_POSITIVE]).second, [f32::MIN_POSITIVE]);
    assert_eq!(round_trip(&[], &[]), Moments::default());
}

#[test]
fn impossible_moments_are_named() {
    let (first, second) = realistic(300_000, 2);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut broken = first.clone();
        broken[290_000] = bad;
        broken[777] = bad;
        assert_eq!(
            encode(&broken, &second),
            Err(EncodeError::Impossible { moment: Moment::First, index: 777 })
        );
    }
    for bad in [f32::NAN, f32::INFINITY, -1e-30, -1.0] {
        let mut broken = second.clone();
        broken[290_001] = bad;
        assert_eq!(
            encode(&first, &broken),
            Err(EncodeError::Impossible { moment: Moment::Second, index: 290_001 })
        );
    }
    assert_eq!(
        encode(&first, &second[1..]),
        Err(EncodeError::LengthMismatch { first: 300_000, second: 299_999 })
    );
}

#[test]
fn hostile_bytes_are_refused_with_the_reason() {
    let (first, second) = realistic(1000, 3);
    let good = encode(&first, &second).unwrap();
    let bent = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode(&bytes, 1000)
    };
    assert!(decode(&good, 1000).is_ok());
    for len in 0..16 {
        assert_eq!(decode(&good[..len], 1000), Err(DecodeError::BadHeader));
    }
    assert_eq!(bent(6, b'2'), Err(DecodeError::BadHeader));
    assert_eq!(bent(8, 0), Err(DecodeError::ElementCount { expected: 1000, got: 768 }));
    assert_eq!(bent(15, 0xff), Err(DecodeError::ElementCount { expected: 1000, got: 0xff00_0000_0000_03e8 }));
    let length = |got| Err(DecodeError::Length { expected: good.len(), got });
    assert_eq!(decode(&good[..good.len() - 1], 1000), length(good.len() - 1));
    assert_eq!(decode(&good[..16], 1000), length(16));
    assert_eq!(decode(&[good.as_slice(), &[0]].concat(), 1000), length(good.len() + 1));

    // the third block starts at 16 + 2 * 515
    let block = |moment, defect| Err(DecodeError::Block { block: 2, moment, defect });
    let start = 16 + 2 * 515;
    assert_eq!(bent(start, 0), block(Moment::First, Defect::NotZero));
    assert_eq!(bent(start, 17), block(Moment::First, Defect::Scale(17)));
    assert_eq!(bent(start, 255), block(Moment::First, Defect::Scale(255)));
    assert_eq!(bent(start + 3, 0x80), block(Moment::First, Defect::Code));
    assert_eq!(
        bent(start + 2, 0xff),
        block(Moment::Second, Defect::Scale(0xff00 | u16::from(good[start + 1])))
    );
    let mut bytes = good.clone();
    bytes[start + 3..start + 3 + 256].iter_mut().for_each(|code| *code &= 0x3f);
    assert_eq!(decode(&bytes, 1000), block(Moment::First, Defect::Loose));
    let mut bytes = good.clone();
    bytes[start + 259..start + 515].iter_mut().for_each(|code| *code = (*code).min(254));
    assert_eq!(decode(&bytes, 1000), block(Moment::Second, Defect::Loose));
    let mut bytes = good.clone();
    bytes[start + 1..start + 3].copy_from_slice(&[100, 0]);
    bytes[start + 259..start + 261].copy_from_slice(&[255, 158]);
    bytes[start + 261..start + 515].fill(0);
    assert_eq!(decode(&bytes, 1000), block(Moment::Second, Defect::Code));
    bytes[start + 260] = 159;
    assert!(decode(&bytes, 1000).is_ok());
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (first, second) = realistic(500_001, 4);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| encode(&first, &second).unwrap())
    };
    assert_eq!(with(1), with(3));
}

/// Any block that the format allows, and some that it does not.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let scale = prop_oneof![1 => Just(0u8), 8 => any::<u8>()];
    let second_scale = prop_oneof![1 => Just(0u16), 8 => 0u16..1030];
    (scale, second_scale, any::<bool>(), prop::collection::vec(any::<u8>(), 600)).prop_map(
        |(scale, second_scale, repair, mut codes)| {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(300u64.to_le_bytes());
            for (start, len) in [(0, 256), (256, 44)] {
                let (first, second) = codes[2 * start..][..2 * len].split_at_mut(len);
                if repair {
                    first.iter_mut().filter(|code| **code == 0x80).for_each(|code| *code = 0);
                    (first[0], second[0]) = (0x7f, 0xff);
                    second.iter_mut().filter(|c| u16::from(**c) + second_scale < 259).for_each(|c| *c = 0);
                    if scale == 0 {
                        first.fill(0);
                    }
                    if second_scale == 0 {
                        second.fill(0);
                    }
                }
                bytes.push(scale);
                bytes.extend(second_scale.to_le_bytes());
                bytes.extend_from_slice(first);
                bytes.extend_from_slice(second);
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in blocks()) {
        if let Ok(moments) = decode(&bytes, 300) {
            prop_assert!(moments.first.iter().chain(&moments.second).all(|v| v.is_normal() || v.to_bits() == 0));
            prop_assert_eq!(encode(&moments.first, &moments.second), Ok(bytes));
        }
    }

    #[test]
    fn what_encodes_decodes_and_stays(
        first in prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 300),
        second in prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 300),
    ) {
        let second: Vec<f32> = second.iter().map(|v| v.abs()).collect();
        let bytes = encode(&first, &second).unwrap();
        let once = decode(&bytes, 300).unwrap();
        prop_assert_eq!(encode(&once.first, &once.second), Ok(bytes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..700), elements in 0usize..400) {
        let _ = decode(&bytes, elements);
        let mut framed = MAGIC.to_vec();
        framed.extend((elements as u64).to_le_bytes());
        framed.extend(bytes);
        framed.resize(encoded_len(elements).unwrap(), 0x5a);
        let _ = decode(&framed, elements);
    }
}

#[test]
fn most_repaired_blocks_decode_so_the_property_above_is_not_empty() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let decoded =
        (0..500).filter(|_| decode(&blocks().new_tree(&mut runner).unwrap().current(), 300).is_ok()).count();
    assert!(decoded > 100, "{decoded}");
}
