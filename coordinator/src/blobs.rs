//! Files named by their SHA-256: local, or in an S3-compatible store.

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use watershed_protocol::Digest;

/// Bytes that are sent to the store at once.
const PART: usize = 5 << 20;

/// Why a blob is not there.
#[derive(Debug, Error)]
pub enum BlobError {
    /// It was never uploaded.
    #[error("there is no blob {0} here")]
    Missing(Digest),
    /// Another hash.
    #[error("the upload has the SHA-256 {found}, not {wanted}")]
    Hash {
        /// Announced.
        wanted: Digest,
        /// Of what came.
        found: Digest,
    },
    /// Another length.
    #[error("the upload has not the announced length of {0} bytes")]
    Length(u64),
    /// The connection.
    #[error("the upload broke off: {0}")]
    Upload(String),
    /// The store.
    #[error("the blob store: {}", watershed_protocol::told(.0))]
    Store(#[from] object_store::Error),
    /// A place that is none.
    #[error("{0:?} is no place for blobs: give a folder, or s3://BUCKET/PREFIX with AWS_* variables")]
    Place(String),
    /// The folder.
    #[error("{path}: {source}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A store of blobs.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Blobs {
    /// In a folder, or in `s3://bucket/prefix` as the `AWS_*` variables say.
    ///
    /// # Errors
    /// [`BlobError::Place`] and [`BlobError::Folder`].
    pub fn open(place: &str) -> Result<Self, BlobError> {
        if place.starts_with("s3://") {
            let url = place.parse::<reqwest::Url>().map_err(|_| BlobError::Place(place.to_owned()))?;
            watershed_commons::client::choose_tls();
            let settings = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
            let settings = settings.map(|(name, value)| (name.to_lowercase(), value));
            let (store, prefix) = object_store::parse_url_opts(&url, settings)?;
            return Ok(Self { store: store.into(), prefix });
        }
        std::fs::create_dir_all(place)
            .map_err(|source| BlobError::Folder { path: place.to_owned(), source })?;
        let store = object_store::local::LocalFileSystem::new_with_prefix(FilePath::new(place))?;
        Ok(Self { store: Arc::new(store.with_fsync(true)), prefix: Path::default() })
    }

    fn path(&self, sha256: Digest) -> Path {
        let name = sha256.to_string();
        self.prefix.clone().join(&name[..2]).join(name.as_str())
    }

    /// Whether something can be stored and read.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn check(&self) -> Result<(), BlobError> {
        // Named by its hash like everything else, and so the same file every time.
        let bytes = b"watershed".to_vec();
        let sha256 = Digest(Sha256::digest(&bytes).into());
        self.store.put(&self.path(sha256), PutPayload::from(bytes)).await?;
        self.get(sha256).await.map(drop)
    }

    /// Deletes a blob that was stored at `since` or later, in seconds since 1970. What is not there is deleted.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn discard(&self, sha256: Digest, since: u64) -> Result<(), BlobError> {
        let path = self.path(sha256);
        let meta = match self.store.head(&path).await {
            Ok(meta) => meta,
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        if u64::try_from(meta.last_modified.timestamp()).unwrap_or(0) < since {
            return Ok(());
        }
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Length of a blob, if it is there.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn length(&self, sha256: Digest) -> Result<Option<u64>, BlobError> {
        match self.store.head(&self.path(sha256)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, BlobError> {
        let sha256 = Digest(Sha256::digest(&bytes).into());
        if self.length(sha256).await? != Some(bytes.len() as u64) {
            self.store.put(&self.path(sha256), PutPayload::from(bytes)).await?;
        }
        Ok(sha256)
    }

    /// Stores an upload while it comes in. What does not have the announced hash and length leaves nothing behind.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn receive<E: std::fmt::Display>(
        &self,
        sha256: Digest,
        length: u64,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(), BlobError> {
        if self.length(sha256).await? == Some(length) {
            return Ok(());
        }
        let upload = self.store.put_multipart(&self.path(sha256)).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        let (mut hasher, mut received) = (Sha256::new(), 0u64);
        let result = loop {
            match body.next().await {
                None if received == length => {
                    let found = Digest(hasher.finalize().into());
                    break if found == sha256 {
                        Ok(())
                    } else {
                        Err(BlobError::Hash { wanted: sha256, found })
                    };
                }
                None => break Err(BlobError::Length(length)),
                Some(Err(e)) => break Err(BlobError::Upload(e.to_string())),
                Some(Ok(bytes)) => {
                    received = received.saturating_add(bytes.len() as u64);
                    if received > length {
                        break Err(BlobError::Length(length));
                    }
                    hasher.update(&bytes);
                    if let Err(e) = writer.wait_for_capacity(2).await {
                        break Err(e.into());
                    }
                    writer.put(bytes);
                }
            }
        };
        match result {
            Ok(()) => {
                writer.finish().await?;
                Ok(())
            }
            Err(e) => {
                let _ = writer.abort().await;
                Err(e)
            }
        }
    }

    /// A blob in memory, its hash checked.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Hash`], [`BlobError::Store`].
    pub async fn get(&self, sha256: Digest) -> Result<Vec<u8>, BlobError> {
        let result = match self.store.get(&self.path(sha256)).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Err(BlobError::Missing(sha256)),
            Err(e) => return Err(e.into()),
        };
        let bytes = result.bytes().await?.to_vec();
        let found = Digest(Sha256::digest(&bytes).into());
        if found == sha256 { Ok(bytes) } else { Err(BlobError::Hash { wanted: sha256, found }) }
    }

    /// A blob, or a range of it, as a stream.
    ///
    /// # Errors
    /// [`BlobError::Missing`] and [`BlobError::Store`].
    pub async fn stream(&self, sha256: Digest, range: Option<GetRange>) -> Result<GetResult, BlobError> {
        let options = GetOptions { range, ..GetOptions::default() };
        match self.store.get_opts(&self.path(sha256), options).await {
            Ok(result) => Ok(result),
            Err(object_store::Error::NotFound { .. }) => Err(BlobError::Missing(sha256)),
            Err(e) => Err(e.into()),
        }
    }
}
