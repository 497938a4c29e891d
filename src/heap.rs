//! Tells the guard about large allocations.
//!
//! tiny_http collects a request line or header of any length, and the guard would find such a connection only at its
//! next look. An ordinary request never needs a block this large, so a block this large is a reason to look now.

use crate::os;
use std::alloc::{GlobalAlloc, Layout, System};

const LARGE: usize = 64 * 1024;

pub struct WatchedHeap;

/// glibc gives threads heaps of their own, which costs megabytes where every connection is a thread. musl has one.
pub fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets an option of the allocator, before the first thread starts.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

fn note(size: usize) {
    if size >= LARGE {
        os::wake();
    }
}

// SAFETY: every call is passed on to the system's allocator as it is; `note` allocates nothing and cannot panic.
unsafe impl GlobalAlloc for WatchedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        System.alloc_zeroed(layout)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        System.realloc(block, layout, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        System.dealloc(block, layout)
    }
}
