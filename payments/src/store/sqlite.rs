//! The store in one SQLite file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{BookedEntry, Change, Filter, RawRecord, Store, StoreError};
use crate::ledger::{Account, Entry, Posting};

const VERSION: u32 = 2;

// Entries are protected by the database itself: no statement of this or another program changes one.
const SCHEMA: &str = "
    CREATE TABLE record (
        kind TEXT NOT NULL, id TEXT NOT NULL, grouped TEXT NOT NULL, open INTEGER NOT NULL,
        version INTEGER NOT NULL, body TEXT NOT NULL, kept INTEGER NOT NULL DEFAULT 1,
        UNIQUE (kind, id)
    );
    CREATE INDEX record_group ON record (kind, grouped);
    CREATE INDEX record_open ON record (kind) WHERE open;
    CREATE INDEX record_kept ON record (kind) WHERE kept;
    CREATE TABLE entry (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, memo TEXT NOT NULL);
    CREATE TABLE posting (
        entry INTEGER NOT NULL REFERENCES entry, line INTEGER NOT NULL, account TEXT NOT NULL, msat INTEGER NOT NULL,
        PRIMARY KEY (entry, line)
    ) WITHOUT ROWID;
    CREATE INDEX posting_account ON posting (account, entry);
    CREATE TABLE balance (account TEXT PRIMARY KEY, msat INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TRIGGER entry_stays BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER entry_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER posting_stays BEFORE UPDATE ON posting BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    CREATE TRIGGER posting_kept BEFORE DELETE ON posting BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
    PRAGMA user_version = 2;
";

// Version 1 did not know what the node remembers: all of it.
const FROM_1: &str = "
    ALTER TABLE record ADD COLUMN kept INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX record_kept ON record (kind) WHERE kept;
    PRAGMA user_version = 2;
";

/// SQLite, every commit on disk before it returns.
#[derive(Debug)]
pub struct SqliteStore(Mutex<Connection>);

impl SqliteStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Version`]; those of SQLite.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        // Money: a commit that was reported must survive a power cut, so FULL even though WAL would be faster without.
        connection.execute_batch(
            // Half a MiB of pages in memory, of however large a file.
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000; \
             PRAGMA cache_size = -512;",
        )?;
        let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            VERSION => {}
            0 | 1 => {
                let create = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                create.execute_batch(if found == 0 { SCHEMA } else { FROM_1 })?;
                create.commit()?;
            }
            found => return Err(StoreError::Version { found, known: VERSION }),
        }
        Ok(Self(Mutex::new(connection)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere cannot leave the connection half used: transactions roll back when dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Callers see that the database is in trouble, not which one it is.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

fn stored_entry(connection: &Connection, key: &str) -> rusqlite::Result<Option<Vec<(String, i64)>>> {
    let mut number = connection.prepare_cached("SELECT number FROM entry WHERE key = ?1")?;
    let Some(number) = number.query_row([key], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(None);
    };
    postings(connection, number).map(Some)
}

fn postings(connection: &Connection, number: i64) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut lines =
        connection.prepare_cached("SELECT account, msat FROM posting WHERE entry = ?1 ORDER BY line")?;
    lines.query_map([number], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn append(connection: &Connection, entry: &Entry, at: u64) -> Result<(), StoreError> {
    if let Some(stored) = stored_entry(connection, entry.key())? {
        let same = stored
            .iter()
            .map(|(account, msat)| (account.clone(), *msat))
            .eq(entry.postings().iter().map(|p| (p.account.to_string(), p.msat)));
        return if same { Ok(()) } else { Err(StoreError::EntryDiffers(entry.key().to_owned())) };
    }
    connection.prepare_cached("INSERT INTO entry (key, at, memo) VALUES (?1, ?2, ?3)")?.execute(params![
        entry.key(),
        i64::try_from(at).unwrap_or(i64::MAX),
        entry.memo()
    ])?;
    let number = connection.last_insert_rowid();
    for (line, posting) in entry.postings().iter().enumerate() {
        let account = posting.account.to_string();
        let line = i64::try_from(line).unwrap_or(i64::MAX);
        connection
            .prepare_cached("INSERT INTO posting (entry, line, account, msat) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![number, line, account, posting.msat])?;
        connection
            .prepare_cached(
                "INSERT INTO balance (account, msat) VALUES (?1, ?2)
                 ON CONFLICT (account) DO UPDATE SET msat = msat + excluded.msat",
            )?
            .execute(params![account, posting.msat])?;
    }
    Ok(())
}

fn put(connection: &Connection, record: &RawRecord) -> Result<(), StoreError> {
    let version = i64::try_from(record.version).unwrap_or(i64::MAX);
    let written = if version == 0 {
        connection
            .prepare_cached(
                "INSERT INTO record (kind, id, grouped, open, kept, version, body) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![record.kind, record.id, record.group, record.open, record.kept, record.body])?
    } else {
        connection
            .prepare_cached(
                "UPDATE record SET grouped = ?3, open = ?4, kept = ?5, body = ?6, version = version + 1
                 WHERE kind = ?1 AND id = ?2 AND version = ?7",
            )?
            .execute(params![
                record.kind,
                record.id,
                record.group,
                record.open,
                record.kept,
                record.body,
                version
            ])?
    };
    if written == 1 { Ok(()) } else { Err(StoreError::Conflict { kind: record.kind, id: record.id.clone() }) }
}

fn raw(kind: &'static str, row: &rusqlite::Row<'_>) -> rusqlite::Result<RawRecord> {
    Ok(RawRecord {
        kind,
        id: row.get(0)?,
        group: row.get(1)?,
        open: row.get(2)?,
        kept: row.get(3)?,
        version: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
        body: row.get(5)?,
    })
}

fn damaged(number: i64, reason: impl ToString) -> StoreError {
    StoreError::Damaged { kind: "entry", id: number.to_string(), reason: reason.to_string() }
}

impl Store for SqliteStore {
    fn commit(&self, change: &Change, at: u64) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for record in &change.records {
            put(&transaction, record)?;
        }
        for (kind, id, version) in &change.deleted {
            let version = i64::try_from(*version).unwrap_or(i64::MAX);
            let deleted = transaction
                .prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2 AND version = ?3")?
                .execute(params![kind, id, version])?;
            if deleted != 1 {
                return Err(StoreError::Conflict { kind, id: id.clone() });
            }
        }
        for entry in &change.entries {
            append(&transaction, entry, at)?;
        }
        Ok(transaction.commit()?)
    }

    fn raw(&self, kind: &'static str, id: &str) -> Result<Option<RawRecord>, StoreError> {
        let connection = self.lock();
        let mut one = connection.prepare_cached(
            "SELECT id, grouped, open, kept, version, body FROM record WHERE kind = ?1 AND id = ?2",
        )?;
        Ok(one.query_row([kind, id], |row| raw(kind, row)).optional()?)
    }

    fn raw_list(&self, kind: &'static str, filter: Filter<'_>) -> Result<Vec<RawRecord>, StoreError> {
        let connection = self.lock();
        const COLUMNS: &str = "SELECT id, grouped, open, kept, version, body FROM record WHERE kind = ?1";
        let read = |row: &rusqlite::Row<'_>| raw(kind, row);
        let rows = match filter {
            Filter::Group(group) => connection
                .prepare_cached(&format!("{COLUMNS} AND grouped = ?2 ORDER BY rowid"))?
                .query_map([kind, group], read)?
                .collect::<Result<_, _>>()?,
            Filter::Open => connection
                .prepare_cached(&format!("{COLUMNS} AND open ORDER BY rowid"))?
                .query_map([kind], read)?
                .collect::<Result<_, _>>()?,
            Filter::Kept => connection
                .prepare_cached(&format!("{COLUMNS} AND kept ORDER BY rowid"))?
                .query_map([kind], read)?
                .collect::<Result<_, _>>()?,
            Filter::Latest(limit) => connection
                .prepare_cached(&format!("{COLUMNS} ORDER BY rowid DESC LIMIT ?2"))?
                .query_map(params![kind, limit], read)?
                .collect::<Result<_, _>>()?,
        };
        Ok(rows)
    }

    fn balances(&self) -> Result<BTreeMap<Account, i64>, StoreError> {
        let connection = self.lock();
        let mut all = connection.prepare_cached("SELECT account, msat FROM balance")?;
        let rows = all.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let mut balances = BTreeMap::new();
        for row in rows {
            let (account, msat) = row?;
            balances.insert(account.parse().map_err(|e| damaged(0, e))?, msat);
        }
        Ok(balances)
    }

    fn is_booked(&self, key: &str) -> Result<bool, StoreError> {
        let connection = self.lock();
        let mut one = connection.prepare_cached("SELECT 1 FROM entry WHERE key = ?1")?;
        Ok(one.exists([key])?)
    }

    fn last_entry(&self) -> Result<u64, StoreError> {
        let connection = self.lock();
        let mut last = connection.prepare_cached("SELECT coalesce(max(number), 0) FROM entry")?;
        Ok(u64::try_from(last.query_row([], |row| row.get::<_, i64>(0))?).unwrap_or(0))
    }

    fn entries(
        &self,
        account: Option<&Account>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<BookedEntry>, StoreError> {
        let connection = self.lock();
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let columns = |row: &rusqlite::Row<'_>| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, String>(3)?,
            ))
        };
        let rows: Vec<_> = match account {
            None => connection
                .prepare_cached(
                    "SELECT number, key, at, memo FROM entry WHERE number > ?1 ORDER BY number LIMIT ?2",
                )?
                .query_map(params![after, limit], columns)?
                .collect::<Result<_, _>>()?,
            Some(account) => connection
                .prepare_cached(
                    "SELECT number, key, at, memo FROM entry WHERE number > ?1 AND EXISTS
                     (SELECT 1 FROM posting WHERE entry = number AND account = ?3) ORDER BY number LIMIT ?2",
                )?
                .query_map(params![after, limit, account.to_string()], columns)?
                .collect::<Result<_, _>>()?,
        };
        let entry = |(number, key, at, memo): (i64, String, i64, String)| {
            let postings = postings(&connection, number)?
                .into_iter()
                .map(|(account, msat)| {
                    Ok(Posting { account: account.parse().map_err(|e| damaged(number, e))?, msat })
                })
                .collect::<Result<_, StoreError>>()?;
            let entry = Entry::new(key, memo, postings).map_err(|e| damaged(number, e))?;
            Ok(BookedEntry {
                number: u64::try_from(number).unwrap_or(0),
                at: u64::try_from(at).unwrap_or(0),
                entry,
            })
        };
        rows.into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use watershed_protocol::Msat;

    use super::super::{Record, get, list};
    use super::*;
    use crate::ledger::Legs;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        id: String,
        text: String,
    }

    impl Record for Note {
        const KIND: &'static str = "note";
        fn id(&self) -> String {
            self.id.clone()
        }
        fn group(&self) -> String {
            "all".into()
        }
        fn is_open(&self) -> bool {
            self.text != "done"
        }
    }

    fn store() -> (tempfile::TempDir, SqliteStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("payments.sqlite")).unwrap();
        (dir, store)
    }

    fn move_to_escrow(key: &str, msat: u64) -> Option<Entry> {
        Legs::new()
            .leg(&Account::Channels, &Account::Escrow, Msat::new(msat))
            .unwrap()
            .entry(key, "")
            .unwrap()
    }

    #[test]
    fn a_change_is_written_whole_or_not_at_all() {
        let (_dir, store) = store();
        let mut first = Change::new();
        first.put(&Note { id: "a".into(), text: "one".into() }, 0).unwrap();
        first.book(move_to_escrow("k", 5));
        store.commit(&first, 1).unwrap();

        let mut stale = Change::new();
        stale.book(move_to_escrow("other", 7));
        stale.put(&Note { id: "a".into(), text: "two".into() }, 0).unwrap();
        assert!(matches!(store.commit(&stale, 2), Err(StoreError::Conflict { .. })));
        assert_eq!(
            store.balances().unwrap()[&Account::Escrow],
            5,
            "the entry of the refused change is not booked"
        );

        let note = get::<Note>(&store, "a").unwrap().unwrap();
        assert_eq!((note.record.text.as_str(), note.version), ("one", 1));
        let mut done = Change::new();
        done.put(&Note { id: "a".into(), text: "done".into() }, 1).unwrap();
        store.commit(&done, 3).unwrap();
        assert!(list::<Note>(&store, Filter::Open).unwrap().is_empty());
        assert_eq!(list::<Note>(&store, Filter::Group("all")).unwrap().len(), 1);
    }

    #[test]
    fn an_entry_is_booked_once_and_never_changed() {
        let (dir, store) = store();
        for _ in 0..2 {
            let mut change = Change::new();
            change.book(move_to_escrow("k", 5));
            store.commit(&change, 1).unwrap();
        }
        assert_eq!(store.balances().unwrap()[&Account::Escrow], 5);
        assert_eq!(store.balances().unwrap().values().sum::<i64>(), 0);
        let mut other = Change::new();
        other.book(move_to_escrow("k", 6));
        assert!(matches!(store.commit(&other, 1), Err(StoreError::EntryDiffers(_))));
        let entries = store.entries(Some(&Account::Escrow), 0, 10).unwrap();
        assert_eq!((entries.len(), entries[0].number, entries[0].entry.key()), (1, 1, "k"));
        assert!(store.entries(None, 1, 10).unwrap().is_empty());

        let intruder = Connection::open(dir.path().join("payments.sqlite")).unwrap();
        for statement in ["UPDATE posting SET msat = 1", "DELETE FROM entry", "DELETE FROM posting"] {
            assert!(intruder.execute(statement, []).unwrap_err().to_string().contains("append-only"));
        }
    }

    #[test]
    fn a_record_is_deleted_in_the_version_that_was_read() {
        let (_dir, store) = store();
        let note = Note { id: "a".into(), text: "one".into() };
        let mut change = Change::new();
        change.put(&note, 0).unwrap();
        store.commit(&change, 1).unwrap();
        for (version, done) in [(2, false), (1, true), (1, false)] {
            let mut delete = Change::new();
            delete.delete(&note, version);
            assert_eq!(store.commit(&delete, 2).is_ok(), done, "{version}");
        }
        assert!(get::<Note>(&store, "a").unwrap().is_none());
    }

    #[test]
    fn a_database_of_the_first_version_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("payments.sqlite");
        let first = SCHEMA
            .replace(", kept INTEGER NOT NULL DEFAULT 1", "")
            .replace("CREATE INDEX record_kept ON record (kind) WHERE kept;", "")
            .replace("user_version = 2", "user_version = 1");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(&first).unwrap();
        let insert = "INSERT INTO record (kind, id, grouped, open, version, body)
                      VALUES ('note', 'a', 'all', 0, 3, '{\"id\":\"a\",\"text\":\"done\"}')";
        old.execute(insert, []).unwrap();
        drop(old);
        let store = SqliteStore::open(&path).unwrap();
        let kept = list::<Note>(&store, Filter::Kept).unwrap();
        assert_eq!(
            (kept.len(), kept[0].version),
            (1, 3),
            "the node remembers what it was never told to forget"
        );
        let mut change = Change::new();
        change.put(&kept[0].record, 3).unwrap();
        store.commit(&change, 1).unwrap();
        assert!(list::<Note>(&store, Filter::Kept).unwrap().is_empty());
    }

    #[test]
    fn a_database_of_a_later_program_is_left_alone() {
        let (dir, store) = store();
        drop(store);
        let path = dir.path().join("payments.sqlite");
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
        assert!(matches!(SqliteStore::open(&path), Err(StoreError::Version { found: 9, known: 2 })));
    }
}
