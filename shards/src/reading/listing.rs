//! Which files of some folders hold texts.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// How a file holds texts, told by its extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `.txt`: the file is the text.
    Text,
    /// `.md`: the file is the text, after its front matter.
    Markdown,
    /// `.jsonl`, `.ndjson`: an object a line.
    JsonLines,
    /// `.parquet`: a row a text.
    Parquet,
}

impl Format {
    /// The format of a file of this name, `None` if it is none of them. Case does not matter.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Some(Self::Text),
            "md" => Some(Self::Markdown),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A file that may hold texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the root it was found under; of a root that is a file its name.
    pub relative: PathBuf,
    /// How it holds texts.
    pub format: Format,
    /// Its size when it was listed.
    pub bytes: u64,
}

impl SourceFile {
    /// The name of the first folder below the root that was listed: `narrative` of `corpus/narrative/1850/x.txt`. There is none
    /// for a file that lies directly in the root, and none if the name is not UTF-8.
    pub fn folder(&self) -> Option<&str> {
        let mut below = self.relative.components();
        let first = below.next()?;
        below.next()?;
        first.as_os_str().to_str()
    }
}

/// A file that was left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub why: SkippedWhy,
}

/// Why a file was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SkippedWhy {
    /// No format has its extension.
    #[error("its extension is none of txt, md, jsonl, ndjson and parquet")]
    Extension,
    /// It points elsewhere.
    #[error("it is a link, and links are not followed")]
    Link,
    /// A pipe, a socket or a device.
    #[error("it is no regular file")]
    Special,
}

/// What some folders hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Listing {
    /// The files to read, in order.
    pub files: Vec<SourceFile>,
    /// The others, in order.
    pub skipped: Vec<Skipped>,
}

/// A folder cannot be walked.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be listed: {source}", path = path.display())]
pub struct ListError {
    /// Where it failed.
    pub path: PathBuf,
    /// What the operating system says.
    pub source: io::Error,
}

/// The files below `roots`, in the order of their relative paths' bytes (with `/` between the parts on every platform),
/// equal ones in the order of the roots. So the order does not depend on the file system.
///
/// A root that is a file is taken itself, and a root may be a link; below the roots links are not followed. Files and
/// folders whose name begins with a dot are passed over without a word. A file below two roots is listed twice.
///
/// # Errors
///
/// When a root or a folder below it cannot be read. A listing with holes would look like a complete one.
pub fn list(roots: &[PathBuf]) -> Result<Listing, ListError> {
    let mut files = Vec::new();
    let mut skipped = Vec::new();
    for root in roots {
        let walk = WalkDir::new(root).follow_links(false).into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || !hidden(entry.file_name())) {
            let entry = entry.map_err(|error| failed(root, error))?;
            let path = entry.path().to_owned();
            // A root that is a link stands for what it points to.
            let metadata = if entry.depth() == 0 { path.metadata() } else { path.symlink_metadata() };
            let metadata = metadata.map_err(|source| ListError { path: path.clone(), source })?;
            if metadata.is_dir() {
                continue;
            }
            let relative = match path.strip_prefix(root) {
                Ok(below) if below.components().next().is_some() => below.to_owned(),
                _ => path.file_name().map(PathBuf::from).unwrap_or_default(),
            };
            let key = sort_key(&relative);
            if metadata.is_symlink() {
                skipped.push((key, Skipped { path, why: SkippedWhy::Link }));
            } else if !metadata.is_file() {
                skipped.push((key, Skipped { path, why: SkippedWhy::Special }));
            } else if let Some(format) = Format::of(&path) {
                files.push((key, SourceFile { path, relative, format, bytes: metadata.len() }));
            } else {
                skipped.push((key, Skipped { path, why: SkippedWhy::Extension }));
            }
        }
    }
    // Stable, so that the order of the roots decides between equals.
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    skipped.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Listing {
        files: files.into_iter().map(|(_, file)| file).collect(),
        skipped: skipped.into_iter().map(|(_, file)| file).collect(),
    })
}

fn hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn sort_key(relative: &Path) -> Vec<u8> {
    let parts: Vec<&[u8]> = relative.iter().map(OsStr::as_encoded_bytes).collect();
    parts.join(&b'/')
}

fn failed(root: &Path, error: walkdir::Error) -> ListError {
    let path = error.path().unwrap_or(root).to_owned();
    ListError { path, source: error.into() }
}
