//! When the kernel may back this process with huge pages.
//!
//! A busy member wants them: its index and buffers are walked at random (puts cost about a tenth more CPU without). An idle
//! one would pay 2 MiB for every place where it keeps a few KiB: 30 MiB more than it needs. So they are held back until
//! there is something to serve. Never changes what is mapped already.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::disable_transparent_huge_pages;

/// Bytes of a store from which on its member is not a small one.
pub const LARGE_STORE: u64 = 32 << 20;

static HELD_BACK: AtomicBool = AtomicBool::new(false);

/// Holds huge pages back. Call it first: what was touched before is as large as it is.
pub fn hold_back() {
    // A kernel that does not know of it has none, or gives them as before.
    if disable_transparent_huge_pages(true).is_ok() {
        HELD_BACK.store(true, Ordering::Relaxed);
    }
}

/// Lets the kernel give huge pages from now on. Cheap where nothing is held back.
pub fn allow() {
    if HELD_BACK.swap(false, Ordering::Relaxed) {
        // Without them the member is slower, and no less right.
        let _ = disable_transparent_huge_pages(false);
    }
}

/// Lets the kernel give them if the store at `path` is large: its index is about to be built.
pub fn allow_for(path: &Path) {
    if keepstone_store::disk_bytes(path).is_ok_and(|bytes| bytes >= LARGE_STORE) {
        allow();
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::transparent_huge_pages_are_disabled;

    use super::*;

    #[test]
    fn huge_pages_come_with_the_first_load() {
        hold_back();
        assert!(transparent_huge_pages_are_disabled().expect("the kernel knows"));
        let dir = tempfile::tempdir().expect("a directory");
        allow_for(dir.path());
        assert!(transparent_huge_pages_are_disabled().expect("the kernel knows"));
        allow();
        assert!(!transparent_huge_pages_are_disabled().expect("the kernel knows"));
    }
}
