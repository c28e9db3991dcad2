//! What can be wrong with a file and with one record of it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system says no.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// It was a file when it was listed.
    #[error("{path} is no regular file", path = path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// What git-lfs leaves in place of a file that it has not fetched.
    #[error("{path} is a pointer of git-lfs and not the file itself; run `git lfs pull` in its folder", path = path.display())]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A field cannot have this name.
    #[error("the field for the {field} is called {name:?}: give names separated by single dots")]
    Name {
        /// Which field of the mapping.
        field: &'static str,
        /// The name it was given.
        name: String,
    },
    /// The Parquet file has no column of the name for the text, or two of the name for a field.
    #[error(
        "{path} has {count} columns called {column:?} for the {field}, 1 is needed; its columns: {columns}. \
         Say in the mapping which one it is",
        path = path.display()
    )]
    Column {
        /// The file.
        path: PathBuf,
        /// Which field of the mapping.
        field: &'static str,
        /// The column that was looked for.
        column: String,
        /// How many of that name there are.
        count: usize,
        /// The columns there are, at most 50.
        columns: String,
    },
    /// A mapped column holds something else than strings.
    #[error(
        "{path}: the column {column:?} for the {field} holds {found}, not strings; map another one or none",
        path = path.display()
    )]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// Which field of the mapping.
        field: &'static str,
        /// The column it names.
        column: String,
        /// What the column holds.
        found: String,
    },
    /// It is called Parquet but is not, or is damaged, or takes what this reader does not know.
    #[error("{path} cannot be read as Parquet: {why}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A record that was not read, and why.
#[derive(Debug, thiserror::Error)]
#[error("{path}, {place}: {reason}", path = path.display())]
pub struct Refusal {
    /// Its file.
    pub path: PathBuf,
    /// Its number in the file.
    pub index: u64,
    /// Where to look.
    pub place: Place,
    /// What is wrong with it.
    #[source]
    pub reason: Reason,
}

impl Refusal {
    /// Whether nothing after it can be read either.
    pub fn ends_file(&self) -> bool {
        matches!(self.reason, Reason::Io(_) | Reason::Parquet { .. })
    }
}

/// Where in a file a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The record is the file.
    File,
    /// A line, from 1 as editors count.
    Line(u64),
    /// A row of a table, from 0.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the whole file"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// Why a record was refused.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// More than [`super::Limits::max_bytes`].
    #[error("the {what} has {bytes} bytes, more than the {limit} allowed; split it or raise the limit")]
    TooLarge {
        /// What is too large: the file, the line or the name of a field.
        what: &'static str,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        limit: u64,
    },
    /// The line is no JSON object.
    #[error("no JSON object: {why} (column {column})")]
    Json {
        /// The column in bytes, from 1; 0 when the whole line is meant.
        column: u64,
        /// What is wrong.
        why: String,
    },
    /// There is no text.
    #[error("it has no text: {field:?} is missing or null")]
    NoText {
        /// The field the text should be in.
        field: String,
    },
    /// A mapped field is something else than a string.
    #[error("the field for the {field} is {found}, not a string")]
    NotAString {
        /// Which field of the mapping.
        field: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A mapped field is there twice, and readers differ in which one they take.
    #[error("the field for the {field} is there twice")]
    Twice {
        /// Which field of the mapping.
        field: &'static str,
    },
    /// A mapped field beside the text is no UTF-8.
    #[error("the field for the {field} is not UTF-8")]
    NotUtf8 {
        /// Which field of the mapping.
        field: &'static str,
    },
    /// The front matter of a Markdown file is not what is understood.
    #[error("line {line} of the front matter {why}")]
    FrontMatter {
        /// The line in the file, from 1.
        line: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Reading failed. Ends the file.
    #[error("reading failed: {0}")]
    Io(#[source] io::Error),
    /// The Parquet file is damaged from here on, or takes what this reader does not know. Ends the file.
    #[error("cannot be read as Parquet from here on: {why}")]
    Parquet {
        /// What is wrong.
        why: String,
    },
}

/// A library's message, cut to what fits a line: messages quote their input.
pub(super) fn brief(message: &impl ToString) -> String {
    const LONGEST: usize = 300;
    let message = message.to_string();
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", message.get(..end).unwrap_or_default()),
        None => message,
    }
}
