//! Entry bundles: up to 256 entries, each behind its length in two bytes.

use std::ops::Range;

use super::error::LogError;
use super::proof::leaf_hash;
use super::{MAX_ENTRY, WIDTH};

const LENGTH_BYTES: usize = 2;

/// The most bytes that a bundle of `width` entries may have.
pub(super) fn max_bytes(width: usize) -> usize {
    width.min(WIDTH) * (LENGTH_BYTES + MAX_ENTRY)
}

/// A bundle with the places of its entries.
#[derive(Clone, Default)]
pub(super) struct Bundle {
    bytes: Vec<u8>,
    entries: Vec<Range<usize>>,
}

impl Bundle {
    /// Parses the first `width` entries and returns how many bytes come after them.
    pub(super) fn parse(path: &str, mut bytes: Vec<u8>, width: usize) -> Result<(Bundle, usize), LogError> {
        let mut entries = Vec::with_capacity(width.min(WIDTH));
        let mut end = 0;
        while entries.len() < width {
            let cut = || LogError::BundleCut { path: path.to_owned(), entry: entries.len() };
            let rest = bytes.get(end..).ok_or_else(cut)?;
            let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(cut)?;
            let length = usize::from(u16::from_be_bytes(*length));
            if rest.len() < length {
                return Err(cut());
            }
            let start = end + LENGTH_BYTES;
            end = start + length;
            entries.push(start..end);
        }
        let rest = bytes.len() - end;
        bytes.truncate(end);
        Ok((Bundle { bytes, entries }, rest))
    }

    /// Adds an entry of `length` bytes, the type of which shows that the length fits its field.
    pub(super) fn push(&mut self, length: u16, entry: &[u8]) {
        self.bytes.extend(length.to_be_bytes());
        let start = self.bytes.len();
        self.bytes.extend(entry);
        self.entries.push(start..self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter_map(|place| self.bytes.get(place.clone()))
    }

    pub(super) fn entry(&self, at: usize) -> Option<&[u8]> {
        self.bytes.get(self.entries.get(at)?.clone())
    }

    /// The level 0 tile of these entries.
    pub(super) fn tile(&self) -> Vec<u8> {
        self.entries().flat_map(|entry| leaf_hash(entry).0).collect()
    }
}
