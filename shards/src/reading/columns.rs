//! Parquet: of the mapped columns one row in memory at a time, the others are not touched.
//!
//! Strings are read as the bytes they are stored as, whatever the writer's own types for them were (Arrow's `Utf8`,
//! `LargeUtf8`, `Utf8View` and dictionaries are all the same in a file), so that a text that is not UTF-8 is one
//! refusal and not the end of the file.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::SchemaDescriptor;

use super::error::brief;
use super::mapping::{CALLED, FIELDS, Names, TEXT, record};
use super::pages::{Pages, refused};
use super::thrift::check_footer;
use super::{Bad, Limits, Place, ReadError, Reason, Record};

/// How large a footer may be. One takes some kilobytes for each row group.
const FOOTER_LIMIT: u64 = 16 << 20;

/// How many columns a message names.
const NAMED: usize = 50;

/// The rows of a Parquet file.
pub(super) struct Columns {
    file: Arc<File>,
    len: u64,
    metadata: ParquetMetaData,
    /// The column of each field.
    columns: [Option<usize>; FIELDS],
    text: String,
    limits: Limits,
    /// Of the row that comes next.
    index: u64,
    /// The row group that comes after the open one.
    next_group: usize,
    open: Option<Group>,
}

/// A row group of which rows are left.
struct Group {
    left: u64,
    readers: [Option<ColumnReaderImpl<ByteArrayType>>; FIELDS],
}

/// The values of a row.
type Row = [Option<ByteArray>; FIELDS];

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columns").field("index", &self.index).field("next_group", &self.next_group).finish()
    }
}

impl Columns {
    pub(super) fn open(path: &Path, names: &Names, limits: Limits, from: u64) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        let broken = |error| ReadError::Parquet { path: path.to_owned(), why: brief(&error) };
        let (len, metadata) = guarded(|| metadata(&file)).map_err(broken)?;
        let columns = choose(path, names, metadata.file_metadata().schema_descr())?;
        let mut rows = Self {
            file: Arc::new(file),
            len,
            metadata,
            columns,
            text: names.whole(TEXT),
            limits,
            index: 0,
            next_group: 0,
            open: None,
        };
        rows.skip_groups(from).map_err(broken)?;
        Ok(rows)
    }

    pub(super) fn next(&mut self) -> Option<Result<Record, Bad>> {
        let row = guarded(|| self.row());
        // On an error the row was not counted, and none comes after it.
        let index = if let Ok(Some(_)) = row { self.index.saturating_sub(1) } else { self.index };
        let bad = |reason| Bad { index, place: Place::Row(index), reason };
        match row {
            Ok(None) => None,
            Ok(Some(row)) => Some(self.record(index, row).map_err(bad)),
            Err(error) => Some(Err(bad(Reason::Parquet { why: brief(&error) }))),
        }
    }

    /// Passes over the row groups that end before row `from`, and over the rows before it in its own.
    fn skip_groups(&mut self, from: u64) -> ParquetResult<()> {
        while let Some(group) = self.metadata.row_groups().get(self.next_group) {
            let rows = u64::try_from(group.num_rows())?;
            match self.index.checked_add(rows) {
                Some(end) if end <= from => (self.index, self.next_group) = (end, self.next_group + 1),
                _ => break,
            }
        }
        while self.index < from {
            if guarded(|| self.row())?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The next row, `None` after the last.
    fn row(&mut self) -> ParquetResult<Option<Row>> {
        while self.open.as_ref().is_none_or(|group| group.left == 0) {
            self.open = None;
            if self.next_group >= self.metadata.num_row_groups() {
                return Ok(None);
            }
            self.open = Some(self.group(self.next_group)?);
            self.next_group += 1;
        }
        let mut row = Row::default();
        if let Some(group) = &mut self.open {
            for (value, reader) in row.iter_mut().zip(&mut group.readers) {
                if let Some(reader) = reader {
                    *value = one(reader)?;
                }
            }
            group.left = group.left.saturating_sub(1);
        }
        self.index = self.index.saturating_add(1);
        Ok(Some(row))
    }

    fn group(&self, number: usize) -> ParquetResult<Group> {
        let group = self.metadata.row_group(number);
        let left = u64::try_from(group.num_rows())?;
        let rows = usize::try_from(left)?;
        let mut readers: [Option<ColumnReaderImpl<ByteArrayType>>; FIELDS] = Default::default();
        for (reader, column) in readers.iter_mut().zip(self.columns) {
            let Some(column) = column else { continue };
            let chunk = group
                .columns()
                .get(column)
                .ok_or_else(|| refused(format!("row group {number} lacks column {column}")))?;
            let pages = Pages::new(&self.file, self.len, chunk, rows, self.limits.max_page_bytes)?;
            *reader = Some(ColumnReaderImpl::new(chunk.column_descr_ptr(), Box::new(pages)));
        }
        Ok(Group { left, readers })
    }

    fn record(&self, index: u64, mut row: Row) -> Result<Record, Reason> {
        let limit = self.limits.max_bytes;
        for (value, what) in row.iter().zip(CALLED) {
            let bytes = value.as_ref().map_or(0, ByteArray::len) as u64;
            if bytes > limit {
                return Err(Reason::TooLarge { what, bytes, limit });
            }
        }
        let text = row[TEXT].take().ok_or_else(|| Reason::NoText { field: self.text.clone() })?;
        let mut values: [Option<String>; FIELDS] = Default::default();
        for ((value, found), field) in values.iter_mut().zip(&row).zip(CALLED) {
            if let Some(found) = found {
                let found = str::from_utf8(found.data()).map_err(|_| Reason::NotUtf8 { field })?;
                *value = Some(found.to_owned());
            }
        }
        Ok(record(index, text.data().to_vec(), values))
    }
}

/// The next value of a column, `None` for null.
fn one(reader: &mut ColumnReaderImpl<ByteArrayType>) -> ParquetResult<Option<ByteArray>> {
    let mut levels = Vec::with_capacity(1);
    let mut values = Vec::with_capacity(1);
    let (rows, _, _) = reader.read_records(1, Some(&mut levels), None, &mut values)?;
    if rows == 0 {
        return Err(refused("a column has fewer rows than its row group".to_owned()));
    }
    Ok(values.pop())
}

/// The length of the file and its footer.
fn metadata(mut file: &File) -> ParquetResult<(u64, ParquetMetaData)> {
    const TAIL: u64 = 8;
    let len = file.metadata()?.len();
    let before = len.checked_sub(TAIL).ok_or_else(|| refused(format!("it has only {len} bytes")))?;
    file.seek(SeekFrom::Start(before))?;
    let (mut size, mut magic) = ([0; 4], [0; 4]);
    file.read_exact(&mut size)?;
    file.read_exact(&mut magic)?;
    if &magic != b"PAR1" {
        return Err(refused("it does not end in PAR1".to_owned()));
    }
    let size = u64::from(u32::from_le_bytes(size));
    if size > FOOTER_LIMIT {
        return Err(refused(format!("its footer has {size} bytes, more than the {FOOTER_LIMIT} allowed")));
    }
    let start = before
        .checked_sub(size)
        .ok_or_else(|| refused(format!("a footer of {size} bytes in a file of {len}")))?;
    file.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    file.take(size).read_to_end(&mut footer)?;
    check_footer(&footer)?;
    Ok((len, ParquetMetaDataReader::decode_metadata(&footer)?))
}

/// The column of each field.
fn choose(
    path: &Path,
    names: &Names,
    schema: &SchemaDescriptor,
) -> Result<[Option<usize>; FIELDS], ReadError> {
    let mut chosen = [None; FIELDS];
    for (field, ((parts, chosen), called)) in names.0.iter().zip(&mut chosen).zip(CALLED).enumerate() {
        if parts.is_empty() {
            continue;
        }
        let name = parts.join(".");
        let mut columns =
            schema.columns().iter().enumerate().filter(|(_, column)| column.path().string() == name);
        let first = columns.next();
        let count = usize::from(first.is_some()) + columns.count();
        if count != 1 {
            if field == TEXT || count > 1 {
                return Err(column_error(path, called, name, count, schema));
            }
            continue;
        }
        if let Some((number, column)) = first {
            if column.physical_type() != Type::BYTE_ARRAY || column.max_rep_level() > 0 {
                let found = if column.max_rep_level() > 0 {
                    "lists".to_owned()
                } else {
                    column.physical_type().to_string()
                };
                return Err(ReadError::ColumnType {
                    path: path.to_owned(),
                    field: called,
                    column: name,
                    found,
                });
            }
            *chosen = Some(number);
        }
    }
    Ok(chosen)
}

fn column_error(
    path: &Path,
    field: &'static str,
    column: String,
    count: usize,
    schema: &SchemaDescriptor,
) -> ReadError {
    let names = schema.columns().iter().take(NAMED).map(|column| brief(&column.path().string()));
    let columns = names.collect::<Vec<_>>().join(", ");
    ReadError::Column { path: path.to_owned(), field, column, count, columns }
}

/// What `read` returns, an error if it panics.
///
/// The Parquet library (60.1) panics on damaged pages instead of returning an error: a plain page of fewer values than
/// its levels promise, for one, is read past its end in `read_num_bytes`. Nothing it was reading is used after that, as the error
/// ends the file. The panic's message still goes to the panic hook.
fn guarded<T>(read: impl FnOnce() -> ParquetResult<T>) -> ParquetResult<T> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(refused("a page or the footer is damaged (the decoder panicked)".to_owned())))
}
