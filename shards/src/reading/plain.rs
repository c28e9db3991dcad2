//! Files that are one text each: plain text and Markdown.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use super::front;
use super::mapping::{FIELDS, Names, record};
use super::{Bad, Format, Limits, Place, Reason, Record, SourceFile};

/// The title's place among the fields.
const TITLE: usize = 1;

/// A file that is one record.
#[derive(Debug)]
pub(super) struct Plain {
    path: PathBuf,
    markdown: bool,
    names: Names,
    max_bytes: u64,
    read: bool,
}

impl Plain {
    pub(super) fn new(file: &SourceFile, names: Names, limits: Limits, from: u64) -> Self {
        Self {
            path: file.path.clone(),
            markdown: file.format == Format::Markdown,
            names,
            max_bytes: limits.max_bytes,
            read: from > 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<Result<Record, Bad>> {
        if self.read {
            return None;
        }
        self.read = true;
        Some(self.record().map_err(|reason| Bad { index: 0, place: Place::File, reason }))
    }

    fn record(&self) -> Result<Record, Reason> {
        let bytes = self.content()?;
        let mut values: [Option<String>; FIELDS] = Default::default();
        let bytes = if self.markdown {
            let body = front::matter(&bytes, &self.names, &mut values)?;
            let body = bytes.get(body..).unwrap_or_default();
            if values[TITLE].is_none() {
                values[TITLE] = front::heading(body);
            }
            body.to_vec()
        } else {
            bytes
        };
        if values[TITLE].is_none() {
            values[TITLE] = self.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        }
        Ok(record(0, bytes, values))
    }

    fn content(&self) -> Result<Vec<u8>, Reason> {
        let too_large = |bytes| Reason::TooLarge { what: "file", bytes, limit: self.max_bytes };
        let file = File::open(&self.path).map_err(Reason::Io)?;
        let size = file.metadata().map_err(Reason::Io)?.len();
        if size > self.max_bytes {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        // The file may grow while it is read.
        let read =
            file.take(self.max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(Reason::Io)? as u64;
        if read > self.max_bytes { Err(too_large(read)) } else { Ok(bytes) }
    }
}
