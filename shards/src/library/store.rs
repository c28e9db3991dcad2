//! The files of a library, each named by what is in it. Reading one checks that it is what its name says.

use std::path::{Path, PathBuf};

use watershed_protocol::data::{Consent, ConsentChange, Deposit};
use watershed_protocol::{Digest, Envelope, ManifestId, ShardSetId, SnapshotId, TextId, TokenizerId, decode};

use super::LibraryError;
use super::files::{read, sharded};
use crate::text::MAX_TEXT;

/// The folder of a library, without its catalogue: all that is needed to read texts and tokens. Used by several threads at
/// once.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// In a folder, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads a manifest and checks its signature.
    ///
    /// # Errors
    /// [`LibraryError::NoManifest`] and [`LibraryError::Manifest`].
    pub fn manifest(&self, id: ManifestId) -> Result<Deposit, LibraryError> {
        let bytes = read(&self.manifest_path(id), 1 << 20)?.ok_or(LibraryError::NoManifest(id))?;
        let deposit = Deposit::open(&bytes).map_err(|source| LibraryError::Manifest { id, source })?;
        if deposit.id() == id { Ok(deposit) } else { Err(LibraryError::NoManifest(id)) }
    }

    /// The consent that held for a deposit after its statement number `sequence`, by the signed statements alone.
    ///
    /// # Errors
    /// [`LibraryError::Statement`] if one of them is missing or damaged.
    pub fn consent_at(&self, deposit: &Deposit, sequence: u32) -> Result<Consent, LibraryError> {
        let id = deposit.id();
        let mut consent = Consent::given(deposit.manifest().tier);
        for sequence in 1..=sequence {
            let broken = || LibraryError::Statement { id, sequence };
            let bytes = read(&self.statement_path(id, sequence), 4096)?.ok_or_else(broken)?;
            let statement: Envelope = decode(&bytes).map_err(|_| broken())?;
            let change = statement.open::<ConsentChange>().map_err(|_| broken())?;
            consent = consent.after(&change, id, deposit.manifest().contributor).map_err(|_| broken())?;
        }
        Ok(consent)
    }

    /// Reads a stored text and checks its hash.
    ///
    /// # Errors
    /// [`LibraryError::NoText`] and [`LibraryError::Text`].
    pub fn text(&self, id: TextId) -> Result<String, LibraryError> {
        let bytes = read(&self.text_path(id), MAX_TEXT)?.ok_or(LibraryError::NoText(id))?;
        if TextId::of(&bytes) != id {
            return Err(LibraryError::Text(id));
        }
        String::from_utf8(bytes).map_err(|_| LibraryError::Text(id))
    }

    /// Where a text lies.
    pub(crate) fn text_path(&self, text: TextId) -> PathBuf {
        sharded(&self.root.join("texts"), &text.to_string())
    }

    /// Where a manifest lies.
    pub(crate) fn manifest_path(&self, id: ManifestId) -> PathBuf {
        sharded(&self.root.join("manifests"), &id.to_string())
    }

    /// Where a statement on a deposit lies.
    pub(crate) fn statement_path(&self, id: ManifestId, sequence: u32) -> PathBuf {
        let mut path = self.manifest_path(id).into_os_string();
        path.push(format!(".consent-{sequence}"));
        path.into()
    }

    /// Where a snapshot lies.
    pub(crate) fn snapshot_path(&self, id: SnapshotId) -> PathBuf {
        self.root.join("snapshots").join(id.to_string())
    }

    /// Folder of a shard set.
    pub(crate) fn set_path(&self, id: ShardSetId) -> PathBuf {
        self.root.join("sets").join(id.to_string())
    }

    /// Where a shard lies.
    pub(crate) fn shard_path(&self, sha256: Digest) -> PathBuf {
        sharded(&self.root.join("shards"), &sha256.to_string())
    }

    /// Where the notes of an unfinished build lie.
    pub(crate) fn partial_path(&self, snapshot: SnapshotId, tokenizer: TokenizerId) -> PathBuf {
        self.root.join("partial").join(format!("{snapshot}-{tokenizer}"))
    }
}
