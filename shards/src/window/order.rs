//! A pseudo-random permutation of `0 .. n` that is evaluated at single points.
//!
//! A balanced Feistel network over the smallest even number of bits that holds `n`, walked until it falls below `n` (Black and
//! Rogaway, "Ciphers with arbitrary finite domains", 2002). The round function is SipHash-2-4 over round and half, keyed by
//! the tagged hash of what the order is for.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use watershed_protocol::{Digest, Domain};

/// Rounds: four make a pseudo-random permutation of a pseudo-random function (Luby and Rackoff 1988), but for the smallest
/// domains more are better.
const ROUNDS: u64 = 8;

/// A key for permutations.
#[derive(Clone, Debug)]
pub(crate) struct Order(SipHasher24);

impl Order {
    /// The key for `purpose` and numbers, under a seed.
    pub(crate) fn new(seed: u64, purpose: u8, numbers: [u64; 2]) -> Self {
        let mut message = [0; 25];
        message[..8].copy_from_slice(&seed.to_le_bytes());
        message[8] = purpose;
        message[9..17].copy_from_slice(&numbers[0].to_le_bytes());
        message[17..].copy_from_slice(&numbers[1].to_le_bytes());
        let Digest(hash) = Domain::Order.hash(&message);
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Self(SipHasher24::new_with_key(&key))
    }

    fn hash(&self, number: u64) -> u64 {
        let mut hasher = self.0;
        hasher.write(&number.to_le_bytes());
        hasher.finish()
    }

    /// Where `i` goes among `0 .. n`; `i` must be below `n`, and `n` at most 2^40.
    pub(crate) fn permute(&self, i: u64, n: u64) -> u64 {
        let bits = u64::from((64 - n.saturating_sub(1).leading_zeros()).max(2)).div_ceil(2);
        let mask = (1u64 << bits) - 1;
        let mut x = i;
        loop {
            let (mut left, mut right) = (x >> bits, x & mask);
            for round in 0..ROUNDS {
                let mixed = left ^ (self.hash(round << 32 | right) & mask);
                (left, right) = (right, mixed);
            }
            x = left << bits | right;
            // The walk ends: it is a cycle through `i`, which is below n.
            if x < n {
                return x;
            }
        }
    }

    /// A number in `0 .. n`, for `n` up to 2^32.
    pub(crate) fn below(&self, n: u32) -> u32 {
        // The multiply-shift reduction; its bias is below 2^-32.
        ((u128::from(self.hash(u64::MAX)) * u128::from(n)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_permutation_of_every_small_domain() {
        for n in (1..70).chain([255, 256, 257, 10_000]) {
            let order = Order::new(5, 1, [2, n]);
            let mut images: Vec<u64> = (0..n).map(|i| order.permute(i, n)).collect();
            images.sort_unstable();
            assert!(images.iter().copied().eq(0..n), "{n}");
        }
    }

    #[test]
    fn every_part_of_the_key_counts_and_the_values_are_these() {
        let image = |seed, purpose, numbers| {
            let order = Order::new(seed, purpose, numbers);
            (0..8).map(|i| order.permute(i, 1000)).collect::<Vec<_>>()
        };
        let first = image(1, 2, [3, 4]);
        for other in [image(0, 2, [3, 4]), image(1, 3, [3, 4]), image(1, 2, [0, 4]), image(1, 2, [3, 0])] {
            assert_ne!(first, other);
        }
        // Part of the format: a change here changes every window.
        assert_eq!(first, GOLDEN);
    }

    const GOLDEN: [u64; 8] = [655, 842, 372, 836, 491, 852, 474, 532];

    #[test]
    fn places_are_spread_evenly() {
        // 100 keys of 1000: each tenth of the images of one point should have about 10.
        let mut tenths = [0; 10];
        for key in 0..100 {
            tenths[(Order::new(key, 0, [0, 0]).permute(7, 1000) / 100) as usize] += 1;
        }
        assert!(tenths.iter().all(|t| (1..30).contains(t)), "{tenths:?}");
        let below: Vec<u32> = (0..1000).map(|key| Order::new(key, 0, [0, 0]).below(3)).collect();
        for value in 0..3 {
            assert!((250..420).contains(&below.iter().filter(|b| **b == value).count()));
        }
    }
}
