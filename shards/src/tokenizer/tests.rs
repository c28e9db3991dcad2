//! Tokenizers made by training, and what a text must not be able to do to them.

use std::convert::Infallible;

use super::*;

fn texts() -> Vec<String> {
    let words = [
        "boat", "river", "rows", "upstream", "evening", "lantern", "Fluß", "川を", "نهر", "🛶", "stone",
        "remember",
    ];
    let word = |i: usize| words[(5 * i + i / 7) % 12];
    (0..60).map(|i| (i..i + 30).map(word).collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn trained(vocabulary: u32) -> Vec<u8> {
    let options = TrainOptions { vocabulary, min_frequency: 2 };
    train_bpe(texts().into_iter().map(Ok::<_, Infallible>), &options).unwrap()
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    tokenizer.encode_into(text, &mut tokens).unwrap();
    tokens
}

#[test]
fn training_twice_on_other_threads_and_in_another_order_gives_the_same_file() {
    let first = trained(280);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for threads in [1, 2, 3] {
        assert!(pool(threads).install(|| trained(280)) == first, "{threads} threads");
    }
    let options = TrainOptions { vocabulary: 280, min_frequency: 2 };
    let backwards = train_bpe(texts().into_iter().rev().map(Ok::<_, Infallible>), &options).unwrap();
    assert!(backwards == first);
}

#[test]
fn every_text_can_be_written_and_read_back() {
    let tokenizer = Tokenizer::from_json(&trained(280), Separator::Auto).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.separator()), (280, Some(0)));
    for text in ["the river", "unseen: qxz", "🦀 émigré\t\n\u{1f469}\u{200d}\u{1f680}", "سلام", " leading"]
    {
        let tokens = encode(&tokenizer, text);
        assert!(tokens.iter().all(|t| *t < 280 && *t != 0));
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    }
    assert!(encode(&tokenizer, " river lantern evening upstream").len() < 26);
}

#[test]
fn a_text_cannot_end_itself() {
    let tokenizer = Tokenizer::from_json(&trained(280), Separator::Auto).unwrap();
    let text = "first<|endoftext|>second";
    let tokens = encode(&tokenizer, text);
    assert!(!tokens.contains(&0));
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    // A token that is added but not special stands in texts, so it cannot be the separator.
    let mut json: serde_json::Value = serde_json::from_slice(&trained(280)).unwrap();
    json["added_tokens"][0]["special"] = false.into();
    let json = serde_json::to_vec(&json).unwrap();
    let refused = Tokenizer::from_json(&json, Separator::Token("<|endoftext|>".to_owned())).unwrap_err();
    assert!(matches!(refused, TokenizerError::NotSpecial { .. }));
    assert_eq!(
        Tokenizer::from_json(&json, Separator::Auto).unwrap_err(),
        TokenizerError::NoSeparator(vec![])
    );
    assert_eq!(Tokenizer::from_json(&json, Separator::None).unwrap().separator(), None);
}

#[test]
fn long_texts_are_tokenised_piece_by_piece() {
    let tokenizer = Tokenizer::from_json(&trained(280), Separator::Auto).unwrap();
    let long = texts().concat().repeat(80);
    assert!(long.len() > 2 * PIECE);
    let whole = encode(&tokenizer, &long);
    let parts: Vec<u32> = pieces(&long).flat_map(|p| encode(&tokenizer, p)).collect();
    assert_eq!(whole, parts);
    assert_eq!(tokenizer.decode(&whole).unwrap(), long);
}

#[test]
fn bytes_are_bytes() {
    let tokenizer = Tokenizer::bytes();
    assert_eq!(encode(&tokenizer, "aé"), [97, 0xc3, 0xa9]);
    assert_eq!(tokenizer.decode(&[97, 0xc3, 0xa9]).unwrap(), "aé");
    assert_eq!((tokenizer.vocab_size(), tokenizer.separator()), (256, Some(0)));
}

#[test]
fn everything_that_changes_tokens_changes_the_name() {
    let json = trained(280);
    let names = [
        Tokenizer::bytes().id(),
        Tokenizer::from_json(&json, Separator::Auto).unwrap().id(),
        Tokenizer::from_json(&json, Separator::None).unwrap().id(),
        Tokenizer::from_json(&trained(281), Separator::Auto).unwrap().id(),
    ];
    for (i, name) in names.iter().enumerate() {
        assert!(!names[..i].contains(name));
    }
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    for bad in ["", "{}", "[1,2", "{\"model\":{\"type\":\"BPE\"}}"] {
        let refused = Tokenizer::from_json(bad.as_bytes(), Separator::Auto);
        assert!(matches!(refused, Err(TokenizerError::Format(_))), "{bad}");
    }
    let options = TrainOptions { vocabulary: 256, min_frequency: 2 };
    let refused = train_bpe(std::iter::empty::<Result<String, Infallible>>(), &options);
    assert!(matches!(refused, Err(TrainError::Vocabulary(256))));
    let failing = [Ok("a".to_owned()), Err(std::fmt::Error)].into_iter();
    let refused = train_bpe(failing, &TrainOptions { vocabulary: 280, ..options });
    assert!(matches!(refused, Err(TrainError::Texts(std::fmt::Error))));
}

/// A BPE over the letters a to z and the blank.
fn letters(unknown: Option<&str>) -> Tokenizer {
    let mut vocab = serde_json::Map::new();
    vocab.insert("<|endoftext|>".to_owned(), 0.into());
    for letter in unknown.map(str::to_owned).into_iter().chain(('a'..='z').chain([' ']).map(String::from)) {
        vocab.insert(letter, vocab.len().into());
    }
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null,
        "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []},
    });
    Tokenizer::from_json(json.to_string().as_bytes(), Separator::Auto).unwrap()
}

#[test]
fn characters_without_a_token_are_counted() {
    for (text, lost) in [("plain letters", 0), ("hello 你好 🎉", 3), ("Ünicode", 1), ("a\nb", 0)] {
        for tokenizer in [letters(None), letters(Some("<unk>"))] {
            assert!(tokenizer.may_lose());
            assert_eq!(tokenizer.lost(text).unwrap(), lost, "{text}");
        }
    }
    // Without an unknown token they are not even there.
    assert_eq!(encode(&letters(None), "你好 🎉").len(), 1);
    let whole = Tokenizer::from_json(&trained(280), Separator::Auto).unwrap();
    for tokenizer in [Tokenizer::bytes(), whole] {
        assert!(!tokenizer.may_lose());
        assert_eq!(tokenizer.lost("hello 你好 🎉").unwrap(), 0);
    }
}
