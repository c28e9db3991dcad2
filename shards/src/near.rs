//! Near duplicates: which texts are nearly the same, by MinHash (Broder 1997) over runs of five words.
//!
//! A sketch is 128 minima; the share of equal ones estimates the Jaccard similarity with a standard deviation of at most 4.4
//! points. Candidates come from 18 bands of 7 minima: two texts of similarity s share a band with probability
//! 1 - (1 - s^7)^18, which is 0.13 at 0.5, 0.78 at 0.7, 0.985 at 0.8 and 0.9999 at 0.9.

use std::collections::HashMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use txtfp::{
    Canonicalizer, Fingerprinter, HashFamily, MinHashFingerprinter, ShingleTokenizer, WordTokenizer,
};
use watershed_protocol::TextId;

/// Minima of a sketch.
const MINIMA: usize = 128;
/// Bands that an index looks up.
pub const BANDS: usize = 18;
/// Minima of a band.
const ROWS: usize = 7;
/// Words of a shingle.
const WORDS: usize = 5;

/// What is kept of a text to recognise its near duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sketch([u32; MINIMA]);

impl Sketch {
    /// Bytes of a stored sketch.
    pub const BYTES: usize = 4 * MINIMA;

    /// Of a text. Case, compatibility forms and invisible characters do not matter. A text of fewer than five words is one
    /// shingle; one without any word is like itself only.
    pub fn of(text: &str) -> Self {
        let shingles = ShingleTokenizer { k: WORDS, inner: WordTokenizer };
        let minhash = MinHashFingerprinter::<_, MINIMA>::new(Canonicalizer::default(), shingles)
            .with_hasher(HashFamily::Xxh3_64);
        match minhash.fingerprint(text) {
            Ok(signature) => Self(signature.hashes.map(|h| (h >> 32) as u32)),
            Err(_) => {
                let id = TextId::of(text.as_bytes()).to_bytes();
                Self(std::array::from_fn(|i| {
                    u32::from_le_bytes([id[i % 32], id[(i + 1) % 32], id[7], id[9]])
                }))
            }
        }
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (bytes, minimum) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *bytes = minimum.to_le_bytes();
        }
        bytes
    }

    /// From what was stored; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let mut minima = [0; MINIMA];
        for (minimum, bytes) in minima.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *minimum = u32::from_le_bytes(*bytes);
        }
        Some(Self(minima))
    }

    /// Estimated Jaccard similarity in basis points.
    pub fn similarity(&self, other: &Self) -> u16 {
        let equal = self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count();
        (equal * 10_000 / MINIMA) as u16
    }
}

/// Keys under which an index finds a sketch: near duplicates share at least one, nearly always.
pub fn bands(sketch: &Sketch) -> [u64; BANDS] {
    std::array::from_fn(|band| {
        let mut hasher = SipHasher24::new_with_keys(band as u64, 0);
        for minimum in sketch.0.iter().skip(band * ROWS).take(ROWS) {
            hasher.write(&minimum.to_le_bytes());
        }
        hasher.finish()
    })
}

/// Keeps one of each group of near duplicates. Texts are offered in a fixed order; only kept ones cost memory, so thousands
/// of copies of one text cost as much as one.
#[derive(Debug)]
pub struct Keeper {
    least: u16,
    kept: Vec<([u8; 32], Sketch)>,
    buckets: HashMap<u64, Vec<u32>>,
}

impl Keeper {
    /// Two texts are near duplicates from this similarity on, in basis points.
    pub fn new(least: u16) -> Self {
        Self { least, kept: Vec::new(), buckets: HashMap::new() }
    }

    /// Returns the kept text that this one nearly duplicates, with the similarity: the most similar, of equals the one that
    /// was offered first. If there is none, this one is kept.
    pub fn offer(&mut self, id: [u8; 32], sketch: &Sketch) -> Option<([u8; 32], u16)> {
        let bands = bands(sketch);
        let mut candidates: Vec<u32> =
            bands.iter().filter_map(|band| self.buckets.get(band)).flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let near = candidates
            .into_iter()
            .filter_map(|i| self.kept.get(i as usize))
            .map(|(id, kept)| (*id, kept.similarity(sketch)))
            .filter(|(_, similarity)| *similarity >= self.least)
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        if near.is_none() {
            let number = self.kept.len() as u32;
            self.kept.push((id, *sketch));
            for band in bands {
                self.buckets.entry(band).or_default().push(number);
            }
        }
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` words that follow from a seed.
    fn words(n: u32, seed: u32) -> Vec<String> {
        let word =
            |i: u32| format!("w{}", (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) % 5000);
        (0..n).map(word).collect()
    }

    fn changed(words: &[String], every: usize) -> String {
        let change = |(i, w): (usize, &String)| if i % every == 7 { "other".to_owned() } else { w.clone() };
        words.iter().enumerate().map(change).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn few_changes_are_found_and_many_are_not() {
        let original = words(2000, 1);
        let sketch = Sketch::of(&original.join(" "));
        assert_eq!(sketch.similarity(&Sketch::of(&original.join("\n").to_uppercase())), 10_000);
        let mut keeper = Keeper::new(8000);
        assert_eq!(keeper.offer([1; 32], &sketch), None);
        let near = keeper.offer([2; 32], &Sketch::of(&changed(&original, 100))).unwrap();
        assert!(near.0 == [1; 32] && (8000..9900).contains(&near.1), "{near:?}");
        assert_eq!(keeper.offer([3; 32], &Sketch::of(&changed(&original, 10))), None);
        assert_eq!(keeper.offer([4; 32], &Sketch::of(&words(2000, 9).join(" "))), None);
        assert_eq!(keeper.offer([5; 32], &sketch), Some(([1; 32], 10_000)));
    }

    #[test]
    fn thousands_of_copies_cost_as_much_as_one() {
        let original = words(300, 1);
        let mut keeper = Keeper::new(8000);
        for i in 0..3000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&i.to_be_bytes());
            keeper.offer(id, &Sketch::of(&format!("{} {i}", original.join(" "))));
        }
        assert_eq!(keeper.kept.len(), 1);
    }

    #[test]
    fn short_texts_are_like_themselves() {
        for (a, b) in [("amen", "hosanna"), ("one two three four", "one two three five"), ("!!!", "???")] {
            assert_eq!(Sketch::of(a).similarity(&Sketch::of(a)), 10_000);
            assert!(Sketch::of(a).similarity(&Sketch::of(b)) < 8000, "{a} {b}");
        }
    }

    #[test]
    fn a_stored_sketch_reads_back_and_is_these_bytes() {
        let sketch =
            Sketch::of("In the beginning was the Word, and the Word was with God, and the Word was God.");
        assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Some(sketch));
        assert_eq!(Sketch::from_bytes(&[0; 9]), None);
        // Sketches are stored: a library that makes others needs a new catalogue.
        assert_eq!(TextId::of(&sketch.to_bytes()).to_string(), GOLDEN);
    }

    const GOLDEN: &str = "2b2566078b8f260603ff0fe0361939ee64529dd296c99645af57281c6d745c66";
}
