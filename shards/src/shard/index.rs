//! The index of a shard set: from tokens to deposits and back.
//!
//! ```text
//! "WSSI", version (1 byte), zeros (3), number of entries (u64)             16 bytes, little-endian
//! for each deposit, by split, register and id:
//!   id (32), first token (u64), tokens (u64), register, split (1 each), zeros (6)
//! ```
//!
//! The tokens of the entries of a stream follow one another without gap from 0, so every token has exactly one deposit.

use bytemuck::{Pod, Zeroable};
use thiserror::Error;
use watershed_protocol::ManifestId;
use watershed_protocol::data::{Register, Split};

const MAGIC: [u8; 4] = *b"WSSI";
const VERSION: u8 = 1;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u8,
    zeros: [u8; 3],
    entries: [u8; 8],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    manifest: [u8; 32],
    first: [u8; 8],
    tokens: [u8; 8],
    register: u8,
    split: u8,
    zeros: [u8; 6],
}

/// The tokens of one deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The deposit.
    pub manifest: ManifestId,
    /// Stream: register.
    pub register: Register,
    /// Stream: split.
    pub split: Split,
    /// Number of its first token within the stream.
    pub first: u64,
    /// How many.
    pub tokens: u64,
}

impl IndexEntry {
    /// Number of the token behind its last.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.tokens)
    }

    fn stream(&self) -> (Split, Register) {
        (self.split, self.register)
    }
}

impl Raw {
    fn read(&self) -> Option<IndexEntry> {
        let first = u64::from_le_bytes(self.first);
        let tokens = u64::from_le_bytes(self.tokens);
        first.checked_add(tokens).filter(|_| self.zeros == [0; 6])?;
        Some(IndexEntry {
            manifest: ManifestId::from_bytes(self.manifest),
            register: Register::from_number(self.register)?,
            split: Split::from_number(self.split)?,
            first,
            tokens,
        })
    }
}

/// Why bytes are no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IndexError {
    /// Not our file.
    #[error("this is no index of version {VERSION}")]
    Format,
    /// The number of entries and the length do not fit.
    #[error("an index of {entries} entries does not have {bytes} bytes")]
    Length {
        /// Entries it claims.
        entries: u64,
        /// Bytes it has.
        bytes: usize,
    },
    /// An entry that cannot be, is out of order, or leaves a gap.
    #[error("entry {0} is malformed, out of order, or does not begin where the one before ends")]
    Entry(usize),
}

/// An index in memory or in a memory map. Allocates nothing.
#[derive(Clone, Copy)]
pub struct Index<'a> {
    raw: &'a [Raw],
}

impl std::fmt::Debug for Index<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} deposits)", self.len())
    }
}

impl<'a> Index<'a> {
    /// Checks every entry.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, IndexError> {
        let index = Self::outline(bytes)?;
        let mut last: Option<IndexEntry> = None;
        for (i, raw) in index.raw.iter().enumerate() {
            let entry = raw.read().ok_or(IndexError::Entry(i))?;
            let fits = match last {
                Some(last) if last.stream() == entry.stream() => {
                    last.manifest < entry.manifest && last.end() == entry.first
                }
                Some(last) => last.stream() < entry.stream() && entry.first == 0,
                None => entry.first == 0,
            };
            if !fits {
                return Err(IndexError::Entry(i));
            }
            last = Some(entry);
        }
        Ok(index)
    }

    /// Checks header and length only: for bytes that [`Index::parse`] has accepted before.
    pub(crate) fn outline(bytes: &'a [u8]) -> Result<Self, IndexError> {
        let (header, body) = bytes.split_at_checked(size_of::<Header>()).ok_or(IndexError::Format)?;
        let header: Header = bytemuck::pod_read_unaligned(header);
        if header.magic != MAGIC || header.version != VERSION || header.zeros != [0; 3] {
            return Err(IndexError::Format);
        }
        let entries = u64::from_le_bytes(header.entries);
        if Some(body.len() as u64) != entries.checked_mul(size_of::<Raw>() as u64) {
            return Err(IndexError::Length { entries, bytes: bytes.len() });
        }
        Ok(Self { raw: bytemuck::cast_slice(body) })
    }

    /// The file of these entries, which must be in order.
    pub(crate) fn encode(entries: &[IndexEntry]) -> Vec<u8> {
        let count = (entries.len() as u64).to_le_bytes();
        let header = Header { magic: MAGIC, version: VERSION, zeros: [0; 3], entries: count };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        for entry in entries {
            bytes.extend_from_slice(bytemuck::bytes_of(&Raw {
                manifest: entry.manifest.to_bytes(),
                first: entry.first.to_le_bytes(),
                tokens: entry.tokens.to_le_bytes(),
                register: entry.register.number(),
                split: entry.split.number(),
                zeros: [0; 6],
            }));
        }
        bytes
    }

    /// Number of deposits.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// All entries, by split, register and id.
    pub fn entries(&self) -> impl Iterator<Item = IndexEntry> + 'a {
        self.raw.iter().filter_map(Raw::read)
    }

    /// Number of tokens of a stream.
    pub fn tokens(&self, register: Register, split: Split) -> u64 {
        let behind = self.raw.partition_point(|r| r.read().is_some_and(|e| e.stream() <= (split, register)));
        let last = behind.checked_sub(1).and_then(|i| self.raw.get(i)).and_then(Raw::read);
        last.filter(|e| e.stream() == (split, register)).map_or(0, |e| e.end())
    }

    /// The deposits that `count` tokens from `first` on come from, with how many of them each gave.
    pub fn overlapping(
        &self,
        register: Register,
        split: Split,
        first: u64,
        count: u64,
    ) -> impl Iterator<Item = (IndexEntry, u64)> + 'a {
        let end = first.saturating_add(count);
        let before = |e: IndexEntry| {
            e.stream() < (split, register) || (e.stream() == (split, register) && e.end() <= first)
        };
        let at = self.raw.partition_point(|r| r.read().is_some_and(before));
        let rest = self.raw.get(at..).unwrap_or(&[]).iter().filter_map(Raw::read);
        rest.take_while(move |e| e.stream() == (split, register) && e.first < end)
            .map(move |e| (e, e.end().min(end) - e.first.max(first)))
            .filter(|(_, tokens)| *tokens > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Entries of two streams with these token counts.
    fn entries(counts: &[u64]) -> Vec<IndexEntry> {
        let mut ids: Vec<ManifestId> =
            (0..counts.len() as u64).map(|i| ManifestId::of(&i.to_le_bytes())).collect();
        ids.sort();
        let mut all = Vec::new();
        for register in [Register::Technical, Register::Lyric] {
            let mut first = 0;
            for (id, tokens) in ids.iter().zip(counts) {
                all.push(IndexEntry { manifest: *id, register, split: Split::Train, first, tokens: *tokens });
                first += tokens;
            }
        }
        all
    }

    proptest! {
        #[test]
        fn every_token_has_one_deposit_and_every_deposit_its_tokens(
            counts in prop::collection::vec(0u64..20, 0..30), first in 0u64..300, count in 0u64..100
        ) {
            let all = entries(&counts);
            let bytes = Index::encode(&all);
            let index = Index::parse(&bytes).unwrap();
            prop_assert_eq!(index.entries().collect::<Vec<_>>(), all);
            let total: u64 = counts.iter().sum();
            prop_assert_eq!(index.tokens(Register::Technical, Split::Train), total);
            prop_assert_eq!(index.tokens(Register::Lyric, Split::HeldOut), 0);
            for token in 0..total {
                let owners: Vec<_> = index.overlapping(Register::Lyric, Split::Train, token, 1).collect();
                prop_assert_eq!(owners.len(), 1);
                let (entry, n) = owners[0];
                prop_assert!(n == 1 && entry.first <= token && token < entry.end());
            }
            let sum: u64 = index.overlapping(Register::Technical, Split::Train, first, count).map(|(_, n)| n).sum();
            prop_assert_eq!(sum, (first + count).min(total).saturating_sub(first.min(total)));
        }

        #[test]
        fn arbitrary_bytes_are_an_index_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Index::parse(&bytes);
            let header = Index::encode(&[]);
            let length = bytes.len().min(16);
            bytes[..length].copy_from_slice(&header[..length]);
            if let Ok(index) = Index::parse(&bytes) {
                prop_assert!(index.is_empty());
            }
        }
    }

    #[test]
    fn a_gap_an_overlap_and_a_wrong_order_are_named() {
        let good = entries(&[3, 4]);
        let refused = |change: fn(&mut Vec<IndexEntry>)| {
            let mut bad = good.clone();
            change(&mut bad);
            Index::parse(&Index::encode(&bad)).err()
        };
        assert_eq!(refused(|_| ()), None);
        assert_eq!(refused(|e| e[1].first = 4), Some(IndexError::Entry(1)));
        assert_eq!(refused(|e| e[1].first = 2), Some(IndexError::Entry(1)));
        assert_eq!(refused(|e| e[0].first = 1), Some(IndexError::Entry(0)));
        assert_eq!(refused(|e| e.swap(0, 2)), Some(IndexError::Entry(1)));
        assert_eq!(refused(|e| e[1].manifest = e[0].manifest), Some(IndexError::Entry(1)));
        assert_eq!(refused(|e| e[3].tokens = u64::MAX), Some(IndexError::Entry(3)));
    }
}
