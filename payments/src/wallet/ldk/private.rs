//! Files that only their owner can read.

use std::io::Write as _;
use std::path::Path;

use crate::wallet::WalletError;

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), WalletError> {
    let failed = |source| WalletError::File { path: path.to_owned(), source };
    let dir = path.parent().unwrap_or(Path::new("."));
    // tempfile makes files of mode 0600
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
