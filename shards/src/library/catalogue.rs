//! The catalogue: which deposits there are and what holds for them now, in SQLite. All SQL of the crate is here.
//!
//! The signed manifests and statements in the files are the truth; the catalogue finds them. `verify` compares the two.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use watershed_protocol::data::{Consent, ConsentTier, Manifest, Register};
use watershed_protocol::{ManifestId, PublicKey, TextId};

use crate::near::{self, Sketch};

/// Version of the tables.
const VERSION: i64 = 1;

/// Where the text of a deposit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextState {
    /// In the library.
    Stored = 0,
    /// With its owner only.
    Local = 1,
    /// Withdrawn; the file is about to be deleted.
    Deleting = 2,
    /// Withdrawn and deleted.
    Deleted = 3,
}

/// A deposit as the catalogue knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: ManifestId,
    pub(crate) text: TextId,
    pub(crate) contributor: PublicKey,
    pub(crate) register: Register,
    pub(crate) bytes: u64,
    pub(crate) consent: Consent,
    pub(crate) state: TextState,
    pub(crate) receipt: Vec<u8>,
}

/// A text that another key deposited first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) text: TextId,
    pub(crate) first: ManifestId,
    /// The signed manifest that came second.
    pub(crate) second: Vec<u8>,
}

/// The tables of one library.
pub(crate) struct Catalogue {
    connection: Connection,
}

/// Everything that is written together.
pub(crate) struct Writing<'a> {
    transaction: rusqlite::Transaction<'a>,
}

/// Most candidates for near duplicates that are compared in full.
const CANDIDATES: i64 = 64;

const COLUMNS: &str = "id, text, contributor, register, bytes, tier, sequence, state, receipt";

const TABLES: &str = "
    create table deposit (
        id blob primary key, text blob not null, contributor blob not null, revision integer not null,
        register integer not null, bytes integer not null, tier integer not null, sequence integer not null,
        state integer not null, path text, sketch blob, receipt blob not null, unique (text, revision)) without rowid;
    create index deposit_state on deposit (state) where state = 2;
    create table band (hash integer not null, id blob not null, primary key (hash, id)) without rowid;
    create table conflict (
        text blob not null, first blob not null, second blob not null, primary key (text, second)) without rowid;
";

fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn misfit(column: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, COLUMNS.to_owned(), rusqlite::types::Type::Blob)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let tier = ConsentTier::from_number(row.get(5)?).ok_or_else(|| misfit(5))?;
    Ok(Entry {
        id: ManifestId::from_bytes(row.get(0)?),
        text: TextId::from_bytes(row.get(1)?),
        contributor: PublicKey::from_bytes(row.get(2)?).map_err(|_| misfit(2))?,
        register: Register::from_number(row.get(3)?).ok_or_else(|| misfit(3))?,
        bytes: row.get::<_, i64>(4)? as u64,
        consent: Consent { tier, sequence: row.get(6)? },
        state: match row.get(7)? {
            0 => TextState::Stored,
            1 => TextState::Local,
            2 => TextState::Deleting,
            3 => TextState::Deleted,
            _ => return Err(misfit(7)),
        },
        receipt: row.get(8)?,
    })
}

impl Catalogue {
    /// Opens the tables, and makes them in a new file.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        // Reading must not wait for a writer: the tables are made only where there are none yet.
        if user_version(&connection)? == 0 {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if user_version(&transaction)? == 0 {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            transaction.commit()?;
        }
        let version = user_version(&connection)?;
        if version != VERSION {
            return Err(rusqlite::Error::InvalidParameterName(format!(
                "the catalogue has version {version}, this program knows {VERSION}; use the program that made it"
            )));
        }
        Ok(Self { connection })
    }

    /// Begins to write; nobody else writes until the end.
    pub(crate) fn write(&mut self) -> rusqlite::Result<Writing<'_>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Writing { transaction })
    }

    /// One deposit.
    pub(crate) fn get(&self, id: ManifestId) -> rusqlite::Result<Option<Entry>> {
        get(&self.connection, id)
    }

    /// Calls `f` for every deposit, ascending by id, withdrawn ones included.
    pub(crate) fn each<E: From<rusqlite::Error>>(
        &self,
        mut f: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut statement =
            self.connection.prepare_cached(&format!("select {COLUMNS} from deposit order by id"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            f(entry(row)?)?;
        }
        Ok(())
    }

    /// Deposits whose id begins with `prefix`, at most two.
    pub(crate) fn starting_with(&self, prefix: &[u8]) -> rusqlite::Result<Vec<ManifestId>> {
        let mut upper = prefix.to_vec();
        upper.resize(33, 0xff);
        let mut statement =
            self.connection.prepare_cached("select id from deposit where id >= ? and id < ? limit 2")?;
        statement.query_map(params![prefix, upper], |row| row.get(0).map(ManifestId::from_bytes))?.collect()
    }

    /// The sketch of a text that is in the library or known to its owner.
    pub(crate) fn sketch(&self, id: ManifestId) -> rusqlite::Result<Option<Sketch>> {
        sketch(&self.connection, &id.to_bytes())
    }

    /// Where the text of a federated deposit lies, on this machine.
    pub(crate) fn local_path(&self, id: ManifestId) -> rusqlite::Result<Option<String>> {
        let sql = "select path from deposit where id = ?";
        Ok(self.connection.query_row(sql, [id.to_bytes()], |row| row.get(0)).optional()?.flatten())
    }

    /// Every recorded conflict, in the order of texts.
    pub(crate) fn conflicts(&self) -> rusqlite::Result<Vec<Conflict>> {
        let sql = "select text, first, second from conflict order by text, second";
        let mut statement = self.connection.prepare_cached(sql)?;
        let conflict = |row: &Row<'_>| {
            Ok(Conflict {
                text: TextId::from_bytes(row.get(0)?),
                first: ManifestId::from_bytes(row.get(1)?),
                second: row.get(2)?,
            })
        };
        statement.query_map([], conflict)?.collect()
    }

    /// Withdrawn deposits whose text may still be there.
    pub(crate) fn deleting(&self) -> rusqlite::Result<Vec<(ManifestId, TextId)>> {
        let mut statement = self.connection.prepare_cached("select id, text from deposit where state = 2")?;
        let pair = |row: &Row<'_>| Ok((ManifestId::from_bytes(row.get(0)?), TextId::from_bytes(row.get(1)?)));
        statement.query_map([], pair)?.collect()
    }

    /// What SQLite finds wrong with its own file.
    pub(crate) fn damage(&self) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.connection.prepare("pragma integrity_check")?;
        let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(if lines == ["ok"] { Vec::new() } else { lines })
    }
}

fn get(connection: &Connection, id: ManifestId) -> rusqlite::Result<Option<Entry>> {
    let sql = format!("select {COLUMNS} from deposit where id = ?");
    connection.prepare_cached(&sql)?.query_row([id.to_bytes()], entry).optional()
}

fn sketch(connection: &Connection, id: &[u8; 32]) -> rusqlite::Result<Option<Sketch>> {
    let mut statement = connection.prepare_cached("select sketch from deposit where id = ?")?;
    let bytes: Option<Option<Vec<u8>>> = statement.query_row([id], |row| row.get(0)).optional()?;
    Ok(bytes.flatten().and_then(|bytes| Sketch::from_bytes(&bytes)))
}

impl Writing<'_> {
    /// One deposit.
    pub(crate) fn get(&self, id: ManifestId) -> rusqlite::Result<Option<Entry>> {
        get(&self.transaction, id)
    }

    /// The deposit of this text with the highest revision.
    pub(crate) fn latest(&self, text: TextId) -> rusqlite::Result<Option<Entry>> {
        let sql = format!("select {COLUMNS} from deposit where text = ? order by revision desc limit 1");
        self.transaction.prepare_cached(&sql)?.query_row([text.to_bytes()], entry).optional()
    }

    /// How often the text has been deposited.
    pub(crate) fn revisions(&self, text: TextId) -> rusqlite::Result<u32> {
        let sql = "select count(*) from deposit where text = ?";
        self.transaction.prepare_cached(sql)?.query_row([text.to_bytes()], |row| row.get(0))
    }

    /// Adds a deposit.
    pub(crate) fn insert(
        &self,
        id: ManifestId,
        manifest: &Manifest,
        path: Option<&str>,
        sketch: &Sketch,
        receipt: &[u8],
    ) -> rusqlite::Result<()> {
        let state = if path.is_some() { TextState::Local } else { TextState::Stored };
        self.transaction
            .prepare_cached(
                "insert into deposit (id, text, contributor, revision, register, bytes, tier, sequence, state, path, sketch, \
                 receipt) values (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
            )?
            .execute(params![
                id.to_bytes(),
                manifest.text.to_bytes(),
                manifest.contributor.to_bytes(),
                manifest.revision,
                manifest.register.number(),
                manifest.bytes as i64,
                manifest.tier.number(),
                state as i64,
                path,
                sketch.to_bytes().as_slice(),
                receipt,
            ])?;
        let mut band =
            self.transaction.prepare_cached("insert or ignore into band (hash, id) values (?, ?)")?;
        for hash in near::bands(sketch) {
            band.execute(params![hash as i64, id.to_bytes()])?;
        }
        Ok(())
    }

    /// Deposits whose text is nearly `sketch`'s, the nearest first, with their similarity in basis points.
    pub(crate) fn near(&self, sketch: &Sketch, least: u16) -> rusqlite::Result<Vec<(ManifestId, u16)>> {
        let mut seen = std::collections::BTreeSet::new();
        let mut statement =
            self.transaction.prepare_cached("select id from band where hash = ? order by id limit ?")?;
        for hash in near::bands(sketch) {
            for id in
                statement.query_map(params![hash as i64, CANDIDATES], |row| row.get::<_, [u8; 32]>(0))?
            {
                seen.insert(id?);
            }
        }
        let mut near = Vec::new();
        for id in seen.into_iter().take(CANDIDATES as usize) {
            if let Some(other) = self::sketch(&self.transaction, &id)? {
                let similarity = sketch.similarity(&other);
                if similarity >= least {
                    near.push((ManifestId::from_bytes(id), similarity));
                }
            }
        }
        near.sort_by_key(|(id, similarity)| (std::cmp::Reverse(*similarity), *id));
        Ok(near)
    }

    /// Records that another key deposited the same text.
    pub(crate) fn conflict(&self, conflict: &Conflict) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("insert or ignore into conflict (text, first, second) values (?, ?, ?)")?
            .execute(params![conflict.text.to_bytes(), conflict.first.to_bytes(), conflict.second])?;
        Ok(())
    }

    /// Records a change of consent. A withdrawn text loses its sketch at once and is marked to be deleted.
    pub(crate) fn consent(&self, id: ManifestId, consent: Consent) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("update deposit set tier = ?, sequence = ? where id = ?")?
            .execute(params![consent.tier.number(), consent.sequence, id.to_bytes()])?;
        if consent.tier == ConsentTier::None {
            if let Some(sketch) = sketch(&self.transaction, &id.to_bytes())? {
                let mut band =
                    self.transaction.prepare_cached("delete from band where hash = ? and id = ?")?;
                for hash in near::bands(&sketch) {
                    band.execute(params![hash as i64, id.to_bytes()])?;
                }
            }
            self.transaction
                .prepare_cached("update deposit set state = ?, sketch = null, path = null where id = ?")?
                .execute(params![TextState::Deleting as i64, id.to_bytes()])?;
        }
        Ok(())
    }

    /// Records that the text is gone.
    pub(crate) fn deleted(&self, id: ManifestId) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("update deposit set state = ? where id = ?")?
            .execute(params![TextState::Deleted as i64, id.to_bytes()])?;
        Ok(())
    }

    /// Makes it so.
    pub(crate) fn commit(self) -> rusqlite::Result<()> {
        self.transaction.commit()
    }
}
