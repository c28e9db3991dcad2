use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, Encoding};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    StringViewArray, StructArray,
};

use super::*;

/// A Parquet file of these columns.
fn table(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    );
    let batch = batch.unwrap();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
}

fn strings(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn read_error(content: &[u8], mapping: &Mapping) -> ReadError {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "x.parquet", content);
    read(&only_file(folder.path()), mapping, Limits::default(), 0).unwrap_err()
}

#[test]
fn strings_are_read_however_the_writer_held_and_compressed_them() {
    let texts = vec![Some("one"), None, Some(""), Some("été"), Some("one")];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts.clone())),
        Arc::new(texts.iter().copied().collect::<DictionaryArray<Int32Type>>()),
    ];
    let mut read = 0;
    for column in columns {
        for compression in
            [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())]
        {
            for dictionary in [true, false] {
                let properties = properties().set_compression(compression).set_dictionary_enabled(dictionary);
                let file = table(
                    vec![("id", Arc::new(Int64Array::from(vec![1; 5]))), ("text", column.clone())],
                    properties,
                );
                let items = read_plainly("lyric/x.parquet", &file);
                assert_eq!(items.len(), 5);
                for (row, (item, text)) in items.into_iter().zip(&texts).enumerate() {
                    match text {
                        Some(text) => {
                            let record = item.unwrap();
                            assert_eq!((record.index, record.bytes), (row as u64, text.as_bytes().to_vec()));
                        }
                        None => {
                            let refusal = item.unwrap_err();
                            assert!(matches!(refusal.reason, Reason::NoText { .. }), "{refusal}");
                            assert_eq!(refusal.place, Place::Row(row as u64));
                        }
                    }
                    read += 1;
                }
            }
        }
    }
    assert_eq!(read, 4 * 3 * 2 * 5);
}

#[test]
fn nested_structs_are_descended_into() {
    let meta = StructArray::try_from(vec![
        ("register", strings(&["oral", "sacred"])),
        ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
    ])
    .unwrap();
    let file = table(vec![("meta", Arc::new(meta)), ("text", strings(&["a", "b"]))], properties());
    let mapping = Mapping { register: some("meta.register"), ..Mapping::default() };
    let items = read_all("x.parquet", &file, &mapping, Limits::default());
    let registers: Vec<_> = items.into_iter().map(|item| item.unwrap().register.unwrap()).collect();
    assert_eq!(registers, ["oral", "sacred"]);
}

#[test]
fn reading_goes_on_from_any_row_of_any_row_group() {
    let texts: Vec<String> = (0..30).map(|n| format!("text {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = table(vec![("text", strings(&texts))], properties().set_max_row_group_row_count(Some(7)));
    write(folder.path(), "x.parquet", &file);
    let file = only_file(folder.path());
    for from in 0..33 {
        let records = read(&file, &Mapping::default(), Limits::default(), from).unwrap().map(Result::unwrap);
        let found: Vec<_> =
            records.map(|record| (record.index, String::from_utf8(record.bytes).unwrap())).collect();
        let expected: Vec<_> = (from..30).map(|n| (n, format!("text {n}"))).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_missing_text_column_is_an_error_that_names_the_columns_there_are() {
    let file = table(vec![("body", strings(&["a"])), ("url", strings(&["b"]))], properties());
    let message = read_error(&file, &Mapping::default()).to_string();
    assert!(message.contains("\"text\"") && message.contains("body, url"), "{message}");
}

#[test]
fn a_mapped_column_of_numbers_or_lists_is_an_error() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let file = table(vec![("text", numbers), ("url", strings(&["b"]))], properties());
    assert!(matches!(read_error(&file, &Mapping::default()), ReadError::ColumnType { field: "text", .. }));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]));
    let file = table(vec![("text", list)], properties());
    assert!(matches!(read_error(&file, &Mapping::default()), ReadError::Column { count: 0, .. }));
}

#[test]
fn bytes_that_are_not_utf8_are_handed_on_in_the_text_and_refused_elsewhere() {
    let schema =
        parse_message_type("message m { required binary text (UTF8); optional binary title (UTF8); }")
            .unwrap();
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, Arc::new(schema), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let bytes = |bytes: &[u8]| ByteArray::from(bytes);
    for (values, levels) in [
        (vec![bytes(b"\xff"), bytes(b"b"), bytes(b"c")], None),
        (vec![bytes(b"\xff"), bytes(b"C")], Some(&[0_i16, 1, 1][..])),
    ] {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let items = read_plainly("x.parquet", &file);
    assert_eq!(items[0].as_ref().unwrap().bytes, b"\xff");
    assert!(matches!(items[1].as_ref().unwrap_err().reason, Reason::NotUtf8 { field: "title" }));
    assert_eq!(items[2].as_ref().unwrap().title, some("C"));
}

#[test]
fn a_text_over_the_limit_is_refused_and_the_next_one_read() {
    let file = table(vec![("text", strings(&["12345", "123456", "x"]))], properties());
    let limits = Limits { max_bytes: 5, ..Limits::default() };
    let items = read_all("x.parquet", &file, &Mapping::default(), limits);
    assert_eq!(items.len(), 3);
    let reason = &items[1].as_ref().unwrap_err().reason;
    assert!(matches!(reason, Reason::TooLarge { what: "text", bytes: 6, limit: 5 }), "{reason}");
    assert_eq!(items[2].as_ref().unwrap().bytes, b"x");
}

#[test]
fn a_page_that_would_take_too_much_memory_is_refused_before_it_is_unpacked() {
    // A megabyte that takes a few dozen bytes in the file.
    let long = "a".repeat(1 << 20);
    let properties =
        properties().set_compression(Compression::ZSTD(Default::default())).set_dictionary_enabled(false);
    let file = table(vec![("text", strings(&[&long]))], properties);
    assert!(file.len() < 5_000, "{}", file.len());
    let limits = Limits { max_page_bytes: 1 << 19, ..Limits::default() };
    let items = read_all("x.parquet", &file, &Mapping::default(), limits);
    let [Err(refusal)] = &items[..] else { panic!("{items:?}") };
    assert!(refusal.ends_file() && refusal.to_string().contains("more than the 524288 allowed"), "{refusal}");
    assert_eq!(only(read_plainly("x.parquet", &file)).bytes.len(), 1 << 20);
}

#[test]
fn delta_encodings_are_refused_by_name() {
    let properties = properties()
        .set_dictionary_enabled(false)
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_encoding(Encoding::DELTA_BYTE_ARRAY);
    let items = read_plainly("x.parquet", &table(vec![("text", strings(&["a", "b"]))], properties));
    let message = items[0].as_ref().unwrap_err().to_string();
    assert!(message.contains("DELTA_BYTE_ARRAY"), "{message}");
    assert_eq!(items.len(), 1);
}

/// A file that is nothing but this footer.
fn bare(footer: &[u8]) -> Vec<u8> {
    [b"PAR1", footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

#[test]
fn a_schema_nested_a_million_deep_is_an_error_and_not_a_stack_overflow() {
    // Version 1, then a list of a million elements, each a repeated group `g` of one child.
    let element = [0x35, 0x02, 0x18, 1, b'g', 0x15, 0x02, 0x00];
    let mut footer = vec![0x15, 0x02, 0x19, 0xfc, 0xc0, 0x84, 0x3d];
    footer.extend(element.repeat(1_000_000));
    footer.push(0);
    let message = read_error(&bare(&footer), &Mapping::default()).to_string();
    assert!(message.contains("deeper than 32"), "{message}");
}

#[test]
fn files_that_are_no_parquet_or_cut_off_are_errors() {
    let file = table(vec![("text", strings(&["a", "b"]))], properties());
    for len in 0..file.len() {
        assert!(matches!(read_error(&file[..len], &Mapping::default()), ReadError::Parquet { .. }));
    }
    let huge = [b"PAR1".as_slice(), &u32::MAX.to_le_bytes(), b"PAR1"].concat();
    assert!(matches!(read_error(&huge, &Mapping::default()), ReadError::Parquet { .. }));
}

/// Reads a damaged file to its end; whether the decoder panicked on the way.
fn survives(path: &Path, content: &[u8], rows: usize) -> bool {
    std::fs::write(path, content).unwrap();
    let file =
        SourceFile { path: path.to_owned(), relative: "x.parquet".into(), format: Format::Parquet, bytes: 0 };
    let mut panicked = false;
    match read(&file, &Mapping::default(), Limits::default(), 0) {
        Err(error) => panicked |= error.to_string().contains("panicked"),
        Ok(records) => {
            for (number, item) in records.enumerate() {
                assert!(number <= rows, "more records than the file can hold");
                panicked |= item.is_err_and(|refusal| refusal.to_string().contains("panicked"));
            }
        }
    }
    panicked
}

#[test]
fn a_parquet_file_with_any_byte_changed_is_read_or_refused_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    // Some thousand messages of panics that are caught would take most of the test's time.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let (mut tried, mut panics) = (0, 0);
    for (dictionary, version) in [(true, WriterVersion::PARQUET_1_0), (false, WriterVersion::PARQUET_2_0)] {
        let file = small(dictionary, version);
        assert!(!survives(&path, &file, 4));
        for at in 0..file.len() {
            for flip in FLIPS {
                let mut damaged = file.clone();
                damaged[at] ^= flip;
                panics += usize::from(survives(&path, &damaged, 1 << 20));
                tried += 1;
            }
        }
    }
    std::panic::set_hook(hook);
    println!("{panics} of {tried} damaged files made the decoder panic");
    // If the library no longer panics on any of these, `guarded` has lost its reason.
    assert!(panics > 0);
}

/// The bits of each byte that are changed: one that makes a small number another, one that makes it large.
const FLIPS: [u8; 2] = [0x02, 0x80];

/// A file of few bytes, so that a good part of them matters.
fn small(dictionary: bool, version: WriterVersion) -> Vec<u8> {
    let schema = parse_message_type("message m { optional binary text (UTF8); }").unwrap();
    let properties = properties()
        .set_dictionary_enabled(dictionary)
        .set_writer_version(version)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_created_by(String::new());
    let mut file = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut file, Arc::new(schema), Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values = ["one", "two", "one"].map(ByteArray::from);
    column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 0, 1, 1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    file
}
