//! Copies entries from the journal into the public log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use watershed_commons::log::{LogError, LogKey, Writer};
use watershed_protocol::decode;
use watershed_protocol::market::Entry;

use super::falsehood::Falsehood;
use crate::journal::{Journal, JournalError};

/// Entries appended at once.
const BATCH: u32 = 1000;

/// Checkpoints after which a false coordinator rewrites its history: what is removed earlier than others look is rather left
/// out than rewritten.
const OLD: usize = 12;

/// How long entries are collected: a checkpoint costs the same for one and for hundreds.
const COLLECT: Duration = Duration::from_millis(50);

/// Writes the log.
pub struct Recorder {
    writer: Writer,
    journal: Journal,
    /// For a coordinator that rewrites its history: where the log is, and its key; none once it is done.
    rewrites: Option<(PathBuf, LogKey)>,
    /// The entry that was left out then.
    left_out: Option<u64>,
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
        Ok(Self { writer, journal, rewrites: None, left_out: None })
    }

    /// For a coordinator that cannot be trusted: what it does with its log.
    #[must_use]
    pub fn false_if(self, falsehood: Option<Falsehood>, folder: &Path, key: LogKey) -> Self {
        let rewrites = (falsehood == Some(Falsehood::RewritesHistory)).then(|| (folder.to_owned(), key));
        Self { rewrites, ..self }
    }

    fn copy(&mut self) -> Result<(), Failed> {
        loop {
            let next = self.writer.size() + u64::from(self.left_out.is_some());
            let entries = self.journal.entries(next, BATCH)?;
            if entries.is_empty() {
                return self.rewrite();
            }
            self.writer.append(&entries)?;
        }
    }

    /// When so many checkpoints were published that everybody has looked, a message before the second was never there.
    fn rewrite(&mut self) -> Result<(), Failed> {
        let Some((folder, key)) = &self.rewrites else { return Ok(()) };
        let mut told = self.journal.entries(0, u32::MAX)?;
        let of_kind = |is: fn(&Entry) -> bool| {
            told.iter().enumerate().filter(move |(_, e)| decode(e).is_ok_and(|e| is(&e))).map(|(n, _)| n)
        };
        let stepped: Vec<usize> = of_kind(|e| matches!(e, Entry::Checkpoint(_))).collect();
        let Some(stepped) = stepped.get(1).copied().filter(|_| stepped.len() >= OLD) else { return Ok(()) };
        let Some(message) = of_kind(|e| matches!(e, Entry::Message { .. })).rfind(|n| *n < stepped) else {
            return Ok(());
        };
        told.remove(message);
        // Beside it first: the folder's lock is ours.
        let beside = folder.with_extension("rewritten");
        Writer::open(&beside, key.clone())?.append(&told)?;
        let _ = std::fs::remove_dir_all(folder);
        std::fs::rename(&beside, folder).map_err(Failed::Rename)?;
        self.writer = Writer::open(folder, key.clone())?;
        (self.left_out, self.rewrites) = (Some(message as u64), None);
        Ok(())
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
    #[error("{0}")]
    Rename(std::io::Error),
}

#[cfg(test)]
mod tests {
    use watershed_commons::log::{Folder, Log, PinError, Pins};
    use watershed_protocol::market::{Message, Stepped};
    use watershed_protocol::{Digest, Envelope, RoundNumber, RunId, SecretKey};

    use super::*;
    use crate::journal::Row;
    use crate::machine::{Effect, Event};

    fn key() -> LogKey {
        LogKey::new("watershed/test", &[1; 32]).unwrap()
    }

    #[test]
    fn a_coordinator_that_rewrites_its_history_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let (log, journal) = (folder.path().join("log"), folder.path().join("journal"));
        let run = RunId::from_bytes([0; 32]);
        let none = Digest([0; 32]);
        let stepped = |round| {
            Entry::Checkpoint(Stepped {
                run,
                round: RoundNumber(round),
                checkpoint: none,
                blob: none,
                velocity: None,
                accepted: Vec::new(),
                loss: 0,
            })
        };
        let said = || {
            let signer = SecretKey::from_entropy([3; 32]).unwrap();
            Entry::Message { envelope: Envelope::sign(&Message::Leave { run }, &signer).unwrap() }
        };
        let mut recorder = Recorder::open(&log, key(), &journal).unwrap().false_if(
            Some(Falsehood::RewritesHistory),
            &log,
            key(),
        );
        let mut writing = Journal::open(&journal).unwrap();
        let mut record = |entry: Entry| {
            let effects = [Effect::Record(Box::new(entry))];
            let row = Row { run, at: 0, event: &Event::Pause { at: 1 }, effects: &effects, done: None };
            writing.append(&[row], &[]).unwrap();
        };
        let pins = Pins::new(&folder.path().join("pins"));
        let look =
            || pins.check(&Log::open(Folder(log.clone()), &key().verifier()).unwrap(), &key().verifier());
        record(stepped(0));
        record(said());
        record(said());
        recorder.copy().unwrap();
        look().unwrap();
        for round in 1..OLD as u32 - 1 {
            record(stepped(round));
            recorder.copy().unwrap();
            look().unwrap();
        }
        record(stepped(OLD as u32 - 1));
        recorder.copy().unwrap();
        // One entry less, none of them new; and it goes on as if nothing had been.
        assert!(matches!(look(), Err(PinError::Rewritten { .. })));
        record(said());
        record(stepped(OLD as u32));
        recorder.copy().unwrap();
        assert_eq!(recorder.writer.size(), 3 + OLD as u64);
        assert!(matches!(look(), Err(PinError::Rewritten { .. })));
    }
}
