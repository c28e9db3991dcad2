//! Secret keys in files that only their owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use watershed_protocol::SecretKey;

use super::files::{self, FileError};

/// A key file that cannot be used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// Not readable or writable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something else is in it.
    #[error("{} holds no secret key: it must have one line of 64 lowercase hex digits, the rest starting with #", .0.display())]
    Content(PathBuf),
    /// The system has no randomness to give.
    #[error("no randomness for a new key: {0}")]
    Entropy(String),
    /// Others can read it.
    #[error("{} can be read by others on this machine (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Reads the key in `path`, or makes one there. `purpose` becomes the file's first comment. Returns whether it is new.
///
/// # Errors
/// [`KeyFileError`].
pub fn load_or_create(path: &Path, purpose: &str) -> Result<(SecretKey, bool), KeyFileError> {
    if let Some(bytes) = files::read(path, 4096)? {
        check_mode(path)?;
        return Ok((parse(path, &bytes)?, false));
    }
    let key = loop {
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(|e| KeyFileError::Entropy(e.to_string()))?;
        if let Ok(key) = SecretKey::from_entropy(entropy) {
            break key;
        }
    };
    if let Some(folder) = path.parent() {
        files::create_folder(folder)?;
    }
    let text = format!("# {purpose}\n# Public key: {}\n{}\n", key.public(), hex::encode(key.to_bytes()));
    match create_private(path, text.as_bytes()) {
        // Another process made one in this moment: there must be one key only.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let bytes = files::read(path, 4096)?.unwrap_or_default();
            Ok((parse(path, &bytes)?, false))
        }
        other => other.map(|()| (key, true)).map_err(|e| FileError::at("create", path)(e).into()),
    }
}

/// A new file of mode 600 with its whole content at once: a process that dies while writing leaves no half key.
fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    let linked =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    linked.and(removed)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<SecretKey, KeyFileError> {
    let misfit = || KeyFileError::Content(path.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| misfit())?;
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(misfit()) };
    let mut secret = [0; 32];
    hex::decode_to_slice(line, &mut secret).map_err(|_| misfit())?;
    SecretKey::from_entropy(secret).map_err(|_| misfit())
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::metadata(path).map_err(FileError::at("read", path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/contributor.key");
        let (key, new) = load_or_create(&path, "Contributor").unwrap();
        assert!(new);
        assert_eq!(load_or_create(&path, "Contributor").unwrap(), (key, false));
        assert_eq!(fs::read_dir(folder.path().join("below")).unwrap().count(), 1);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&key.public().to_string()));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_or_that_is_no_key_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        load_or_create(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(&path, "x"), Err(KeyFileError::Exposed { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "# only a comment\n", "zz", &"0".repeat(64), &format!("{0}\n{0}\n", "11".repeat(32))]
        {
            fs::write(&path, bad).unwrap();
            assert!(matches!(load_or_create(&path, "x"), Err(KeyFileError::Content(_))), "{bad:?}");
        }
    }
}
