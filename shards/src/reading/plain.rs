//! Files that are one text: plain, or Markdown with front matter.
//!
//! Front matter is what stands between a first line `---` and the next such line: lines `key: value`, the value in quotes or
//! not. Other lines of it are passed over; it is not part of the text.

use std::path::Path;

use super::{Fields, Mapping, ReadError, Record, Refusal, RefusalReason};
use crate::library::{FileError, read};

type One = Result<Result<Record, Refusal>, ReadError>;

fn bytes(path: &Path, limit: u64) -> Result<Result<Vec<u8>, Refusal>, ReadError> {
    let missing = || FileError::at("open", path)(std::io::ErrorKind::NotFound.into());
    let bytes = read(path, limit)?.ok_or_else(missing)?;
    let too_large = bytes.len() as u64 > limit;
    Ok(if too_large {
        Err(Refusal { index: 0, reason: RefusalReason::TooLarge { limit } })
    } else {
        Ok(bytes)
    })
}

fn stem(path: &Path) -> Option<String> {
    path.file_stem().map(|s| s.to_string_lossy().into_owned())
}

/// A plain text; its title is the file's name.
pub(super) fn text(path: &Path, limit: u64) -> One {
    let fields = Fields { title: stem(path), ..Fields::default() };
    Ok(bytes(path, limit)?.map(|bytes| Record { index: 0, bytes, fields }))
}

/// A Markdown text; its title is that of the front matter, else the first heading, else the file's name.
pub(super) fn markdown(path: &Path, mapping: &Mapping, limit: u64) -> One {
    let bytes = match bytes(path, limit)? {
        Ok(bytes) => bytes,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some((head, body)) = split(&bytes) else {
        return Ok(Err(Refusal { index: 0, reason: RefusalReason::FrontMatter }));
    };
    let head = String::from_utf8_lossy(head);
    let mut fields = Fields::find(mapping, |name| {
        let value =
            head.lines().find_map(|l| l.split_once(':').filter(|(key, _)| key.trim() == name))?.1.trim();
        let bare = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
        Some(bare.unwrap_or(value).to_owned())
    });
    if fields.title.is_none() {
        let heading = body.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"# "));
        let heading = heading.map(|h| String::from_utf8_lossy(h).trim().to_owned()).filter(|h| !h.is_empty());
        fields.title = heading.or_else(|| stem(path));
    }
    Ok(Ok(Record { index: 0, bytes: body.to_vec(), fields }))
}

/// Front matter and the rest; `None` if it does not end.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_rule = |line: &[u8]| line.trim_ascii_end() == b"---";
    let end = |from: usize| bytes.get(from..)?.iter().position(|b| *b == b'\n').map(|i| from + i + 1);
    let Some(start) = end(0).filter(|start| bytes.get(..*start).is_some_and(is_rule)) else {
        return Some((&[], bytes));
    };
    let mut at = start;
    while at < bytes.len() {
        let next = end(at).unwrap_or(bytes.len());
        if bytes.get(at..next).is_some_and(is_rule) {
            return Some((bytes.get(start..at)?, bytes.get(next..)?));
        }
        at = next;
    }
    None
}
