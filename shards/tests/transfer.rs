//! Bringing a shard set from somebody who may name anything.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::cell::RefCell;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use common::{shards, snapshot, store, words};
use watershed_protocol::Digest;
use watershed_protocol::data::{ConsentTier, Register};
use watershed_protocol::market::view::FileView;
use watershed_shards::library::{Library, Store};
use watershed_shards::shard::OpenSet;
use watershed_shards::transfer::{FetchError, MAX_FILE, SetFile, fetch, files};

/// The result of a future that waits for nothing.
#[allow(clippy::panic)]
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn a_set_is_brought_whole_and_nothing_is_downloaded_that_no_set_has() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut library = Library::open(folder.path()).unwrap();
    store(&mut library, &words(1, 500), Register::Narrative, ConsentTier::Train);
    let (_, set) = shards(&library, &snapshot(&library));
    let from = files(library.store(), set.id()).unwrap();
    // Names are the coordinator's; here they are only told apart.
    let name = |n: usize, file: SetFile| match file {
        SetFile::Shard(sha256) => sha256,
        _ => Digest([u8::try_from(n).unwrap(); 32]),
    };
    let view = |(n, (file, path)): (usize, &(SetFile, PathBuf))| {
        let role = match file {
            SetFile::Set => "set",
            SetFile::Index => "index",
            SetFile::Shard(_) => "shard",
        };
        let bytes = std::fs::metadata(path).unwrap().len();
        FileView { role: role.to_owned(), sha256: name(n, *file), bytes }
    };
    let views: Vec<FileView> = from.iter().enumerate().map(view).collect();
    let asked = RefCell::new(Vec::new());
    let download = |sha256: Digest, to: PathBuf, bytes: u64| {
        let (_, (_, path)) =
            from.iter().enumerate().find(|(n, (file, _))| name(*n, *file) == sha256).unwrap();
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert_eq!(std::fs::copy(path, &to).unwrap(), bytes);
        asked.borrow_mut().push(sha256);
        std::future::ready(Ok::<(), String>(()))
    };
    let here = Store::new(elsewhere.path());
    let brought = |views: &[FileView]| now(fetch(&here, set.id(), views, &download));

    let mut large = views.clone();
    large.last_mut().unwrap().bytes = MAX_FILE + 1;
    assert!(matches!(brought(&large), Err(FetchError::TooLarge(_))));
    let mut strange = views.clone();
    strange.last_mut().unwrap().role = "keys".to_owned();
    assert!(matches!(brought(&strange), Err(FetchError::Kind(_))));
    assert!(asked.borrow().is_empty(), "something was downloaded before all was looked at");

    brought(&views).unwrap();
    assert_eq!(OpenSet::open(&here, set.id()).unwrap().set(), set.set());
    assert_eq!(asked.borrow().len(), views.len());
    brought(&views).unwrap();
    assert_eq!(asked.borrow().len(), views.len(), "what is there is not asked for again");
}
