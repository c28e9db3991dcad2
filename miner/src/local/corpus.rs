//! Text files below a folder, as tokens to train on and tokens held out. A token is a byte, or what a tokenizer makes.
//!
//! Whole files are held out, never positions, so no training window overlaps the text a run is judged by. Which files is
//! decided by their SHA-256 alone: it depends neither on names nor on the order of the folder.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;
use watershed_engine::model::{TokenError, Tokens};
use watershed_shards::reading::Format;
use watershed_shards::text::{self, TextError};
use watershed_shards::tokenizer::{Tokenizer, TokenizerError};

/// Share of the text that is held out, one part in this many.
const HELD_OUT: usize = 20;

/// Most text that is read: a corpus is held in memory.
const MAX_BYTES: u64 = 1 << 30;

/// Folders below folders that are followed.
const MAX_DEPTH: usize = 32;

/// Why a folder cannot be trained on.
#[derive(Debug, Error)]
pub(crate) enum CorpusError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "no text below {path}: give a folder with .txt or .md files in UTF-8 ({skipped} files of other kinds there)"
    )]
    Empty { path: PathBuf, skipped: usize },
    #[error(
        "the text below {path} is larger than {MAX_BYTES} bytes, which `local` holds in memory; give a part of it"
    )]
    TooLarge { path: PathBuf },
    #[error(
        "{found} tokens of {what} text are too few for windows of {seq} tokens; give more text or a smaller --seq"
    )]
    TooShort { what: &'static str, found: usize, seq: usize },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Tokens in the least memory that holds them.
#[derive(Debug)]
enum Ids {
    Bytes(Vec<u8>),
    Tokens(Vec<u32>),
}

impl Ids {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(ids) => ids.len(),
            Self::Tokens(ids) => ids.len(),
        }
    }

    /// Appends the tokens of `range`, which must be there.
    fn copy(&self, range: Range<usize>, out: &mut Vec<u32>) {
        match self {
            Self::Bytes(ids) => out.extend(ids[range].iter().map(|b| u32::from(*b))),
            Self::Tokens(ids) => out.extend_from_slice(&ids[range]),
        }
    }

    fn hash(&self, hasher: &mut Sha256) {
        match self {
            Self::Bytes(ids) => hasher.update(ids),
            Self::Tokens(ids) => ids.iter().for_each(|id| hasher.update(id.to_le_bytes())),
        }
    }
}

/// Text to train on and to be judged by.
#[derive(Debug)]
pub(crate) struct Corpus {
    train: Ids,
    held_out: Ids,
    /// SHA-256 over the tokens of both parts.
    pub(crate) digest: [u8; 32],
    /// Files read.
    pub(crate) files: usize,
    /// Files left out because they are no text, and why.
    pub(crate) invalid: Vec<(PathBuf, TextError)>,
    /// Characters that the tokenizer has no token for.
    pub(crate) lost: u64,
}

impl Corpus {
    /// Reads all `.txt` and `.md` files below `dir`, as bytes if there is no tokenizer.
    pub(crate) fn read(dir: &Path, tokenizer: Option<&Tokenizer>) -> Result<Self, CorpusError> {
        let (mut paths, mut skipped) = (Vec::new(), 0);
        collect(dir, 0, &mut paths, &mut skipped)?;
        let (mut documents, mut invalid, mut total) = (Vec::new(), Vec::new(), 0u64);
        for path in paths {
            let read = |source| CorpusError::Read { path: path.clone(), source };
            total += fs::metadata(&path).map_err(read)?.len();
            if total > MAX_BYTES {
                return Err(CorpusError::TooLarge { path: dir.to_owned() });
            }
            let bytes = fs::read(&path).map_err(read)?;
            match text::check(&bytes) {
                Ok("") => {}
                Ok(text) => documents.push((<[u8; 32]>::from(Sha256::digest(text)), text.to_owned())),
                Err(e) => invalid.push((path, e)),
            }
        }
        if documents.is_empty() {
            return Err(CorpusError::Empty { path: dir.to_owned(), skipped: skipped + invalid.len() });
        }
        let (files, mut lost) = (documents.len(), 0);
        let (train, held_out) = match tokenizer {
            None => {
                let bytes = documents.into_iter().map(|(hash, text)| (hash, text.into_bytes()));
                let (train, held_out) = split(bytes.collect(), Some(b'\n'));
                (Ids::Bytes(train), Ids::Bytes(held_out))
            }
            Some(tokenizer) => {
                let mut tokens = Vec::with_capacity(documents.len());
                for (hash, text) in documents {
                    let mut ids = Vec::new();
                    lost += tokenizer.lost(&text)?;
                    tokenizer.encode_into(&text, &mut ids)?;
                    tokens.push((hash, ids));
                }
                let (train, held_out) = split(tokens, tokenizer.separator());
                (Ids::Tokens(train), Ids::Tokens(held_out))
            }
        };
        let mut digest = Sha256::new();
        digest.update((train.len() as u64).to_le_bytes());
        train.hash(&mut digest);
        held_out.hash(&mut digest);
        Ok(Self { train, held_out, digest: digest.finalize().into(), files, invalid, lost })
    }

    /// Tokens to train on, tokens held out.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.train.len(), self.held_out.len())
    }

    /// What a token is, in the plural.
    pub(crate) fn unit(&self) -> &'static str {
        match self.train {
            Ids::Bytes(_) => "bytes",
            Ids::Tokens(_) => "tokens",
        }
    }

    /// Checks that windows of `seq` tokens can be cut.
    pub(crate) fn check(&self, seq: usize) -> Result<(), CorpusError> {
        for (what, text) in [("training", &self.train), ("held-out", &self.held_out)] {
            if text.len() < seq + 2 {
                return Err(CorpusError::TooShort { what, found: text.len(), seq });
            }
        }
        Ok(())
    }

    /// The training windows of one step of one worker: a pure function of its arguments.
    pub(crate) fn window(
        &self,
        seed: u64,
        worker: u32,
        step: u32,
        batch: usize,
        seq: usize,
    ) -> Result<Tokens, TokenError> {
        let starts = (self.train.len() - seq) as u64;
        let mut ids = Vec::with_capacity(batch * (seq + 1));
        for row in 0..batch {
            let random = counter_random([seed, u64::from(worker), u64::from(step), row as u64]);
            let start = ((u128::from(random) * u128::from(starts)) >> 64) as usize;
            self.train.copy(start..start + seq + 1, &mut ids);
        }
        Tokens::new(ids, batch, seq)
    }

    /// At most `windows` held-out windows, evenly spread, in batches of at most eight.
    pub(crate) fn evaluation(&self, windows: usize, seq: usize) -> Result<Vec<Tokens>, TokenError> {
        let fit = (self.held_out.len() - 1) / seq;
        let n = windows.min(fit).max(1);
        let room = self.held_out.len() - seq - 1;
        let starts: Vec<usize> = (0..n).map(|i| if n == 1 { 0 } else { i * room / (n - 1) }).collect();
        starts
            .chunks(8)
            .map(|starts| {
                let mut ids = Vec::with_capacity(starts.len() * (seq + 1));
                starts.iter().for_each(|s| self.held_out.copy(*s..*s + seq + 1, &mut ids));
                Tokens::new(ids, starts.len(), seq)
            })
            .collect()
    }
}

/// 64 random bits for a tuple of counters: each is added and mixed with the finaliser of SplitMix64 (Steele, Lea and
/// Flood 2014). Windows need no more than even spread; nothing secret is drawn from it.
fn counter_random(counters: [u64; 4]) -> u64 {
    counters.iter().fold(0x243f_6a88_85a3_08d3, |state: u64, counter| {
        let mut z = state.wrapping_add(*counter).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Holds out the documents with the smallest hashes until one part in [`HELD_OUT`] is reached; of a single document its
/// end. Behind each document of several comes the separator, if there is one.
fn split<T: Copy + Ord>(mut documents: Vec<([u8; 32], Vec<T>)>, separator: Option<T>) -> (Vec<T>, Vec<T>) {
    documents.sort();
    documents.dedup();
    let total: usize = documents.iter().map(|d| d.1.len()).sum();
    let goal = total / HELD_OUT;
    if let [(_, only)] = documents.as_slice() {
        let (train, held_out) = only.split_at(total - goal);
        return (train.to_vec(), held_out.to_vec());
    }
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (_, text) in documents {
        // A document that would take more than a fifth of everything stays in training: small corpora need their text.
        let wanted = held_out.len() < goal.max(1) && text.len() <= total / 5;
        let part = if wanted { &mut held_out } else { &mut train };
        part.extend_from_slice(&text);
        part.extend(separator);
    }
    if held_out.is_empty() {
        held_out = train.split_off(train.len() - goal);
    }
    (train, held_out)
}

/// All text files below `dir`, sorted.
fn collect(
    dir: &Path,
    depth: usize,
    paths: &mut Vec<PathBuf>,
    skipped: &mut usize,
) -> Result<(), CorpusError> {
    let read = |source| CorpusError::Read { path: dir.to_owned(), source };
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        entries.push(entry.map_err(read)?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            if depth < MAX_DEPTH {
                collect(&path, depth + 1, paths, skipped)?;
            }
        } else if matches!(Format::of(&path), Some(Format::Text | Format::Markdown)) {
            paths.push(path);
        } else {
            *skipped += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn names_and_order_do_not_matter_and_held_out_text_is_never_trained_on() {
        let texts: Vec<Vec<u8>> = (0..30u8).map(|i| vec![b'a' + i % 26; 200 + i as usize]).collect();
        let a: Vec<(String, &[u8])> =
            texts.iter().enumerate().map(|(i, t)| (format!("{i:02}.txt"), t.as_slice())).collect();
        let b: Vec<(String, &[u8])> =
            texts.iter().enumerate().map(|(i, t)| (format!("sub/{:02}.md", 40 - i), t.as_slice())).collect();
        let read = |files: &[(String, &[u8])]| {
            let files: Vec<(&str, &[u8])> = files.iter().map(|(n, t)| (n.as_str(), *t)).collect();
            Corpus::read(folder(&files).path(), None).unwrap()
        };
        let (a, b) = (read(&a), read(&b));
        assert_eq!(a.digest, b.digest);
        let (train, held_out) = a.sizes();
        assert!(held_out * 20 >= train && held_out < train / 4, "{train} {held_out}");
        for tokens in a.evaluation(64, 50).unwrap() {
            assert_eq!(tokens.ids().len(), tokens.batch() * 51);
        }
        let window = a.window(1, 2, 3, 4, 50).unwrap();
        assert_eq!(window, b.window(1, 2, 3, 4, 50).unwrap());
        assert_ne!(window, a.window(1, 2, 4, 4, 50).unwrap());
    }

    /// As in `watershed-shards`, which asks the same function.
    #[test]
    fn what_is_text_is_told_by_its_content_and_by_its_name_in_any_case() {
        let utf16: Vec<u8> = "hello there".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let files: [(&str, &[u8]); 6] = [
            ("a.TXT", &[b'x'; 400]),
            ("b.Md", &[b'y'; 400]),
            ("c.txt", b"page one\x0cpage two"),
            ("utf16.txt", &utf16),
            ("binary.txt", b"\x7fELF\x02\x01\x01\0\0\0"),
            ("pointer.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        ];
        let corpus = Corpus::read(folder(&files).path(), None).unwrap();
        assert_eq!(corpus.files, 3);
        let why: Vec<_> = corpus.invalid.iter().map(|(_, e)| e.clone()).collect();
        let control = TextError::Control { position: 0, code: 0x7f };
        assert_eq!(why, [control, TextError::LfsPointer, TextError::Utf16("LE")]);
    }

    #[test]
    fn what_cannot_be_trained_on_is_said() {
        assert!(matches!(Corpus::read(Path::new("/nonexistent"), None), Err(CorpusError::Read { .. })));
        let empty = folder(&[("a.bin", b"x")]);
        assert!(matches!(Corpus::read(empty.path(), None), Err(CorpusError::Empty { skipped: 1, .. })));
        let mixed = folder(&[("bad.txt", b"abc\xff"), ("good.txt", &[b'x'; 1000])]);
        let corpus = Corpus::read(mixed.path(), None).unwrap();
        assert_eq!((corpus.files, &corpus.invalid[0].1), (1, &TextError::NotUtf8 { position: 3 }));
        assert!(matches!(corpus.check(2000), Err(CorpusError::TooShort { what: "training", .. })));
        corpus.check(40).unwrap();
    }
}
