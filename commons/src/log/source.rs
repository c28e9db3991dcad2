//! Where a reader gets a log's files.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use super::error::SourceError;

/// A place that gives a log's files by their paths.
pub trait Source {
    /// Gives the file at `path`, such as `tile/0/x001/234`, or `None` if there is no such file.
    ///
    /// An implementation must not hold more than about `limit` bytes of a file at once.
    ///
    /// # Errors
    ///
    /// [`SourceError::TooLong`] if the file has more than `limit` bytes, and [`SourceError::Other`] for
    /// whatever else kept it from being read.
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError>;
}

impl<S: Source + ?Sized> Source for &S {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        (**self).get(path, limit)
    }
}

/// The log in a local folder.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Source for Folder {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(SourceError::other(format!("{path} leads out of the folder")));
        }
        read(&self.0.join(path), limit)
    }
}

fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
    // Opening a pipe could wait for ever, so what the path leads to is looked at first.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(SourceError::other("it is not a file")),
        Err(error) => return none_if_absent(error),
    }
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) => return none_if_absent(error),
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(SourceError::other)?;
    if bytes.len() > limit {
        return Err(SourceError::TooLong { limit });
    }
    Ok(Some(bytes))
}

// A writer may take away a partial file between the two looks at it, so both count alike.
fn none_if_absent(error: io::Error) -> Result<Option<Vec<u8>>, SourceError> {
    if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(SourceError::other(error)) }
}
