//! The rows of a dataset, as JSON lines and as a Parquet file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, ListBuilder, StringBuilder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use watershed_protocol::data::License;

use super::{ExportError, Row};
use crate::library::FileError;

/// Bytes of text, and rows, after which a row group is written.
const GROUP_BYTES: usize = 32 << 20;
const GROUP_ROWS: usize = 1 << 16;

/// A row in JSON.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    id: String,
    text_hash: String,
    title: &'a str,
    author: &'a str,
    language: &'a str,
    register: &'a str,
    core: Vec<&'static str>,
    license: &'a str,
    license_is_spdx: bool,
    tier: &'static str,
    split: &'static str,
    contributor: String,
    source: &'a str,
    bytes: u64,
    text: Option<&'a str>,
}

impl<'a> Line<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        let manifest = row.deposit.manifest();
        Self {
            id: row.deposit.id().to_string(),
            text_hash: manifest.text.to_string(),
            title: &manifest.title,
            author: &manifest.author,
            language: &manifest.language,
            register: manifest.register.name(),
            core: manifest.core.iter().map(|c| c.name()).collect(),
            license: manifest.license.text(),
            license_is_spdx: matches!(manifest.license, License::Spdx(_)),
            tier: row.tier.name(),
            split: row.split.name(),
            contributor: manifest.contributor.to_string(),
            source: &manifest.source,
            bytes: manifest.bytes,
            text: row.text.as_deref(),
        }
    }
}

/// A Parquet file that is being written.
pub(super) struct Table {
    writer: Option<ArrowWriter<File>>,
    path: std::path::PathBuf,
    waiting: Vec<Row>,
    bytes: usize,
}

fn failed(e: impl std::fmt::Display) -> ExportError {
    ExportError::Parquet(e.to_string())
}

impl Table {
    pub(super) fn create(path: &Path) -> Result<Self, ExportError> {
        Ok(Self { writer: None, path: path.to_owned(), waiting: Vec::new(), bytes: 0 })
    }

    pub(super) fn push(&mut self, row: Row) -> Result<(), ExportError> {
        self.bytes += row.text.as_ref().map_or(0, String::len);
        self.waiting.push(row);
        if self.bytes >= GROUP_BYTES || self.waiting.len() >= GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let rows = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let batch = batch(&rows)?;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let file = File::create(&self.path).map_err(FileError::at("write", &self.path))?;
                let level = ZstdLevel::try_new(3).map_err(failed)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_created_by("watershed-shards".to_owned())
                    .build();
                ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(failed)?
            }
        };
        writer.write(&batch).and_then(|()| writer.flush()).map_err(failed)?;
        self.writer = Some(writer);
        Ok(())
    }

    pub(super) fn close(mut self) -> Result<(), ExportError> {
        if !self.waiting.is_empty() || self.writer.is_none() {
            self.flush()?;
        }
        self.writer.map_or(Ok(()), |writer| writer.close().map(|_| ()).map_err(failed))
    }
}

fn strings<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(arrow_array::StringArray::from_iter_values(values))
}

fn batch(rows: &[Row]) -> Result<RecordBatch, ExportError> {
    let lines: Vec<Line<'_>> = rows.iter().map(Line::of).collect();
    let mut core = ListBuilder::new(StringBuilder::new());
    let (mut spdx, mut bytes, mut text) = (BooleanBuilder::new(), UInt64Builder::new(), StringBuilder::new());
    for line in &lines {
        for code in &line.core {
            core.values().append_value(code);
        }
        core.append(true);
        spdx.append_value(line.license_is_spdx);
        bytes.append_value(line.bytes);
        text.append_option(line.text);
    }
    let columns: [(&str, ArrayRef, bool); 15] = [
        ("id", strings(lines.iter().map(|l| l.id.as_str())), false),
        ("text_hash", strings(lines.iter().map(|l| l.text_hash.as_str())), false),
        ("title", strings(lines.iter().map(|l| l.title)), false),
        ("author", strings(lines.iter().map(|l| l.author)), false),
        ("language", strings(lines.iter().map(|l| l.language)), false),
        ("register", strings(lines.iter().map(|l| l.register)), false),
        ("core", Arc::new(core.finish()), false),
        ("license", strings(lines.iter().map(|l| l.license)), false),
        ("license_is_spdx", Arc::new(spdx.finish()), false),
        ("tier", strings(lines.iter().map(|l| l.tier)), false),
        ("split", strings(lines.iter().map(|l| l.split)), false),
        ("contributor", strings(lines.iter().map(|l| l.contributor.as_str())), false),
        ("source", strings(lines.iter().map(|l| l.source)), false),
        ("bytes", Arc::new(bytes.finish()), false),
        ("text", Arc::new(text.finish()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).map_err(failed)
}
