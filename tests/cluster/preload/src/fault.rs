//! Disk operations that fail on request.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::raw;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    NoSpace,
    Sync,
    Write,
}

/// What fails, where, and from when on.
pub struct Faults {
    fault: Fault,
    arm: CString,
    path_part: Vec<u8>,
    /// The faults that happen once have happened.
    done: AtomicBool,
}

impl Faults {
    /// `None` unless a known fault is asked for and there is a file that turns it on.
    pub fn from_env(fault: Option<&str>, arm: Option<CString>, path_part: Vec<u8>) -> Option<Self> {
        let fault = match fault? {
            "enospc" => Fault::NoSpace,
            "sync" => Fault::Sync,
            "write" => Fault::Write,
            _ => return None,
        };
        Some(Self { fault, arm: arm?, path_part, done: AtomicBool::new(false) })
    }

    fn armed(&self) -> bool {
        let at = [libc::AT_FDCWD as u64, self.arm.as_ptr() as u64, libc::F_OK as u64, 0, 0];
        raw::call(libc::SYS_faccessat, at) == 0
    }

    fn concerns(&self, path: &[u8]) -> bool {
        self.path_part.is_empty() || path.windows(self.path_part.len()).any(|part| part == self.path_part)
    }

    fn once(&self) -> bool {
        !self.done.swap(true, Ordering::SeqCst)
    }

    /// The errno that a write of `len` bytes at `offset` to `path`, now `size` bytes long, fails with.
    pub fn write(&self, path: &[u8], offset: u64, len: u64, size: u64) -> Option<i32> {
        let hit = match self.fault {
            Fault::NoSpace => offset + len > size,
            Fault::Write => true,
            Fault::Sync => false,
        };
        if !hit || !self.concerns(path) || !self.armed() {
            return None;
        }
        match self.fault {
            Fault::NoSpace => Some(libc::ENOSPC),
            _ => self.once().then_some(libc::EIO),
        }
    }

    /// The errno that a sync of `path` fails with.
    pub fn sync(&self, path: &[u8]) -> Option<i32> {
        (self.fault == Fault::Sync && self.concerns(path) && self.armed() && self.once()).then_some(libc::EIO)
    }
}
