//! Reading a log's files with their lengths held in bounds.

use tlog_tiles::HASH_SIZE;

use super::bundle::{self, Bundle};
use super::error::{LogError, SourceError};
use super::source::Source;
use super::{TILE_BYTES, WIDTH, paths};

/// Reads the file at `path`, refusing more than `limit` bytes.
pub(super) fn file<S: Source>(source: &S, path: &str, limit: usize) -> Result<Option<Vec<u8>>, LogError> {
    let failed = |source| LogError::Source { path: path.to_owned(), source };
    let bytes = source.get(path, limit).map_err(failed)?;
    // A source that overlooks the limit must not get more past it than it already holds.
    match bytes {
        Some(bytes) if bytes.len() > limit => Err(failed(SourceError::TooLong { limit })),
        bytes => Ok(bytes),
    }
}

/// Reads the first `width` hashes of a tile, which nothing vouches for yet.
pub(super) fn tile<S: Source>(source: &S, level: u8, number: u64, width: usize) -> Result<Vec<u8>, LogError> {
    let path = paths::tile(level, number, width);
    let expected = width * HASH_SIZE;
    if let Some(bytes) = file(source, &path, expected)? {
        return exactly(path, bytes, expected);
    }
    // A log may drop a partial tile once it has the full one, which begins with the same hashes.
    let full = paths::tile(level, number, WIDTH);
    if width < WIDTH
        && let Some(bytes) = file(source, &full, TILE_BYTES)?
    {
        let mut bytes = exactly(full, bytes, TILE_BYTES)?;
        bytes.truncate(expected);
        return Ok(bytes);
    }
    Err(LogError::Missing(path))
}

fn exactly(path: String, bytes: Vec<u8>, expected: usize) -> Result<Vec<u8>, LogError> {
    let found = bytes.len();
    if found == expected { Ok(bytes) } else { Err(LogError::TileLength { path, expected, found }) }
}

/// Reads the first `width` entries of a bundle, which nothing vouches for yet.
pub(super) fn entries<S: Source>(source: &S, number: u64, width: usize) -> Result<Bundle, LogError> {
    let path = paths::entries(number, width);
    if let Some(bytes) = file(source, &path, bundle::max_bytes(width))? {
        let (bundle, extra) = Bundle::parse(&path, bytes, width)?;
        return if extra == 0 { Ok(bundle) } else { Err(LogError::BundleRest { path, extra }) };
    }
    let full = paths::entries(number, WIDTH);
    if width < WIDTH
        && let Some(bytes) = file(source, &full, bundle::max_bytes(WIDTH))?
    {
        return Ok(Bundle::parse(&full, bytes, width)?.0);
    }
    Err(LogError::Missing(path))
}
