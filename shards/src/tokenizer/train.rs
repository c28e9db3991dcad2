//! Training a byte-level BPE tokenizer (Sennrich, Haddow and Birch 2016; bytes as in GPT-2).
//!
//! Every byte is in the vocabulary, so every text can be written. The result depends on the texts, not on their order or on
//! threads: merges are chosen by frequency, and among equal frequencies by the numbers of the pair.

use thiserror::Error;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use super::pieces;

/// The special token that ends a text.
const END: &str = "<|endoftext|>";

/// How a tokenizer is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// Tokens wanted, bytes and end of text included; at least 257.
    pub vocabulary: u32,
    /// How often a pair must occur to be merged.
    pub min_frequency: u64,
}

/// Why there is no tokenizer.
#[derive(Debug, Error)]
pub enum TrainError<E: std::error::Error> {
    /// Too small for bytes and end of text, or larger than is sensible.
    #[error("a vocabulary of {0} is not in 257..=1000000")]
    Vocabulary(u32),
    /// The texts could not be read.
    #[error(transparent)]
    Texts(E),
    /// The library fails.
    #[error("the tokenizer cannot be trained: {0}")]
    Library(String),
}

/// Trains on texts, which are read once; returns a `tokenizer.json`.
///
/// # Errors
/// [`TrainError`].
pub fn train_bpe<E: std::error::Error + Send>(
    texts: impl Iterator<Item = Result<String, E>> + Send,
    options: &TrainOptions,
) -> Result<Vec<u8>, TrainError<E>> {
    if !(257..=1_000_000).contains(&options.vocabulary) {
        return Err(TrainError::Vocabulary(options.vocabulary));
    }
    let failed = |e: tokenizers::Error| TrainError::Library(e.to_string());
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(options.vocabulary as usize)
        .min_frequency(options.min_frequency)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END, true)])
        .build();
    let bytes = || ByteLevel::new(false, true, true);
    let mut tokenizer =
        TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
            .with_model(BPE::default())
            .with_pre_tokenizer(Some(bytes()))
            .with_decoder(Some(bytes()))
            .build()
            .map_err(failed)?;
    // The library's iterator cannot fail: the first failure ends it and is looked at afterwards.
    let mut failure = None;
    let sequences = texts
        .map_while(|text| text.map_err(|e| failure = Some(e)).ok())
        .flat_map(|text| pieces(&text).map(str::to_owned).collect::<Vec<_>>());
    tokenizer.train(&mut trainer, sequences).map_err(failed)?;
    if let Some(failure) = failure {
        return Err(TrainError::Texts(failure));
    }
    Ok(tokenizer.to_string(true).map_err(failed)?.into_bytes())
}
