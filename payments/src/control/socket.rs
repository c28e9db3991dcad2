//! The socket: the server's side in the process that has the wallet, the client's side in commands.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::execute::execute;
use super::request::{Reply, Request};
use crate::store::Store;
use crate::treasury::Treasury;
use crate::wallet::Wallet;

/// Longest request or reply.
const MAX_BYTES: u64 = 16 << 20;

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the process that has the wallet cannot be talked to.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Nobody there.
    #[error("nothing runs on the wallet in {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a reply.
    #[error("the process that has the wallet gave no readable answer: {0}")]
    Reply(String),
    /// Refused.
    #[error("{0}")]
    Refused(String),
}

/// Where the socket of a data directory is. The name of a Unix socket has 107 bytes at most, so a long one is replaced by
/// its hash below the folder for temporary files.
pub fn socket_path(data: &Path) -> PathBuf {
    let path = data.join("control.sock");
    if path.as_os_str().len() < 100 {
        return path;
    }
    let full = std::path::absolute(&path).unwrap_or(path);
    let hash = <sha2::Sha256 as sha2::Digest>::digest(full.as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("watershed-{}.sock", hex::encode(&hash[..8])))
}

/// Answers requests until the future is dropped. The caller has the data directory's lock, so a socket that is there is
/// left over from a process that was killed.
///
/// # Errors
/// [`ControlError::Io`] if the socket cannot be made.
pub async fn serve<W: Wallet, S: Store>(data: &Path, treasury: Treasury<W, S>) -> Result<(), ControlError> {
    let path = socket_path(data);
    let failed = |source| ControlError::Io { path: path.clone(), source };
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Too many open files, most likely: it passes.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let treasury = treasury.clone();
        tokio::spawn(async move {
            // Whoever goes away before the answer does not want it.
            let _ = answer(stream, &treasury).await;
        });
    }
}

async fn answer<W: Wallet, S: Store>(
    mut stream: UnixStream,
    treasury: &Treasury<W, S>,
) -> std::io::Result<()> {
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read.take(MAX_BYTES));
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await.map_err(std::io::Error::other)??;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => execute(treasury, request).await,
        Err(e) => Reply::Error { message: format!("this is no request: {e}") },
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Asks the process that has the wallet.
///
/// # Errors
/// [`ControlError`].
pub async fn ask(data: &Path, request: &Request) -> Result<Reply, ControlError> {
    let path = socket_path(data);
    let failed = |source| ControlError::Io { path: path.clone(), source };
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(e)
            if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) =>
        {
            return Err(ControlError::NotRunning(data.to_owned()));
        }
        Err(e) => return Err(failed(e)),
    };
    let (read, mut write) = stream.split();
    let mut text = serde_json::to_vec(request).map_err(|e| ControlError::Reply(e.to_string()))?;
    text.push(b'\n');
    write.write_all(&text).await.map_err(failed)?;
    let mut line = String::new();
    BufReader::new(read.take(MAX_BYTES)).read_line(&mut line).await.map_err(failed)?;
    serde_json::from_str(&line).map_err(|e| ControlError::Reply(e.to_string()))
}
