//! Files as people have them, and as they should not be.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};

use super::*;

fn write(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn read_all(path: &std::path::Path, mapping: &Mapping, limit: u64) -> Vec<Result<Record, Refusal>> {
    let listing = list(&[path.to_owned()]).unwrap();
    read(&listing.files[0], mapping, limit).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_folder_is_listed_by_name_and_what_is_not_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["oral/b.txt", "oral/a.md", "lyric/deep/c.JSONL", "top.txt", "image.png", ".hidden/x.txt"] {
        write(&folder, name, "text");
    }
    let listing = list(&[folder.path().to_owned()]).unwrap();
    let names: Vec<_> = listing.files.iter().map(|f| (f.name.as_str(), f.folder.as_deref())).collect();
    let expected = [
        ("lyric/deep/c.JSONL", Some("lyric")),
        ("oral/a.md", Some("oral")),
        ("oral/b.txt", Some("oral")),
        ("top.txt", None),
    ];
    assert_eq!(names, expected);
    assert_eq!(listing.skipped, [folder.path().join("image.png")]);
    assert!(matches!(list(&[folder.path().join("image.png")]), Err(ListError::Format(_))));
    assert!(matches!(list(&[folder.path().join("absent")]), Err(ListError::Walk { .. })));
}

#[test]
fn markdown_gives_its_front_matter_and_its_heading() {
    let folder = tempfile::tempdir().unwrap();
    let text = "---\ntitle: \"A: B\"\nregister: oral\nlicense: CC0-1.0\ntags:\n  - x\n---\n# Heading\nbody\n";
    let records = read_all(&write(&folder, "a.md", text), &Mapping::default(), 1000);
    let record = records[0].as_ref().unwrap();
    assert_eq!(record.bytes, b"# Heading\nbody\n");
    assert_eq!(record.fields.title.as_deref(), Some("A: B"));
    assert_eq!(record.fields.register.as_deref(), Some("oral"));
    assert_eq!(record.fields.license.as_deref(), Some("CC0-1.0"));
    let title = |name: &str, text: &str| {
        let record = read_all(&write(&folder, name, text), &Mapping::default(), 1000).remove(0);
        record.map(|r| r.fields.title.unwrap())
    };
    assert_eq!(title("b.md", "body\n# Heading \n"), Ok("Heading".to_owned()));
    assert_eq!(title("plain.md", "body\n---\nmore"), Ok("plain".to_owned()));
    assert_eq!(title("open.md", "---\ntitle: x\n").unwrap_err().reason, RefusalReason::FrontMatter);
}

#[test]
fn each_bad_line_is_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        r#"{"text":"one","title":"First","meta":{"kind":"oral"},"year":1851}"#,
        r#"{"text":"#,
        "",
        r#"{"title":"no text"}"#,
        r#"{"text":7}"#,
        "[1]",
        &format!(r#"{{"text":"{}"}}"#, "x".repeat(51)),
        &"[".repeat(100_000),
        &format!(r#"{{"text":"{}"}}"#, "x".repeat(3 << 20)),
        r#"{"text":"last"}"#,
    ]
    .join("\n");
    let mapping = Mapping { register: "meta.kind".into(), source: "year".into(), ..Mapping::default() };
    let records = read_all(&write(&folder, "a.jsonl", lines), &mapping, 50);
    let first = records[0].as_ref().unwrap();
    assert_eq!((first.bytes.as_slice(), first.fields.register.as_deref()), (b"one".as_slice(), Some("oral")));
    assert_eq!(first.fields.source.as_deref(), Some("1851"));
    let reasons: Vec<&RefusalReason> =
        records.iter().filter_map(|r| r.as_ref().err()).map(|r| &r.reason).collect();
    assert!(matches!(reasons[0], RefusalReason::Json { line: 2, .. }));
    assert_eq!(reasons[1], &RefusalReason::NoText { field: "text".to_owned() });
    assert_eq!(reasons[2], &RefusalReason::NoText { field: "text".to_owned() });
    assert!(matches!(reasons[3], RefusalReason::Json { line: 6, .. }));
    assert_eq!(reasons[4], &RefusalReason::TooLarge { limit: 50 });
    assert!(matches!(reasons[5], RefusalReason::Json { line: 8, .. }));
    assert_eq!(reasons[6], &RefusalReason::TooLarge { limit: 50 });
    let last = records.last().unwrap().as_ref().unwrap();
    assert_eq!((last.index, last.bytes.as_slice()), (8, b"last".as_slice()));
}

fn table() -> Vec<u8> {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), None, Some("a longer third text")]));
    let registers: DictionaryArray<arrow_array::types::Int32Type> =
        ["oral", "lyric", "oral"].into_iter().collect();
    let titles: ArrayRef = Arc::new(StringArray::from(vec!["A", "B", "C"]));
    let meta = StructArray::from(vec![(Arc::new(Field::new("title", DataType::Utf8, false)), titles)]);
    let columns: [(&str, ArrayRef); 3] =
        [("text", texts), ("register", Arc::new(registers)), ("meta", Arc::new(meta))];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn rows_of_parquet_are_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "a.parquet", table());
    let mapping = Mapping { title: "meta.title".into(), ..Mapping::default() };
    let records = read_all(&path, &mapping, 10);
    let first = records[0].as_ref().unwrap();
    assert_eq!((first.fields.title.as_deref(), first.fields.register.as_deref()), (Some("A"), Some("oral")));
    assert_eq!(records[1].as_ref().unwrap_err().reason, RefusalReason::NoText { field: "text".to_owned() });
    assert_eq!(records[2].as_ref().unwrap_err().reason, RefusalReason::TooLarge { limit: 10 });
    let other = Mapping { text: "body".into(), ..Mapping::default() };
    let file = &list(&[path]).unwrap().files[0];
    let refused = read(file, &other, 10).err().unwrap().to_string();
    assert!(refused.contains("meta.title") && refused.contains("\"body\""), "{refused}");
}

#[test]
fn damaged_parquet_is_an_error_or_other_text_but_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let good = table();
    let path = write(&folder, "a.parquet", &good);
    let file = list(std::slice::from_ref(&path)).unwrap().files.remove(0);
    let mut refused = 0;
    for at in (0..good.len()).step_by(3) {
        for flip in [0x01, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            fs::write(&path, &bad).unwrap();
            match read(&file, &Mapping::default(), 1000) {
                Err(_) => refused += 1,
                Ok(records) => refused += usize::from(records.take(10).any(|r| r.is_err())),
            }
        }
    }
    assert!(refused > 50, "{refused}");
}
