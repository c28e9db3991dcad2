//! Importing many texts: from files to deposits.
//!
//! An import that is stopped or killed is taken up by running it again: a text that the library has is recognised by its hash
//! and passed over. Nothing depends on the order of files.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;
use watershed_protocol::data::{ConsentTier, CoreCode, Deposit, DepositError, License, Manifest, Register};
use watershed_protocol::{ManifestId, SecretKey};

use crate::library::{Content, Library, LibraryError, Outcome};
use crate::license::license;
use crate::reading::{Limits, Mapping, Record, SourceFile, read};
use crate::text::{Changes, TextError, normalize};

/// Most records, and bytes of text, that are deposited at once.
const BATCH_RECORDS: usize = 512;
const BATCH_BYTES: usize = 16 << 20;

/// What holds for every text of an import unless the text says otherwise.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Where the fields stand.
    pub mapping: Mapping,
    /// Register of texts that name none and lie in no folder that is called like one.
    pub register: Option<Register>,
    /// CORE codes of all texts.
    pub core: Vec<CoreCode>,
    /// Licence of texts that name none.
    pub license: Option<License>,
    /// Language of texts that name none.
    pub language: String,
    /// Author of texts that name none.
    pub author: String,
    /// Source of texts that name none.
    pub source: String,
    /// What may be done with them.
    pub tier: ConsentTier,
    /// Most bytes of a text.
    pub limit: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Files that were read.
    pub files: u64,
    /// Texts found in them.
    pub records: u64,
    /// Texts that are now in the library and were not before.
    pub stored: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Texts that had been deposited by the same key.
    pub known: u64,
    /// Stored texts that had to be normalised.
    pub normalized: u64,
    /// Stored texts that are nearly the same as others.
    pub near_duplicates: u64,
    /// Texts that another key had deposited.
    pub conflicts: u64,
    /// Texts that the same key had withdrawn.
    pub withdrawn: u64,
    /// Texts that were refused.
    pub refused: u64,
    /// Files that could not be read to their end.
    pub unreadable: u64,
}

/// Something that a person should know about a text or a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The file.
    pub file: PathBuf,
    /// Which text of it, from 0; `None` for the whole file.
    pub record: Option<u64>,
    /// What became of it.
    pub status: Status,
    /// Why, or how.
    pub detail: String,
    /// Its deposit, if it has one.
    pub deposit: Option<ManifestId>,
    /// Deposits that it nearly duplicates, with their similarity in basis points.
    pub near: Vec<(ManifestId, u16)>,
}

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Stored, and normalised.
    Normalized,
    /// Stored, and nearly the same as others.
    NearDuplicate,
    /// Deposited before.
    Known,
    /// Deposited before by another key.
    Conflict,
    /// Withdrawn before.
    Withdrawn,
    /// Not stored.
    Refused,
    /// The file cannot be read, or not further.
    Unreadable,
}

/// Why a single text is not stored.
#[derive(Debug, Error)]
enum RecordError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(
        "it has no register: name one in the file, put it in a folder called like one, or give --register"
    )]
    NoRegister,
    #[error("its register: {0}")]
    Register(watershed_protocol::data::UnknownName),
    #[error("it has no licence: name one in the file or give --license")]
    NoLicense,
    #[error(transparent)]
    Deposit(#[from] DepositError),
}

/// A text that is ready to be deposited.
struct Prepared {
    deposit: Deposit,
    content: Content,
    changes: Changes,
}

/// What an import tells while it runs.
pub enum Progress<'a> {
    /// A remark.
    Remark(&'a Remark),
    /// So many bytes of files are done.
    Bytes(u64),
}

/// Reads files and deposits every text in them with `key`. Returns early, with what was done so far, when `stopped` says so.
///
/// # Errors
/// [`LibraryError`] if the library fails; texts and files that are bad are remarks.
pub fn import(
    library: &mut Library,
    key: &SecretKey,
    files: &[SourceFile],
    options: &ImportOptions,
    now: u64,
    tell: &mut dyn FnMut(Progress<'_>),
    stopped: &dyn Fn() -> bool,
) -> Result<ImportReport, LibraryError> {
    let mut run =
        Run { library, key, options, now, tell, report: ImportReport::default(), batch: Vec::new() };
    // A text in JSON is longer by its escapes and by what stands beside it.
    let max_bytes = options.limit.saturating_mul(2).saturating_add(1 << 20);
    let limits = Limits { max_bytes, ..Limits::default() };
    let mut waiting = 0;
    let mut done = 0;
    'files: for file in files {
        if stopped() {
            break;
        }
        let records = match read(file, &options.mapping, limits, 0) {
            Ok(records) => records,
            Err(e) => {
                run.unreadable(file, &e);
                continue;
            }
        };
        run.report.files += 1;
        for record in records {
            match record {
                Err(refusal) if refusal.ends_file() => run.unreadable(file, &refusal.reason),
                Err(refusal) => {
                    run.report.records += 1;
                    run.refused(file, refusal.index, &format_args!("{}: {}", refusal.place, refusal.reason));
                }
                Ok(record) => {
                    run.report.records += 1;
                    waiting += record.bytes.len();
                    run.batch.push((file, record));
                    if waiting >= BATCH_BYTES || run.batch.len() >= BATCH_RECORDS {
                        waiting = 0;
                        run.flush()?;
                        if stopped() {
                            break 'files;
                        }
                    }
                }
            }
        }
        done += file.bytes;
        (run.tell)(Progress::Bytes(done));
    }
    run.flush()?;
    Ok(run.report)
}

struct Run<'a> {
    library: &'a mut Library,
    key: &'a SecretKey,
    options: &'a ImportOptions,
    now: u64,
    tell: &'a mut dyn FnMut(Progress<'_>),
    report: ImportReport,
    batch: Vec<(&'a SourceFile, Record)>,
}

impl Run<'_> {
    fn flush(&mut self) -> Result<(), LibraryError> {
        let batch = std::mem::take(&mut self.batch);
        let (key, options) = (self.key, self.options);
        let prepared: Vec<_> = batch
            .into_par_iter()
            .map(|(file, record)| (file, record.index, prepare(key, options, file, record)))
            .collect();
        let mut places = Vec::new();
        let mut offered = Vec::new();
        for (file, index, prepared) in prepared {
            match prepared {
                Err(e) => self.refused(file, index, &e),
                Ok(Prepared { deposit, content, changes }) => {
                    places.push((file, index, changes));
                    offered.push((deposit, content));
                }
            }
        }
        let outcomes = self.library.deposit(&offered, self.now)?;
        for (((file, index, changes), (deposit, _)), outcome) in
            places.into_iter().zip(&offered).zip(outcomes)
        {
            self.outcome(file, index, &changes, deposit, outcome);
        }
        Ok(())
    }

    fn outcome(
        &mut self,
        file: &SourceFile,
        index: u64,
        changes: &Changes,
        deposit: &Deposit,
        outcome: Outcome,
    ) {
        let report = &mut self.report;
        let (status, detail, id, near) = match outcome {
            Outcome::Stored { near, .. } => {
                report.stored += 1;
                report.bytes += deposit.manifest().bytes;
                report.normalized += u64::from(!changes.none());
                report.near_duplicates += u64::from(!near.is_empty());
                let detail = changes.to_string();
                match near.first() {
                    None if changes.none() => return,
                    None => (Status::Normalized, detail, Some(deposit.id()), near),
                    Some((other, similarity)) => {
                        let alike = f64::from(*similarity) / 100.0;
                        let detail = format!("{alike:.0} % alike to deposit {other}; {detail}");
                        (Status::NearDuplicate, detail, Some(deposit.id()), near)
                    }
                }
            }
            Outcome::Known { id, .. } => {
                report.known += 1;
                (Status::Known, "deposited before".to_owned(), Some(id), Vec::new())
            }
            Outcome::Conflict { first } => {
                report.conflicts += 1;
                let detail = "another key deposited the same text first; the conflict is recorded".to_owned();
                (Status::Conflict, detail, Some(first), Vec::new())
            }
            Outcome::Withdrawn { id, .. } => {
                report.withdrawn += 1;
                let detail = "you withdrew this text; use deposit --again if you want it back".to_owned();
                (Status::Withdrawn, detail, Some(id), Vec::new())
            }
            Outcome::Mismatch => {
                report.refused += 1;
                (Status::Refused, "manifest and text do not fit".to_owned(), None, Vec::new())
            }
        };
        self.remark(file, Some(index), status, detail, id, near);
    }

    fn refused(&mut self, file: &SourceFile, index: u64, why: &dyn std::fmt::Display) {
        self.report.refused += 1;
        self.remark(file, Some(index), Status::Refused, why.to_string(), None, Vec::new());
    }

    fn unreadable(&mut self, file: &SourceFile, why: &dyn std::fmt::Display) {
        self.report.unreadable += 1;
        self.remark(file, None, Status::Unreadable, why.to_string(), None, Vec::new());
    }

    fn remark(
        &mut self,
        file: &SourceFile,
        record: Option<u64>,
        status: Status,
        detail: String,
        deposit: Option<ManifestId>,
        near: Vec<(ManifestId, u16)>,
    ) {
        let remark = Remark { file: file.path.clone(), record, status, detail, deposit, near };
        (self.tell)(Progress::Remark(&remark));
    }
}

/// A record into a signed deposit.
fn prepare(
    key: &SecretKey,
    options: &ImportOptions,
    file: &SourceFile,
    record: Record,
) -> Result<Prepared, RecordError> {
    let normalized = normalize(&record.bytes, options.limit)?;
    let register = match (&record.register, file.folder()) {
        (Some(name), _) => name.parse().map_err(RecordError::Register)?,
        (None, Some(folder)) if folder.parse::<Register>().is_ok() => {
            folder.parse().map_err(RecordError::Register)?
        }
        _ => options.register.ok_or(RecordError::NoRegister)?,
    };
    let own = record.license.as_deref().map(license);
    let license = own.or_else(|| options.license.clone()).ok_or(RecordError::NoLicense)?;
    let title = record.title.unwrap_or_else(|| format!("{} #{}", file.relative.display(), record.index));
    let manifest = Manifest {
        contributor: key.public(),
        text: normalized.id(),
        bytes: normalized.text.len() as u64,
        revision: 0,
        title: clean(&title, Manifest::MAX_TITLE),
        author: clean(&record.author.unwrap_or_else(|| options.author.clone()), Manifest::MAX_TITLE),
        language: record.language.unwrap_or_else(|| options.language.clone()),
        register,
        core: options.core.clone(),
        license,
        tier: options.tier,
        source: record.source.unwrap_or_else(|| options.source.clone()),
    };
    let content = if options.tier == ConsentTier::Federated {
        Content::Local { text: normalized.text, path: file.path.clone() }
    } else {
        Content::Text(normalized.text)
    };
    Ok(Prepared { deposit: Deposit::sign(manifest, key)?, content, changes: normalized.changes })
}

/// A title without control characters, cut to at most `most` bytes.
fn clean(title: &str, most: usize) -> String {
    let mut clean = title.split(char::is_control).collect::<Vec<_>>().join(" ");
    clean.truncate(clean.floor_char_boundary(most));
    clean
}
