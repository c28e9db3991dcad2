//! Where a run begins: a preset with random weights, or a Hugging Face folder with its own weights and tokenizer.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;
use watershed_engine::model::{ModelConfig, Preset, hf};
use watershed_shards::tokenizer::{MAKE_JSON, Separator, Tokenizer, TokenizerError};

/// What the tokenizer is read from.
const TOKENIZER_FILE: &str = "tokenizer.json";

/// What other programs want beside it, and this one only copies.
const COMPANIONS: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// Tokenizers of other forms, which are not read.
const OTHER_FORMS: [&str; 7] = [
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
    "tokenizer.tiktoken",
];

/// Largest companion that is copied.
const MAX_COMPANION: u64 = 16 << 20;

/// Without a tokenizer a token is a byte, so a model must have this many.
const BYTES: usize = 256;

/// Why a run cannot begin there.
#[derive(Debug, Error)]
pub(crate) enum OriginError {
    #[error("{path}: {source}", path = dir.display())]
    Model { dir: PathBuf, source: hf::HfError },
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is larger than {limit} bytes, which no tokenizer is", path = path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{path}: {source}", path = path.display())]
    Tokenizer { path: PathBuf, source: TokenizerError },
    #[error(
        "{path} has no {TOKENIZER_FILE}{instead}, and the model's {vocab} tokens are not bytes, of which there are {BYTES}. Put its \
         {TOKENIZER_FILE} there; {MAKE_JSON} makes one",
        path = dir.display()
    )]
    NoTokenizer { dir: PathBuf, vocab: usize, instead: String },
    #[error("{path} is a pointer of git-lfs and not the file itself; run `git lfs pull` in its folder", path = path.display())]
    LfsPointer { path: PathBuf },
    #[error(
        "the tokenizer in {path} has {tokens} tokens, the model {vocab}; they do not belong together",
        path = dir.display()
    )]
    Vocabulary { dir: PathBuf, tokens: u32, vocab: usize },
}

/// A model to begin with.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) config: ModelConfig,
    /// In declared order; none for random ones.
    pub(crate) parameters: Option<Vec<f32>>,
    /// None where a token is a byte.
    pub(crate) tokenizer: Option<Tokenizer>,
    /// The files of the tokenizer, to be put beside the trained model.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
}

impl Origin {
    /// Random weights over bytes.
    pub(crate) fn preset(preset: Preset) -> Self {
        Self { config: preset.config(), parameters: None, tokenizer: None, files: Vec::new() }
    }

    /// Weights, tokenizer and configuration of a Hugging Face folder.
    pub(crate) fn folder(dir: &Path) -> Result<Self, OriginError> {
        let (config, parameters) =
            hf::load(dir).map_err(|source| OriginError::Model { dir: dir.to_owned(), source })?;
        let vocab = config.vocab;
        let path = dir.join(TOKENIZER_FILE);
        let (mut tokenizer, mut files) = (None, Vec::new());
        if let Some(json) = read(&path, Tokenizer::MAX_JSON)? {
            let found = parse(&json).map_err(|source| OriginError::Tokenizer { path, source })?;
            let tokens = found.vocab_size();
            if tokens as usize > vocab {
                return Err(OriginError::Vocabulary { dir: dir.to_owned(), tokens, vocab });
            }
            tokenizer = Some(found);
            files.push((TOKENIZER_FILE, json));
            for name in COMPANIONS {
                files.extend(read(&dir.join(name), MAX_COMPANION)?.map(|bytes| (name, bytes)));
            }
        } else if vocab != BYTES {
            let found: Vec<_> = OTHER_FORMS.into_iter().filter(|name| dir.join(name).exists()).collect();
            let instead =
                if found.is_empty() { String::new() } else { format!(" (only {})", found.join(", ")) };
            return Err(OriginError::NoTokenizer { dir: dir.to_owned(), vocab, instead });
        }
        Ok(Self { config, parameters: Some(parameters), tokenizer, files })
    }
}

/// A tokenizer without a token that ends a text puts nothing between texts.
fn parse(json: &[u8]) -> Result<Tokenizer, TokenizerError> {
    match Tokenizer::from_json(json, Separator::Auto) {
        Err(TokenizerError::NoSeparator(_)) => Tokenizer::from_json(json, Separator::None),
        other => other,
    }
}

/// A file of at most `limit` bytes, if there is one.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, OriginError> {
    let failed = |source| OriginError::Read { path: path.to_owned(), source };
    // Asked before opening, because opening a pipe would wait for ever.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(OriginError::TooLarge { path: path.to_owned(), limit });
    }
    if hf::is_lfs_pointer(&bytes) {
        return Err(OriginError::LfsPointer { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use watershed_engine::model::{Layout, init};

    use super::*;

    fn folder(vocab: usize, files: &[(&str, &str)]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let config = ModelConfig {
            vocab,
            hidden: 16,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 16,
            ffn: 16,
            ..Preset::Nano.config()
        };
        let layout = Layout::new(&config).unwrap();
        hf::save(&temp.path().join("model"), &config, &init(&layout, 1), u64::MAX).unwrap();
        for (name, text) in files {
            fs::write(temp.path().join("model").join(name), text).unwrap();
        }
        temp
    }

    fn refused(vocab: usize, files: &[(&str, &str)]) -> String {
        Origin::folder(&folder(vocab, files).path().join("model")).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_whose_tokens_are_not_bytes_needs_its_tokenizer() {
        let bytes = folder(256, &[]);
        assert!(Origin::folder(&bytes.path().join("model")).unwrap().tokenizer.is_none());
        for vocab in [255, 257, 320] {
            let text = refused(vocab, &[]);
            assert!(text.contains("save_pretrained") && !text.contains("only"), "{text}");
        }
        assert!(refused(320, &[("tokenizer.model", "x")]).contains("(only tokenizer.model)"));
        let both = [("vocab.json", "{}"), ("merges.txt", "")];
        assert!(refused(320, &both).contains("(only vocab.json, merges.txt)"));
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        assert!(refused(256, &[("tokenizer.json", pointer)]).contains("git lfs pull"));
    }
}
