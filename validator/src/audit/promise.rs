//! What the coordinator promised to put into the record, and whether it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use watershed_commons::record::Runs;
use watershed_protocol::market::{Entry, Message, Promise};
use watershed_protocol::{Digest, Envelope, PublicKey, decode};

use super::fault::{Fault, unable};

/// Seconds that a coordinator has to write down what it took.
pub(super) const TIME: u64 = 60;

/// How many promises the record keeps.
#[derive(Clone, Copy, Default)]
pub(super) struct Kept {
    /// What they are about is there.
    pub(super) kept: usize,
    /// It is not there yet, and need not be.
    pub(super) open: usize,
}

/// Promises, and which of them were kept.
#[derive(Default)]
pub(super) struct Promises(BTreeMap<(PublicKey, Digest), Promised>);

struct Promised {
    by: PublicKey,
    promise: Promise,
    file: PathBuf,
    kept: bool,
}

fn read(file: &Path) -> Result<Promised, Fault> {
    let named = |e: &dyn std::fmt::Display| unable(format!("{}: {e}", file.display()));
    let bytes = std::fs::read(file).map_err(|e| named(&e))?;
    let envelope: Envelope = decode(&bytes).map_err(|e| named(&e))?;
    let opened = envelope.open::<Promise>().map_err(|e| named(&e))?;
    let (by, promise) = (opened.signer(), opened.into_value());
    Ok(Promised { by, promise, file: file.to_owned(), kept: false })
}

/// The file, or those in the folder.
fn files(place: &Path) -> Result<Vec<PathBuf>, Fault> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let named = |e: std::io::Error| unable(format!("{}: {e}", place.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place).map_err(named)? {
        files.push(entry.map_err(named)?.path());
    }
    // What is being written has its name in a moment.
    files.retain(|file| file.extension().is_none_or(|e| e != "partial"));
    Ok(files)
}

impl Promises {
    /// Reads promises from files and from folders of files.
    pub(super) fn read(places: &[PathBuf]) -> Result<Self, Fault> {
        let mut promises = Self::default();
        for place in places {
            for file in files(place)? {
                let promised = read(&file)?;
                promises.0.insert((promised.promise.signer, promised.promise.message), promised);
            }
        }
        Ok(promises)
    }

    /// Looks at an entry of the record.
    pub(super) fn look(&mut self, entry: &[u8]) {
        if self.0.is_empty() {
            return;
        }
        let Ok(Entry::Message { envelope }) = decode(entry) else { return };
        let Ok(message) = envelope.open::<Message>() else { return };
        if let Some(promised) = self.0.get_mut(&(message.signer(), message.digest())) {
            promised.kept = true;
        }
    }

    /// Whether the whole record has all of them that it must have by now. One that was broken comes before one that is not
    /// about this record.
    pub(super) fn kept(&self, runs: &Runs, checkpoint: &str) -> Result<Kept, Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (mut found, mut strange) = (Kept::default(), None);
        for promised in self.0.values() {
            let (promise, file) = (&promised.promise, promised.file.display());
            let Some(run) = runs.runs.get(&promise.run) else {
                let why = format!("{file} is about run {}, which this record does not have", promise.run);
                strange.get_or_insert(why);
                continue;
            };
            if run.coordinator != promised.by {
                strange.get_or_insert(format!("{file} is not signed by the coordinator of its run"));
            } else if promised.kept {
                found.kept += 1;
            } else if promise.at.saturating_add(TIME) > now {
                found.open += 1;
            } else {
                return Err(Fault::Promise(format!(
                    "the record, which its log signs with\n{checkpoint}---\nlacks the message {} of {}, which was taken at {} and \
                     promised, see {file}; signed by the coordinator {}",
                    promise.message, promise.signer, promise.at, promised.by
                )));
            }
        }
        strange.map_or(Ok(found), |why| Err(unable(why)))
    }
}
