//! A row of a Parquet file for each text.
//!
//! The library panics on some damaged files (a flipped byte in a page of definition levels is one), so every call into it is
//! fenced: a panic becomes the error that a damaged file is. Nothing of the reader is used after one.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Fields, Mapping, ReadError, Record, Records, Refusal, RefusalReason};
use crate::library::FileError;

/// Rows that are decoded at once.
const BATCH: usize = 64;

/// The records of a file: only columns that the mapping names are decoded.
pub(super) fn records(path: &Path, mapping: &Mapping, limit: u64) -> Result<Records, ReadError> {
    let file = File::open(path).map_err(FileError::at("open", path))?;
    let owned = path.to_owned();
    let damaged = move |reason: String| ReadError::Parquet { path: owned.clone(), reason };
    let builder = fenced(|| ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string()));
    let builder = builder.map_err(&damaged)?;
    let columns: Vec<String> = builder.parquet_schema().columns().iter().map(|c| c.path().string()).collect();
    let wanted = [
        &mapping.text,
        &mapping.title,
        &mapping.register,
        &mapping.license,
        &mapping.author,
        &mapping.language,
        &mapping.source,
    ];
    if !columns.contains(&mapping.text) {
        let column = mapping.text.clone();
        return Err(ReadError::NoColumn { path: path.to_owned(), column, columns });
    }
    let present = columns.iter().filter(|c| wanted.contains(c)).map(String::as_str);
    let mask = ProjectionMask::columns(builder.parquet_schema(), present);
    let mut reader =
        fenced(|| builder.with_projection(mask).with_batch_size(BATCH).build().map_err(|e| e.to_string()))
            .map_err(&damaged)?;
    // One failure ends the file: what comes after a damaged page is not known.
    let mut failed = false;
    let batches = std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let batch = fenced(|| reader.next().transpose().map_err(|e| e.to_string())).transpose()?;
        failed = batch.is_err();
        Some(batch)
    });
    let mapping = mapping.clone();
    let mut first = 0;
    Ok(Box::new(batches.flat_map(move |batch| {
        let batch = match batch {
            Err(reason) => return vec![Err(damaged(reason))],
            Ok(batch) => batch,
        };
        let rows = (0..batch.num_rows()).map(|row| {
            let index = first + row as u64;
            Ok(record(&batch, row, &mapping, limit, index).map_err(|reason| Refusal { index, reason }))
        });
        let rows = rows.collect();
        first += batch.num_rows() as u64;
        rows
    })))
}

/// Calls into the library; its panic is an error.
fn fenced<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err("it is damaged".to_owned()))
}

fn record(
    batch: &RecordBatch,
    row: usize,
    mapping: &Mapping,
    limit: u64,
    index: u64,
) -> Result<Record, RefusalReason> {
    let text = column(batch, &mapping.text).and_then(|column| string(&column, row));
    let text = text.ok_or_else(|| RefusalReason::NoText { field: mapping.text.clone() })?;
    if text.len() as u64 > limit {
        return Err(RefusalReason::TooLarge { limit });
    }
    let fields = Fields::find(mapping, |name| string(&column(batch, name)?, row));
    Ok(Record { index, bytes: text.into_bytes(), fields })
}

/// A column by its name, or a field of a struct by a path with dots.
fn column(batch: &RecordBatch, name: &str) -> Option<ArrayRef> {
    if let Some(column) = batch.column_by_name(name) {
        return Some(column.clone());
    }
    let mut parts = name.split('.');
    let first = batch.column_by_name(parts.next()?)?.clone();
    parts.try_fold(first, |column, part| column.as_struct_opt()?.column_by_name(part).cloned())
}

/// A value as text; `None` for null and for what is no text.
fn string(column: &ArrayRef, row: usize) -> Option<String> {
    if row >= column.len() || column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string_opt::<i32>()?.value(row).to_owned()),
        DataType::LargeUtf8 => Some(column.as_string_opt::<i64>()?.value(row).to_owned()),
        DataType::Utf8View => Some(column.as_string_view_opt()?.value(row).to_owned()),
        DataType::Int64 => Some(column.as_primitive_opt::<Int64Type>()?.value(row).to_string()),
        DataType::Int32 => Some(column.as_primitive_opt::<Int32Type>()?.value(row).to_string()),
        DataType::Dictionary(key, _) => match key.as_ref() {
            DataType::Int8 => entry::<Int8Type>(column, row),
            DataType::Int16 => entry::<Int16Type>(column, row),
            DataType::Int32 => entry::<Int32Type>(column, row),
            DataType::Int64 => entry::<Int64Type>(column, row),
            DataType::UInt8 => entry::<UInt8Type>(column, row),
            DataType::UInt16 => entry::<UInt16Type>(column, row),
            DataType::UInt32 => entry::<UInt32Type>(column, row),
            DataType::UInt64 => entry::<UInt64Type>(column, row),
            _ => None,
        },
        _ => None,
    }
}

fn entry<K: ArrowDictionaryKeyType>(column: &ArrayRef, row: usize) -> Option<String> {
    let dictionary = column.as_dictionary_opt::<K>()?;
    string(dictionary.values(), dictionary.key(row)?)
}
