//! Snapshots: which deposits are in force at one moment, with the consent each had, content-addressed.
//!
//! # File
//!
//! ```text
//! "WSSN", version (1 byte), near duplicates (0 kept, 1 left out), held-out share in basis points (u16), seed (u64),
//! number of entries (u64), zeros (8)                                                     32 bytes, little-endian
//! for each deposit, ascending by id:
//!   id (32), text id (32), bytes of text (u64), consent statement (u32), register, tier, split (1 each), zero (1)
//! ```
//!
//! The name of a snapshot is the tagged hash of its file. It depends on the deposits, not on their order of arrival.
//!
//! # What is held out
//!
//! A deposit is held out if the hash of seed and text falls in the held-out share. A register of two deposits or more keeps at
//! least one on either side, by the order of these hashes; a register of one is trained on. Texts are held out whole, so no
//! training window can reach a part of one. Federated deposits are never held out: nobody else could measure with them.

mod take;

use std::fs::File;
use std::path::Path;

use bytemuck::{Pod, Zeroable};
use memmap2::Mmap;
use thiserror::Error;
use watershed_protocol::data::{Consent, ConsentTier, Register, Split};
use watershed_protocol::{BasisPoints, ManifestId, SnapshotId, TextId};

use crate::library::{FileError, LibraryError};
pub use take::{LeftOut, Policy, Taken, take};

const MAGIC: [u8; 4] = *b"WSSN";
const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u8,
    leave_out_near: u8,
    held_out: [u8; 2],
    seed: [u8; 8],
    entries: [u8; 8],
    zeros: [u8; 8],
}

/// One deposit in its 80 bytes; bytes only, so that no alignment is asked of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct RawEntry {
    manifest: [u8; 32],
    text: [u8; 32],
    bytes: [u8; 8],
    sequence: [u8; 4],
    register: u8,
    tier: u8,
    split: u8,
    zero: u8,
}

/// A deposit of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The deposit.
    pub manifest: ManifestId,
    /// Its text.
    pub text: TextId,
    /// Bytes of the text.
    pub bytes: u64,
    /// Its register.
    pub register: Register,
    /// The consent that held, with the number of the statement that gave it.
    pub consent: Consent,
    /// Whether it is trained on or measured with.
    pub split: Split,
}

impl SnapshotEntry {
    fn raw(&self) -> RawEntry {
        RawEntry {
            manifest: self.manifest.to_bytes(),
            text: self.text.to_bytes(),
            bytes: self.bytes.to_le_bytes(),
            sequence: self.consent.sequence.to_le_bytes(),
            register: self.register.number(),
            tier: self.consent.tier.number(),
            split: self.split.number(),
            zero: 0,
        }
    }
}

impl RawEntry {
    fn read(&self) -> Option<SnapshotEntry> {
        let tier = ConsentTier::from_number(self.tier).filter(|t| *t != ConsentTier::None)?;
        Some(SnapshotEntry {
            manifest: ManifestId::from_bytes(self.manifest),
            text: TextId::from_bytes(self.text),
            bytes: u64::from_le_bytes(self.bytes),
            register: Register::from_number(self.register)?,
            consent: Consent { tier, sequence: u32::from_le_bytes(self.sequence) },
            split: Split::from_number(self.split).filter(|_| self.zero == 0)?,
        })
    }
}

/// Why a file is no snapshot, or not the one asked for.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not our file.
    #[error("this is no snapshot of version {VERSION}")]
    Format,
    /// The number of entries and the length do not fit.
    #[error("a snapshot of {entries} entries does not have {bytes} bytes")]
    Length {
        /// Entries it claims.
        entries: u64,
        /// Bytes it has.
        bytes: usize,
    },
    /// An entry that cannot be.
    #[error("entry {0} is malformed or out of order")]
    Entry(usize),
    /// Another content.
    #[error("the snapshot {name} is damaged: its content has the hash {found}")]
    Hash {
        /// What the file is called.
        name: SnapshotId,
        /// What is in it.
        found: SnapshotId,
    },
    /// The library failed while the snapshot was taken.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

enum Bytes {
    Owned(Vec<u8>),
    Mapped(Mmap),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// A snapshot that has been read and checked, entry by entry.
pub struct Snapshot {
    id: SnapshotId,
    bytes: Bytes,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({}, {} deposits)", self.id, self.len())
    }
}

impl Snapshot {
    /// From the bytes of a file. Allocates nothing beyond them.
    ///
    /// # Errors
    /// [`SnapshotError`] for anything but the one form of a snapshot.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, SnapshotError> {
        Self::check(Bytes::Owned(bytes))
    }

    /// Opens the file of a snapshot by memory map and checks that it is the one with this name.
    ///
    /// # Errors
    /// [`SnapshotError`].
    #[allow(unsafe_code)]
    pub fn open(path: &Path, name: SnapshotId) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(FileError::at("open", path))?;
        // SAFETY: files of a library are written under another name and never changed after they have theirs.
        let map = unsafe { Mmap::map(&file) }.map_err(FileError::at("map", path))?;
        let found = SnapshotId::of(&map);
        if found != name {
            return Err(SnapshotError::Hash { name, found });
        }
        Self::check(Bytes::Mapped(map))
    }

    fn check(bytes: Bytes) -> Result<Self, SnapshotError> {
        let all = bytes.as_ref();
        let Some((header, body)) = all.split_at_checked(size_of::<Header>()) else {
            return Err(SnapshotError::Format);
        };
        let header: Header = bytemuck::pod_read_unaligned(header);
        let share = BasisPoints::try_from(u16::from_le_bytes(header.held_out));
        if header.magic != MAGIC
            || header.version != VERSION
            || header.leave_out_near > 1
            || header.zeros != [0; 8]
            || share.is_err()
        {
            return Err(SnapshotError::Format);
        }
        let entries = u64::from_le_bytes(header.entries);
        if Some(body.len() as u64) != entries.checked_mul(size_of::<RawEntry>() as u64) {
            return Err(SnapshotError::Length { entries, bytes: all.len() });
        }
        let raw: &[RawEntry] = bytemuck::cast_slice(body);
        let mut last = None;
        for (i, raw) in raw.iter().enumerate() {
            let entry = raw.read().filter(|e| last.is_none_or(|last| last < e.manifest));
            last = Some(entry.ok_or(SnapshotError::Entry(i))?.manifest);
        }
        Ok(Self { id: SnapshotId::of(all), bytes })
    }

    /// The file of these entries.
    pub(crate) fn encode(policy: &Policy, mut entries: Vec<SnapshotEntry>) -> Vec<u8> {
        entries.sort_by_key(|e| e.manifest);
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            leave_out_near: u8::from(policy.leave_out_near),
            held_out: policy.held_out.get().to_le_bytes(),
            seed: policy.seed.to_le_bytes(),
            entries: (entries.len() as u64).to_le_bytes(),
            zeros: [0; 8],
        };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        for entry in entries {
            bytes.extend_from_slice(bytemuck::bytes_of(&entry.raw()));
        }
        bytes
    }

    /// Its name.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    fn raw(&self) -> &[RawEntry] {
        bytemuck::cast_slice(self.bytes.as_ref().get(size_of::<Header>()..).unwrap_or(&[]))
    }

    /// How it was taken.
    pub fn policy(&self) -> Policy {
        let header: Header =
            bytemuck::pod_read_unaligned(self.bytes.as_ref().get(..size_of::<Header>()).unwrap_or(&[0; 32]));
        Policy {
            leave_out_near: header.leave_out_near == 1,
            held_out: BasisPoints::try_from(u16::from_le_bytes(header.held_out))
                .unwrap_or(BasisPoints::WHOLE),
            seed: u64::from_le_bytes(header.seed),
        }
    }

    /// Number of deposits.
    pub fn len(&self) -> usize {
        self.raw().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.raw().is_empty()
    }

    /// The deposits, ascending by id.
    pub fn entries(&self) -> impl Iterator<Item = SnapshotEntry> + '_ {
        self.raw().iter().filter_map(RawEntry::read)
    }

    /// One of the deposits.
    pub fn get(&self, id: ManifestId) -> Option<SnapshotEntry> {
        let raw = self.raw();
        let at = raw.binary_search_by_key(&id.to_bytes(), |r| r.manifest).ok()?;
        raw.get(at)?.read()
    }
}
