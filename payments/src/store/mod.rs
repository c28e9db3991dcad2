//! What must outlive the process: records of lots, pledges and payments, and the ledger, changed together or not at all.
//!
//! [`Store`] is what a database has to offer; [`SqliteStore`] is the one in use. A [`Change`] is a value that the pure
//! parts make; committing it is the only way anything is written, so no effect can be carried out that is not
//! journalled first, and no record can disagree with the ledger.

mod memory;
mod sqlite;

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::ledger::{Account, Entry};

pub use memory::NodeMemory;
pub use sqlite::SqliteStore;

/// Why the store refused.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Somebody changed the record since it was read.
    #[error("the {kind} {id} was changed by another step; read it again")]
    Conflict {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// The ledger has an entry of that key with other postings.
    #[error("the ledger already has an entry {0:?} that says something else")]
    EntryDiffers(String),
    /// A record that cannot be read back.
    #[error("the {kind} {id} in the database is damaged: {reason}")]
    Damaged {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A database of a later program.
    #[error("the database is of version {found}, this program knows {known}; use the newer program")]
    Version {
        /// In the file.
        found: u32,
        /// Here.
        known: u32,
    },
    /// The database itself.
    #[error("database: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Something that is kept under a name.
pub trait Record: Serialize + DeserializeOwned {
    /// Which table, so to speak.
    const KIND: &'static str;
    /// Its name among its kind.
    fn id(&self) -> String;
    /// What it belongs to, to be listed with.
    fn group(&self) -> String;
    /// Whether something may still happen to it.
    fn is_open(&self) -> bool;
    /// Whether the node has, or should have, a payment of it.
    fn is_kept(&self) -> bool {
        false
    }
}

/// A record and how often it was written.
#[derive(Clone, Debug)]
pub struct Versioned<R> {
    /// The record.
    pub record: R,
    /// To be given back when it is written; 0 for one that is new.
    pub version: u64,
}

/// A record as it is stored.
#[derive(Clone, Debug)]
pub struct RawRecord {
    /// [`Record::KIND`].
    pub kind: &'static str,
    /// [`Record::id`].
    pub id: String,
    /// [`Record::group`].
    pub group: String,
    /// [`Record::is_open`].
    pub open: bool,
    /// [`Record::is_kept`].
    pub kept: bool,
    /// The version that this replaces when written, the present one when read.
    pub version: u64,
    /// JSON.
    pub body: String,
}

/// Records and entries that are written together.
#[derive(Debug, Default)]
pub struct Change {
    pub(crate) records: Vec<RawRecord>,
    pub(crate) deleted: Vec<(&'static str, String, u64)>,
    pub(crate) entries: Vec<Entry>,
}

impl Change {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.deleted.is_empty() && self.entries.is_empty()
    }

    /// Writes `record` over version `version` of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a record that has no JSON form.
    pub fn put<R: Record>(&mut self, record: &R, version: u64) -> Result<(), StoreError> {
        let body = serde_json::to_string(record).map_err(|e| StoreError::Damaged {
            kind: R::KIND,
            id: record.id(),
            reason: e.to_string(),
        })?;
        let (id, group, open, kept) = (record.id(), record.group(), record.is_open(), record.is_kept());
        self.records.push(RawRecord { kind: R::KIND, id, group, open, kept, version, body });
        Ok(())
    }

    /// Deletes version `version` of a record of which nothing was ever booked.
    pub fn delete<R: Record>(&mut self, record: &R, version: u64) {
        self.deleted.push((R::KIND, record.id(), version));
    }

    /// Books `entry`; booking it again later changes nothing.
    pub fn book(&mut self, entry: impl Into<Option<Entry>>) {
        self.entries.extend(entry.into());
    }
}

/// Which records to list.
#[derive(Clone, Copy, Debug)]
pub enum Filter<'a> {
    /// Of that group.
    Group(&'a str),
    /// Those that something may still happen to.
    Open,
    /// Those that the node has payments of.
    Kept,
    /// All, the latest first, at most so many.
    Latest(u32),
}

/// An entry with its place in the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct BookedEntry {
    /// Counted from 1, without gaps.
    pub number: u64,
    /// Seconds since 1970, of this machine's clock: for people, nothing depends on it.
    pub at: u64,
    /// What was booked.
    #[serde(flatten)]
    pub entry: Entry,
}

/// A database. SQLite implements it; PostgreSQL can, with the same tables.
pub trait Store: Send + Sync + 'static {
    /// Writes all of `change` or nothing. `at` is the time of the entries, in seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] and [`StoreError::EntryDiffers`]; those of the database.
    fn commit(&self, change: &Change, at: u64) -> Result<(), StoreError>;

    /// One record.
    ///
    /// # Errors
    /// Those of the database.
    fn raw(&self, kind: &'static str, id: &str) -> Result<Option<RawRecord>, StoreError>;

    /// Some records, in the order in which they were first written (or the reverse, for [`Filter::Latest`]).
    ///
    /// # Errors
    /// Those of the database.
    fn raw_list(&self, kind: &'static str, filter: Filter<'_>) -> Result<Vec<RawRecord>, StoreError>;

    /// The balance of every account that was ever used, in msat.
    ///
    /// # Errors
    /// Those of the database.
    fn balances(&self) -> Result<BTreeMap<Account, i64>, StoreError>;

    /// Whether an entry of that key was ever booked.
    ///
    /// # Errors
    /// Those of the database.
    fn is_booked(&self, key: &str) -> Result<bool, StoreError>;

    /// The number of the latest entry; 0 before the first.
    ///
    /// # Errors
    /// Those of the database.
    fn last_entry(&self) -> Result<u64, StoreError>;

    /// Entries after number `after`, at most `limit`, of one account or of all.
    ///
    /// # Errors
    /// Those of the database.
    fn entries(
        &self,
        account: Option<&Account>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<BookedEntry>, StoreError>;
}

/// A record of a known kind.
///
/// # Errors
/// As [`Store::raw`], and [`StoreError::Damaged`].
pub fn get<R: Record>(store: &impl Store, id: &str) -> Result<Option<Versioned<R>>, StoreError> {
    store.raw(R::KIND, id)?.map(read).transpose()
}

/// Records of a known kind.
///
/// # Errors
/// As [`Store::raw_list`], and [`StoreError::Damaged`].
pub fn list<R: Record>(store: &impl Store, filter: Filter<'_>) -> Result<Vec<Versioned<R>>, StoreError> {
    store.raw_list(R::KIND, filter)?.into_iter().map(read).collect()
}

fn read<R: Record>(raw: RawRecord) -> Result<Versioned<R>, StoreError> {
    let record = serde_json::from_str(&raw.body).map_err(|e| StoreError::Damaged {
        kind: R::KIND,
        id: raw.id.clone(),
        reason: e.to_string(),
    })?;
    Ok(Versioned { record, version: raw.version })
}
