//! Texts out of whole folders and files: txt, md, JSONL and Parquet, one record at a time.
//!
//! What a record says of itself stays text here; what the words mean is the importer's business. Memory holds one record and,
//! for Parquet, one batch of them, whatever the size of a file. A record that cannot be read is refused by itself; the ones
//! behind it are read.

mod jsonl;
mod list;
mod parquet;
mod plain;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::library::FileError;
pub use list::{Format, ListError, Listing, SourceFile, list};

/// Where the fields of a record stand, in JSONL and Parquet. `a.b` is field `b` of `a`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// The text itself.
    pub text: String,
    /// Its title.
    pub title: String,
    /// Its register.
    pub register: String,
    /// Its licence.
    pub license: String,
    /// Who wrote it.
    pub author: String,
    /// Its language tag.
    pub language: String,
    /// Where it comes from.
    pub source: String,
}

impl Default for Mapping {
    fn default() -> Self {
        let name = |s: &str| s.to_owned();
        Self {
            text: name("text"),
            title: name("title"),
            register: name("register"),
            license: name("license"),
            author: name("author"),
            language: name("language"),
            source: name("source"),
        }
    }
}

/// What is said beside a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Its title.
    pub title: Option<String>,
    /// Its register.
    pub register: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Its language tag.
    pub language: Option<String>,
    /// Where it comes from.
    pub source: Option<String>,
}

impl Fields {
    /// Fills the fields from a lookup by the names of a mapping.
    fn find(mapping: &Mapping, mut get: impl FnMut(&str) -> Option<String>) -> Self {
        let mut get = |name: &str| get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        Self {
            title: get(&mapping.title),
            register: get(&mapping.register),
            license: get(&mapping.license),
            author: get(&mapping.author),
            language: get(&mapping.language),
            source: get(&mapping.source),
        }
    }
}

/// A text as it stands in a file: bytes that may turn out to be no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one of its file, from 0.
    pub index: u64,
    /// The text.
    pub bytes: Vec<u8>,
    /// What is said of it.
    pub fields: Fields,
}

/// A record that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which one of its file, from 0.
    pub index: u64,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a record is not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefusalReason {
    /// A line that is no JSON object.
    #[error("line {line} is no JSON object: {reason}")]
    Json {
        /// The line, from 1.
        line: u64,
        /// What the parser says.
        reason: String,
    },
    /// No text where one should be.
    #[error("there is no text in field {field:?}")]
    NoText {
        /// The field.
        field: String,
    },
    /// Longer than allowed; not read to its end.
    #[error("it is longer than the {limit} bytes that a text may have")]
    TooLarge {
        /// Most bytes.
        limit: u64,
    },
    /// Front matter without end.
    #[error("the front matter between lines of --- does not end")]
    FrontMatter,
}

/// A file that cannot be read at all, or not further.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not Parquet, or damaged.
    #[error("{} is no readable Parquet file: {reason}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// The column of texts is not there.
    #[error("{} has no column {column:?} of texts; its columns are {}. Name the right one in the mapping", path.display(), columns.join(", "))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column that was looked for.
        column: String,
        /// What there is.
        columns: Vec<String>,
    },
}

/// Records of one file, in order. After a [`ReadError`] there are no more.
pub type Records = Box<dyn Iterator<Item = Result<Result<Record, Refusal>, ReadError>>>;

/// Reads a file record by record; texts of more than `limit` bytes are refused.
///
/// # Errors
/// [`ReadError`] if it cannot be opened or is not what its name says.
pub fn read(file: &SourceFile, mapping: &Mapping, limit: u64) -> Result<Records, ReadError> {
    match file.format {
        Format::Text => Ok(Box::new(std::iter::once(plain::text(&file.path, limit)))),
        Format::Markdown => Ok(Box::new(std::iter::once(plain::markdown(&file.path, mapping, limit)))),
        Format::JsonLines => jsonl::records(&file.path, mapping, limit),
        Format::Parquet => parquet::records(&file.path, mapping, limit),
    }
}

#[cfg(test)]
mod tests;
