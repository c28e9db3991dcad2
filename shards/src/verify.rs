//! Checks everything in a library against everything else, and names what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use serde::Serialize;
use watershed_protocol::data::{ConsentTier, Receipt};
use watershed_protocol::{
    Digest, Envelope, ManifestId, ShardSetId, SnapshotId, SystemTrouble, TextId, decode, told,
};

use crate::library::{Entry, Library, LibraryError, Store, TextState, names};
use crate::shard::{OpenSet, Range};
use crate::snapshot::Snapshot;
use crate::tokenizer::{Tokenizer, pieces};
use crate::trace::{trace, trace_tokens};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not what it was, or missing.
    Damage,
    /// The system did not let it be read, which says nothing of what is in it.
    Unread,
    /// A file that nothing names; harmless.
    Leftover,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub path: PathBuf,
    /// What.
    pub problem: String,
}

/// What was checked and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Deposits in the catalogue.
    pub deposits: u64,
    /// Texts that were hashed.
    pub texts: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Shard sets.
    pub sets: u64,
    /// Tokens that were compared with their text tokenised again.
    pub tokens_compared: u64,
    /// Characters of texts that are in no shard, as the tokenizer of a set has no token for them.
    pub lost_characters: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Verified {
    /// Whether nothing is damaged.
    pub fn sound(&self) -> bool {
        self.findings.iter().all(|f| f.severity == Severity::Leftover)
    }

    fn add(&mut self, severity: Severity, path: PathBuf, problem: impl Display) {
        self.findings.push(Finding { severity, path, problem: problem.to_string() });
    }

    fn damage(&mut self, path: PathBuf, problem: impl Display) {
        self.add(Severity::Damage, path, problem);
    }

    /// What an error says of a file: that it is damaged, unless the system refused to read it.
    fn failed(&mut self, path: PathBuf, e: &(dyn std::error::Error + 'static)) {
        let severity = match SystemTrouble::behind(e) {
            Some(_) => Severity::Unread,
            None => Severity::Damage,
        };
        self.add(severity, path, told(e));
    }
}

/// Verifies a library. With `retokenize`, every text that is still there is tokenised again and compared with its tokens in
/// the shards. `each` is told what is being looked at.
///
/// # Errors
/// [`LibraryError`] only if the catalogue or a folder cannot be read at all; everything else is a finding.
pub fn verify(library: &Library, retokenize: bool, each: &dyn Fn(&str)) -> Result<Verified, LibraryError> {
    let mut verified = Verified::default();
    let store = library.store();
    let root = store.root();
    each("catalogue");
    for line in library.catalogue().damage()? {
        verified.damage(root.join("catalogue.sqlite"), line);
    }
    let mut entries: BTreeMap<ManifestId, Entry> = BTreeMap::new();
    library.catalogue().each::<LibraryError>(|entry| {
        entries.insert(entry.id, entry);
        Ok(())
    })?;
    each("deposits");
    let kept: BTreeSet<TextId> =
        entries.values().filter(|e| e.state == TextState::Stored).map(|e| e.text).collect();
    for entry in entries.values() {
        verified.deposits += 1;
        deposit(library, entry, &kept, &mut verified);
    }
    for name in names(&root.join("manifests"), "")? {
        if let Ok(id) = name.parse::<ManifestId>()
            && !entries.contains_key(&id)
        {
            verified.add(Severity::Leftover, store.manifest_path(id), "a manifest that was never accepted");
        }
    }
    for name in names(&root.join("texts"), "")? {
        if let Ok(id) = name.parse::<TextId>()
            && !entries.values().any(|e| e.text == id)
        {
            verified.add(Severity::Leftover, store.text_path(id), "a text that no deposit has");
        }
    }
    each("snapshots");
    for name in names(&root.join("snapshots"), "")? {
        let Ok(id) = name.parse::<SnapshotId>() else { continue };
        verified.snapshots += 1;
        match store.snapshot(id) {
            Err(e) => verified.failed(store.snapshot_path(id), &e),
            Ok(snapshot) => {
                for entry in snapshot.entries() {
                    if let Err(e) = trace(store, &entry) {
                        verified.failed(store.snapshot_path(id), &e);
                    }
                }
            }
        }
    }
    let mut needed: BTreeSet<Digest> = BTreeSet::new();
    for name in names(&root.join("sets"), "")? {
        let Ok(id) = name.parse::<ShardSetId>() else { continue };
        each(&format!("shard set {id}"));
        verified.sets += 1;
        set(store, id, retokenize, &mut needed, &mut verified);
    }
    for name in names(&root.join("shards"), "")? {
        if let Ok(sha256) = name.parse::<Digest>()
            && !needed.contains(&sha256)
        {
            verified.add(Severity::Leftover, store.shard_path(sha256), "a shard that no readable set has");
        }
    }
    Ok(verified)
}

/// One deposit: manifest, row, statements, text, receipt.
fn deposit(library: &Library, entry: &Entry, kept: &BTreeSet<TextId>, verified: &mut Verified) {
    let (store, id) = (library.store(), entry.id);
    let root = store.root();
    let path = store.manifest_path(id);
    let deposit = match store.manifest(id) {
        Ok(deposit) => deposit,
        Err(e) => return verified.failed(path, &e),
    };
    let manifest = deposit.manifest();
    let said = (manifest.text, manifest.contributor, manifest.register, manifest.bytes);
    if said != (entry.text, entry.contributor, entry.register, entry.bytes) {
        verified.damage(path, format!("the catalogue says of deposit {id} what its manifest does not"));
    }
    match store.consent_at(&deposit, entry.consent.sequence) {
        Ok(consent) if consent == entry.consent => {}
        Ok(consent) => verified.damage(
            store.statement_path(id, entry.consent.sequence),
            format!(
                "the statements on deposit {id} give {}, the catalogue has {}",
                consent.tier, entry.consent.tier
            ),
        ),
        Err(e) => verified.failed(store.statement_path(id, entry.consent.sequence), &e),
    }
    let receipt = decode::<Envelope>(&entry.receipt).ok().and_then(|e| e.open::<Receipt>().ok());
    if receipt.is_none_or(|r| r.value().manifest != id || r.signer() != library.public_key()) {
        verified.damage(root.join("catalogue.sqlite"), format!("the receipt of deposit {id} is damaged"));
    }
    let path = store.text_path(entry.text);
    match entry.state {
        TextState::Stored => {
            verified.texts += 1;
            if let Err(e) = store.text(entry.text) {
                verified.failed(path, &e);
            }
        }
        TextState::Deleting | TextState::Deleted => {
            if path.exists() && !kept.contains(&entry.text) {
                verified.damage(path, format!("the text of deposit {id} was withdrawn and is still there"));
            }
            if entry.consent.tier != ConsentTier::None {
                verified.damage(
                    root.join("catalogue.sqlite"),
                    format!("the text of deposit {id} is gone and its consent was not withdrawn"),
                );
            }
        }
        TextState::Local => {}
    }
}

/// One shard set with its index and shards.
fn set(
    store: &Store,
    id: ShardSetId,
    retokenize: bool,
    needed: &mut BTreeSet<Digest>,
    verified: &mut Verified,
) {
    let folder = store.set_path(id);
    let open = match OpenSet::open(store, id) {
        Ok(open) => open,
        Err(e) => return verified.failed(folder, &e),
    };
    needed.extend(open.set().streams.iter().flat_map(|s| &s.shards).map(|s| s.sha256));
    if let Err(e) = open.check_shards(&|_| ()) {
        verified.failed(folder.clone(), &e);
    }
    let tokenizer = open.tokenizer(store);
    if let Err(e) = &tokenizer {
        verified.failed(folder.join("tokenizer.json"), e);
    }
    let snapshot = match store.snapshot(open.set().snapshot) {
        Ok(snapshot) => snapshot,
        Err(e) => return verified.failed(store.snapshot_path(open.set().snapshot), &e),
    };
    let texts = snapshot.entries().filter(|e| e.consent.tier.trains()).count();
    match open.index() {
        Err(e) => verified.failed(folder.join("index"), &e),
        Ok(index) => {
            if index.len() != texts {
                let problem =
                    format!("the index has {} deposits, the snapshot {texts} to train on", index.len());
                verified.damage(folder.join("index"), problem);
            }
            for entry in index.entries() {
                if let Err(e) = trace_tokens(store, &snapshot, &entry) {
                    verified.failed(folder.join("index"), &e);
                }
            }
        }
    }
    let Ok(tokenizer) = tokenizer else { return };
    if tokenizer.may_lose() {
        verified.lost_characters += lost(store, &open, &snapshot, &tokenizer);
    }
    if retokenize {
        compare(store, &open, &snapshot, &tokenizer, verified);
    }
}

/// Characters of the texts that are still there which a set's tokenizer has no token for.
fn lost(store: &Store, open: &OpenSet, snapshot: &Snapshot, tokenizer: &Tokenizer) -> u64 {
    let Ok(index) = open.index() else { return 0 };
    let text = |id| snapshot.get(id).and_then(|e| store.text(e.text).ok());
    let texts = index.entries().filter_map(|entry| text(entry.manifest));
    texts.filter_map(|text| tokenizer.lost(&text).ok()).sum()
}

/// Tokenises every text that is still there again and compares.
fn compare(
    store: &Store,
    open: &OpenSet,
    snapshot: &Snapshot,
    tokenizer: &Tokenizer,
    verified: &mut Verified,
) {
    let Ok(index) = open.index() else { return };
    let path = store.set_path(open.id()).join("index");
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for entry in index.entries() {
        let Some(text) = snapshot.get(entry.manifest).and_then(|e| store.text(e.text).ok()) else { continue };
        expected.clear();
        let encoded = pieces(&text).try_for_each(|piece| tokenizer.encode_into(piece, &mut expected));
        expected.extend(tokenizer.separator());
        if let Err(e) = encoded {
            verified.damage(path.clone(), format!("deposit {} cannot be tokenised: {e}", entry.manifest));
            continue;
        }
        found.clear();
        let range =
            Range { register: entry.register, split: entry.split, first: entry.first, tokens: entry.tokens };
        let read = open.tokens(&range, &mut found);
        verified.tokens_compared += entry.tokens;
        if read.is_err() || found != expected {
            verified.damage(
                path.clone(),
                format!("the tokens of deposit {} are not those of its text", entry.manifest),
            );
        }
    }
}
