//! What counts as a text, and the one form in which a text is stored and hashed. Never looks at where a text came from.
//!
//! A text is UTF-8 in Unicode normalisation form C (UAX #15) with line feeds as line ends, without a byte order mark, and
//! without control characters other than those that are white space (tab, line feed, vertical tab, form feed, next line). Two people who deposit the same words thus deposit the same
//! bytes, whatever their editor.

use serde::Serialize;
use thiserror::Error;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use watershed_protocol::TextId;

/// Most bytes of one text, unless a caller says less.
pub const MAX_TEXT: u64 = 32 << 20;

/// A text in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// The text.
    pub text: String,
    /// What had to be changed.
    pub changes: Changes,
}

impl Normalized {
    /// The name of the text.
    pub fn id(&self) -> TextId {
        TextId::of(self.text.as_bytes())
    }
}

/// What normalisation changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// A byte order mark was removed.
    pub byte_order_mark: bool,
    /// Line ends that became line feeds.
    pub line_ends: u64,
    /// Bytes by which the text grew or shrank in normalisation form C; `None` if it was in that form.
    pub nfc: Option<i64>,
}

impl Changes {
    /// Whether the text was stored as it came.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if self.byte_order_mark {
            parts.push("byte order mark removed".to_owned());
        }
        if self.line_ends > 0 {
            parts.push(format!("{} line ends made line feeds", self.line_ends));
        }
        if let Some(bytes) = self.nfc {
            parts.push(format!("composed to NFC ({bytes:+} bytes)"));
        }
        f.write_str(if parts.is_empty() { "nothing changed" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// Why bytes are no text. Positions count bytes of the input, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// Nothing, or nothing but white space.
    #[error("there is no text in it")]
    Empty,
    /// Over the limit.
    #[error("{bytes} bytes are more than the {limit} that a text may have; cut it into parts")]
    TooLarge {
        /// Bytes given.
        bytes: u64,
        /// Most allowed.
        limit: u64,
    },
    /// Not UTF-8.
    #[error(
        "byte {position} is not UTF-8; if this is text in another encoding, convert it first (iconv -t utf-8)"
    )]
    NotUtf8 {
        /// Of the first bad byte.
        position: usize,
    },
    /// Two bytes a character.
    #[error("this is text in UTF-16; convert it first (iconv -f UTF-16{0} -t UTF-8)")]
    Utf16(&'static str),
    /// What git-lfs leaves in place of a file that it has not fetched.
    #[error("this is a pointer of git-lfs and not the file itself; run `git lfs pull` in its folder")]
    LfsPointer,
    /// A character that no text has.
    #[error("byte {position} is the control character {code:#04x}: this looks like a binary file")]
    Control {
        /// Of the character.
        position: usize,
        /// The character.
        code: u32,
    },
}

/// How every pointer of git-lfs begins (its specification, version 1).
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// Whether a file that begins so is a pointer of git-lfs.
pub fn is_lfs_pointer(begins: &[u8]) -> bool {
    begins.starts_with(LFS_POINTER)
}

/// Bytes that are looked at to tell UTF-16.
const LOOKED_AT: usize = 4096;

/// The byte order of UTF-16, by its mark or, without one, by where the zero bytes of its ASCII characters are.
fn utf16(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\xff\xfe") {
        return Some("LE");
    }
    if bytes.starts_with(b"\xfe\xff") {
        return Some("BE");
    }
    let (pairs, _) = bytes.get(..LOOKED_AT.min(bytes.len())).unwrap_or(bytes).as_chunks::<2>();
    let zeros = |at: usize| pairs.iter().filter(|pair| pair[at] == 0).count();
    let (first, second) = (zeros(0), zeros(1));
    // A tenth of ASCII is in any text, blanks and line feeds alone; a few other characters have a zero in the other half.
    let many = |n: usize, of_others: usize| n > 1 && n * 10 >= pairs.len() && n > 8 * of_others;
    if many(second, first) {
        return Some("LE");
    }
    many(first, second).then_some("BE")
}

/// Whether bytes are text at all: what every command that reads texts asks first.
///
/// # Errors
/// [`TextError`], with the position of what is wrong.
pub fn check(bytes: &[u8]) -> Result<&str, TextError> {
    if is_lfs_pointer(bytes) {
        return Err(TextError::LfsPointer);
    }
    if let Some(order) = utf16(bytes) {
        return Err(TextError::Utf16(order));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| TextError::NotUtf8 { position: e.valid_up_to() })?;
    // What is white space stands in ordinary texts: a form feed between pages, say.
    let control = |c: char| c.is_control() && !c.is_whitespace();
    match text.char_indices().find(|(_, c)| control(*c)) {
        Some((position, c)) => Err(TextError::Control { position, code: u32::from(c) }),
        None => Ok(text),
    }
}

/// Bytes into a text.
///
/// # Errors
/// [`TextError`], with the position of what is wrong.
pub fn normalize(bytes: &[u8], limit: u64) -> Result<Normalized, TextError> {
    let too_large = |bytes: usize| TextError::TooLarge { bytes: bytes as u64, limit };
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len()));
    }
    let text = check(bytes)?;
    let mut changes = Changes::default();
    let unmarked = text.trim_start_matches('\u{feff}');
    changes.byte_order_mark = unmarked.len() < text.len();
    let mut owned = line_feeds(unmarked, &mut changes.line_ends);
    if is_nfc_quick(owned.chars()) != IsNormalized::Yes {
        let composed: String = owned.nfc().collect();
        if composed != owned {
            changes.nfc = Some(composed.len() as i64 - owned.len() as i64);
            owned = composed;
        }
    }
    // Composition can lengthen a text a little: the limit holds for what is stored.
    if owned.len() as u64 > limit {
        return Err(too_large(owned.len()));
    }
    if owned.trim().is_empty() {
        return Err(TextError::Empty);
    }
    Ok(Normalized { text: owned, changes })
}

/// Every `\r\n` and every lone `\r` as `\n`; counts them.
fn line_feeds(text: &str, count: &mut u64) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\r') {
        out.push_str(line);
        out.push('\n');
        *count += 1;
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(bytes: &[u8]) -> Result<Normalized, TextError> {
        normalize(bytes, 1000)
    }

    #[test]
    fn what_is_changed_is_stated() {
        let plain = normal("ein Café\n".as_bytes()).unwrap();
        assert!(plain.changes.none());
        assert_eq!(plain.changes.to_string(), "nothing changed");
        let typed = normal("\u{feff}ein Cafe\u{301}\r\nund\rmehr".as_bytes()).unwrap();
        assert_eq!(typed.text, "ein Café\nund\nmehr");
        assert_eq!(typed.changes, Changes { byte_order_mark: true, line_ends: 2, nfc: Some(-1) });
        assert_eq!(
            typed.changes.to_string(),
            "byte order mark removed, 2 line ends made line feeds, composed to NFC (-1 bytes)"
        );
        assert_eq!(normal("ein Cafe\u{301}\n".as_bytes()).unwrap().id(), plain.id());
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_position() {
        assert_eq!(normal(b""), Err(TextError::Empty));
        assert_eq!(normal(b" \r\n\t"), Err(TextError::Empty));
        assert_eq!(normal(b"good \xff bad"), Err(TextError::NotUtf8 { position: 5 }));
        assert_eq!(normal(b"\x7fELF"), Err(TextError::Control { position: 0, code: 0x7f }));
        assert_eq!(normal(b"a\0b"), Err(TextError::Control { position: 1, code: 0 }));
        assert_eq!(normal(b"version https://git-lfs.github.com/spec/v1\n"), Err(TextError::LfsPointer));
        for (order, byte_order_mark) in [("LE", true), ("LE", false), ("BE", true), ("BE", false)] {
            let mark = byte_order_mark.then_some('\u{feff}');
            let units = mark.into_iter().chain("Grüße, 你好 zusammen".chars()).collect::<String>();
            let bytes: Vec<u8> = units
                .encode_utf16()
                .flat_map(|unit| if order == "LE" { unit.to_le_bytes() } else { unit.to_be_bytes() })
                .collect();
            assert_eq!(normal(&bytes), Err(TextError::Utf16(order)), "{byte_order_mark}");
        }
        assert_eq!(normal(&[b'a'; 1001]), Err(TextError::TooLarge { bytes: 1001, limit: 1000 }));
        // U+0958 has a longer composed form.
        let grows = "\u{958}".repeat(333);
        assert_eq!(normal(grows.as_bytes()), Err(TextError::TooLarge { bytes: 1998, limit: 1000 }));
    }

    #[test]
    fn white_space_of_any_kind_is_text() {
        let text = "one\u{c}two\u{b}three\u{85}four\tfive";
        assert_eq!(normal(text.as_bytes()).unwrap().text, text);
        assert_eq!(normal(b"a\x1bb"), Err(TextError::Control { position: 1, code: 0x1b }));
    }

    proptest! {
        #[test]
        fn normal_text_stays_as_it_is(text in "[a-z\\r\\n\\t \u{301}\u{feff}\u{958}\u{1112}\u{1161}\u{11ab}é🦀]{1,60}") {
            if let Ok(once) = normalize(text.as_bytes(), 1 << 20) {
                let twice = normalize(once.text.as_bytes(), 1 << 20).unwrap();
                prop_assert!(twice.changes.none());
                prop_assert_eq!(twice.text, once.text);
            }
        }
    }
}
