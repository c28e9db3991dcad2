//! What the coordinator promised to put into the record, and whether it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use watershed_commons::record::Runs;
use watershed_protocol::market::{Entry, Message, Promise};
use watershed_protocol::{Digest, Envelope, PublicKey, decode};

use super::fault::{Fault, unable};

/// Seconds that a coordinator has to write down what it took.
const TIME: u64 = 60;

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

impl Promises {
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, Fault> {
        let mut promises = Self::default();
        for file in files {
            let promised = read(file)?;
            promises.0.insert((promised.promise.signer, promised.promise.message), promised);
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

    /// Whether the whole record has all of them.
    pub(super) fn kept(&self, runs: &Runs, checkpoint: &str) -> Result<(), Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        for promised in self.0.values() {
            let (promise, file) = (&promised.promise, promised.file.display());
            let Some(run) = runs.runs.get(&promise.run) else {
                return Err(unable(format!(
                    "{file} is about run {}, which this record does not have",
                    promise.run
                )));
            };
            if run.coordinator != promised.by {
                return Err(unable(format!("{file} is not signed by the coordinator of its run")));
            }
            if promised.kept {
                eprintln!("{file}: the message is in the record");
            } else if promise.at.saturating_add(TIME) > now {
                return Err(unable(format!("{file} is younger than {TIME} s; ask again then")));
            } else {
                return Err(Fault::Promise(format!(
                    "the record, which its log signs with\n{checkpoint}---\nlacks the message {} of {}, which was taken at {} and \
                     promised; signed by the coordinator {}",
                    promise.message, promise.signer, promise.at, promised.by
                )));
            }
        }
        Ok(())
    }
}
