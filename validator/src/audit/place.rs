//! Where a record and its blobs are.

use std::path::PathBuf;

use watershed_commons::client::{Client, ClientError};
use watershed_commons::log::{Source, SourceError};
use watershed_protocol::Digest;
use watershed_rounds::sha256;

/// A coordinator over HTTP, for code that waits.
#[derive(Clone)]
pub(super) struct Web {
    pub(super) client: Client,
    pub(super) runtime: tokio::runtime::Handle,
}

impl Source for Web {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        match self.runtime.block_on(self.client.log_file(path, limit)) {
            Ok(found) => Ok(found),
            Err(ClientError::TooLong { limit, .. }) => Err(SourceError::TooLong { limit }),
            Err(e) => Err(SourceError::other(e)),
        }
    }
}

/// Where blobs are.
pub(super) enum Place {
    /// A coordinator.
    Web(Web),
    /// A copy of its folder.
    Folder(PathBuf),
}

impl Place {
    /// A blob of at most `limit` bytes, its hash checked.
    pub(super) fn blob(&self, name: Digest, limit: usize) -> Result<Vec<u8>, String> {
        match self {
            Self::Web(web) => {
                web.runtime.block_on(web.client.download(name, limit)).map_err(|e| e.to_string())
            }
            Self::Folder(folder) => {
                let text = name.to_string();
                let path = folder.join("blobs").join(&text[..2]).join(&text);
                let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                if sha256(&bytes) == name { Ok(bytes) } else { Err(format!("the blob {name} is damaged")) }
            }
        }
    }
}
