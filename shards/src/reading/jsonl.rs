//! A JSON object on each line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Fields, Mapping, ReadError, Record, Records, Refusal, RefusalReason};
use crate::library::FileError;

/// Bytes that the other fields and the escapes of a text may take, beside the text.
const SLACK: u64 = 1 << 20;

/// The records of a file.
pub(super) fn records(path: &Path, mapping: &Mapping, limit: u64) -> Result<Records, ReadError> {
    let file = File::open(path).map_err(FileError::at("open", path))?;
    let lines =
        Lines { reader: BufReader::with_capacity(1 << 18, file), path: path.to_owned(), line: 0, limit };
    let mapping = mapping.clone();
    let mut index = 0;
    Ok(Box::new(lines.filter_map(move |line| {
        let (line, text) = match line {
            Err(e) => return Some(Err(e)),
            Ok(line) => line,
        };
        let record = match text {
            Some(text) if text.trim_ascii().is_empty() => return None,
            Some(text) => object(&text, line, &mapping, limit),
            None => Err(RefusalReason::TooLarge { limit }),
        };
        let number = index;
        index += 1;
        Some(Ok(match record {
            Ok((text, fields)) => Ok(Record { index: number, bytes: text.into_bytes(), fields }),
            Err(reason) => Err(Refusal { index: number, reason }),
        }))
    })))
}

fn object(bytes: &[u8], line: u64, mapping: &Mapping, limit: u64) -> Result<(String, Fields), RefusalReason> {
    let malformed = |reason: String| RefusalReason::Json { line, reason };
    let mut value: Value = serde_json::from_slice(bytes)
        .map_err(|e| malformed(format!("{e}").replace("line 1 column", "column")))?;
    if !value.is_object() {
        return Err(malformed("it is another value".to_owned()));
    }
    let text = match find_mut(&mut value, &mapping.text).map(Value::take) {
        Some(Value::String(text)) => text,
        _ => return Err(RefusalReason::NoText { field: mapping.text.clone() }),
    };
    if text.len() as u64 > limit {
        return Err(RefusalReason::TooLarge { limit });
    }
    let fields = Fields::find(mapping, |name| match find_mut(&mut value, name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    Ok((text, fields))
}

/// A field by its name as it stands, or else by a path with dots.
fn find_mut<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    if value.get(name).is_some() {
        return value.get_mut(name);
    }
    name.split('.').try_fold(value, |value, part| value.get_mut(part))
}

/// Lines with their numbers from 1; `None` for one that is too long, of which no more than allowed is held in memory.
struct Lines {
    reader: BufReader<File>,
    path: PathBuf,
    line: u64,
    limit: u64,
}

impl Iterator for Lines {
    type Item = Result<(u64, Option<Vec<u8>>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        // JSON may write a byte as six.
        let most = self.limit.saturating_mul(6).saturating_add(SLACK);
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut bytes);
        let read = match read.map_err(FileError::at("read", &self.path)) {
            Err(e) => return Some(Err(e.into())),
            Ok(read) => read as u64,
        };
        if read == 0 {
            return None;
        }
        self.line += 1;
        if bytes.last() == Some(&b'\n') || read < most {
            return Some(Ok((self.line, Some(bytes))));
        }
        drop(bytes);
        let skipped = self.reader.skip_until(b'\n').map_err(FileError::at("read", &self.path));
        Some(skipped.map(|_| (self.line, None)).map_err(ReadError::from))
    }
}
