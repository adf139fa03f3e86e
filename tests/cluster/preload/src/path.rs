//! Paths on the stack: the handler must not allocate, since the allocator may itself call what the filter stops.
#![allow(unsafe_code)]

use std::ffi::CStr;

use crate::raw;
use crate::start::give_up;

const MAX: usize = 4096;

/// An absolute path.
pub struct Path {
    bytes: [u8; MAX],
    len: usize,
}

impl Path {
    fn new() -> Self {
        Self { bytes: [0; MAX], len: 0 }
    }

    /// The path's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Always leaves a zero byte after the path.
    fn push(&mut self, part: &[u8]) {
        if self.len + part.len() >= MAX {
            give_up("a path is too long");
        }
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn read_link(link: &Path) -> Self {
        let mut out = Self::new();
        let here = libc::AT_FDCWD as u64;
        let link = link.bytes.as_ptr() as u64;
        let got = raw::call(libc::SYS_readlinkat, [here, link, out.bytes.as_mut_ptr() as u64, MAX as u64 - 1, 0]);
        out.len = got.max(0) as usize;
        out
    }

    /// What a descriptor is open on.
    pub fn of(fd: u64) -> Self {
        let mut digits = [0; 20];
        let (mut at, mut left) = (digits.len(), fd);
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let mut link = Self::new();
        link.push(b"/proc/self/fd/");
        link.push(&digits[at..]);
        Self::read_link(&link)
    }

    /// What a directory's descriptor and the address of a name mean, both of them a stopped call's arguments.
    pub fn resolve((dir, name): (u64, u64)) -> Self {
        // SAFETY: the program gave the kernel this address as a path's.
        let name = unsafe { CStr::from_ptr(name as *const libc::c_char) }.to_bytes();
        let mut path = Self::new();
        if !name.starts_with(b"/") {
            path = if dir as i32 == libc::AT_FDCWD {
                let mut link = Self::new();
                link.push(b"/proc/self/cwd");
                Self::read_link(&link)
            } else {
                Self::of(dir)
            };
            path.push(b"/");
        }
        path.push(name);
        path
    }
}
