//! JSON lines: one object a line, one line in memory at a time.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::error::brief;
use super::fields::{self, Found};
use super::mapping::{CALLED, FIELDS, Names, TEXT, record};
use super::{Bad, Limits, Place, ReadError, Reason, Record};

/// The lines of a file.
#[derive(Debug)]
pub(super) struct Lines {
    input: BufReader<File>,
    /// Of the line that comes next, from 0.
    index: u64,
    names: Names,
    max_bytes: u64,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path, names: Names, limits: Limits, from: u64) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io { path: path.to_owned(), source };
        let mut input = BufReader::new(File::open(path).map_err(failed)?);
        let mut index = 0;
        while index < from && input.skip_until(b'\n').map_err(failed)? > 0 {
            index += 1;
        }
        Ok(Self { input, index, names, max_bytes: limits.max_bytes, line: Vec::new() })
    }

    pub(super) fn next(&mut self) -> Option<Result<Record, Bad>> {
        loop {
            let index = self.index;
            let bad = |reason| Bad { index, place: Place::Line(index.saturating_add(1)), reason };
            let bytes = match self.read_line() {
                Ok(0) => return None,
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(bad(Reason::Io(error)))),
            };
            self.index = self.index.saturating_add(1);
            if bytes > self.max_bytes && !self.line.ends_with(b"\n") {
                return Some(Err(bad(Reason::TooLarge { what: "line", bytes, limit: self.max_bytes })));
            }
            let mut line = self.line.trim_ascii();
            if index == 0 {
                // Some editors begin a file with a byte order mark.
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            if !line.is_empty() {
                return Some(parse(index, line, &self.names).map_err(bad));
            }
        }
    }

    /// Reads the next line into `self.line` and returns its length, its line feed counted; 0 at the end. Of a line over
    /// the limit the rest is passed over, and what `self.line` holds does not end in a line feed.
    fn read_line(&mut self) -> io::Result<u64> {
        self.line.clear();
        let most = self.max_bytes.saturating_add(1);
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.line)? as u64;
        if read < most || self.line.ends_with(b"\n") {
            return Ok(read);
        }
        let rest = self.input.skip_until(b'\n')? as u64;
        Ok(read.saturating_add(rest))
    }
}

fn parse(index: u64, line: &[u8], names: &Names) -> Result<Record, Reason> {
    let found = fields::find(line, names).map_err(|error| malformed(&error))?;
    let mut values: [Option<String>; FIELDS] = Default::default();
    for ((value, found), field) in values.iter_mut().zip(found).zip(CALLED) {
        *value = match found {
            Found::Missing | Found::Null => None,
            Found::Text(text) => Some(text),
            Found::Number(number) if field != CALLED[TEXT] => Some(number),
            Found::Number(_) => return Err(Reason::NotAString { field, found: "a number" }),
            Found::Other(found) => return Err(Reason::NotAString { field, found }),
            Found::Twice => return Err(Reason::Twice { field }),
        };
    }
    let text = values[TEXT].take().ok_or_else(|| Reason::NoText { field: names.whole(TEXT) })?;
    Ok(record(index, text.into_bytes(), values))
}

fn malformed(error: &serde_json::Error) -> Reason {
    let message = brief(error);
    // Every line is parsed alone, so the library's line is always 1.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let why = message.strip_suffix(&place).unwrap_or(&message).to_owned();
    Reason::Json { column: error.column() as u64, why }
}

#[cfg(test)]
mod tests {
    use super::super::Mapping;
    use super::*;

    #[test]
    fn a_long_line_without_a_line_feed_takes_no_more_memory_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        // A hole: it takes no room on the disk.
        File::create(&path).unwrap().set_len(1 << 28).unwrap();
        let limits = Limits { max_bytes: 1 << 16, ..Limits::default() };
        let mut lines = Lines::open(&path, Mapping::default().names().unwrap(), limits, 0).unwrap();
        let Some(Err(Bad { reason: Reason::TooLarge { bytes, limit, .. }, .. })) = lines.next() else {
            panic!("it was read")
        };
        assert_eq!((bytes, limit), (1 << 28, 1 << 16));
        assert!(lines.line.capacity() <= 1 << 17, "{}", lines.line.capacity());
        assert!(lines.next().is_none());
    }
}
