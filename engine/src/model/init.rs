//! The values a fresh model starts from: a pure function of the layout and a seed.
//!
//! Every value is computed from its own position in the flat vector, so the bits do not depend on threads, on
//! the order of computation or on the platform. Only integer arithmetic, f64 `+ - * /` and `sqrt` are used,
//! all of them exact or correctly rounded by IEEE 754. The definition is part of the protocol:
//!
//! - Draw n (n = 0, 1, ...) is output n + 1 of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
//!   number generators", 2014) started from the state `mix(seed)`; `mix` is its output function. Hashing the
//!   seed first keeps nearby seeds from giving shifted copies of one stream.
//! - The value at position i of the flat vector takes draws 3 i, 3 i + 1 and 3 i + 2: twelve 16-bit integers.
//!   Their sum S (Irwin-Hall, close to normal) has mean 393,210 and standard deviation sqrt(2^32 - 1), so
//!   z = (S - 393210) / 65536 is exact, |z| < 6, and its deviation is 1 to within 2^-33.
//! - Matrices and embeddings are `z * 0.02`, with `o` and `down` divided by `sqrt(2 * layers)` (the GPT-2
//!   rule that keeps the residual stream's variance independent of depth); norms are 1; biases are 0.
//!
//! It never draws from the system's randomness.

use super::layout::{Layout, ParamKind, ParamSpec};

/// Standard deviation of the initial matrices.
const DEVIATION: f64 = 0.02;
/// Increment of SplitMix64: 2^64 divided by the golden ratio, made odd.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
/// Twice the mean of one 16-bit draw (65535) times half of the twelve draws.
const MEAN_OF_TWELVE: i64 = 6 * 65_535;

/// The initial parameters of `layout` for `seed`: [`Layout::total`] values in declared order.
pub fn init(layout: &Layout, seed: u64) -> Vec<f32> {
    let mut flat = Vec::with_capacity(layout.total());
    for param in layout.params() {
        if param.kind.is_norm() {
            flat.resize(flat.len() + param.len, 1.0);
        } else if param.kind.is_matrix() {
            let deviation = deviation(param, layout.config().layers);
            flat.extend(param.range().map(|position| normal(seed, position as u64, deviation)));
        } else {
            flat.resize(flat.len() + param.len, 0.0);
        }
    }
    flat
}

/// Standard deviation of one matrix's initial values.
fn deviation(param: &ParamSpec, layers: usize) -> f64 {
    match param.kind {
        ParamKind::O | ParamKind::Down => DEVIATION / ((2 * layers) as f64).sqrt(),
        _ => DEVIATION,
    }
}

/// The value at one position of the flat vector.
fn normal(seed: u64, position: u64, deviation: f64) -> f32 {
    let state = mix(seed);
    let first = position.wrapping_mul(3);
    let mut sum = 0;
    for draw in 0..3 {
        let n = first.wrapping_add(draw);
        let bits = mix(state.wrapping_add(GAMMA.wrapping_mul(n.wrapping_add(1))));
        for lane in 0..4 {
            sum += (bits >> (16 * lane) & 0xFFFF) as i64;
        }
    }
    let z = (sum - MEAN_OF_TWELVE) as f64 / 65_536.0;
    (z * deviation) as f32
}

/// Output function of SplitMix64.
const fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::config::ModelConfig;
    use super::super::preset::Preset;
    use super::*;
    use sha2::{Digest, Sha256};

    fn digest(flat: &[f32]) -> String {
        let mut hash = Sha256::new();
        for value in flat {
            hash.update(value.to_le_bytes());
        }
        hex::encode(hash.finalize())
    }

    fn nano() -> Layout {
        Layout::new(&Preset::Nano.config()).unwrap()
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = values.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The published first outputs for state 1234567.
        let outputs = [1u64, 2, 3].map(|n| mix(GAMMA.wrapping_mul(n).wrapping_add(1_234_567)));
        assert_eq!(
            outputs,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn the_bits_of_a_fresh_model_do_not_move() {
        assert_eq!(
            digest(&init(&nano(), 0)),
            "669ae4f6fd6bdc195d3b050b6fd06f849b35d1219e428bfd1ede324bebff55b1"
        );
        let config = ModelConfig { qkv_bias: true, tied_embeddings: true, ..Preset::Nano.config() };
        assert_eq!(
            digest(&init(&Layout::new(&config).unwrap(), u64::MAX)),
            "635de702848f93ecf1dec3da85822cb6416ae740a70b3d20cb743d9a030033d9"
        );
    }

    #[test]
    fn every_value_depends_on_its_position_alone() {
        let layout = nano();
        let flat = init(&layout, 7);
        let down = layout.find(ParamKind::Down, Some(2)).unwrap();
        for position in down.range().rev() {
            assert_eq!(flat[position], normal(7, position as u64, deviation(down, 4)));
        }
    }

    #[test]
    fn each_kind_has_its_own_spread() {
        let layout = Layout::new(&ModelConfig { qkv_bias: true, ..Preset::Nano.config() }).unwrap();
        let flat = init(&layout, 3);
        for param in layout.params() {
            let values = &flat[param.range()];
            if param.kind.is_norm() {
                assert!(values.iter().all(|&x| x == 1.0), "{}", param.name);
            } else if param.kind == ParamKind::QkvBias {
                assert!(values.iter().all(|x| x.to_bits() == 0), "{}", param.name);
            } else {
                let scaled = matches!(param.kind, ParamKind::O | ParamKind::Down);
                let expected = if scaled { 0.02 / 8f64.sqrt() } else { 0.02 };
                let (mean, spread) = moments(values);
                assert!(mean.abs() < 0.03 * expected, "{}: mean {mean}", param.name);
                assert!((spread / expected - 1.0).abs() < 0.03, "{}: deviation {spread}", param.name);
                let most = values.iter().fold(0f32, |most, x| most.max(x.abs()));
                assert!(
                    f64::from(most) < 6.0 * expected && f64::from(most) > 3.0 * expected,
                    "{}",
                    param.name
                );
            }
        }
    }

    #[test]
    fn neighbouring_seeds_and_positions_share_nothing() {
        let layout = nano();
        let (a, b) = (init(&layout, 1), init(&layout, 2));
        let embed = layout.find(ParamKind::Embed, None).unwrap().range();
        let (a, b) = (&a[embed.clone()], &b[embed]);
        for shift in 0..8 {
            for other in [&a[shift..], &b[shift..]] {
                if shift == 0 && other[0] == a[0] {
                    continue;
                }
                let n = other.len() as f64;
                let product: f64 = a.iter().zip(other).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                let correlation = product / n / (0.02 * 0.02);
                assert!(correlation.abs() < 5.0 / n.sqrt(), "shift {shift}: correlation {correlation}");
            }
        }
        assert_ne!(a, b);
    }
}
