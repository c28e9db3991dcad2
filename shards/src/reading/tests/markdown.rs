use proptest::prelude::*;

use super::*;

#[test]
fn front_matter_says_what_it_says_and_is_no_part_of_the_text() {
    let file = b"---\r\ntitle: \"On Trees: a talk\"\r\nauthor: 'N. N.'\n# a comment\n\nlanguage: de\nlicense:\ntags:\n  - a\n- b\nregister: oral\n---\n# Heading\ntext\n---\n";
    let record = only(read_plainly("technical/x.md", file));
    assert_eq!(record.bytes, b"# Heading\ntext\n---\n");
    assert_eq!((record.title, record.author), (some("On Trees: a talk"), some("N. N.")));
    assert_eq!((record.language, record.license), (some("de"), None));
    assert_eq!(record.register, some("oral"), "its own register counts more than the folder's");
}

#[test]
fn the_title_is_the_first_heading_or_else_the_name_of_the_file() {
    let titled =
        only(read_plainly("x.md", b"```sh\n# no title\n```\n## nor this\n#tag\n# The Title ##\n# Later\n"));
    assert_eq!(titled.title, some("The Title"));
    assert_eq!(only(read_plainly("my notes.md", b"just text")).title, some("my notes"));
}

#[test]
fn what_only_begins_like_front_matter_is_text() {
    for file in [
        "---\nA rule, and prose.\n---\nmore",
        "---\ntitle: never closed\n",
        " ---\ntitle: a\n---\n",
        "---",
        "",
    ] {
        let record = only(read_plainly("name.md", file.as_bytes()));
        assert_eq!(record.bytes, file.as_bytes());
        assert_eq!(record.title, some("name"));
    }
}

#[test]
fn empty_front_matter_is_no_part_of_the_text() {
    for file in ["---\n---\ntext", "--- \n\n# nothing\n---\ntext"] {
        assert_eq!(only(read_plainly("name.md", file.as_bytes())).bytes, b"text");
    }
}

#[test]
fn front_matter_that_is_not_understood_is_refused_with_its_line() {
    let reason = |file: &[u8]| read_plainly("x.md", file).remove(0).unwrap_err().reason;
    assert!(matches!(reason(b"---\ntitle: a\nwhat is this\n---\n"), Reason::FrontMatter { line: 3, .. }));
    assert!(matches!(reason(b"---\ntitle: [a, b]\n---\n"), Reason::NotAString { field: "title", .. }));
    assert!(matches!(reason(b"---\nauthor:\n  - a\n---\n"), Reason::NotAString { field: "author", .. }));
    assert!(matches!(reason(b"---\ntitle: a\ntitle: b\n---\n"), Reason::Twice { field: "title" }));
    assert!(matches!(reason(b"---\nlicense: \xff\n---\n"), Reason::NotUtf8 { field: "licence" }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_a_text_or_a_refusal_and_the_text_is_the_end_of_the_file(
        parts in prop::collection::vec(prop::sample::select(vec!["---", "\n", "title", ":", " ", "x", "- ", "#", "\"", "\u{feff}", "é"]), 0..30)
    ) {
        let file = parts.concat();
        let [item] = <[_; 1]>::try_from(read_plainly("x.md", file.as_bytes())).unwrap();
        match item {
            Ok(record) => prop_assert!(file.as_bytes().ends_with(&record.bytes)),
            Err(refusal) => prop_assert!(!refusal.ends_file()),
        }
    }
}
