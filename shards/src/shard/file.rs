//! One shard.
//!
//! ```text
//! "WSSH", version, bytes per token (2 or 4), register, split (1 each)
//! vocabulary (u32), zeros (20), tokenizer id (32)                          64 bytes, little-endian
//! tokens                                                                   to the end of the file
//! ```

use bytemuck::{Pod, Zeroable};
use thiserror::Error;
use watershed_protocol::TokenizerId;
use watershed_protocol::data::{Register, Split};

const MAGIC: [u8; 4] = *b"WSSH";
const VERSION: u8 = 1;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],
    version: u8,
    width: u8,
    register: u8,
    split: u8,
    vocabulary: [u8; 4],
    zeros: [u8; 20],
    tokenizer: [u8; 32],
}

/// What all tokens of a shard share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardHeader {
    /// Bytes per token, 2 or 4.
    pub width: u8,
    /// Register of the texts.
    pub register: Register,
    /// Trained on or measured with.
    pub split: Split,
    /// Tokens are below this.
    pub vocabulary: u32,
    /// What made the tokens.
    pub tokenizer: TokenizerId,
}

/// Why bytes are no shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ShardError {
    /// Not our file.
    #[error("this is no shard of version {VERSION}")]
    Format,
    /// A part of a token at the end.
    #[error("{bytes} bytes of tokens are no whole number of {width}-byte tokens")]
    Length {
        /// Bytes behind the header.
        bytes: usize,
        /// Bytes per token.
        width: u8,
    },
    /// A token that the tokenizer does not have.
    #[error("token {position} is {token}, the vocabulary ends at {vocabulary}")]
    Token {
        /// Which token.
        position: usize,
        /// The token.
        token: u32,
        /// Tokens must be below this.
        vocabulary: u32,
    },
}

/// Bytes per token of a vocabulary.
pub(crate) fn width(vocabulary: u32) -> u8 {
    if vocabulary <= 1 << 16 { 2 } else { 4 }
}

impl ShardHeader {
    /// Bytes of a header.
    pub const BYTES: usize = size_of::<Raw>();

    /// As it stands in the file.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        bytemuck::cast(Raw {
            magic: MAGIC,
            version: VERSION,
            width: self.width,
            register: self.register.number(),
            split: self.split.number(),
            vocabulary: self.vocabulary.to_le_bytes(),
            zeros: [0; 20],
            tokenizer: self.tokenizer.to_bytes(),
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let raw: Raw = bytemuck::try_pod_read_unaligned(bytes).ok()?;
        let header = Self {
            width: raw.width,
            register: Register::from_number(raw.register)?,
            split: Split::from_number(raw.split)?,
            vocabulary: u32::from_le_bytes(raw.vocabulary),
            tokenizer: TokenizerId::from_bytes(raw.tokenizer),
        };
        let good = raw.magic == MAGIC
            && raw.version == VERSION
            && raw.zeros == [0; 20]
            && raw.width == width(header.vocabulary);
        good.then_some(header)
    }
}

/// A shard in memory or in a memory map. Allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct ShardFile<'a> {
    header: ShardHeader,
    tokens: &'a [u8],
}

impl<'a> ShardFile<'a> {
    /// Checks the header and the length; the tokens are not looked at.
    ///
    /// # Errors
    /// [`ShardError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ShardError> {
        let (header, tokens) = bytes.split_at_checked(ShardHeader::BYTES).ok_or(ShardError::Format)?;
        let header = ShardHeader::parse(header).ok_or(ShardError::Format)?;
        if !tokens.len().is_multiple_of(usize::from(header.width)) {
            return Err(ShardError::Length { bytes: tokens.len(), width: header.width });
        }
        Ok(Self { header, tokens })
    }

    /// The header.
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len() / usize::from(self.header.width)
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Appends the tokens `start .. start + count`, as far as there are any.
    pub fn read(&self, start: usize, count: usize, out: &mut Vec<u32>) {
        let width = usize::from(self.header.width);
        let end = start.saturating_add(count).min(self.len());
        let Some(bytes) = self.tokens.get(start.min(end) * width..end * width) else { return };
        if width == 2 {
            let (pairs, _) = bytes.as_chunks::<2>();
            out.extend(pairs.iter().map(|b| u32::from(u16::from_le_bytes(*b))));
        } else {
            let (words, _) = bytes.as_chunks::<4>();
            out.extend(words.iter().map(|b| u32::from_le_bytes(*b)));
        }
    }

    /// Checks that every token is in the vocabulary.
    ///
    /// # Errors
    /// [`ShardError::Token`] for the first that is not.
    pub fn check_tokens(&self) -> Result<(), ShardError> {
        let mut block = Vec::new();
        for start in (0..self.len()).step_by(1 << 16) {
            block.clear();
            self.read(start, 1 << 16, &mut block);
            if let Some((i, token)) = block.iter().enumerate().find(|(_, t)| **t >= self.header.vocabulary) {
                return Err(ShardError::Token {
                    position: start + i,
                    token: *token,
                    vocabulary: self.header.vocabulary,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard(vocabulary: u32, tokens: &[u32]) -> Vec<u8> {
        let header = ShardHeader {
            width: width(vocabulary),
            register: Register::Oral,
            split: Split::HeldOut,
            vocabulary,
            tokenizer: TokenizerId::of(b"t"),
        };
        let mut bytes = header.to_bytes().to_vec();
        for token in tokens {
            bytes.extend_from_slice(&token.to_le_bytes()[..usize::from(header.width)]);
        }
        bytes
    }

    #[test]
    fn tokens_read_back_in_both_widths() {
        for (vocabulary, tokens) in [(65_536, [0, 9, 65_535]), (65_537, [1, 65_535, 65_536])] {
            let bytes = shard(vocabulary, &tokens);
            let file = ShardFile::parse(&bytes).unwrap();
            assert_eq!((file.len(), file.check_tokens()), (3, Ok(())));
            for (start, count) in [(0, 3), (1, 1), (2, 9), (3, 1), (usize::MAX, usize::MAX)] {
                let mut out = Vec::new();
                file.read(start, count, &mut out);
                let end = start.saturating_add(count).min(3);
                assert_eq!(out, tokens[start.min(end)..end]);
            }
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        let good = shard(100, &[5, 6]);
        assert_eq!(ShardFile::parse(&good[..63]).err(), Some(ShardError::Format));
        assert_eq!(ShardFile::parse(&good[..67]).err(), Some(ShardError::Length { bytes: 3, width: 2 }));
        // Every byte of the header but those of the vocabulary (any below 2^16 is one), register, split and tokenizer.
        for at in [0, 3, 4, 5, 14, 31] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(ShardFile::parse(&bad).err(), Some(ShardError::Format), "byte {at}");
        }
        let outside = shard(100, &[5, 100]);
        let refused = ShardFile::parse(&outside).unwrap().check_tokens();
        assert_eq!(refused, Err(ShardError::Token { position: 1, token: 100, vocabulary: 100 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_shard_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200), start: usize) {
            let _ = ShardFile::parse(&bytes);
            if bytes.len() >= 64 {
                bytes[..64].copy_from_slice(&shard(300, &[]));
                if let Ok(file) = ShardFile::parse(&bytes) {
                    let mut out = Vec::new();
                    file.read(start, 10, &mut out);
                    let _ = file.check_tokens();
                }
            }
        }
    }
}
