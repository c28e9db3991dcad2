use super::*;

#[test]
fn a_corpus_is_listed_in_the_order_of_its_paths_and_what_is_left_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "oral/b.txt",
        "oral/a.MD",
        "oral-x/a.txt",
        "lyric/deep/er/x.ndjson",
        "z.parquet",
        "notes.pdf",
        ".git/x.txt",
        "oral/.hidden.txt",
        "README",
    ] {
        write(folder.path(), name, b"x");
    }
    let listing = list(&[folder.path().to_owned()]).unwrap();
    let names: Vec<_> = listing.files.iter().map(|file| file.relative.to_str().unwrap()).collect();
    // `-` sorts before `/`: the order is that of the bytes of the whole path.
    assert_eq!(names, ["lyric/deep/er/x.ndjson", "oral-x/a.txt", "oral/a.MD", "oral/b.txt", "z.parquet"]);
    let skipped: Vec<_> = listing
        .skipped
        .iter()
        .map(|file| (file.path.file_name().unwrap().to_str().unwrap(), file.why))
        .collect();
    assert_eq!(skipped, [("README", SkippedWhy::Extension), ("notes.pdf", SkippedWhy::Extension)]);
}

#[test]
fn the_first_folder_below_the_root_is_known() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "narrative/1850/whale.txt", b"Call me");
    write(folder.path(), "loose.txt", b"No folder");
    let listing = list(&[folder.path().to_owned()]).unwrap();
    let folders: Vec<_> = listing.files.iter().map(SourceFile::folder).collect();
    assert_eq!(folders, [None, Some("narrative")]);
}

#[test]
fn a_root_that_is_a_file_is_taken_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a/x.txt", b"text");
    let listing = list(std::slice::from_ref(&path)).unwrap();
    assert_eq!(
        listing.files,
        [SourceFile { path, relative: "x.txt".into(), format: Format::Text, bytes: 4 }]
    );
}

#[test]
fn a_root_that_is_not_there_is_an_error_that_names_it() {
    let error = list(&["/no/such/folder".into()]).unwrap_err();
    assert_eq!(error.path, Path::new("/no/such/folder"));
}

#[cfg(unix)]
#[test]
fn links_below_a_root_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in/x.txt", b"text");
    std::os::unix::fs::symlink("/etc", folder.path().join("in/out")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("in"), folder.path().join("root")).unwrap();
    for root in ["in", "root"] {
        let listing = list(&[folder.path().join(root)]).unwrap();
        assert_eq!(listing.files.len(), 1);
        assert_eq!(listing.skipped.len(), 1);
        assert_eq!(listing.skipped[0].why, SkippedWhy::Link);
    }
}

#[test]
fn a_plain_text_is_handed_on_byte_for_byte_with_its_name_as_title() {
    let record = only(read_plainly("oral/sotu-1999.txt", b"\xff\xfe not UTF-8\r\n"));
    assert_eq!(record.bytes, b"\xff\xfe not UTF-8\r\n");
    assert_eq!((record.title, record.register), (some("sotu-1999"), None));
}

#[test]
fn a_file_over_the_limit_is_refused_with_the_numbers_and_one_at_the_limit_is_not() {
    let limits = Limits { max_bytes: 5, ..Limits::default() };
    assert_eq!(only(read_all("x.txt", b"12345", &Mapping::default(), limits)).bytes, b"12345");
    let items = read_all("x.txt", b"123456", &Mapping::default(), limits);
    assert!(
        matches!(
            &items[..],
            [Err(Refusal {
                index: 0,
                place: Place::File,
                reason: Reason::TooLarge { bytes: 6, limit: 5, .. },
                ..
            })]
        ),
        "{items:?}"
    );
}

#[test]
fn a_file_that_was_read_has_nothing_more_from_the_next_record_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "x.md", b"text");
    let file = only_file(folder.path());
    assert_eq!(read(&file, &Mapping::default(), Limits::default(), 1).unwrap().count(), 0);
}

#[test]
fn a_mapping_is_read_from_a_configuration_and_its_mistakes_are_named() {
    let mapping: Mapping = serde_json::from_str(r#"{"text": "body", "author": ""}"#).unwrap();
    let expected = Mapping { text: "body".to_owned(), author: some(""), ..Mapping::default() };
    assert_eq!(mapping, expected);
    assert!(serde_json::from_str::<Mapping>(r#"{"licens": "x"}"#).is_err());

    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "x.jsonl", b"{}");
    for name in ["", "a..b", ".a", "a."] {
        let mapping = Mapping { text: name.to_owned(), ..Mapping::default() };
        let error = read(&only_file(folder.path()), &mapping, Limits::default(), 0).unwrap_err();
        assert!(matches!(&error, ReadError::Name { field: "text", name: given } if given == name), "{error}");
    }
}
