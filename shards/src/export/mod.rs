//! A snapshot as a dataset for others: JSONL and Parquet, described in Croissant 1.1.
//!
//! What consent allows is decided here, whatever a caller passes: the text of a deposit is written only if its tier lets it be
//! shown (`train+index`); of other deposits everything but the text is. The same snapshot gives the same bytes.

mod croissant;
mod table;

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use watershed_protocol::data::{ConsentTier, Deposit, Split};
use watershed_protocol::{Digest, SnapshotId};

use crate::library::{FileError, LibraryError, Store};
use crate::snapshot::Snapshot;
use crate::trace::{TraceError, trace};

/// What is said of the dataset as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Who publishes it.
    pub creator: String,
    /// Where it is published.
    pub url: Option<String>,
    /// The day of publication, `YYYY-MM-DD`; not taken from the clock, so that the same snapshot gives the same bytes.
    pub published: Option<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The folder.
    pub folder: PathBuf,
    /// Deposits in the dataset.
    pub deposits: u64,
    /// Those whose text is in it.
    pub with_text: u64,
}

/// Why there is no dataset.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The folder has something in it.
    #[error("{} is not empty; name a new folder", .0.display())]
    NotEmpty(PathBuf),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A deposit that cannot be traced to its contributor.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A text that cannot be read.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The Parquet library.
    #[error("the Parquet file cannot be written: {0}")]
    Parquet(String),
    /// A day that is none.
    #[error("{0:?} is no day of the form 2026-01-31")]
    Published(String),
}

/// A deposit as it is exported.
pub(crate) struct Row {
    pub(crate) deposit: Deposit,
    pub(crate) tier: ConsentTier,
    pub(crate) split: Split,
    /// `None` where the tier does not let it be shown.
    pub(crate) text: Option<String>,
}

/// Counts that the description needs.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) rows: u64,
    pub(crate) with_text: u64,
    pub(crate) licenses: std::collections::BTreeSet<watershed_protocol::data::License>,
    pub(crate) languages: std::collections::BTreeSet<String>,
    pub(crate) tiers: std::collections::BTreeSet<ConsentTier>,
}

/// A file of the dataset.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    pub(crate) sha256: Digest,
}

const JSON_LINES: &str = "deposits.jsonl";
const PARQUET: &str = "deposits.parquet";
const CROISSANT: &str = "croissant.json";

/// Writes the dataset of a snapshot into `folder`, which must be empty or absent. It is written beside and renamed, so what is
/// there is whole.
///
/// # Errors
/// [`ExportError`]; nothing is left behind then.
pub fn export(
    store: &Store,
    snapshot: &Snapshot,
    about: &About,
    folder: &Path,
) -> Result<Exported, ExportError> {
    if about.published.as_deref().is_some_and(|day| !is_day(day)) {
        return Err(ExportError::Published(about.published.clone().unwrap_or_default()));
    }
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(ExportError::NotEmpty(folder.to_owned()));
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(FileError::at("create", parent))?;
    let beside = tempfile::Builder::new().prefix(".export-").tempdir_in(parent);
    let beside = beside.map_err(FileError::at("create a folder in", parent))?;
    let summary = rows(store, snapshot, beside.path())?;
    let parts = [JSON_LINES, PARQUET].map(|name| part(beside.path(), name));
    let [json_lines, parquet] = parts;
    let described = croissant::describe(snapshot, about, &summary, &[json_lines?, parquet?]);
    write(&beside.path().join(CROISSANT), format!("{described:#}\n").as_bytes())?;
    if folder.exists() {
        fs::remove_dir(folder).map_err(FileError::at("replace", folder))?;
    }
    let finished = beside.keep();
    fs::rename(&finished, folder).map_err(FileError::at("rename to", folder))?;
    open_to_others(folder)?;
    Ok(Exported {
        snapshot: snapshot.id(),
        folder: folder.to_owned(),
        deposits: summary.rows,
        with_text: summary.with_text,
    })
}

/// A temporary folder is for its owner only; a dataset is as other folders are.
fn open_to_others(folder: &Path) -> Result<(), FileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
            .map_err(FileError::at("open to others", folder))?;
    }
    Ok(())
}

fn is_day(day: &str) -> bool {
    day.len() == 10
        && day.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() })
}

/// Writes both tables, row by row.
fn rows(store: &Store, snapshot: &Snapshot, folder: &Path) -> Result<Summary, ExportError> {
    let path = folder.join(JSON_LINES);
    let failed = |e: io::Error| FileError::at("write", &path)(e);
    let mut json_lines = BufWriter::new(fs::File::create(&path).map_err(failed)?);
    let mut table = table::Table::create(&folder.join(PARQUET))?;
    let mut summary = Summary::default();
    for entry in snapshot.entries() {
        let deposit = trace(store, &entry)?;
        let tier = entry.consent.tier;
        // A text that was withdrawn since is gone: the row stays, as the record of what the snapshot was.
        let text = if tier.shows() { store.text(entry.text).map(Some).or_else(gone)? } else { None };
        let row = Row { deposit, tier, split: entry.split, text };
        let line = serde_json::to_string(&table::Line::of(&row)).map_err(io::Error::other).map_err(failed)?;
        writeln!(json_lines, "{line}").map_err(failed)?;
        summary.rows += 1;
        summary.with_text += u64::from(row.text.is_some());
        summary.licenses.insert(row.deposit.manifest().license.clone());
        summary.languages.insert(row.deposit.manifest().language.clone());
        summary.tiers.insert(tier);
        table.push(row)?;
    }
    json_lines.flush().map_err(failed)?;
    table.close()?;
    Ok(summary)
}

fn gone(e: LibraryError) -> Result<Option<String>, LibraryError> {
    if matches!(e, LibraryError::NoText(_)) { Ok(None) } else { Err(e) }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fs::write(path, bytes).map_err(FileError::at("write", path))
}

fn part(folder: &Path, name: &'static str) -> Result<Part, FileError> {
    let path = folder.join(name);
    let failed = |e: io::Error| FileError::at("read", &path)(e);
    let mut file = fs::File::open(&path).map_err(failed)?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(Part { name, bytes, sha256: Digest(hasher.finalize().into()) });
        }
        hasher.update(buffer.get(..read).unwrap_or(&buffer));
        bytes += read as u64;
    }
}
