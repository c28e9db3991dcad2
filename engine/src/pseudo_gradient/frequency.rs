//! How the positions of a node are shared between its halves, as frequencies for the entropy coder.
//!
//! Of `count` positions among `size`, every set equally likely, the number in the left half is hypergeometric. Its
//! weights follow from the ratio of neighbours, starting at the mode, in IEEE f64 in a written order; so the frequencies,
//! which are part of the format, are the same on every machine.

use std::sync::{Arc, Mutex, OnceLock};

use super::CHUNK;
use super::rans::BITS;

/// Tables by density.
type Cache = Vec<(usize, Arc<Tables>)>;

/// Where the distribution of one node's left count stands in [`Tables::starts`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Split {
    /// Index of the first start.
    offset: u32,
    /// Smallest possible left count.
    least: u16,
    /// Possible left counts; a certain count has one, and is not coded.
    symbols: u16,
}

/// Distributions for all nodes of a chunk with up to `k` positions.
///
/// Everything a symbol needs lies in two flat arrays, and a third guesses it: decoding is a chain of dependent loads, so
/// each one saved counts.
#[derive(Debug)]
pub(super) struct Tables {
    /// Counts per level.
    row: usize,
    splits: Vec<Split>,
    /// Of each node the starts of its symbols and `2^16`.
    starts: Vec<u32>,
    /// Of each node the symbol at the beginning of each [`GUESSES`]th part.
    guesses: Vec<u16>,
}

/// Parts of the range for which the symbol is known in advance.
const GUESSES: usize = 64;

impl Tables {
    /// The distribution for `count` of `2^log`; `2 <= count < 2^log`, `count` at most the density.
    #[inline(always)]
    fn split(&self, log: u32, count: u32) -> (usize, Split) {
        let node = log as usize * self.row + count as usize;
        (node, self.splits.get(node).copied().unwrap_or_default())
    }

    /// `(start, frequency)` of a left count; none if it is certain.
    pub(super) fn symbol(&self, log: u32, count: u32, left: u32) -> Option<(u32, u32)> {
        let (_, split) = self.split(log, count);
        let at = split.offset as usize + (left as usize).checked_sub(usize::from(split.least))?;
        let (start, end) = (self.starts.get(at)?, self.starts.get(at + 1)?);
        (split.symbols > 1).then_some((*start, end - start))
    }

    /// `(left count, start, frequency)` of the symbol at `slot`; frequency 0 if the count is certain.
    #[inline(always)]
    pub(super) fn find(&self, log: u32, count: u32, slot: u32) -> (u32, u32, u32) {
        let (node, split) = self.split(log, count);
        let least = u32::from(split.least);
        if split.symbols < 2 {
            return (least, 0, 0);
        }
        let starts = &self.starts[split.offset as usize..][..usize::from(split.symbols) + 1];
        let mut i = usize::from(self.guesses[node * GUESSES + (slot >> (BITS - 6)) as usize]);
        while starts[i + 1] <= slot {
            i += 1;
        }
        (least + i as u32, starts[i], starts[i + 1] - starts[i])
    }

    fn build(k: usize) -> Self {
        let levels = CHUNK.trailing_zeros() as usize + 1;
        let row = k + 1;
        let mut tables = Self {
            row,
            splits: vec![Split::default(); levels * row],
            starts: Vec::new(),
            guesses: vec![0; levels * row * GUESSES],
        };
        // Only a node that is neither empty nor full nor a single position is coded by a split.
        for log in 1..levels {
            for count in 2..=k.min((1 << log) - 1) {
                let (least, starts) = starts(1 << log, count as u32);
                let node = log * row + count;
                for (part, guess) in tables.guesses[node * GUESSES..][..GUESSES].iter_mut().enumerate() {
                    let slot = (part << (BITS - 6)) as u32;
                    *guess = starts.partition_point(|s| *s <= slot) as u16 - 1;
                }
                tables.splits[node] = Split {
                    offset: tables.starts.len() as u32,
                    least: least as u16,
                    symbols: starts.len() as u16 - 1,
                };
                tables.starts.extend(starts);
            }
        }
        tables
    }

    /// The tables for density `k`, built once.
    pub(super) fn get(k: usize) -> Arc<Self> {
        static CACHE: OnceLock<Mutex<Cache>> = OnceLock::new();
        /// Densities kept; a process meets one or two.
        const KEPT: usize = 4;
        let cache = CACHE.get_or_init(Mutex::default);
        let find =
            |entries: &[(usize, Arc<Self>)]| entries.iter().find(|(n, _)| *n == k).map(|(_, t)| t.clone());
        if let Some(found) = cache.lock().ok().and_then(|entries| find(&entries)) {
            return found;
        }
        let built = Arc::new(Self::build(k));
        if let Ok(mut entries) = cache.lock() {
            if entries.len() >= KEPT {
                entries.remove(0);
            }
            entries.push((k, built.clone()));
        }
        built
    }
}

/// Smallest left count, and the starts of all left counts with `2^16` behind the last.
fn starts(size: u32, count: u32) -> (u32, Vec<u32>) {
    let half = size / 2;
    let least = count.saturating_sub(half);
    let most = count.min(half);
    let symbols = (most - least + 1) as usize;
    // The mode of a symmetric hypergeometric distribution.
    let mode = (count / 2).clamp(least, most);
    let mut weights = vec![0f64; symbols];
    weights[(mode - least) as usize] = 1.0;
    // P(l+1)/P(l) = (half - l)(count - l) / ((l + 1)(half - count + l + 1))
    let up = |l: u32| {
        let numerator = f64::from(half - l) * f64::from(count - l);
        numerator / (f64::from(l + 1) * (f64::from(half) - f64::from(count) + f64::from(l + 1)))
    };
    for l in mode..most {
        weights[(l + 1 - least) as usize] = weights[(l - least) as usize] * up(l);
    }
    for l in (least..mode).rev() {
        weights[(l - least) as usize] = weights[(l + 1 - least) as usize] / up(l);
    }
    let total = weights.iter().fold(0f64, |sum, w| sum + w);
    // Every symbol gets one, the rest is shared by weight, what rounding leaves goes to the mode.
    let whole = 1u32 << BITS;
    let spare = f64::from(whole - symbols as u32);
    let mut frequencies: Vec<u32> = weights.iter().map(|w| 1 + (w / total * spare) as u32).collect();
    let used: u32 = frequencies.iter().sum();
    frequencies[(mode - least) as usize] += whole - used;
    let mut starts = Vec::with_capacity(symbols + 1);
    let mut start = 0;
    starts.push(0);
    for f in frequencies {
        start += f;
        starts.push(start);
    }
    (least, starts)
}
