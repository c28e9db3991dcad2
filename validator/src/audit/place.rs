//! Where a record and its blobs are.

use std::path::PathBuf;

use watershed_commons::client::{ClientError, WebLog};
use watershed_protocol::{Digest, told};
use watershed_rounds::sha256;

use super::fault::{Fault, unable};

/// Where blobs are.
pub(super) enum Place {
    /// A coordinator.
    Web(WebLog),
    /// A copy of its folder.
    Folder(PathBuf),
}

/// What was found under the name of a blob.
pub(super) enum Found {
    /// The blob.
    Bytes(Vec<u8>),
    /// More than was asked for at most; it was not read.
    TooLong,
}

impl Place {
    /// A blob, which is `what`; not read if it is longer than `limit`. Its hash is checked.
    pub(super) fn look(&self, what: &str, name: Digest, limit: usize) -> Result<Found, Fault> {
        let wrong = |why: String| Fault::Blob { what: what.to_owned(), name, why };
        match self {
            Self::Web(web) => match web.runtime().block_on(web.client().download(name, limit)) {
                Ok(bytes) => Ok(Found::Bytes(bytes)),
                Err(ClientError::TooLong { .. }) => Ok(Found::TooLong),
                Err(ClientError::Hash { found, .. }) => Err(wrong(format!("arrives as {found}"))),
                Err(ClientError::Refused { status: 404, .. }) => Err(wrong("is missing".to_owned())),
                // No network, no disk: that says nothing of whoever serves the record.
                Err(e @ (ClientError::Disk { .. } | ClientError::Address(_))) => Err(unable(e)),
                Err(e) if e.is_passing() => Err(unable(e)),
                Err(e) => Err(wrong(format!("cannot be had ({e})"))),
            },
            Self::Folder(folder) => {
                let text = name.to_string();
                let path = folder.join("blobs").join(&text[..2]).join(&text);
                let length = match std::fs::metadata(&path) {
                    Ok(found) => found.len(),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                        return Err(wrong(format!("is missing from {}", folder.join("blobs").display())));
                    }
                    Err(e) => return Err(unable(format!("{}: {}", path.display(), told(&e)))),
                };
                if length > limit as u64 {
                    return Ok(Found::TooLong);
                }
                let bytes =
                    std::fs::read(&path).map_err(|e| unable(format!("{}: {}", path.display(), told(&e))))?;
                match sha256(&bytes) {
                    found if found == name => Ok(Found::Bytes(bytes)),
                    found => Err(wrong(format!("is damaged: its SHA-256 is {found}"))),
                }
            }
        }
    }

    /// A blob of at most `limit` bytes, which is `what`.
    pub(super) fn blob(&self, what: &str, name: Digest, limit: usize) -> Result<Vec<u8>, Fault> {
        match self.look(what, name, limit)? {
            Found::Bytes(bytes) => Ok(bytes),
            Found::TooLong => {
                Err(Fault::Blob { what: what.to_owned(), name, why: format!("has more than {limit} bytes") })
            }
        }
    }
}
