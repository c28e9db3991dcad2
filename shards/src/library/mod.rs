//! The library: deposits with their texts, in one folder.
//!
//! ```text
//! keys/contributor.key, keys/library.key   secrets, readable by their owner only
//! manifests/ab/<id>                        signed manifest
//! manifests/ab/<id>.consent-<n>            signed change of consent, n from 1
//! texts/ab/<text id>                       normalised text; gone once withdrawn, never there for federated deposits
//! catalogue.sqlite                         finds them; see `catalogue`
//! snapshots/<id>                           see `crate::snapshot`
//! shards/<sha256>, sets/<id>/              see `crate::shard`
//! ```
//!
//! # Transaction boundaries
//!
//! Files come first, the catalogue's commit second: what the catalogue names is on the disk. A process that is killed in
//! between leaves files that nothing names; the same deposit made again takes them over.
//!
//! A withdrawal goes the other way: statement, commit (from here on no snapshot has the deposit), then the text is deleted.
//! A text that was still to be deleted when the process died is deleted when the library is next opened.

mod catalogue;
mod files;
mod keys;
mod store;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;
use watershed_protocol::data::{
    Consent, ConsentChange, ConsentError, ConsentTier, Deposit, DepositError, Receipt, Register,
};
use watershed_protocol::{
    EncodeError, Envelope, EnvelopeError, ManifestId, PublicKey, SecretKey, TextId, decode, encode,
};

pub(crate) use catalogue::{Catalogue, Conflict, Entry, TextState};
pub use files::FileError;
pub(crate) use files::{create_folder, names, persist, read, remove, write};
pub use keys::{KeyFileError, load_or_create};
pub use store::Store;

use crate::near::Sketch;

/// Similarity, in basis points, from which two texts count as near duplicates.
pub const NEAR: u16 = 8000;

/// Most near duplicates that are named for one deposit.
const NAMED: usize = 5;

/// The library's folder when none is given: what `WATERSHED_SHARDS` says, or below the folder that the system has for such data.
/// Every program that reads a library looks here. None without a home folder.
pub fn default_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("WATERSHED_SHARDS").filter(|f| !f.is_empty()) {
        return Some(PathBuf::from(folder));
    }
    let folder = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    Some(folder.or_else(home)?.join("watershed/shards"))
}

/// What can go wrong with a library.
#[derive(Debug, Error)]
pub enum LibraryError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The catalogue.
    #[error("the catalogue cannot be used: {0}")]
    Catalogue(#[from] rusqlite::Error),
    /// A manifest that is not what it was.
    #[error("the manifest {id} is damaged: {source}")]
    Manifest {
        /// Its name.
        id: ManifestId,
        /// What is wrong.
        source: DepositError,
    },
    /// A manifest that is gone.
    #[error("the manifest {0} is missing")]
    NoManifest(ManifestId),
    /// A statement that is gone or not what it was.
    #[error("statement {sequence} on deposit {id} is missing or damaged")]
    Statement {
        /// The deposit.
        id: ManifestId,
        /// Which statement.
        sequence: u32,
    },
    /// A text that is gone.
    #[error("the text {0} is missing")]
    NoText(TextId),
    /// A text that is not what it was.
    #[error("the text {0} is damaged: its hash is another")]
    Text(TextId),
    /// No such deposit.
    #[error("there is no deposit {0} here; `stats library --deposits` lists them")]
    Unknown(String),
    /// A prefix that fits several deposits.
    #[error("{0} is the beginning of several ids; give more of it")]
    Ambiguous(String),
    /// A statement that is not signed as it says.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A statement that must not take effect.
    #[error(transparent)]
    Consent(#[from] ConsentError),
    /// A receipt or statement that cannot be written down.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What is deposited.
#[derive(Clone, Debug)]
pub enum Content {
    /// A normalised text, to be stored.
    Text(String),
    /// A normalised text that stays where it is; the library keeps its hash, and its path for its owner.
    Local {
        /// The text, to be hashed and compared.
        text: String,
        /// Where it lies.
        path: PathBuf,
    },
}

impl Content {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Local { text, .. } => text,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Text(_) => None,
            Self::Local { path, .. } => Some(path),
        }
    }
}

/// What became of a deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the library.
    Stored {
        /// Signed by the library.
        receipt: Envelope,
        /// Texts that are nearly the same, with their similarity in basis points, nearest first.
        near: Vec<(ManifestId, u16)>,
    },
    /// The same key deposited the same text before.
    Known {
        /// That deposit.
        id: ManifestId,
        /// Its receipt.
        receipt: Envelope,
    },
    /// Another key deposited the same text before; that is recorded, and the earlier deposit stays in force.
    Conflict {
        /// The earlier deposit.
        first: ManifestId,
    },
    /// The same key withdrew this text; to deposit it again is a new act of consent, with this revision.
    Withdrawn {
        /// The withdrawn deposit.
        id: ManifestId,
        /// Revision for a new one.
        revision: u32,
    },
    /// The text is not the one that the manifest speaks of, or the tier does not fit where the text is.
    Mismatch,
}

/// A folder of deposits.
pub struct Library {
    store: Store,
    catalogue: Catalogue,
    key: SecretKey,
}

impl Library {
    /// Opens the library in `root`; an empty or absent folder becomes one.
    ///
    /// # Errors
    /// [`LibraryError`].
    pub fn open(root: &Path) -> Result<Self, LibraryError> {
        create_folder(root)?;
        let purpose = "Watershed library key: signs receipts for deposits. Keep it secret.";
        let (key, _) = load_or_create(&root.join("keys/library.key"), purpose)?;
        let catalogue = Catalogue::open(&root.join("catalogue.sqlite"))?;
        let mut library = Self { store: Store::new(root), catalogue, key };
        library.finish_deletions()?;
        Ok(library)
    }

    /// Its files.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The key that signs receipts.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The deposit whose id begins with the hex digits `prefix`, at least 6 of them.
    ///
    /// # Errors
    /// [`LibraryError::Unknown`] and [`LibraryError::Ambiguous`].
    pub fn find(&self, prefix: &str) -> Result<ManifestId, LibraryError> {
        let unknown = || LibraryError::Unknown(prefix.chars().take(70).collect());
        if prefix.len() < 6 || prefix.len() > 64 {
            return Err(unknown());
        }
        let bytes = hex::decode(&prefix[..prefix.len() / 2 * 2]).map_err(|_| unknown())?;
        let found = self.catalogue.starting_with(&bytes)?;
        let mut fitting = found.into_iter().filter(|id| id.to_string().starts_with(prefix));
        match (fitting.next(), fitting.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(unknown()),
            _ => Err(LibraryError::Ambiguous(prefix.to_owned())),
        }
    }

    /// Takes deposits in, in order; each has its outcome. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`LibraryError`] if the disk or the catalogue fails; then none of them is in the library.
    pub fn deposit(
        &mut self,
        offered: &[(Deposit, Content)],
        now: u64,
    ) -> Result<Vec<Outcome>, LibraryError> {
        let writing = self.catalogue.write()?;
        let mut outcomes = Vec::with_capacity(offered.len());
        let mut fresh = std::collections::HashMap::new();
        for (i, (deposit, content)) in offered.iter().enumerate() {
            let text = deposit.manifest().text;
            let outcome = match fresh.get(&text) {
                // Twice in one call: the second is judged by the first.
                Some(earlier) => {
                    let (first, _): &(Deposit, Content) = &offered[*earlier];
                    Some(if first.manifest().contributor == deposit.manifest().contributor {
                        Outcome::Known { id: first.id(), receipt: receipt(&self.key, first, now)? }
                    } else {
                        Outcome::Conflict { first: first.id() }
                    })
                }
                None => judge(&writing, deposit, content)?,
            };
            if let Some(Outcome::Conflict { first }) = &outcome {
                writing.conflict(&Conflict { text, first: *first, second: deposit.bytes().to_vec() })?;
            }
            if outcome.is_none() {
                fresh.insert(text, i);
            }
            outcomes.push(outcome);
        }
        let (store, key) = (&self.store, &self.key);
        let stored: Vec<Option<(Sketch, Envelope)>> = offered
            .par_iter()
            .zip(&outcomes)
            .map(|((deposit, content), outcome)| {
                if outcome.is_some() {
                    return Ok(None);
                }
                if let Content::Text(text) = content {
                    write(&store.text_path(deposit.manifest().text), text.as_bytes())?;
                }
                write(&store.manifest_path(deposit.id()), deposit.bytes())?;
                Ok::<_, LibraryError>(Some((Sketch::of(content.text()), receipt(key, deposit, now)?)))
            })
            .collect::<Result<_, _>>()?;
        let mut done = Vec::with_capacity(offered.len());
        for (((deposit, content), outcome), stored) in offered.iter().zip(outcomes).zip(stored) {
            done.push(match (outcome, stored) {
                (Some(outcome), _) => outcome,
                (None, None) => Outcome::Mismatch,
                (None, Some((sketch, receipt))) => {
                    let mut near = writing.near(&sketch, NEAR)?;
                    near.truncate(NAMED);
                    let path = content.path().map(|p| p.to_string_lossy());
                    writing.insert(
                        deposit.id(),
                        deposit.manifest(),
                        path.as_deref(),
                        &sketch,
                        &encode(&receipt)?,
                    )?;
                    Outcome::Stored { receipt, near }
                }
            });
        }
        writing.commit()?;
        Ok(done)
    }

    /// Applies a signed change of consent. The text of a withdrawn deposit is deleted before this returns.
    ///
    /// # Errors
    /// [`LibraryError`]; without effect unless it is about a file that cannot be deleted, which is then tried again when
    /// the library is next opened.
    pub fn change_consent(&mut self, statement: &Envelope) -> Result<Consent, LibraryError> {
        let change = statement.open::<ConsentChange>()?;
        let id = change.value().manifest;
        let writing = self.catalogue.write()?;
        let entry = writing.get(id)?.ok_or_else(|| LibraryError::Unknown(id.to_string()))?;
        let consent = entry.consent.after(&change, id, entry.contributor)?;
        write(&self.store.statement_path(id, consent.sequence), &encode(statement)?)?;
        writing.consent(id, consent)?;
        writing.commit()?;
        self.finish_deletions()?;
        Ok(consent)
    }

    /// Deletes the texts of withdrawn deposits.
    fn finish_deletions(&mut self) -> Result<(), LibraryError> {
        let deleting = self.catalogue.deleting()?;
        if deleting.is_empty() {
            return Ok(());
        }
        let writing = self.catalogue.write()?;
        for (id, text) in deleting {
            // A deposit made again after the withdrawal has the same text, and needs it.
            let needed = writing.latest(text)?.is_some_and(|latest| latest.state == TextState::Stored);
            if !needed {
                remove(&self.store.text_path(text))?;
            }
            writing.deleted(id)?;
        }
        Ok(writing.commit()?)
    }

    /// The consent that holds for a deposit now.
    ///
    /// # Errors
    /// [`LibraryError::Unknown`].
    pub fn consent(&self, id: ManifestId) -> Result<Consent, LibraryError> {
        Ok(self.catalogue.get(id)?.ok_or_else(|| LibraryError::Unknown(id.to_string()))?.consent)
    }

    /// Every deposit, ascending by id.
    ///
    /// # Errors
    /// [`LibraryError`] if the catalogue or a manifest cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, LibraryError> {
        let mut listed = Vec::new();
        self.catalogue.each::<LibraryError>(|entry| {
            listed.push(Listed {
                deposit: entry.id,
                title: self.store.manifest(entry.id)?.manifest().title.clone(),
                register: entry.register,
                tier: entry.consent.tier,
                bytes: entry.bytes,
                path: self.catalogue.local_path(entry.id)?,
            });
            Ok(())
        })?;
        Ok(listed)
    }

    /// Number of deposits by consent: in force, withdrawn; and recorded conflicts.
    ///
    /// # Errors
    /// [`LibraryError::Catalogue`].
    pub fn counts(&self) -> Result<Counts, LibraryError> {
        let mut counts = Counts { conflicts: self.catalogue.conflicts()?.len() as u64, ..Counts::default() };
        self.catalogue.each::<LibraryError>(|entry| {
            match entry.consent.tier {
                ConsentTier::None => counts.withdrawn += 1,
                _ => counts.in_force += 1,
            }
            Ok(())
        })?;
        Ok(counts)
    }
}

/// A deposit in a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// Its name.
    pub deposit: ManifestId,
    /// What it is called.
    pub title: String,
    /// Its register.
    pub register: Register,
    /// What it may be used for now.
    pub tier: ConsentTier,
    /// Bytes of the text.
    pub bytes: u64,
    /// Where the text lies, if it never left its owner.
    pub path: Option<String>,
}

/// How many deposits a library has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// With a consent other than none.
    pub in_force: u64,
    /// Withdrawn.
    pub withdrawn: u64,
    /// Deposits of a text that another key had deposited.
    pub conflicts: u64,
}

/// What is to become of a deposit; `None` if it is to be stored.
fn judge(
    writing: &catalogue::Writing<'_>,
    deposit: &Deposit,
    content: &Content,
) -> Result<Option<Outcome>, LibraryError> {
    let manifest = deposit.manifest();
    let text = content.text();
    let local = manifest.tier == ConsentTier::Federated;
    let fits = manifest.bytes == text.len() as u64 && local == content.path().is_some();
    if !fits || TextId::of(text.as_bytes()) != manifest.text {
        return Ok(Some(Outcome::Mismatch));
    }
    let Some(earlier) = writing.latest(manifest.text)? else {
        let first = manifest.revision == 0;
        return Ok(if first { None } else { Some(Outcome::Mismatch) });
    };
    if earlier.contributor != manifest.contributor {
        return Ok(Some(Outcome::Conflict { first: earlier.id }));
    }
    if earlier.consent.tier != ConsentTier::None {
        let receipt = decode(&earlier.receipt).map_err(EnvelopeError::Payload)?;
        return Ok(Some(Outcome::Known { id: earlier.id, receipt }));
    }
    let revision = writing.revisions(manifest.text)?;
    Ok(if manifest.revision == revision {
        None
    } else {
        Some(Outcome::Withdrawn { id: earlier.id, revision })
    })
}

fn receipt(key: &SecretKey, deposit: &Deposit, stored_at: u64) -> Result<Envelope, LibraryError> {
    let receipt = Receipt { manifest: deposit.id(), text: deposit.manifest().text, stored_at };
    Ok(Envelope::sign(&receipt, key)?)
}
