//! What a coordinator must not forget, in one SQLite file: events, effects that are not done, entries of the record.
//!
//! An event is written in one transaction with the effects it calls for and the entries it adds, so whatever was answered
//! is on the disk, and whatever is on the disk is carried out.

use std::path::Path;

use rusqlite::{Connection, params};
use thiserror::Error;
use watershed_protocol::market::Entry;
use watershed_protocol::{DecodeError, EncodeError, RunId, decode, encode};

use crate::machine::{Effect, Event};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS event (
        number INTEGER PRIMARY KEY, run BLOB NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS effect (
        run BLOB NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, done INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (run, name)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS effect_open ON effect (run) WHERE NOT done;
    CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS state (
        run BLOB PRIMARY KEY, number INTEGER NOT NULL, form TEXT NOT NULL, body BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TRIGGER IF NOT EXISTS event_stays BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'events stay'); END;
    CREATE TRIGGER IF NOT EXISTS entry_stays BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries stay'); END;
";

/// The form of kept states: another version reads the events instead.
const FORM: &str = concat!(env!("CARGO_PKG_VERSION"), "/2");

/// A journal that cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// SQLite.
    #[error("the journal: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Something in it is not what it should be.
    #[error("the journal is damaged: {0}; restore the newest copy of the folder")]
    Damaged(#[from] DecodeError),
    /// Something too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What one event adds.
#[derive(Debug)]
pub struct Row<'a> {
    /// Which run.
    pub run: RunId,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The event.
    pub event: &'a Event,
    /// What it calls for.
    pub effects: &'a [Effect],
    /// The effect whose outcome it is.
    pub done: Option<&'a str>,
}

/// A run as it is kept.
pub type Kept = (RunId, Vec<u8>);

/// The journal.
#[derive(Debug)]
pub struct Journal(Connection);

impl Journal {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let db = Connection::open(path)?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000;",
        )?;
        db.execute_batch(SCHEMA)?;
        Ok(Self(db))
    }

    /// Writes events down, and which effects without an event of their own are done; all or none.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn append(&mut self, rows: &[Row<'_>], finished: &[(RunId, String)]) -> Result<(), JournalError> {
        let transaction = self.0.transaction()?;
        {
            let mut event =
                transaction.prepare_cached("INSERT INTO event (run, at, body) VALUES (?, ?, ?)")?;
            let mut effect = transaction
                .prepare_cached("INSERT OR IGNORE INTO effect (run, name, body) VALUES (?, ?, ?)")?;
            let mut done =
                transaction.prepare_cached("UPDATE effect SET done = 1 WHERE run = ? AND name = ?")?;
            let mut entry = transaction.prepare_cached("INSERT INTO entry (body) VALUES (?)")?;
            for row in rows {
                let run = row.run.to_bytes();
                event.execute(params![run, row.at as i64, encode(row.event)?])?;
                for wanted in row.effects {
                    match (wanted, wanted.name()) {
                        (Effect::Record(new), _) => {
                            entry.execute(params![encode(new.as_ref())?])?;
                        }
                        (_, Some(name)) => {
                            effect.execute(params![run, name, encode(wanted)?])?;
                        }
                        (_, None) => {}
                    }
                }
                if let Some(name) = row.done {
                    done.execute(params![run, name])?;
                }
            }
            for (run, name) in finished {
                done.execute(params![run.to_bytes(), name])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Events after number `after`, oldest first; the first of all has number 1.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn events(&self, after: u64, each: &mut dyn FnMut(RunId, u64, Event)) -> Result<(), JournalError> {
        let mut statement =
            self.0.prepare("SELECT run, at, body FROM event WHERE number > ? ORDER BY number")?;
        let mut rows = statement.query([after as i64])?;
        while let Some(row) = rows.next()? {
            let run: [u8; 32] = row.get(0)?;
            let at: i64 = row.get(1)?;
            let body: Vec<u8> = row.get(2)?;
            each(RunId::from_bytes(run), at.unsigned_abs(), decode(&body)?);
        }
        Ok(())
    }

    /// Number of the newest event; 0 if there is none.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn event_count(&self) -> Result<u64, JournalError> {
        let count: i64 =
            self.0.query_row("SELECT COALESCE(MAX(number), 0) FROM event", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Keeps runs as they are after event `number`, in place of what was kept before.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn keep_states(&mut self, number: u64, states: &[Kept]) -> Result<(), JournalError> {
        let transaction = self.0.transaction()?;
        transaction.execute("DELETE FROM state", [])?;
        for (run, body) in states {
            transaction.execute(
                "INSERT INTO state (run, number, form, body) VALUES (?, ?, ?, ?)",
                params![run.to_bytes(), number as i64, FORM, body],
            )?;
        }
        Ok(transaction.commit()?)
    }

    /// What was kept last, and after which event; nothing if another version kept it.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn states(&self) -> Result<(u64, Vec<Kept>), JournalError> {
        let mut statement = self.0.prepare("SELECT run, number, body FROM state WHERE form = ?")?;
        let mut rows = statement.query([FORM])?;
        let (mut number, mut states) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            let run: [u8; 32] = row.get(0)?;
            let of: i64 = row.get(1)?;
            number = of.unsigned_abs();
            states.push((RunId::from_bytes(run), row.get(2)?));
        }
        Ok((number, states))
    }

    /// Number of effects that are not done.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn undone_count(&self) -> Result<u64, JournalError> {
        let count: i64 =
            self.0.query_row("SELECT COUNT(*) FROM effect WHERE NOT done", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn bytes(&self) -> Result<u64, JournalError> {
        let pages: i64 = self.0.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let size: i64 = self.0.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        Ok(pages.unsigned_abs().saturating_mul(size.unsigned_abs()))
    }

    /// Whether it can be written to.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn check(&self) -> Result<(), JournalError> {
        Ok(self.0.execute_batch("BEGIN IMMEDIATE; ROLLBACK;")?)
    }

    /// Effects that are not done.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn undone(&self) -> Result<Vec<(RunId, Effect)>, JournalError> {
        let mut statement = self.0.prepare("SELECT run, body FROM effect WHERE NOT done")?;
        let mut rows = statement.query([])?;
        let mut undone = Vec::new();
        while let Some(row) = rows.next()? {
            let run: [u8; 32] = row.get(0)?;
            let body: Vec<u8> = row.get(1)?;
            undone.push((RunId::from_bytes(run), decode(&body)?));
        }
        Ok(undone)
    }

    /// At most `limit` entries of the record from number `first`, counted from 0.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn entries(&self, first: u64, limit: u32) -> Result<Vec<Vec<u8>>, JournalError> {
        let mut statement =
            self.0.prepare_cached("SELECT body FROM entry WHERE number > ? ORDER BY number LIMIT ?")?;
        let rows = statement.query_map(params![first as i64, limit], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Number of entries.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn entry_count(&self) -> Result<u64, JournalError> {
        let count: i64 =
            self.0.query_row("SELECT COALESCE(MAX(number), 0) FROM entry", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }
}

/// An entry as it is kept.
///
/// # Errors
/// [`DecodeError`].
pub fn entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    decode(bytes)
}
