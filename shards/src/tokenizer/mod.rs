//! Text into tokens, so that the same text and tokenizer give the same tokens on any machine.
//!
//! A text is cut into pieces (module `pieces`), each piece is tokenised alone, and the tokens are joined: a long text then
//! needs no more memory than a short one. Special tokens that stand in a text are text: nobody can end a document, or start
//! a turn, by writing `<|endoftext|>`. Tokens that a post-processor would add are not added; truncation and padding are
//! ignored. Behind a text comes the separator, once, if there is one.

mod loss;
mod pieces;
mod train;

use std::sync::Arc;

use thiserror::Error;
use watershed_protocol::{Domain, TaggedHasher, TokenizerId};

pub use pieces::{PIECE, pieces};
pub use train::{TrainError, TrainOptions, train_bpe};

/// Version of the rules above and of `pieces`; part of a tokenizer's name.
const RULES: u8 = 1;

/// Names of the token that ends a text, in the order in which they are looked for.
const SEPARATORS: [&str; 9] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|eos|>",
    "<|im_end|>",
    "<|eot_id|>",
    "[SEP]",
    "<end_of_turn>",
];

/// What makes a `tokenizer.json` of a folder with a tokenizer of another form (SentencePiece's `tokenizer.model`, or `vocab.json`
/// with `merges.txt`).
pub const MAKE_JSON: &str = "`python3 -c 'from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(\"DIR\").save_pretrained(\"DIR\")'`";

/// What comes behind every text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Separator {
    /// The end-of-text token, found by its usual names.
    Auto,
    /// Nothing.
    None,
    /// This special token.
    Token(String),
}

/// What is wrong with a tokenizer or a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenizerError {
    /// Larger than is read.
    #[error("a tokenizer.json of {bytes} bytes is larger than the {limit} that are read")]
    TooLarge {
        /// Bytes given.
        bytes: usize,
        /// Most allowed.
        limit: u64,
    },
    /// Not a tokenizer.json.
    #[error(
        "this is no tokenizer.json of Hugging Face: {0}. Of a tokenizer of another form {MAKE_JSON} makes one"
    )]
    Format(String),
    /// No usual name of an end-of-text token.
    #[error("no token ends a text; say which one does, or that none shall. Special tokens are: {}", .0.join(" "))]
    NoSeparator(Vec<String>),
    /// Not a special token.
    #[error("{name} is no special token of this tokenizer, so a text could contain it. Special tokens are: {}", known.join(" "))]
    NotSpecial {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The library fails.
    #[error("the tokenizer fails: {0}")]
    Encode(String),
    /// A token that must not be.
    #[error("the tokenizer gives token {token}, its vocabulary ends at {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Tokens must be below this.
        vocabulary: u32,
    },
}

#[derive(Clone)]
enum Kind {
    Bytes,
    Json {
        json: Arc<Vec<u8>>,
        tokenizer: Arc<tokenizers::Tokenizer>,
        /// Whether a text can have characters that no token stands for.
        may_lose: bool,
    },
}

/// A tokenizer. Cheap to clone, and used by several threads at once.
#[derive(Clone)]
pub struct Tokenizer {
    kind: Kind,
    id: TokenizerId,
    vocabulary: u32,
    separator: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.id, self.vocabulary)
    }
}

fn name(kind: &[u8], separator: Option<u32>) -> TokenizerId {
    let mut hasher = TaggedHasher::new(Domain::Tokenizer);
    hasher.update(&[RULES, u8::from(separator.is_some())]);
    hasher.update(&separator.unwrap_or(0).to_le_bytes());
    hasher.update(kind);
    TokenizerId::from_bytes(hasher.finish().to_bytes())
}

impl Tokenizer {
    /// Largest `tokenizer.json` that is read.
    pub const MAX_JSON: u64 = 64 << 20;

    /// A token is a byte. The separator is byte 0, which no text has.
    pub fn bytes() -> Self {
        Self { kind: Kind::Bytes, id: name(&[0], Some(0)), vocabulary: 256, separator: Some(0) }
    }

    /// A tokenizer of Hugging Face.
    ///
    /// # Errors
    /// [`TokenizerError`] if it cannot be read or has no such separator.
    pub fn from_json(json: &[u8], separator: Separator) -> Result<Self, TokenizerError> {
        if json.len() as u64 > Self::MAX_JSON {
            return Err(TokenizerError::TooLarge { bytes: json.len(), limit: Self::MAX_JSON });
        }
        let format = |e: tokenizers::Error| TokenizerError::Format(e.to_string());
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(format)?;
        tokenizer.with_truncation(None).map_err(format)?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let largest = tokenizer.get_vocab(true).into_values().max();
        let vocabulary = largest.map_or(0, |id| id.saturating_add(1));
        let mut special: Vec<(u32, String)> = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (id, token.content))
            .collect();
        special.sort();
        let known = || special.iter().map(|(_, name)| name.clone()).collect();
        let find = |name: &str| special.iter().find(|(_, n)| n == name).map(|(id, _)| *id);
        let separator = match separator {
            Separator::None => None,
            Separator::Auto => {
                let found = SEPARATORS.iter().find_map(|name| find(name));
                Some(found.ok_or_else(|| TokenizerError::NoSeparator(known()))?)
            }
            Separator::Token(name) => {
                Some(find(&name).ok_or_else(|| TokenizerError::NotSpecial { name, known: known() })?)
            }
        };
        let id = name(&[&[1], json].concat(), separator);
        let may_lose = !loss::has_every_byte(json, &tokenizer);
        let kind = Kind::Json { json: Arc::new(json.to_vec()), tokenizer: Arc::new(tokenizer), may_lose };
        Ok(Self { kind, id, vocabulary, separator })
    }

    /// Its name: the hash of the rules, the separator and the file.
    pub fn id(&self) -> TokenizerId {
        self.id
    }

    /// Tokens are below this.
    pub fn vocab_size(&self) -> u32 {
        self.vocabulary
    }

    /// The token behind every text.
    pub fn separator(&self) -> Option<u32> {
        self.separator
    }

    /// The file it was made from; `None` for bytes.
    pub fn json(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Bytes => None,
            Kind::Json { json, .. } => Some(json),
        }
    }

    /// The name of a token, as the tokenizer has it; `None` for bytes.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.kind {
            Kind::Bytes => None,
            Kind::Json { tokenizer, .. } => tokenizer.id_to_token(id),
        }
    }

    /// Appends the tokens of a text, without separator.
    ///
    /// # Errors
    /// [`TokenizerError`] if the library fails.
    pub fn encode_into(&self, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        match &self.kind {
            Kind::Bytes => out.extend(text.bytes().map(u32::from)),
            Kind::Json { tokenizer, .. } => {
                for piece in pieces(text) {
                    let failed = |e: tokenizers::Error| TokenizerError::Encode(e.to_string());
                    let encoding = tokenizer.encode_fast(piece, false).map_err(failed)?;
                    let vocabulary = self.vocabulary;
                    if let Some(token) = encoding.get_ids().iter().find(|t| **t >= vocabulary) {
                        return Err(TokenizerError::Token { token: *token, vocabulary });
                    }
                    out.extend_from_slice(encoding.get_ids());
                }
            }
        }
        Ok(())
    }

    /// How many characters of a text its tokens do not give back: characters for which there is neither a token nor one of
    /// their bytes, so that they are left out, or stand there as the unknown token. White space is not counted: some tokenizers
    /// cut it off by design.
    ///
    /// # Errors
    /// [`TokenizerError`] if the library fails.
    pub fn lost(&self, text: &str) -> Result<u64, TokenizerError> {
        match &self.kind {
            Kind::Json { tokenizer, may_lose: true, .. } => {
                pieces(text).try_fold(0, |sum, piece| Ok(sum + loss::lost(tokenizer, piece)?))
            }
            _ => Ok(0),
        }
    }

    /// Whether [`Tokenizer::lost`] can be other than 0.
    pub fn may_lose(&self) -> bool {
        matches!(self.kind, Kind::Json { may_lose: true, .. })
    }

    /// Tokens as text, to be looked at. Bytes that are no UTF-8 become replacement characters.
    ///
    /// # Errors
    /// [`TokenizerError`] if the library fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        match &self.kind {
            Kind::Bytes => {
                let bytes: Vec<u8> = tokens.iter().map(|t| *t as u8).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Kind::Json { tokenizer, .. } => {
                tokenizer.decode(tokens, false).map_err(|e| TokenizerError::Encode(e.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
