//! Pseudo-gradients there and back, in good and in bad faith.

use proptest::prelude::*;

use super::*;

/// Numbers with the tails that pseudo-gradients have.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
    fn gauss(&mut self) -> f32 {
        ((-2.0 * self.next().ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()) as f32
    }
    fn laplace(&mut self) -> f32 {
        let u = self.next() - 0.5;
        (-u.signum() * (1.0 - 2.0 * u.abs()).ln()) as f32
    }
}

fn vector(n: usize, seed: u64, laplace: bool) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| 1e-3 * if laplace { random.laplace() } else { random.gauss() }).collect()
}

fn encode(values: &[f32], k: usize) -> (Vec<u8>, Vec<f32>) {
    let mut feedback = vec![0.0; values.len()];
    (compress(&mut feedback, values, 0.9, k).unwrap(), feedback)
}

#[test]
fn a_pseudo_gradient_is_215_times_smaller_than_f32_at_64_of_4096() {
    for laplace in [false, true] {
        let values = vector(4 << 20, 7, laplace);
        let (bytes, _) = encode(&values, 64);
        let ratio = (4 * values.len()) as f64 / bytes.len() as f64;
        assert!(ratio >= 215.0, "laplace {laplace}: {ratio:.2}");
        println!("laplace {laplace}: {ratio:.2} times smaller than f32");
    }
}

#[test]
fn positions_cost_little_more_than_the_number_of_sets_demands() {
    for k in [1, 7, 64, 512, 2048, 4000] {
        let values = vector(1 << 20, 3, false);
        let (bytes, _) = encode(&values, k);
        let log2_sets: f64 = (0..k).map(|i| ((CHUNK - i) as f64 / (i + 1) as f64).log2()).sum();
        let least = log2_sets + 2.0 * k as f64 + 8.0;
        let bits = bytes.len() as f64 * 8.0 / 256.0;
        assert!(bits < least * 1.01 + 1.0, "k {k}: {bits:.1} bits, {least:.1} at least");
    }
}

#[test]
fn what_is_not_sent_stays_in_the_feedback() {
    for k in [1, 64, 512, 4096] {
        let values = vector(3 * CHUNK + 100, 5, true);
        let (bytes, feedback) = encode(&values, k);
        let sent = decode_dense(&bytes, Expected { params: values.len(), k }).unwrap();
        let mut nonzero = 0;
        for ((v, s), f) in values.iter().zip(&sent).zip(&feedback) {
            nonzero += usize::from(*s != 0.0);
            assert_eq!(crate::scalar::flush(v - s, 0).to_bits(), f.to_bits());
        }
        assert_eq!(nonzero, 3 * k + kept(100, k));
    }
}

#[test]
fn two_levels_cost_little_against_the_best_two() {
    for (k, laplace, bound) in [(64, false, 0.16), (64, true, 0.28), (512, false, 0.25), (512, true, 0.40)] {
        let values = vector(1 << 20, 11, laplace);
        let (bytes, feedback) = encode(&values, k);
        let sent = decode_dense(&bytes, Expected { params: values.len(), k }).unwrap();
        let (mut error, mut power) = (0f64, 0f64);
        for ((v, s), f) in values.iter().zip(&sent).zip(&feedback) {
            if *s != 0.0 {
                error += f64::from(*f) * f64::from(*f);
                power += f64::from(*v) * f64::from(*v);
            }
        }
        let relative = (error / power).sqrt();
        println!("k {k} laplace {laplace}: relative error of sent values {relative:.3}");
        assert!(relative < bound, "k {k} laplace {laplace}: {relative:.3}");
    }
}

#[test]
fn one_file_whatever_the_threads_and_one_chunk_alone() {
    let values = vector(SEGMENT + 3 * CHUNK, 9, true);
    let (bytes, feedback) = encode(&values, 64);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| encode(&values, 64)), (bytes.clone(), feedback.clone()));
    let sent = decode_dense(&bytes, Expected { params: values.len(), k: 64 }).unwrap();
    let at = 200 * CHUNK;
    let mut alone = vec![0.0; CHUNK];
    let code = compress_chunk(&mut alone, &values[at..at + CHUNK], 0.9, 64).unwrap();
    assert_eq!(alone, feedback[at..at + CHUNK]);
    let found: Vec<u16> = (0..CHUNK as u16).filter(|i| sent[at + usize::from(*i)] != 0.0).collect();
    assert_eq!(code.positions, found);
}

#[test]
fn zeros_subnormals_giants_and_dwarfs_pass() {
    let mut values = vec![0f32; 4 * CHUNK];
    values[CHUNK..2 * CHUNK].fill(1e-40);
    for (i, v) in values[2 * CHUNK..].iter_mut().enumerate() {
        *v = if i % 2 == 0 { 1e30 } else { -1e-30 };
    }
    let (bytes, feedback) = encode(&values, 64);
    let sent = decode_dense(&bytes, Expected { params: values.len(), k: 64 }).unwrap();
    assert!(sent[..2 * CHUNK].iter().all(|v| *v == 0.0));
    assert!(feedback.iter().chain(&sent).all(|v| v.is_finite()));
    let empty = encode(&[], 64).0;
    assert_eq!(decode_dense(&empty, Expected { params: 0, k: 64 }).unwrap(), Vec::<f32>::new());
}

#[test]
fn what_cannot_be_encoded_is_named() {
    let mut feedback = vec![0.0; CHUNK + 9];
    let mut values = feedback.clone();
    values[CHUNK + 3] = f32::NAN;
    let refused = compress(&mut feedback, &values, 0.9, 64).unwrap_err();
    assert_eq!(refused, EncodeError::NotFinite { index: CHUNK + 3 });
    assert!(matches!(compress(&mut feedback, &[], 0.9, 64), Err(EncodeError::Length { .. })));
    assert!(matches!(compress(&mut [], &[], 0.9, 0), Err(EncodeError::TopK(0))));
    assert!(matches!(compress(&mut [], &[], f32::NAN, 1), Err(EncodeError::Decay)));
}

#[test]
fn another_shape_is_refused_before_anything_is_allocated() {
    let (bytes, _) = encode(&vector(CHUNK, 1, false), 64);
    for (params, k) in [(CHUNK + 1, 64), (CHUNK, 65), (usize::MAX, 64)] {
        let refused = decode_dense(&bytes, Expected { params, k });
        assert!(matches!(refused, Err(DecodeError::Shape { .. })), "{refused:?}");
    }
}

/// No cut and no flipped bit may leave the content as it is: two files of one content would be two submissions.
fn assert_one_file_for_one_content(values: &[f32], k: usize) {
    let expected = Expected { params: values.len(), k };
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let (bytes, _) = encode(values, k);
    let sent = decode_dense(&bytes, expected).unwrap();
    for length in 0..bytes.len() {
        assert!(decode_dense(&bytes[..length], expected).is_err(), "truncated to {length}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decode_dense(&flipped, expected) {
            assert_ne!(bits(&other), bits(&sent), "bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error_or_another_content() {
    let mut values = vector(2 * CHUNK + 50, 13, true);
    assert_one_file_for_one_content(&values, 16);
    values[CHUNK..].fill(0.0);
    assert_one_file_for_one_content(&values, 16);
    values.fill(0.0);
    assert_one_file_for_one_content(&values, 3);
}

#[test]
fn a_chunk_of_zeros_names_the_first_positions_only() {
    let expected = Expected { params: CHUNK, k: 1 };
    // One position: scale, 12 bits of position, 2 bits of value, in the encoder's order.
    let file = |scale: u32, position: u32, value: u32| {
        let mut coder = rans::Encoder::new();
        coder.raw(value, 2);
        coder.raw(position, 12);
        coder.raw(scale, 8);
        let body = coder.finish();
        let mut file = encode(&[], 1).0;
        file[7..15].copy_from_slice(&(CHUNK as u64).to_le_bytes());
        file.extend_from_slice(&(body.len() as u32).to_le_bytes());
        file.extend_from_slice(&body);
        file
    };
    assert_eq!(file(0, 0, 0), encode(&[0.0; CHUNK], 1).0);
    assert_eq!(decode_dense(&file(9, 7, 1), expected).unwrap()[7], value::value(1, value::scale(9), 1.25));
    for (position, value) in [(7, 0), (0, 1), (0, 2)] {
        let refused = decode_dense(&file(0, position, value), expected);
        assert_eq!(refused, Err(DecodeError::NotCanonical { segment: 0, chunk: 0 }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_shape_goes_there_and_back(n in 0usize..20_000, k in 1usize..=4096, seed: u64) {
        let values = vector(n, seed, seed % 2 == 0);
        let (bytes, feedback) = encode(&values, k);
        let sent = decode_dense(&bytes, Expected { params: n, k }).unwrap();
        for ((v, s), f) in values.iter().zip(&sent).zip(&feedback) {
            prop_assert_eq!(crate::scalar::flush(v - s, 0).to_bits(), f.to_bits());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut body in prop::collection::vec(any::<u8>(), 0..3000), k in 1usize..200, n in 1usize..9000) {
        let expected = Expected { params: n, k };
        let _ = decode_dense(&body, expected);
        // The same as the only segment of an otherwise good file.
        let mut file = encode(&[], k).0;
        file[7..15].copy_from_slice(&(n as u64).to_le_bytes());
        file.extend_from_slice(&(body.len() as u32).to_le_bytes());
        file.append(&mut body);
        let _ = decode_dense(&file, expected);
    }
}
