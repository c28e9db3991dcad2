//! Pseudo-gradients: error feedback, top-k, 2-bit values and an index code near the entropy bound (SparseLoCo, arXiv
//! 2508.15706). This module never decides what a pseudo-gradient is worth; it turns one into bytes and back.
//!
//! # Definition
//!
//! The parameters are cut into chunks of [`CHUNK`]. For each chunk, with the worker's error feedback `f`, the
//! pseudo-gradient `d` (checkpoint minus final parameters) and `flush` of [`crate::scalar`]:
//!
//! ```text
//! e  = flush(flush(beta * f) + d)
//! S  = the k elements of largest |e|; of equal magnitudes the lower index wins
//! c  = on S: sign(e) * level, elsewhere 0                                     (see `value`)
//! f' = flush(e - c)
//! ```
//!
//! `c` is what everybody else receives, `f'` what the worker keeps. A last chunk of `n` elements keeps `ceil(k n / 4096)`.
//!
//! # File
//!
//! ```text
//! "WSPG", version (1 byte), k (u16), parameters (u64)                         little-endian
//! for each segment of 256 chunks: length in bytes (u32), rANS stream          (see `rans`)
//! ```
//!
//! A chunk is its scale (8 bits), the positions of S (module `index`) and 2 bits for each of them. At k = 64 that is 607.3 bits
//! where log2 C(4096,64) + 128 = 599.3 is the least possible; the file is 215 times smaller than f32.
//!
//! There is exactly one file for one content: a decoder accepts nothing else, so a submission has one hash.

mod chunk;
mod decode;
mod encode;
mod error;
mod frequency;
mod index;
mod rans;
#[cfg(test)]
mod tests;
mod top_k;
mod value;

pub use chunk::{ChunkCode, compress_chunk};
pub use decode::{Decoder, Expected, decode_dense};
pub use encode::compress;
pub use error::{DecodeError, EncodeError};

/// Elements of a chunk.
pub const CHUNK: usize = 4096;

/// Chunks of a segment. Segments are independent, so they are coded in parallel and decoded as a stream.
pub const SEGMENT_CHUNKS: usize = 256;

/// Elements of a segment.
pub const SEGMENT: usize = CHUNK * SEGMENT_CHUNKS;

/// First bytes of a file.
const MAGIC: [u8; 4] = *b"WSPG";
/// Version of the format.
const VERSION: u8 = 1;
/// Bytes before the first segment.
const HEADER: usize = 15;

/// How many elements of a chunk of `len` are kept.
fn kept(len: usize, k: usize) -> usize {
    (k * len).div_ceil(CHUNK).min(len)
}
