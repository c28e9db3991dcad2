//! Which files an import reads.

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;
use walkdir::WalkDir;

/// Formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One text.
    Text,
    /// One text, with or without front matter.
    Markdown,
    /// A JSON object on each line.
    JsonLines,
    /// A row for each text.
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "txt" | "text" => Some(Self::Text),
            "md" | "markdown" => Some(Self::Markdown),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below what was named, or its name.
    pub name: String,
    /// The first folder of `name`.
    pub folder: Option<String>,
    /// How it is read.
    pub format: Format,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files that are read, by name.
    pub files: Vec<SourceFile>,
    /// Files of other kinds.
    pub skipped: Vec<PathBuf>,
}

/// A file or folder that cannot be looked at.
#[derive(Debug, Error)]
pub enum ListError {
    /// By the file system.
    #[error("cannot list {}: {source}", path.display())]
    Walk {
        /// What was named.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A single file of a kind that is not read.
    #[error("{} is not read: txt, md, jsonl and parquet are", .0.display())]
    Format(PathBuf),
}

/// Lists the files below folders, and single files. Links are not followed and hidden files not looked at. The order is that
/// of names, whatever order the file system has.
///
/// # Errors
/// [`ListError`].
pub fn list(roots: &[PathBuf]) -> Result<Listing, ListError> {
    let mut listing = Listing::default();
    for root in roots {
        let fail = |source| ListError::Walk { path: root.clone(), source };
        if std::fs::metadata(root).map_err(fail)?.is_file() && Format::of(root).is_none() {
            return Err(ListError::Format(root.clone()));
        }
        let hidden =
            |e: &walkdir::DirEntry| e.depth() > 0 && e.file_name().as_encoded_bytes().starts_with(b".");
        for entry in WalkDir::new(root)
            .follow_links(false)
            .follow_root_links(true)
            .into_iter()
            .filter_entry(|e| !hidden(e))
        {
            let entry = entry.map_err(|e| fail(e.into()))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let path = entry.path();
            let Some(format) = Format::of(path) else {
                listing.skipped.push(path.to_owned());
                continue;
            };
            let below = path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty());
            let name = below.unwrap_or(Path::new(entry.file_name())).to_string_lossy().into_owned();
            let parts = below.map(|p| p.components().count()).unwrap_or(1);
            let first = below.and_then(|p| p.components().next()).filter(|_| parts > 1);
            listing.files.push(SourceFile {
                path: path.to_owned(),
                name,
                folder: first.map(|c| c.as_os_str().to_string_lossy().into_owned()),
                format,
                bytes: entry.metadata().map_err(|e| fail(e.into()))?.len(),
            });
        }
    }
    listing.files.sort_by(|a, b| (a.name.as_bytes(), &a.path).cmp(&(b.name.as_bytes(), &b.path)));
    listing.files.dedup_by(|a, b| a.path == b.path);
    listing.skipped.sort();
    Ok(listing)
}
