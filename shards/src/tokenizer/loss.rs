//! Characters that a tokenizer has no token for. Some leave them out without a word: a BPE with neither an unknown token nor
//! tokens for bytes, for instance.

use std::collections::HashMap;

use serde_json::Value;
use tokenizers::models::ModelWrapper;

use super::TokenizerError;

/// Whether every byte has a token, so that no character can be lost: byte-level tokenizers with their whole alphabet, and those
/// that fall back to bytes and have all of them.
pub(super) fn has_every_byte(json: &[u8], tokenizer: &tokenizers::Tokenizer) -> bool {
    let Ok(file) = serde_json::from_slice::<Value>(json) else { return false };
    let has = |token: &str| tokenizer.token_to_id(token).is_some();
    let falls_back = file["model"]["byte_fallback"] == true;
    if falls_back && (0..=u8::MAX).all(|byte| has(&format!("<0x{byte:02X}>"))) {
        return true;
    }
    let by_bytes = ["pre_tokenizer", "normalizer"].iter().any(|part| names_byte_level(&file[part]));
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    by_bytes && alphabet.iter().all(|letter| has(letter.to_string().as_str()))
}

fn names_byte_level(part: &Value) -> bool {
    match part {
        Value::Object(fields) => {
            fields.get("type").is_some_and(|kind| kind == "ByteLevel")
                || fields.values().any(names_byte_level)
        }
        Value::Array(parts) => parts.iter().any(names_byte_level),
        _ => false,
    }
}

/// Characters of a piece, other than white space, that no token covers or that the unknown token does.
pub(super) fn lost(tokenizer: &tokenizers::Tokenizer, piece: &str) -> Result<u64, TokenizerError> {
    let failed = |e: tokenizers::Error| TokenizerError::Encode(e.to_string());
    let unknown = unknown_token(tokenizer);
    let known = |encoding: &tokenizers::Encoding| encoding.get_ids().iter().any(|id| Some(*id) != unknown);
    if matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
        // What a BPE leaves out shifts the places that it tells, so each character is looked at by itself: alone and doubled,
        // as it may have a token of its own only at the end of a word.
        let mut has: HashMap<char, bool> = HashMap::new();
        let mut lost = 0;
        for c in piece.chars().filter(|c| !c.is_whitespace()) {
            let there = match has.get(&c) {
                Some(there) => *there,
                None => {
                    let alone = tokenizer.encode_fast(c.to_string(), false).map_err(failed)?;
                    let doubled = tokenizer.encode_fast(format!("{c}{c}"), false).map_err(failed)?;
                    let there = known(&alone) || known(&doubled);
                    has.insert(c, there);
                    there
                }
            };
            lost += u64::from(!there);
        }
        return Ok(lost);
    }
    let encoding = tokenizer.encode_char_offsets(piece, false).map_err(failed)?;
    let mut kept = vec![false; piece.chars().count()];
    for (token, (from, to)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
        if Some(*token) != unknown {
            kept.iter_mut().take(*to).skip(*from).for_each(|kept| *kept = true);
        }
    }
    let lost = piece.chars().zip(kept).filter(|(c, kept)| !kept && !c.is_whitespace()).count();
    Ok(lost as u64)
}

fn unknown_token(tokenizer: &tokenizers::Tokenizer) -> Option<u32> {
    let name = match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.unk_token.clone(),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
        ModelWrapper::Unigram(model) => {
            // It keeps the name to itself; its file has the number.
            let file = serde_json::to_value(model).ok()?;
            return file["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok());
        }
    };
    name.and_then(|name| tokenizer.token_to_id(&name))
}
