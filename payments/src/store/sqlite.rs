//! The store in one SQLite file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{BookedEntry, Change, Filter, RawRecord, Store, StoreError};
use crate::ledger::{Account, Entry, Posting};

const VERSION: u32 = 1;

// Entries are protected by the database itself: no statement of this or another program changes one.
const SCHEMA: &str = "
    CREATE TABLE record (
        kind TEXT NOT NULL, id TEXT NOT NULL, grouped TEXT NOT NULL, open INTEGER NOT NULL,
        version INTEGER NOT NULL, body TEXT NOT NULL,
        UNIQUE (kind, id)
    );
    CREATE INDEX record_group ON record (kind, grouped);
    CREATE INDEX record_open ON record (kind) WHERE open;
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
    PRAGMA user_version = 1;
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
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;",
        )?;
        let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            VERSION => {}
            0 => {
                let create = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                create.execute_batch(SCHEMA)?;
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
                "INSERT INTO record (kind, id, grouped, open, version, body) VALUES (?1, ?2, ?3, ?4, 1, ?5)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![record.kind, record.id, record.group, record.open, record.body])?
    } else {
        connection
            .prepare_cached(
                "UPDATE record SET grouped = ?3, open = ?4, body = ?5, version = version + 1
                 WHERE kind = ?1 AND id = ?2 AND version = ?6",
            )?
            .execute(params![record.kind, record.id, record.group, record.open, record.body, version])?
    };
    if written == 1 { Ok(()) } else { Err(StoreError::Conflict { kind: record.kind, id: record.id.clone() }) }
}

fn raw(kind: &'static str, row: &rusqlite::Row<'_>) -> rusqlite::Result<RawRecord> {
    Ok(RawRecord {
        kind,
        id: row.get(0)?,
        group: row.get(1)?,
        open: row.get(2)?,
        version: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
        body: row.get(4)?,
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
        for entry in &change.entries {
            append(&transaction, entry, at)?;
        }
        Ok(transaction.commit()?)
    }

    fn raw(&self, kind: &'static str, id: &str) -> Result<Option<RawRecord>, StoreError> {
        let connection = self.lock();
        let mut one = connection.prepare_cached(
            "SELECT id, grouped, open, version, body FROM record WHERE kind = ?1 AND id = ?2",
        )?;
        Ok(one.query_row([kind, id], |row| raw(kind, row)).optional()?)
    }

    fn raw_list(&self, kind: &'static str, filter: Filter<'_>) -> Result<Vec<RawRecord>, StoreError> {
        let connection = self.lock();
        const COLUMNS: &str = "SELECT id, grouped, open, version, body FROM record WHERE kind = ?1";
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
    fn a_database_of_a_later_program_is_left_alone() {
        let (dir, store) = store();
        drop(store);
        let path = dir.path().join("payments.sqlite");
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
        assert!(matches!(SqliteStore::open(&path), Err(StoreError::Version { found: 9, known: 1 })));
    }
}
