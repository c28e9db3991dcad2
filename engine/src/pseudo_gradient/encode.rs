//! A whole pseudo-gradient into its file.

use rayon::prelude::*;

use super::chunk::{ChunkCode, Scratch, check, compress_into};
use super::error::EncodeError;
use super::frequency::Tables;
use super::index::{self, Symbol};
use super::rans::Encoder;
use super::{CHUNK, HEADER, MAGIC, SEGMENT, VERSION};

/// Values packed into one raw symbol.
pub(super) const PACKED: usize = 8;

/// Compresses `delta` (checkpoint minus final parameters) with the worker's `feedback`, which becomes the new feedback.
/// The bytes depend on neither threads nor the processor.
///
/// # Errors
/// As [`super::compress_chunk`]. The feedback is undefined after an error: keep a copy, or start the round again.
pub fn compress(feedback: &mut [f32], delta: &[f32], beta: f32, k: usize) -> Result<Vec<u8>, EncodeError> {
    check(feedback.len(), delta.len(), beta, k)?;
    let tables = Tables::get(k);
    let params = delta.len() as u64;
    let segments: Vec<Vec<u8>> = feedback
        .par_chunks_mut(SEGMENT)
        .zip(delta.par_chunks(SEGMENT))
        .enumerate()
        .map(|(i, (feedback, delta))| segment(feedback, delta, beta, k, &tables, i * SEGMENT))
        .collect::<Result<_, _>>()?;
    let mut bytes = Vec::with_capacity(HEADER + segments.iter().map(|s| s.len() + 4).sum::<usize>());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&(k as u16).to_le_bytes());
    bytes.extend_from_slice(&params.to_le_bytes());
    for segment in segments {
        bytes.extend_from_slice(&(segment.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&segment);
    }
    Ok(bytes)
}

/// The coder writes backwards, so chunks are taken from the last to the first and symbols likewise.
fn segment(
    feedback: &mut [f32],
    delta: &[f32],
    beta: f32,
    k: usize,
    tables: &Tables,
    first: usize,
) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = Encoder::new();
    let (mut scratch, mut code, mut symbols) = (Scratch::default(), ChunkCode::default(), Vec::new());
    let chunks = feedback.chunks_mut(CHUNK).zip(delta.chunks(CHUNK)).enumerate();
    for (i, (feedback, delta)) in chunks.rev() {
        compress_into(feedback, delta, beta, k, &mut scratch, &mut code).map_err(|e| match e {
            EncodeError::NotFinite { index } => EncodeError::NotFinite { index: first + i * CHUNK + index },
            other => other,
        })?;
        chunk_symbols(&code, tables, &mut symbols);
        for symbol in symbols.iter().rev() {
            symbol.write(&mut encoder);
        }
    }
    Ok(encoder.finish())
}

/// Scale, positions, values.
fn chunk_symbols(code: &ChunkCode, tables: &Tables, out: &mut Vec<Symbol>) {
    out.clear();
    out.push(Symbol::Raw(u32::from(code.scale), 8));
    index::symbols(tables, &code.positions, 0, CHUNK.trailing_zeros(), out);
    for codes in code.codes.chunks(PACKED) {
        let packed = codes.iter().rev().fold(0u32, |p, c| (p << 2) | u32::from(*c));
        out.push(Symbol::Raw(packed, 2 * codes.len() as u32));
    }
}
