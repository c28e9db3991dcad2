use super::*;

#[test]
fn records_are_read_with_all_that_is_said_about_them() {
    let line = br#"{"text":"It was \u00e9t\u00e9.","title":"T","register":"narrative","license":"CC0-1.0",
"author":"A","language":"en","source":"S","id":7}"#;
    let line: Vec<u8> = line.iter().copied().filter(|&byte| byte != b'\n').collect();
    let record = only(read_plainly("x.jsonl", &line));
    let expected = Record {
        index: 0,
        bytes: "It was été.".into(),
        title: some("T"),
        register: some("narrative"),
        license: some("CC0-1.0"),
        author: some("A"),
        language: some("en"),
        source: some("S"),
    };
    assert_eq!(record, expected);
}

#[test]
fn a_dotted_name_descends_into_objects() {
    let mapping = Mapping {
        text: "content.body".to_owned(),
        title: some("content.meta.name"),
        register: some("content.meta.register"),
        ..Mapping::default()
    };
    let line =
        br#"{"content":{"meta":{"register":"sacred","x":[1,{"name":"no"}],"name":"Psalm"},"body":"text"}}"#;
    let record = only(read_all("folder/x.ndjson", line, &mapping, Limits::default()));
    assert_eq!(record.bytes, b"text");
    assert_eq!((record.title, record.register), (some("Psalm"), some("sacred")));
}

#[test]
fn one_bad_record_after_the_other_does_not_end_the_file() {
    let lines: [&[u8]; 13] = [
        br#"{"text":"first"}"#,
        b"",
        br#"{"text":"cut"#,
        br#"{"title":"no text"}"#,
        br#"{"text":null}"#,
        br#"{"text":["a"]}"#,
        br#"{"text":7,"title":3}"#,
        br#"{"text":"a","text":"b"}"#,
        br#"["text"]"#,
        b"{\"text\":\"\xff\"}",
        br#"{"text":"a"} x"#,
        br#"{"text":"\ud800"}"#,
        br#"{"text":"last","title":1851,"source":null}"#,
    ];
    let items = read_plainly("x.jsonl", &lines.join(&b"\n"[..]));
    let shown: Vec<String> = items
        .iter()
        .map(|item| match item {
            Ok(record) => format!("{} {}", record.index, String::from_utf8_lossy(&record.bytes)),
            Err(refusal) => {
                assert!(!refusal.ends_file());
                assert_eq!(refusal.place, Place::Line(refusal.index + 1));
                format!("{} {}", refusal.index, refusal.reason)
            }
        })
        .collect();
    let expected = [
        "0 first",
        "2 no JSON object: EOF while parsing a string (column 12)",
        "3 it has no text: \"text\" is missing or null",
        "4 it has no text: \"text\" is missing or null",
        "5 the field for the text is a list, not a string",
        "6 the field for the text is a number, not a string",
        "7 the field for the text is there twice",
        "8 no JSON object: invalid type: sequence, expected an object (column 0)",
        "9 no JSON object: invalid unicode code point (column 10)",
        "10 no JSON object: trailing characters (column 14)",
        "11 no JSON object: unexpected end of hex escape (column 16)",
        "12 last",
    ];
    assert_eq!(shown, expected);
    assert_eq!(items.last().and_then(|last| last.as_ref().ok()?.title.clone()), some("1851"));
}

#[test]
fn reading_goes_on_from_any_line() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String =
        (0..20).map(|n| if n == 7 { "\n".to_owned() } else { format!("{{\"text\":\"t{n}\"}}\n") }).collect();
    write(folder.path(), "x.jsonl", lines.as_bytes());
    let file = only_file(folder.path());
    let from = |from| -> Vec<Record> {
        read(&file, &Mapping::default(), Limits::default(), from).unwrap().map(Result::unwrap).collect()
    };
    let all = from(0);
    assert_eq!(all.len(), 19);
    for start in 0..25 {
        let rest: Vec<Record> = all.iter().filter(|record| record.index >= start).cloned().collect();
        assert_eq!(from(start), rest);
    }
    assert!(from(u64::MAX).is_empty());
}

#[test]
fn a_line_over_the_limit_is_refused_and_the_next_one_read() {
    let limits = Limits { max_bytes: 16, ..Limits::default() };
    let items = read_all(
        "x.jsonl",
        b"{\"text\":\"12345\"}\n{\"text\":\"123456\"}\n{\"text\":\"x\"}",
        &Mapping::default(),
        limits,
    );
    assert_eq!(items[0].as_ref().unwrap().bytes, b"12345");
    let refusal = items[1].as_ref().unwrap_err();
    assert!(matches!(refusal.reason, Reason::TooLarge { what: "line", bytes: 18, limit: 16 }), "{refusal}");
    assert_eq!((refusal.index, refusal.place), (1, Place::Line(2)));
    assert_eq!(items[2].as_ref().unwrap().bytes, b"x");
    assert_eq!(items.len(), 3);
}

#[test]
fn a_million_nested_lists_are_passed_over_or_refused() {
    let deep = "[".repeat(1_000_000);
    let closed = deep.clone() + &"]".repeat(1_000_000);
    let lines = [
        format!("{{\"other\":{closed},\"text\":\"a\"}}"),
        format!("{{\"text\":{closed}}}"),
        format!("{{\"other\":{deep}"),
        "{\"a\":".repeat(1_000_000),
    ];
    let items = read_plainly("x.jsonl", lines.join("\n").as_bytes());
    assert_eq!(items[0].as_ref().unwrap().bytes, b"a");
    assert!(matches!(
        items[1].as_ref().unwrap_err().reason,
        Reason::NotAString { field: "text", found: "a list" }
    ));
    assert!(matches!(items[2].as_ref().unwrap_err().reason, Reason::Json { .. }));
    assert!(matches!(items[3].as_ref().unwrap_err().reason, Reason::Json { .. }));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_no_part_of_the_lines() {
    let items = read_plainly("x.jsonl", b"\xef\xbb\xbf{\"text\":\"a\"}\r\n\r\n{\"text\":\"b\"}\r\n");
    let texts: Vec<_> = items.into_iter().map(|item| item.unwrap().bytes).collect();
    assert_eq!(texts, [b"a", b"b"]);
}
