//! Copies entries from the journal into the public log.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use watershed_commons::log::{LogError, LogKey, Writer};

use crate::journal::{Journal, JournalError};

/// Entries appended at once.
const BATCH: u32 = 1000;

/// How long entries are collected: a checkpoint costs the same for one and for hundreds.
const COLLECT: Duration = Duration::from_millis(50);

/// Writes the log.
pub struct Recorder {
    writer: Writer,
    journal: Journal,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({} entries)", self.writer.size())
    }
}

impl Recorder {
    /// Opens log and journal.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn open(
        folder: &Path,
        key: LogKey,
        journal: &Path,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let writer = Writer::open(folder, key)?;
        let journal = Journal::open(journal)?;
        let (size, entries) = (writer.size(), journal.entry_count()?);
        if size > entries {
            return Err(format!(
                "the public log has {size} entries and the journal only {entries}: an old copy of the journal was put \
                 back. Put back the newest one; signing on from here would fork the record"
            )
            .into());
        }
        Ok(Self { writer, journal })
    }

    fn copy(&mut self) -> Result<(), Failed> {
        loop {
            let entries = self.journal.entries(self.writer.size(), BATCH)?;
            if entries.is_empty() {
                return Ok(());
            }
            self.writer.append(&entries)?;
        }
    }

    /// Appends whatever the journal has more, now and whenever something changes. Blocks; for a thread of its own.
    pub fn run(mut self, mut changes: watch::Receiver<u64>, runtime: &tokio::runtime::Handle) {
        loop {
            changes.mark_unchanged();
            if let Err(e) = self.copy() {
                eprintln!("the public log: {e}");
                std::thread::sleep(Duration::from_secs(5));
                continue;
            }
            if runtime.block_on(changes.changed()).is_err() {
                return;
            }
            std::thread::sleep(COLLECT);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}
