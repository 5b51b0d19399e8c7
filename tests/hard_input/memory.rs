//! How much memory a call takes, over all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is in use, and the most that was.
pub struct Counted;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// A single request beyond this is refused, which ends the process: a machine would not have it, or
/// would stop answering.
const ABSURD: usize = 2 << 30;

fn more(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

fn less(bytes: usize) {
    IN_USE.fetch_sub(bytes, Ordering::Relaxed);
}

fn refuses(bytes: usize) -> bool {
    if bytes > ABSURD {
        super::hammer::last_words(&format_args!("a single allocation of {bytes} bytes"));
    }
    bytes > ABSURD
}

// SAFETY: every call is passed unchanged to the system allocator, or returns null, as an allocator
// may.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return std::ptr::null_mut();
        }
        more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return std::ptr::null_mut();
        }
        more(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refuses(size) {
            return std::ptr::null_mut();
        }
        // Both are there while it is copied.
        more(size);
        let moved = unsafe { System.realloc(at, layout, size) };
        less(layout.size());
        moved
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        less(layout.size());
        unsafe { System.dealloc(at, layout) }
    }
}

/// What `call` returns, and the most memory that was in use meanwhile beyond what was before.
pub fn taken<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let returned = call();
    (returned, MOST.load(Ordering::Relaxed).saturating_sub(before))
}
