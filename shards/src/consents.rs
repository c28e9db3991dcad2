//! The proofs of consent of a shard set in one file: its snapshot, and what the contributors of its deposits signed. Whoever
//! has set, index and this file follows every token to a signed statement, without the library and without a text.
//!
//! ```text
//! "WSCP", version (1 byte), zeros (3)
//! the snapshot, as it is in the library
//! for each deposit of the index, ascending by id: its signed manifest, number of statements (u32), each statement
//! ```
//!
//! Snapshot, manifests and statements have their length (u32, little-endian) before them.

use std::collections::BTreeMap;

use thiserror::Error;
use watershed_protocol::ManifestId;
use watershed_protocol::data::{Deposit, DepositError};

use crate::library::{FileError, LibraryError, Store, read, write};
use crate::shard::{OpenError, OpenSet, ShardSet};
use crate::snapshot::{Snapshot, SnapshotError};

const MAGIC: [u8; 8] = *b"WSCP\x01\0\0\0";

/// Longest manifest or statement.
const MAX_SIGNED: usize = 1 << 16;

/// Why there are no proofs, or bytes are none.
#[derive(Debug, Error)]
pub enum ConsentsError {
    /// The set cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The library is damaged.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A manifest that is none.
    #[error("a manifest among the proofs of consent: {0}")]
    Deposit(#[from] DepositError),
    /// Another snapshot than the set was made from.
    #[error("the proofs of consent are of another snapshot")]
    OtherSnapshot,
    /// Not the file.
    #[error("these are no proofs of consent: they end in the middle, or have something behind them")]
    Format,
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) -> Result<(), ConsentsError> {
    let length = u32::try_from(part.len()).map_err(|_| ConsentsError::Format)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
    Ok(())
}

/// The proofs for a set; none if the library has its tokens only, as that of a miner has.
///
/// # Errors
/// [`ConsentsError`] for a library that is damaged.
pub fn collect(store: &Store, set: &OpenSet) -> Result<Option<Vec<u8>>, ConsentsError> {
    let id = set.set().snapshot;
    let Some(file) = read(&store.snapshot_path(id), u64::from(u32::MAX))? else { return Ok(None) };
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, &file)?;
    let snapshot = Snapshot::parse(file)?;
    // A deposit stands once in the index; sorted by id, whatever its stream.
    let deposits: BTreeMap<ManifestId, ()> = set.index()?.entries().map(|e| (e.manifest, ())).collect();
    for id in deposits.into_keys() {
        let deposit = store.manifest(id)?;
        let statements = snapshot.get(id).map_or(0, |e| e.consent.sequence);
        put(&mut bytes, deposit.bytes())?;
        bytes.extend_from_slice(&statements.to_le_bytes());
        for sequence in 1..=statements {
            let broken = LibraryError::Statement { id, sequence };
            let statement = read(&store.statement_path(id, sequence), MAX_SIGNED as u64)?;
            put(&mut bytes, &statement.ok_or(broken)?)?;
        }
    }
    Ok(Some(bytes))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ConsentsError> {
        let (part, rest) = self.0.split_at_checked(count).ok_or(ConsentsError::Format)?;
        self.0 = rest;
        Ok(part)
    }

    fn number(&mut self) -> Result<u32, ConsentsError> {
        let bytes = self.take(4)?.try_into().map_err(|_| ConsentsError::Format)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn part(&mut self, limit: usize) -> Result<&'a [u8], ConsentsError> {
        let length = self.number()? as usize;
        if length > limit { Err(ConsentsError::Format) } else { self.take(length) }
    }
}

/// Puts proofs where [`trace_tokens`](crate::trace::trace_tokens) finds them, in a store that may be empty otherwise; gives
/// the snapshot. That they prove anything is for `trace_tokens` to say.
///
/// # Errors
/// [`ConsentsError`] for what is not the proofs of this set.
pub fn install(store: &Store, set: &ShardSet, bytes: &[u8]) -> Result<Snapshot, ConsentsError> {
    let mut reader = Reader(bytes);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(ConsentsError::Format);
    }
    let snapshot = Snapshot::parse(reader.part(usize::MAX)?.to_vec())?;
    if snapshot.id() != set.snapshot {
        return Err(ConsentsError::OtherSnapshot);
    }
    while !reader.0.is_empty() {
        let deposit = Deposit::open(reader.part(MAX_SIGNED)?)?;
        write(&store.manifest_path(deposit.id()), deposit.bytes())?;
        for sequence in 1..=reader.number()? {
            write(&store.statement_path(deposit.id(), sequence), reader.part(MAX_SIGNED)?)?;
        }
    }
    Ok(snapshot)
}
