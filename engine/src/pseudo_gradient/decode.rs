//! A file into values: a total function over arbitrary bytes.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::encode::PACKED;
use super::error::DecodeError;
use super::frequency::Tables;
use super::{CHUNK, HEADER, MAGIC, SEGMENT, VERSION, index, kept, rans, value};
use crate::outer::{PseudoGradientSource, SourceError};

/// The shape a pseudo-gradient must have. Nothing beyond it is ever allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Parameters of the model.
    pub params: usize,
    /// Density of the run.
    pub k: usize,
}

/// A pseudo-gradient file whose outline has been checked. Segments are decoded as they are asked for.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    expected: Expected,
    segments: Vec<&'a [u8]>,
    tables: Arc<Tables>,
}

impl<'a> Decoder<'a> {
    /// Checks header and lengths; reads no segment yet.
    ///
    /// # Errors
    /// [`DecodeError`] if the header is not that of the expected shape or the segments do not fill the file.
    pub fn new(bytes: &'a [u8], expected: Expected) -> Result<Self, DecodeError> {
        let Some((header, mut rest)) = bytes.split_at_checked(HEADER) else {
            return Err(DecodeError::Short(bytes.len()));
        };
        if header[..4] != MAGIC || header[4] != VERSION || !(1..=CHUNK).contains(&expected.k) {
            return Err(DecodeError::Format);
        }
        let k = usize::from(u16::from_le_bytes([header[5], header[6]]));
        let mut params = [0; 8];
        params.copy_from_slice(&header[7..]);
        let params = u64::from_le_bytes(params);
        if params != expected.params as u64 || k != expected.k {
            return Err(DecodeError::Shape {
                params,
                k,
                expected_params: expected.params,
                expected_k: expected.k,
            });
        }
        let count = expected.params.div_ceil(SEGMENT);
        // A segment takes at least its length and the coder's state: a short file cannot make this vector long.
        let mut segments = Vec::with_capacity(count.min(rest.len() / 12 + 1));
        for segment in 0..count {
            let misfit = DecodeError::Length { segment, segments: count };
            let Some((length, after)) = rest.split_first_chunk::<4>() else { return Err(misfit) };
            let Some((body, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                return Err(misfit);
            };
            segments.push(body);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(DecodeError::Length { segment: count, segments: count });
        }
        Ok(Self { expected, segments, tables: Tables::get(expected.k) })
    }

    /// Number of segments of at most [`SEGMENT`] elements.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Decodes one segment into `out`, which must have exactly its length.
    ///
    /// # Errors
    /// [`DecodeError`] if the segment is not the canonical code of anything; `out` is then undefined.
    pub fn segment(&self, segment: usize, out: &mut [f32]) -> Result<(), DecodeError> {
        let length = self.expected.params.saturating_sub(segment.saturating_mul(SEGMENT)).min(SEGMENT);
        let bytes = self.segments.get(segment).filter(|_| out.len() == length);
        let Some(bytes) = bytes else { return Err(DecodeError::Request { segment, buffer: out.len() }) };
        let broken = |chunk| DecodeError::NotCanonical { segment, chunk };
        let mut decoder = rans::Decoder::new(bytes).ok_or(broken(0))?;
        let ratio = value::ratio(self.expected.k);
        let mut positions = Vec::with_capacity(CHUNK);
        for (chunk, out) in out.chunks_mut(CHUNK).enumerate() {
            out.fill(0.0);
            let code = decoder.raw(8) as u8;
            let scale = value::scale(code);
            positions.clear();
            let count = kept(out.len(), self.expected.k) as u32;
            index::read(&self.tables, &mut decoder, count, 0, CHUNK.trailing_zeros(), &mut positions);
            // A chunk of zeros has one code only: the first positions, and no bits set.
            if code == 0 && !positions.iter().copied().eq(0..count as u16) {
                return Err(broken(chunk));
            }
            for group in positions.chunks(PACKED) {
                let mut packed = decoder.raw(2 * group.len() as u32);
                if code == 0 && packed != 0 {
                    return Err(broken(chunk));
                }
                for position in group {
                    let position = usize::from(*position);
                    let len = out.len();
                    let Some(slot) = out.get_mut(position) else {
                        return Err(DecodeError::Position { segment, chunk, position, len });
                    };
                    *slot = value::value((packed & 3) as u8, scale, ratio);
                    packed >>= 2;
                }
            }
            if decoder.exhausted() {
                return Err(broken(chunk));
            }
        }
        if decoder.finished() { Ok(()) } else { Err(broken(out.len().div_ceil(CHUNK))) }
    }
}

/// Decodes a whole file.
///
/// # Errors
/// As [`Decoder::new`] and [`Decoder::segment`].
pub fn decode_dense(bytes: &[u8], expected: Expected) -> Result<Vec<f32>, DecodeError> {
    let decoder = Decoder::new(bytes, expected)?;
    let mut values = vec![0f32; expected.params];
    values.par_chunks_mut(SEGMENT).enumerate().try_for_each(|(i, out)| decoder.segment(i, out))?;
    Ok(values)
}

/// The outer step reads blocks, and a block is a segment.
const _: () = assert!(crate::outer::BLOCK == SEGMENT);

impl PseudoGradientSource for Decoder<'_> {
    fn params(&self) -> usize {
        self.expected.params
    }

    fn read(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), SourceError> {
        let aligned = range.start.is_multiple_of(SEGMENT) && range.len() == out.len();
        if !aligned {
            return Err(SourceError::Range {
                start: range.start,
                end: range.end,
                buffer: out.len(),
                params: self.expected.params,
            });
        }
        self.segment(range.start / SEGMENT, out).map_err(|e| SourceError::Failed(Box::new(e)))
    }
}
