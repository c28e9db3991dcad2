//! The front matter of a Markdown file, and its first heading.
//!
//! Front matter is taken to be what nearly everybody writes: between a first line `---` and the next line `---`,
//! lines `key: value`, of which the value may be quoted. It is not YAML: there are no types, no escapes and no
//! multi-line values. Lists and blocks under a key nobody asked for are passed over; under one that is mapped they are
//! refused.

use super::Reason;
use super::mapping::{CALLED, FIELDS, Names, TEXT};

/// Reads the front matter into `values`; where the text begins: 0 when there is none.
///
/// A file that begins with `---` but goes on otherwise than with a `key:` begins with a rule, and all of it is text; so
/// is one in which the line that ends the front matter never comes.
pub(super) fn matter(
    file: &[u8],
    names: &Names,
    values: &mut [Option<String>; FIELDS],
) -> Result<usize, Reason> {
    let start = if file.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut lines = Lines { rest: file.get(start..).unwrap_or_default(), at: start, number: 0 };
    if !lines.next().is_some_and(|line| is_fence(line.bytes)) {
        return Ok(0);
    }
    let mut body = lines.clone();
    let Some(end) = body.find(|line| is_fence(line.bytes)).map(|line| line.number) else { return Ok(0) };
    let content = lines.clone().find(|line| !is_empty(line.bytes));
    if content.is_none_or(|line| line.number != end && key_value(line.bytes).is_none()) {
        return Ok(0);
    }
    // The mapped fields that the key before is the name of.
    let mut above: Vec<usize> = Vec::new();
    for line in lines.take_while(|line| line.number != end) {
        if is_empty(line.bytes) {
            continue;
        }
        if matches!(line.bytes.first(), Some(b' ' | b'\t' | b'-')) {
            if let Some(&field) = above.first() {
                return Err(not_a_string(field));
            }
            continue;
        }
        let Some((key, value)) = key_value(line.bytes) else {
            return Err(Reason::FrontMatter { line: line.number, why: "is not of the form `key: value`" });
        };
        above = fields_called(key, names);
        for &field in &above {
            let Some(place) = values.get_mut(field) else { continue };
            if place.is_some() {
                return Err(Reason::Twice { field: called(field) });
            }
            *place = string(value, field)?;
        }
    }
    Ok(body.at)
}

/// The first heading of the first level, `# Title`, outside of fenced code.
pub(super) fn heading(body: &[u8]) -> Option<String> {
    let mut fenced = false;
    for line in (Lines { rest: body, at: 0, number: 0 }) {
        if line.bytes.starts_with(b"```") || line.bytes.starts_with(b"~~~") {
            fenced = !fenced;
        } else if let (false, Some(title)) = (fenced, line.bytes.strip_prefix(b"# ")) {
            let title = str::from_utf8(title).ok()?.trim().trim_end_matches('#').trim_end();
            if !title.is_empty() {
                return Some(title.to_owned());
            }
        }
    }
    None
}

#[derive(Clone)]
struct Lines<'a> {
    rest: &'a [u8],
    at: usize,
    number: u64,
}

struct Line<'a> {
    bytes: &'a [u8],
    number: u64,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let line = self.rest.split_inclusive(|&byte| byte == b'\n').next()?;
        self.rest = self.rest.get(line.len()..).unwrap_or_default();
        self.at += line.len();
        self.number += 1;
        Some(Line { bytes: line.trim_ascii_end(), number: self.number })
    }
}

fn is_fence(line: &[u8]) -> bool {
    line == b"---"
}

fn is_empty(line: &[u8]) -> bool {
    line.is_empty() || line.starts_with(b"#")
}

/// `key: value` or `key:`, the key of ASCII letters, digits, `_` and `-`.
fn key_value(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (key, value) = line.split_at_checked(colon)?;
    let value = value.get(1..)?;
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let named = key.first().is_some_and(|first| *first != b'-') && key.iter().all(is_key);
    let apart = value.first().is_none_or(|first| matches!(first, b' ' | b'\t'));
    if named && apart { Some((str::from_utf8(key).ok()?, value.trim_ascii())) } else { None }
}

fn fields_called(key: &str, names: &Names) -> Vec<usize> {
    let asked = |&field: &usize| {
        field != TEXT
            && names.0.get(field).is_some_and(|parts| matches!(parts.as_slice(), [name] if name == key))
    };
    (0..FIELDS).filter(asked).collect()
}

fn string(value: &[u8], field: usize) -> Result<Option<String>, Reason> {
    let value = str::from_utf8(value).map_err(|_| Reason::NotUtf8 { field: called(field) })?;
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return Ok(Some(inner.to_owned()));
        }
    }
    match value.chars().next() {
        None => Ok(None),
        Some('[' | '{' | '|' | '>' | '&' | '*' | '!') => Err(not_a_string(field)),
        Some(_) => Ok(Some(value.to_owned())),
    }
}

fn not_a_string(field: usize) -> Reason {
    Reason::NotAString { field: called(field), found: "a list or block" }
}

fn called(field: usize) -> &'static str {
    CALLED.get(field).copied().unwrap_or_default()
}
