//! A log that shows one history and then another is found out, and has signed the proof of it.

use super::*;

fn check(pins: &Pins, dir: &Path) -> Result<u64, PinError> {
    pins.check(&log(dir).unwrap(), &key().verifier())
}

#[test]
fn a_log_that_grows_is_the_same_log() {
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pins = Pins::new(&state.path().join("not/there"));
    let mut writer = writer(dir.path());
    let mut before = 0;
    for size in [0, 1, 1, 255, 256, 300, 700] {
        writer.append(&batch(writer.size(), size)).unwrap();
        assert_eq!(check(&pins, dir.path()).unwrap(), before);
        before = size;
    }
}

#[test]
fn a_log_that_shows_everybody_another_history_is_found_out() {
    let state = tempfile::tempdir().unwrap();
    let pins = Pins::new(state.path());
    let honest = filled(300);
    check(&pins, honest.path()).unwrap();
    let kept = log(honest.path()).unwrap().checkpoint().to_owned();

    // The same key signs another history: longer, as long, and shorter.
    for size in [900, 300, 299] {
        let other = tempfile::tempdir().unwrap();
        let mut entries = batch(0, size);
        entries[17] = b"something else".to_vec();
        writer(other.path()).append(&entries).unwrap();
        let found = check(&pins, other.path()).unwrap_err();
        assert!(found.is_fault());
        let shown = log(other.path()).unwrap().checkpoint().to_owned();
        let PinError::Rewritten { key: by, before, now, .. } = &found else { panic!("{found}") };
        assert_eq!((by, before, now), (&key().verifier().to_string(), &kept, &shown));
        // Both signed texts are in what is said, for whoever is told.
        assert!(found.to_string().contains(&kept) && found.to_string().contains(&shown));
    }
    // What was kept stays: the honest history is still the one that counts.
    assert_eq!(check(&pins, honest.path()).unwrap(), 300);
}

#[test]
fn a_log_that_forgets_is_found_out() {
    let state = tempfile::tempdir().unwrap();
    let pins = Pins::new(state.path());
    check(&pins, filled(300).path()).unwrap();
    let found = check(&pins, filled(10).path()).unwrap_err();
    assert!(matches!(found, PinError::Rewritten { .. }), "{found}");
}

#[test]
fn another_key_under_the_same_name_is_another_log() {
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pins = Pins::new(state.path());
    check(&pins, filled(3).path()).unwrap();
    let other = LogKey::new(ORIGIN, &[8; 32]).unwrap();
    Writer::open(dir.path(), other.clone()).unwrap().append(&batch(0, 3)).unwrap();
    let log = Log::open(Folder(dir.path().to_owned()), &other.verifier()).unwrap();
    assert!(matches!(pins.check(&log, &other.verifier()), Err(PinError::OtherKey { .. })));
    // A log of another name is none of its business.
    let other = LogKey::new("example.com/other", &[8; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    Writer::open(dir.path(), other.clone()).unwrap().append(&batch(0, 3)).unwrap();
    let log = Log::open(Folder(dir.path().to_owned()), &other.verifier()).unwrap();
    assert_eq!(pins.check(&log, &other.verifier()).unwrap(), 0);
}

#[test]
fn tiles_that_do_not_show_it_say_nothing_against_the_log() {
    let state = tempfile::tempdir().unwrap();
    let pins = Pins::new(state.path());
    let dir = filled(300);
    check(&pins, dir.path()).unwrap();
    writer(dir.path()).append(&batch(300, 400)).unwrap();
    fs::remove_dir_all(dir.path().join("tile/0")).unwrap();
    let found = check(&pins, dir.path()).unwrap_err();
    assert!(matches!(found, PinError::Log(_)), "{found}");
    // And what was written by somebody else is not believed.
    let file = fs::read_dir(state.path()).unwrap().next().unwrap().unwrap().path();
    alter(state.path(), file.file_name().unwrap().to_str().unwrap(), |bytes| bytes.truncate(100));
    assert!(matches!(check(&pins, filled(300).path()), Err(PinError::Damaged(_))));
}
