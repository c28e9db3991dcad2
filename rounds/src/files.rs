//! Vectors as files: little-endian f32, nothing else.

use sha2::Digest as _;
use watershed_protocol::Digest;

use super::RoundError;

/// The file of some vectors, one behind the other.
pub fn floats(vectors: &[&[f32]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vectors.iter().map(|v| 4 * v.len()).sum());
    for vector in vectors {
        bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
    }
    bytes
}

/// `count` vectors of `len` values from their file.
///
/// # Errors
/// [`RoundError::Length`].
pub fn floats_of(
    bytes: &[u8],
    what: &'static str,
    count: usize,
    len: usize,
) -> Result<Vec<Vec<f32>>, RoundError> {
    let wanted = count.saturating_mul(len).saturating_mul(4);
    if bytes.len() != wanted || len == 0 {
        return Err(RoundError::Length { what, found: bytes.len(), wanted });
    }
    let read = |vector: &[u8]| {
        vector.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect::<Vec<f32>>()
    };
    Ok(bytes.chunks_exact(4 * len).map(read).collect())
}

/// The name of a file.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}
