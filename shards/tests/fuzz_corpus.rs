//! Replays what the fuzzer found: no panic, and no allocation above the file's size, or what its lists take when they grow by doubling.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use common::{shards, snapshot, store, words};
use watershed_protocol::data::{ConsentTier, Register};
use watershed_shards::library::Library;

/// Notes the largest allocation of each thread.
struct Noting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends has no cell any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

#[allow(unsafe_code)]
// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as for the caller.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as for the caller.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// Most bytes that a target may allocate at once for an input of `bytes`. An error message or a fixed buffer is small whatever
/// the input; a codec's list grows by doubling; `check_tokens` widens at most 65,536 tokens of two bytes at a time; the
/// target for snapshots copies its input.
fn allowed(target: &str, bytes: usize) -> usize {
    let most = match target {
        "deposit" => 2 * bytes,
        // A stream takes twice as much in memory.
        "set" => 4 * bytes,
        "shard" => (2 * bytes).min(4 << 16),
        _ => bytes,
    };
    most.max(512)
}

fn largest(run: impl FnOnce()) -> usize {
    LARGEST.set(0);
    run();
    LARGEST.get()
}

/// Its name, which is that of the folder of its inputs, and the target.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 5] = [
    ("deposit", targets::deposit),
    ("snapshot", targets::snapshot),
    ("set", targets::set),
    ("index", targets::index),
    ("shard", targets::shard),
];

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

#[test]
fn what_the_fuzzer_found_neither_panics_nor_allocates_more_than_its_size() {
    let mut inputs = 0;
    for (name, target) in TARGETS {
        for file in fs::read_dir(folder(name)).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            let took = largest(|| target(&bytes));
            assert!(took <= allowed(name, bytes.len()), "{name}: {took} bytes at once for {}", bytes.len());
            inputs += 1;
        }
    }
    assert!(inputs >= 100, "{inputs}");
}

#[test]
fn files_of_a_library_and_their_neighbours_do_neither() {
    let place = tempfile::tempdir().unwrap();
    let mut library = Library::open(place.path()).unwrap();
    for i in 0..3 {
        store(&mut library, &words(i, 30), Register::Oral, ConsentTier::Train);
    }
    let taken = snapshot(&library);
    shards(&library, &taken);
    let kinds = [("manifests", 0), ("snapshots", 1), ("sets", 2), ("shards", 4)];
    for (kind, which) in kinds {
        let mut files: Vec<PathBuf> = Vec::new();
        let mut folders = vec![place.path().join(kind)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        assert!(!files.is_empty());
        for file in files {
            let which = if file.ends_with("index") { 3 } else { which };
            let (name, target) = TARGETS[which];
            let good = fs::read(&file).unwrap();
            // Kept as seeds for the fuzzer when asked.
            if std::env::var_os("WATERSHED_WRITE_SEEDS").is_some() {
                fs::create_dir_all(folder(name)).unwrap();
                fs::write(folder(name).join(file.file_name().unwrap()), &good).unwrap();
            }
            for at in 0..good.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    let took = largest(|| target(&bad));
                    assert!(took <= allowed(name, good.len()), "{name} byte {at} of {}: {took}", good.len());
                    target(&good[..at]);
                }
            }
        }
    }
}
