//! The carried form of AdamW's moments: a defined 8-bit block format, two bytes per parameter, that a miner commits to
//! at the end of a round and continues from in the next. This module never decides whether moments are carried, and it
//! never hashes them.
//!
//! ```text
//! encoded = "WSMOMv1\0" || number of parameters, u64 little-endian || blocks
//! block   = first scale, u8 || second scale, u16 little-endian || first codes, 1 byte each || second codes, likewise
//! ```
//!
//! A block holds [`BLOCK_ELEMENTS`] consecutive parameters, the last one what remains. What the codes mean is said in
//! `first.rs` and `second.rs`. Encoding uses only integer operations and single IEEE operations that are exact or
//! rounded to nearest even, so it gives the same bytes everywhere. The format is canonical: exactly one string of
//! bytes stands for each pair of decoded moments, the decoder refuses every other, and `encode(decode(bytes)) ==
//! bytes`.
//!
//! A miner must go on from the decoded values, not from those it encoded: they are what it is held to.
//!
//! Why these codes: on the moments of a small byte-level language model (AdamW, 0.9 and 0.95, 139,264 parameters, 450
//! steps) the root mean square error of the update `m / sqrt(v)` was, relative to the update, 0.82 for linear 8-bit
//! codes of m, 0.72 for 3 exponent and 4 mantissa bits, 0.078 for a logarithmic code and **0.032 for 4 exponent and 3
//! mantissa bits**, the one used: the first two turn a third of all values into zero, just where v is small too. For
//! v, quarter octaves gave **0.025**. One block's v spanned 50 octaves, hence a range of 63.

mod first;
mod second;

use rayon::prelude::*;

/// Parameters that share a pair of scales. It divides the 4096 of a digest's chunk.
pub const BLOCK_ELEMENTS: usize = 256;

const MAGIC: [u8; 8] = *b"WSMOMv1\0";
const HEADER_BYTES: usize = 16;
const SCALE_BYTES: usize = 3;
const BLOCK_BYTES: usize = SCALE_BYTES + 2 * BLOCK_ELEMENTS;

/// Blocks that one task works on: 512 KiB of moments, enough that scheduling costs nothing beside it.
const BLOCKS_PER_TASK: usize = 256;

/// Which of the two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The mean of the gradient.
    First,
    /// The mean of its square.
    Second,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Moment::First => "first",
            Moment::Second => "second",
        })
    }
}

/// AdamW's moments, one of each per parameter, in the order of the parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Means of the gradient.
    pub first: Vec<f32>,
    /// Means of its square, never negative.
    pub second: Vec<f32>,
}

/// Why moments cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The moments belong to different models.
    #[error("there are {first} first and {second} second moments; each parameter has one of each")]
    LengthMismatch {
        /// Number of first moments.
        first: usize,
        /// Number of second moments.
        second: usize,
    },
    /// A moment that no AdamW step over finite gradients produces.
    #[error(
        "the {moment} moment of parameter {index} is infinite, NaN or a negative mean square; the step diverged"
    )]
    Impossible {
        /// Which moment.
        moment: Moment,
        /// Lowest parameter of which this holds; first moments are looked at before second ones of the same block.
        index: usize,
    },
}

/// Why bytes are not encoded moments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not this format, or another version of it.
    #[error("the moments do not start with the marker of format WSMOMv1")]
    BadHeader,
    /// Moments of another model.
    #[error("the moments are those of {got} parameters, the model has {expected}")]
    ElementCount {
        /// Parameters that the caller has.
        expected: u64,
        /// Parameters that the header declares.
        got: u64,
    },
    /// Cut off or with something behind.
    #[error("moments of this model take {expected} bytes, there are {got}")]
    Length {
        /// Bytes that the format takes.
        expected: usize,
        /// Bytes there are.
        got: usize,
    },
    /// A block that no encoder writes.
    #[error("block {block}, {moment} moments: {defect}")]
    Block {
        /// Position of the block.
        block: usize,
        /// Which of its moments.
        moment: Moment,
        /// What is wrong.
        defect: Defect,
    },
}

/// What is wrong with a block's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// A scale that would give subnormal or infinite values.
    #[error("scale {0} is outside the format's range")]
    Scale(u16),
    /// The scale of an empty block goes with zeros only.
    #[error("the scale is that of zeros, the codes are not all zero")]
    NotZero,
    /// The scale is larger than the codes need.
    #[error("no code reaches the scale, which an encoder takes from the largest value")]
    Loose,
    /// A negative zero, or a value below the smallest normal number.
    #[error("there is a code that no encoder writes at this scale")]
    Code,
}

/// Number of bytes that the moments of `elements` parameters take, or `None` if a `usize` cannot say.
pub fn encoded_len(elements: usize) -> Option<usize> {
    let scales = elements.div_ceil(BLOCK_ELEMENTS).checked_mul(SCALE_BYTES)?;
    elements.checked_mul(2)?.checked_add(scales)?.checked_add(HEADER_BYTES)
}

/// Encodes the moments of a model. Lossy: a first moment keeps 3 bits behind its leading one, down to 2^-14 of the
/// largest of its block, and a step of 2^-17 of that below; a second moment stays within 9.1 %, down to 2^-63 of the
/// largest, and smaller ones are raised to that. Zero stays zero.
///
/// # Errors
/// [`EncodeError::LengthMismatch`], and [`EncodeError::Impossible`] for what is not finite or is a negative mean
/// square. Subnormal moments count as zero.
pub fn encode(first: &[f32], second: &[f32]) -> Result<Vec<u8>, EncodeError> {
    let mismatch = EncodeError::LengthMismatch { first: first.len(), second: second.len() };
    if first.len() != second.len() {
        return Err(mismatch);
    }
    let mut bytes = vec![0; encoded_len(first.len()).ok_or(mismatch)?];
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&(first.len() as u64).to_le_bytes());
    let task = BLOCKS_PER_TASK * BLOCK_ELEMENTS;
    // the failure of the lowest block, whichever task finishes first
    let failure = body
        .par_chunks_mut(BLOCKS_PER_TASK * BLOCK_BYTES)
        .zip(first.par_chunks(task).zip(second.par_chunks(task)))
        .enumerate()
        .find_map_first(|(i, (body, (first, second)))| encode_task(i * task, body, first, second).err());
    failure.map_or(Ok(bytes), Err)
}

fn encode_task(offset: usize, body: &mut [u8], first: &[f32], second: &[f32]) -> Result<(), EncodeError> {
    let blocks = first.chunks(BLOCK_ELEMENTS).zip(second.chunks(BLOCK_ELEMENTS));
    for (i, (bytes, (first, second))) in body.chunks_mut(BLOCK_BYTES).zip(blocks).enumerate() {
        let impossible = |moment, position: usize| {
            let index = offset + i * BLOCK_ELEMENTS + position;
            EncodeError::Impossible { moment, index }
        };
        let (scales, codes) = bytes.split_at_mut(SCALE_BYTES);
        let (first_codes, second_codes) = codes.split_at_mut(first.len());
        let first_scale = first::encode(first, first_codes).map_err(|at| impossible(Moment::First, at))?;
        let second_scale =
            second::encode(second, second_codes).map_err(|at| impossible(Moment::Second, at))?;
        scales[0] = first_scale;
        scales[1..].copy_from_slice(&second_scale.to_le_bytes());
    }
    Ok(())
}

/// Decodes the moments of a model with `elements` parameters.
///
/// Any bytes are fit to be tried: nothing is allocated before header and length are known to fit `elements`, which is
/// the caller's own.
///
/// # Errors
/// [`DecodeError`], of the lowest block that is wrong.
pub fn decode(bytes: &[u8], elements: usize) -> Result<Moments, DecodeError> {
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(DecodeError::BadHeader);
    };
    let Some((count, body)) = rest.split_first_chunk::<8>() else {
        return Err(DecodeError::BadHeader);
    };
    if *magic != MAGIC {
        return Err(DecodeError::BadHeader);
    }
    let count = u64::from_le_bytes(*count);
    if count != elements as u64 {
        return Err(DecodeError::ElementCount { expected: elements as u64, got: count });
    }
    let expected = encoded_len(elements).unwrap_or(usize::MAX);
    if bytes.len() != expected {
        return Err(DecodeError::Length { expected, got: bytes.len() });
    }
    let mut moments = Moments { first: vec![0.0; elements], second: vec![0.0; elements] };
    let task = BLOCKS_PER_TASK * BLOCK_ELEMENTS;
    let failure = body
        .par_chunks(BLOCKS_PER_TASK * BLOCK_BYTES)
        .zip(moments.first.par_chunks_mut(task).zip(moments.second.par_chunks_mut(task)))
        .enumerate()
        .find_map_first(|(i, (body, (first, second)))| {
            decode_task(i * BLOCKS_PER_TASK, body, first, second).err()
        });
    failure.map_or(Ok(moments), Err)
}

fn decode_task(block: usize, body: &[u8], first: &mut [f32], second: &mut [f32]) -> Result<(), DecodeError> {
    let blocks = first.chunks_mut(BLOCK_ELEMENTS).zip(second.chunks_mut(BLOCK_ELEMENTS));
    for (i, (bytes, (first, second))) in body.chunks(BLOCK_BYTES).zip(blocks).enumerate() {
        let wrong = |moment, defect| DecodeError::Block { block: block + i, moment, defect };
        // the length was checked, so every block has its scales and codes
        let (scales, codes) = bytes.split_at(SCALE_BYTES);
        let (first_codes, second_codes) = codes.split_at(first.len());
        let second_scale = u16::from_le_bytes([scales[1], scales[2]]);
        first::decode(scales[0], first_codes, first).map_err(|defect| wrong(Moment::First, defect))?;
        second::decode(second_scale, second_codes, second).map_err(|defect| wrong(Moment::Second, defect))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
