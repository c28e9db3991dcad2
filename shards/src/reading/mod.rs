//! Texts from folders and files: what there is ([`list`]) and the records of one file ([`read`]).
//!
//! Formats: plain text (`.txt`), Markdown (`.md`), one JSON object a line (`.jsonl`, `.ndjson`) and Parquet
//! (`.parquet`). Memory is bounded by [`Limits`] whatever the files hold; of a JSON lines or Parquet file one record
//! is in memory at a time. One bad record is a [`Refusal`] and never ends its file.
//!
//! It never follows links, never guesses: bytes are handed on as they are, not yet checked to be UTF-8, and registers,
//! licences and languages as the strings that were found. What they mean is decided by the caller.

mod columns;
mod error;
mod fields;
mod front;
mod lines;
mod listing;
mod mapping;
mod pages;
mod plain;
mod thrift;

use std::io::Read as _;
use std::path::PathBuf;

pub use error::{Place, ReadError, Reason, Refusal};
pub use listing::{Format, ListError, Listing, Skipped, SkippedWhy, SourceFile, list};
pub use mapping::Mapping;

use columns::Columns;
use lines::Lines;
use plain::Plain;

use crate::text::is_lfs_pointer;

/// How much of a file may be in memory at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one text, of one field beside it, of one whole `.txt` or `.md` file and of one line of a JSON lines
    /// file. More is refused, without having been read.
    pub max_bytes: u64,
    /// Bytes of one Parquet page, uncompressed. Writers decide the size of pages, usually about a megabyte, but some
    /// put a thousand texts into one. Up to three pages of each mapped column are in memory.
    pub max_page_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 16 << 20, max_page_bytes: 256 << 20 }
    }
}

/// A text as it was found, with what was said about it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Record {
    /// Its number in the file, from 0: the line of a JSON lines file, the row of a Parquet file. Blank lines have
    /// numbers too. To go on after this record, read from `index + 1`.
    pub index: u64,
    /// The text, not yet checked to be UTF-8.
    pub bytes: Vec<u8>,
    /// What it is called.
    pub title: Option<String>,
    /// Its register, if it says so itself; see also [`SourceFile::folder`].
    pub register: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Its language.
    pub language: Option<String>,
    /// Where it comes from.
    pub source: Option<String>,
}

/// The records of `file`, from number `from` on, in order.
///
/// # Errors
///
/// When the file cannot be opened, is no regular file (any more), is no Parquet file although it is called one, or has
/// no column of the name that `mapping` gives the text; when a name in `mapping` is malformed.
pub fn read(file: &SourceFile, mapping: &Mapping, limits: Limits, from: u64) -> Result<Records, ReadError> {
    let names = mapping.names()?;
    let metadata =
        file.path.metadata().map_err(|source| ReadError::Io { path: file.path.clone(), source })?;
    // A pipe would block and a device never end.
    if !metadata.is_file() {
        return Err(ReadError::NotAFile { path: file.path.clone() });
    }
    let mut begins = Vec::new();
    let failed = |source| ReadError::Io { path: file.path.clone(), source };
    let opened = std::fs::File::open(&file.path).map_err(failed)?;
    opened.take(64).read_to_end(&mut begins).map_err(failed)?;
    if is_lfs_pointer(&begins) {
        return Err(ReadError::LfsPointer { path: file.path.clone() });
    }
    let inner = match file.format {
        Format::Text | Format::Markdown => Inner::Plain(Plain::new(file, names, limits, from)),
        Format::JsonLines => Inner::Lines(Lines::open(&file.path, names, limits, from)?),
        Format::Parquet => Inner::Columns(Box::new(Columns::open(&file.path, &names, limits, from)?)),
    };
    Ok(Records { path: file.path.clone(), inner, ended: false })
}

/// The records of one file. Made by [`read`].
///
/// After a refusal that ends the file ([`Refusal::ends_file`]) there are none.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    inner: Inner,
    ended: bool,
}

#[derive(Debug)]
enum Inner {
    Plain(Plain),
    Lines(Lines),
    Columns(Box<Columns>),
}

/// A record that was refused, before the file's name is put to it.
#[derive(Debug)]
struct Bad {
    index: u64,
    place: Place,
    reason: Reason,
}

impl Iterator for Records {
    type Item = Result<Record, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match &mut self.inner {
            Inner::Plain(plain) => plain.next(),
            Inner::Lines(lines) => lines.next(),
            Inner::Columns(columns) => columns.next(),
        };
        match next {
            Some(Ok(record)) => Some(Ok(record)),
            Some(Err(Bad { index, place, reason })) => {
                let refusal = Refusal { path: self.path.clone(), index, place, reason };
                self.ended = refusal.ends_file();
                Some(Err(refusal))
            }
            None => {
                self.ended = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
