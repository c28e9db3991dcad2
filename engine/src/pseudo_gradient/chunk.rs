//! One chunk: error feedback, selection, values. What a validator recomputes when it has a chunk opened.

use multiversion::multiversion;

use super::error::EncodeError;
use super::{CHUNK, kept, top_k, value};
use crate::scalar::flush;

/// What a chunk is encoded as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkCode {
    /// Code of the scale.
    pub scale: u8,
    /// Kept positions, ascending; the first ones of the chunk if the scale is 0.
    pub positions: Vec<u16>,
    /// Two bits for each: 1 for negative, 2 for the upper level.
    pub codes: Vec<u8>,
}

/// Buffers that are reused from chunk to chunk.
#[derive(Default)]
pub(super) struct Scratch {
    bits: Vec<u32>,
    selected: Vec<f32>,
}

/// Compresses one chunk: `feedback` becomes the new error feedback.
///
/// `delta` is the chunk of the pseudo-gradient, `beta` the decay, `k` the density of a full chunk.
///
/// # Errors
/// [`EncodeError`] for different lengths or more than [`CHUNK`] elements, a `k` or `beta` out of range, and values that
/// are not finite; the feedback is then undefined.
pub fn compress_chunk(
    feedback: &mut [f32],
    delta: &[f32],
    beta: f32,
    k: usize,
) -> Result<ChunkCode, EncodeError> {
    check(feedback.len(), delta.len(), beta, k)?;
    if feedback.len() > CHUNK {
        return Err(EncodeError::Length { feedback: feedback.len(), gradient: CHUNK });
    }
    let mut code = ChunkCode::default();
    compress_into(feedback, delta, beta, k, &mut Scratch::default(), &mut code)?;
    Ok(code)
}

/// Checks what all chunks share.
pub(super) fn check(feedback: usize, gradient: usize, beta: f32, k: usize) -> Result<(), EncodeError> {
    if feedback != gradient {
        return Err(EncodeError::Length { feedback, gradient });
    }
    if !(1..=CHUNK).contains(&k) {
        return Err(EncodeError::TopK(k));
    }
    if !(0.0..=1.0).contains(&beta) {
        return Err(EncodeError::Decay);
    }
    Ok(())
}

/// [`compress_chunk`] into reused buffers; the index in an error counts within the chunk.
pub(super) fn compress_into(
    feedback: &mut [f32],
    delta: &[f32],
    beta: f32,
    k: usize,
    scratch: &mut Scratch,
    code: &mut ChunkCode,
) -> Result<(), EncodeError> {
    scratch.bits.resize(feedback.len(), 0);
    if accumulate(feedback, delta, beta, &mut scratch.bits) >= 0x7f80_0000 {
        let index = scratch.bits.iter().position(|b| *b >= 0x7f80_0000).unwrap_or(0);
        return Err(EncodeError::NotFinite { index });
    }
    top_k::select(&scratch.bits, kept(feedback.len(), k), &mut code.positions);
    scratch.selected.clear();
    scratch.selected.extend(code.positions.iter().map(|p| f32::from_bits(scratch.bits[*p as usize])));
    let ratio = value::ratio(k);
    code.scale = value::fit(&scratch.selected, ratio);
    let scale = value::scale(code.scale);
    if code.scale == 0 {
        // Nothing is sent, so which positions are named must not matter: the first ones are.
        let count = code.positions.len() as u16;
        code.positions.clear();
        code.positions.extend(0..count);
    }
    code.codes.clear();
    for position in &code.positions {
        let e = &mut feedback[*position as usize];
        let bits = value::code(*e, scale, ratio);
        code.codes.push(bits);
        *e = flush(*e - value::value(bits, scale, ratio), 0);
    }
    Ok(())
}

/// `e = flush(flush(beta f) + d)` in place of `f`; magnitudes as bits; returns the largest of them.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn accumulate(feedback: &mut [f32], delta: &[f32], beta: f32, bits: &mut [u32]) -> u32 {
    let mut largest = 0u32;
    for ((f, d), b) in feedback.iter_mut().zip(delta).zip(bits) {
        let e = flush(flush(*f * beta, 0) + flush(*d, 0), 0);
        *f = e;
        *b = e.to_bits() & 0x7fff_ffff;
        largest = if *b > largest { *b } else { largest };
    }
    largest
}
