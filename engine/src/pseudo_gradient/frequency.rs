//! How the positions of a node are shared between its halves, as frequencies for the entropy coder.
//!
//! Of `count` positions among `size`, every set equally likely, the number in the left half is hypergeometric. Its
//! weights follow from the ratio of neighbours, starting at the mode, in IEEE f64 in a written order; so the frequencies,
//! which are part of the format, are the same on every machine.

use std::sync::{Arc, Mutex, OnceLock};

use super::CHUNK;
use super::rans::BITS;

/// The distribution of the left count of one node.
#[derive(Debug)]
pub(super) struct Split {
    /// Smallest possible left count.
    pub(super) least: u32,
    /// Index of the most likely left count, counted from `least`.
    pub(super) mode: u32,
    /// `starts[i] .. starts[i + 1]` belongs to `least + i`.
    pub(super) starts: Vec<u32>,
}

/// Tables by density.
type Cache = Vec<(usize, Arc<Tables>)>;

/// Distributions for all nodes of a chunk with up to `k` positions.
#[derive(Debug)]
pub(super) struct Tables {
    /// By the logarithm of the size, then by count.
    splits: Vec<Vec<Split>>,
}

impl Tables {
    /// The distribution for `count` of `2^log`; `2 <= count < 2^log`.
    #[inline(always)]
    pub(super) fn split(&self, log: u32, count: u32) -> Option<&Split> {
        self.splits.get(log as usize)?.get(count as usize)
    }

    fn build(k: usize) -> Self {
        let top = CHUNK.trailing_zeros();
        let splits = (0..=top)
            .map(|log| {
                // Only a node that is neither empty nor full nor a single position is coded by a split.
                let size = if log == 0 { return Vec::new() } else { 1usize << log };
                (0..=k.min(size)).map(|count| split(size as u32, count as u32)).collect()
            })
            .collect();
        Self { splits }
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

fn split(size: u32, count: u32) -> Split {
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
    Split { least, mode: mode - least, starts }
}
