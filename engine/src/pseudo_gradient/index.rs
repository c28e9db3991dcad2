//! The set of kept positions of a chunk, by recursive halving.
//!
//! A node of `2^log` positions with a known count is coded by the count of its left half, then the left half, then the
//! right. Nothing is coded for an empty or a full node; a node with one position is its `log` bits. All sets are
//! equally likely under this code, so its length is log2 of their number, up to the rounding of frequencies.

use super::frequency::Tables;
use super::rans::{Decoder, Encoder};

/// What the encoder will write, in reading order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Symbol {
    /// `start`, `frequency`.
    Split(u32, u32),
    /// `value`, `bits`.
    Raw(u32, u32),
}

impl Symbol {
    #[inline(always)]
    pub(super) fn write(self, encoder: &mut Encoder) {
        match self {
            Self::Split(start, frequency) => encoder.symbol(start, frequency),
            Self::Raw(value, bits) => encoder.raw(value, bits),
        }
    }
}

/// Appends the symbols of the ascending `positions`, which lie in `base .. base + 2^log`.
pub(super) fn symbols(tables: &Tables, positions: &[u16], base: u32, log: u32, out: &mut Vec<Symbol>) {
    let count = positions.len() as u32;
    if count == 0 || count == 1 << log {
        return;
    }
    if let [position] = positions {
        out.push(Symbol::Raw(u32::from(*position) - base, log));
        return;
    }
    let middle = base + (1 << (log - 1));
    let left = positions.partition_point(|p| u32::from(*p) < middle);
    if let Some((start, frequency)) = tables.symbol(log, count, left as u32) {
        out.push(Symbol::Split(start, frequency));
    }
    let (low, high) = positions.split_at(left);
    symbols(tables, low, base, log - 1, out);
    symbols(tables, high, middle, log - 1, out);
}

/// Reads `count` ascending positions in `base .. base + 2^log`.
pub(super) fn read(
    tables: &Tables,
    decoder: &mut Decoder<'_>,
    count: u32,
    base: u32,
    log: u32,
    out: &mut Vec<u16>,
) {
    if count == 0 {
        return;
    }
    if count == 1 << log {
        out.extend((base..base + count).map(|p| p as u16));
        return;
    }
    if count == 1 {
        out.push((base + decoder.raw(log)) as u16);
        return;
    }
    let (left, start, frequency) = tables.find(log, count, decoder.slot());
    if frequency != 0 {
        decoder.take(start, frequency);
    }
    read(tables, decoder, left, base, log - 1, out);
    read(tables, decoder, count - left, base + (1 << (log - 1)), log - 1, out);
}
