//! Submissions of the round under way, on the disk: however many there are, only the one that is looked at is in memory.

use std::path::PathBuf;

use watershed_commons::client::{Client, ClientError};
use watershed_protocol::{Digest, RunId};

use crate::home::Home;

/// A folder of downloads.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    client: Client,
}

impl Spool {
    /// A run's.
    pub(crate) fn new(home: &Home, run: RunId, client: Client) -> Self {
        Self { folder: home.folder().join("round").join(run.to_string()), client }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// A blob of at most `limit` bytes, downloaded if it is not here. What is longer is not what it should be, whatever is in
    /// it: then there is nothing.
    pub(crate) async fn blob(&self, name: Digest, limit: usize) -> Result<Vec<u8>, String> {
        let path = self.folder.join(name.to_string());
        if let Ok(bytes) = tokio::fs::read(&path).await {
            return Ok(bytes);
        }
        let bytes = match self.client.download(name, limit).await {
            Ok(bytes) => bytes,
            Err(ClientError::TooLong { .. }) => Vec::new(),
            Err(e) => return Err(e.to_string()),
        };
        let text = |e: std::io::Error| format!("{}: {e}", path.display());
        tokio::fs::create_dir_all(&self.folder).await.map_err(text)?;
        // Two may be at it; each writes a file of its own.
        let partial = tempfile::NamedTempFile::new_in(&self.folder).map_err(text)?;
        tokio::fs::write(partial.path(), &bytes).await.map_err(text)?;
        partial.persist(&path).map_err(|e| text(e.error))?;
        Ok(bytes)
    }
}
