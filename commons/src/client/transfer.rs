//! Downloads: piece by piece, taken up again where they broke off, and not believed before the hash is right.

use std::io::{ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{StatusCode, header};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use watershed_protocol::Digest;

use super::{Client, ClientError, TRANSFER};

/// Breaks without a byte in between, after which a download is given up.
const TRIES: u32 = 5;

/// Wait before a download that broke off is taken up again.
const AGAIN: Duration = Duration::from_millis(500);

/// Bytes that are read from a file at once.
const PIECE: usize = 1 << 18;

/// Where a download goes.
enum Sink {
    Memory(Vec<u8>),
    File(File, PathBuf),
}

/// A download under way.
struct Download {
    sink: Sink,
    hasher: Sha256,
    have: u64,
}

/// What keeps the disk from taking a download.
fn disk(path: &Path) -> impl Fn(std::io::Error) -> ClientError {
    move |source| ClientError::Disk { path: path.to_owned(), source }
}

impl Download {
    fn memory() -> Self {
        Self { sink: Sink::Memory(Vec::new()), hasher: Sha256::new(), have: 0 }
    }

    /// Takes up what is in the file already.
    async fn file(path: &Path) -> Result<Self, ClientError> {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(disk(folder))?;
        }
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .await
            .map_err(disk(path))?;
        let (mut hasher, mut have, mut piece) = (Sha256::new(), 0u64, vec![0; PIECE]);
        loop {
            match file.read(&mut piece).await.map_err(disk(path))? {
                0 => break,
                n => {
                    hasher.update(&piece[..n]);
                    have += n as u64;
                }
            }
        }
        Ok(Self { sink: Sink::File(file, path.to_owned()), hasher, have })
    }

    async fn push(&mut self, chunk: &[u8]) -> Result<(), ClientError> {
        match &mut self.sink {
            Sink::Memory(bytes) => bytes.extend_from_slice(chunk),
            Sink::File(file, path) => file.write_all(chunk).await.map_err(disk(path))?,
        }
        self.hasher.update(chunk);
        self.have += chunk.len() as u64;
        Ok(())
    }

    /// From the beginning.
    async fn restart(&mut self) -> Result<(), ClientError> {
        match &mut self.sink {
            Sink::Memory(bytes) => bytes.clear(),
            Sink::File(file, path) => {
                file.set_len(0).await.map_err(disk(path))?;
                file.seek(SeekFrom::Start(0)).await.map_err(disk(path))?;
            }
        }
        (self.hasher, self.have) = (Sha256::new(), 0);
        Ok(())
    }

    fn found(&self) -> Digest {
        Digest(self.hasher.clone().finalize().into())
    }
}

/// The first byte of a partial answer, by its `Content-Range`.
fn begins(answer: &reqwest::Response) -> Option<u64> {
    let text = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

impl Client {
    /// One attempt; true when the answer ended as it should.
    async fn attempt(&self, url: &str, to: &mut Download, limit: u64) -> Result<bool, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: url.to_owned(), source };
        let mut request = self.http.get(url).timeout(TRANSFER);
        if to.have > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", to.have));
        }
        let answer = request.send().await.map_err(unreachable)?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE && to.have > 0 {
            // All of it is here, or more than there is: the hash says which.
            return Ok(true);
        }
        let mut answer = self.checked(url, answer).await?;
        if to.have > 0 && (answer.status() != StatusCode::PARTIAL_CONTENT || begins(&answer) != Some(to.have))
        {
            to.restart().await?;
            if answer.status() == StatusCode::PARTIAL_CONTENT {
                return Ok(false);
            }
        }
        if answer.content_length().is_some_and(|rest| to.have.saturating_add(rest) > limit) {
            return Err(self.too_long(url, limit));
        }
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if to.have + chunk.len() as u64 > limit {
                return Err(self.too_long(url, limit));
            }
            to.push(&chunk).await?;
        }
        Ok(true)
    }

    fn too_long(&self, url: &str, limit: u64) -> ClientError {
        ClientError::TooLong { url: url.to_owned(), limit: usize::try_from(limit).unwrap_or(usize::MAX) }
    }

    /// Attempts until all of it is here, or nothing comes any more.
    async fn all(&self, sha256: Digest, to: &mut Download, limit: u64) -> Result<(), ClientError> {
        let url = format!("{}/v1/blobs/{sha256}", self.base);
        let (mut left, mut resumed) = (TRIES, to.have > 0);
        loop {
            let before = to.have;
            match self.attempt(&url, to, limit).await {
                Ok(true) if to.found() == sha256 => return Ok(()),
                // What was kept from before may be what is wrong.
                Ok(true) if resumed => {
                    resumed = false;
                    to.restart().await?;
                }
                Ok(true) => return Err(ClientError::Hash { wanted: sha256, found: to.found() }),
                Ok(false) => {}
                Err(e) if e.is_passing() => {
                    resumed |= to.have > 0;
                    left = if to.have > before { TRIES } else { left - 1 };
                    if left == 0 {
                        return Err(e);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Downloads a blob of at most `limit` bytes into memory and checks its hash.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn download(&self, sha256: Digest, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut to = Download::memory();
        self.all(sha256, &mut to, limit as u64).await?;
        match to.sink {
            Sink::Memory(bytes) => Ok(bytes),
            Sink::File(..) => Ok(Vec::new()),
        }
    }

    /// Downloads a blob of at most `limit` bytes to `path`, holding a piece of it in memory at a time. What was received
    /// stays beside it (`.partial`) if this breaks off, and the next call goes on from there; `path` itself is there whole,
    /// with the right hash, or not at all. Nothing is downloaded if it is there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn download_to(&self, sha256: Digest, path: &Path, limit: u64) -> Result<(), ClientError> {
        match Download::file_if_there(path).await? {
            Some(there) if there.found() == sha256 => return Ok(()),
            _ => {}
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let mut to = Download::file(&partial).await?;
        match self.all(sha256, &mut to, limit).await {
            Ok(()) => {}
            Err(e) => {
                if !e.is_passing() {
                    // It is not what was asked for: nothing of it is worth keeping.
                    let _ = tokio::fs::remove_file(&partial).await;
                }
                return Err(e);
            }
        }
        if let Sink::File(file, _) = &to.sink {
            file.sync_all().await.map_err(disk(&partial))?;
        }
        tokio::fs::rename(&partial, path).await.map_err(disk(path))
    }
}

impl Download {
    /// What is at `path` already, if anything.
    async fn file_if_there(path: &Path) -> Result<Option<Self>, ClientError> {
        match tokio::fs::metadata(path).await {
            Ok(_) => Self::file(path).await.map(Some),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(disk(path)(e)),
        }
    }
}
