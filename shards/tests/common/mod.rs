//! Libraries with known texts.

#![allow(clippy::unwrap_used)] // helpers of tests
#![allow(dead_code)] // each test uses some of them

use std::path::{Path, PathBuf};
use std::process::Command;

use watershed_protocol::data::{ConsentChange, ConsentTier, Deposit, License, Manifest, Register};
use watershed_protocol::{BasisPoints, Envelope, ManifestId, SecretKey};
use watershed_shards::library::{Content, Library, Outcome};
use watershed_shards::shard::{Built, OpenSet, build};
use watershed_shards::snapshot::{Policy, Snapshot, take};
use watershed_shards::text::normalize;
use watershed_shards::tokenizer::Tokenizer;

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_entropy([n; 32]).unwrap()
}

/// About `words` words that depend on the number.
pub(crate) fn words(number: u64, words: u64) -> String {
    let word = |i: u64| {
        let hash = (number * 1_000_003 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{}{}", ["ka", "lo", "mi", "tu", "ren", "sa"][(hash >> 60) as usize % 6], hash >> 48)
    };
    (0..words).map(word).collect::<Vec<_>>().join(" ") + "\n"
}

pub(crate) fn manifest(text: &str, register: Register, tier: ConsentTier, signer: &SecretKey) -> Manifest {
    let normalized = normalize(text.as_bytes(), 1 << 20).unwrap();
    Manifest {
        contributor: signer.public(),
        text: normalized.id(),
        bytes: normalized.text.len() as u64,
        revision: 0,
        title: normalized.text.chars().take(12).filter(|c| !c.is_control()).collect(),
        author: String::new(),
        language: "en".to_owned(),
        register,
        core: Vec::new(),
        license: License::Spdx("CC0-1.0".to_owned()),
        tier,
        source: String::new(),
    }
}

pub(crate) fn offer(
    text: &str,
    register: Register,
    tier: ConsentTier,
    signer: &SecretKey,
) -> (Deposit, Content) {
    let deposit = Deposit::sign(manifest(text, register, tier, signer), signer).unwrap();
    let content = if tier == ConsentTier::Federated {
        Content::Local { text: text.to_owned(), path: PathBuf::from("/at/home/diary.txt") }
    } else {
        Content::Text(text.to_owned())
    };
    (deposit, content)
}

/// Deposits and returns the name, which must be stored.
pub(crate) fn store(library: &mut Library, text: &str, register: Register, tier: ConsentTier) -> ManifestId {
    let offered = offer(text, register, tier, &key(1));
    let outcome = library.deposit(std::slice::from_ref(&offered), 1_700_000_000).unwrap().remove(0);
    assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    offered.0.id()
}

pub(crate) fn change(library: &mut Library, id: ManifestId, tier: ConsentTier) {
    let sequence = library.consent(id).unwrap().sequence + 1;
    let statement = Envelope::sign(&ConsentChange { manifest: id, sequence, tier }, &key(1)).unwrap();
    assert_eq!(library.change_consent(&statement).unwrap().tier, tier);
}

pub(crate) fn policy() -> Policy {
    Policy { leave_out_near: true, held_out: BasisPoints::try_from(1000).unwrap(), seed: 0 }
}

pub(crate) fn snapshot(library: &Library) -> Snapshot {
    take(library, &policy()).unwrap().snapshot
}

pub(crate) fn shards(library: &Library, snapshot: &Snapshot) -> (Built, OpenSet) {
    let built = build(library.store(), snapshot, &Tokenizer::bytes(), &|_| (), &|| false).unwrap();
    let open = OpenSet::open(library.store(), built.id).unwrap();
    (built, open)
}

/// A folder of texts with a folder for each register: the one that WATERSHED_CORPUS names, else one made of words.
pub(crate) fn corpus(at: &Path) -> PathBuf {
    if let Some(corpus) = std::env::var_os("WATERSHED_CORPUS").map(PathBuf::from).filter(|p| p.is_dir()) {
        return corpus;
    }
    for register in Register::ALL {
        let folder = at.join("corpus").join(register.name());
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..8 {
            let number = u64::from(register.number()) * 100 + i;
            std::fs::write(folder.join(format!("{i}.txt")), words(number, 400 + 100 * i)).unwrap();
        }
    }
    at.join("corpus")
}

/// The program, on a library and with a key.
pub(crate) fn program(library: &Path, key: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watershed-shards"));
    command.arg("--data").arg(library).arg("--key").arg(key).arg("--json");
    command
}

/// Runs the program; its one line of JSON.
pub(crate) fn json(command: &mut Command) -> serde_json::Value {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}
