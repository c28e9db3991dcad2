//! The allocator of the programs, counting what is allocated and not freed.
#![allow(unsafe_code)] // every call is passed on as it came

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

use mimalloc::MiMalloc;

pub(crate) struct Counted;

static LIVE: AtomicU64 = AtomicU64::new(0);

/// Bytes that are allocated now.
pub(crate) fn live() -> u64 {
    LIVE.load(Ordering::Relaxed)
}

fn count(freed: usize, made: usize) {
    LIVE.fetch_add((made as u64).wrapping_sub(freed as u64), Ordering::Relaxed);
}

// SAFETY: MiMalloc keeps the contract, and counting changes neither arguments nor results.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: as the caller was given to understand.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), size);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(at, layout, size) }
    }
}
