//! The SIGSYS handler: carries a stopped call out, and records what it changed.
//!
//! It runs between two instructions of the program, with all signals blocked, and never allocates: a thread's first allocation
//! opens files, and a call stopped in here would end the process. Records and
//! the calls they describe happen under one lock, so that the trace has the order in which they happened; a sync runs
//! outside it and is recorded at both ends.
#![allow(unsafe_code)]

use std::mem::zeroed;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{c_int, c_long, c_void, iovec, siginfo_t, ucontext_t};

use crate::path::Path;
use crate::raw::{self, Call};
use crate::start::{Setup, give_up, setup};
use crate::trace::{Head, Kind};

const MAX_FDS: usize = 1 << 16;
/// Parts of a gathering write that are written at a time: of more, the first ones are, as the kernel may itself.
const MAX_PARTS: usize = 64;
/// Which descriptors are files or directories below the root.
static WATCHED: [AtomicBool; MAX_FDS] = [const { AtomicBool::new(false) }; MAX_FDS];
static LOCK: AtomicBool = AtomicBool::new(false);
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// A lock that never makes a call that would be stopped, or allocates.
struct Guard;

impl Guard {
    fn take() -> Self {
        while LOCK.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            raw::call(libc::SYS_sched_yield, [0; 5]);
        }
        Guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        LOCK.store(false, Ordering::Release);
    }
}

/// Catches SIGSYS. False where the kernel refuses.
pub fn install() -> bool {
    // SAFETY: a zeroed sigaction is valid, and the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = on_sigsys as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) == 0
    }
}

/// Tells the trace that descriptors begin anew.
pub fn process_began() {
    if let Some(setup) = setup() {
        record(setup, Kind::Process, 0, 0, 0, &[]);
    }
}

extern "C" fn on_sigsys(_signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
    let Some(setup) = setup() else { return };
    // SAFETY: with SA_SIGINFO the kernel hands a ucontext_t, ours alone until the handler returns.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    let call = raw::stopped(context);
    raw::answer(context, carry_out(setup, &call));
}

fn carry_out(setup: &Setup, call: &Call) -> i64 {
    let [a, b, c, d, ..] = call.args;
    let here = libc::AT_FDCWD as u64;
    match call.number {
        libc::SYS_openat => open(setup, [a, b, c, d, 0], c),
        libc::SYS_close => close(setup, call),
        libc::SYS_dup | libc::SYS_dup3 | libc::SYS_fcntl => duplicate(setup, call),
        libc::SYS_write | libc::SYS_writev => write(setup, call, None),
        libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 => write(setup, call, Some(d)),
        libc::SYS_fsync | libc::SYS_fdatasync => sync(setup, call),
        libc::SYS_sync_file_range => on_file(setup, call, Kind::SyncRange, b, c),
        libc::SYS_ftruncate => on_file(setup, call, Kind::Truncate, b, 0),
        libc::SYS_fallocate if b == 0 => grow(setup, call, c, d),
        libc::SYS_fallocate => unless_watched(setup, call, "fallocate with a mode"),
        libc::SYS_renameat | libc::SYS_renameat2 => rename(setup, call, (a, b), (c, d)),
        libc::SYS_unlinkat if c as i32 & libc::AT_REMOVEDIR != 0 => on_path(setup, call, Kind::Rmdir, (a, b)),
        libc::SYS_unlinkat => on_path(setup, call, Kind::Unlink, (a, b)),
        libc::SYS_mkdirat => on_path(setup, call, Kind::Mkdir, (a, b)),
        libc::SYS_linkat => unsupported_name(setup, call, (c, d), "link"),
        libc::SYS_symlinkat => unsupported_name(setup, call, (b, c), "symlink"),
        libc::SYS_truncate => unsupported_name(setup, call, (here, a), "truncate"),
        libc::SYS_sync | libc::SYS_syncfs => pass(call),
        libc::SYS_mmap => give_up("a shared writable mapping of a file can't be traced"),
        libc::SYS_sendfile => -i64::from(libc::EINVAL),
        // The callers of these fall back on what is traced.
        libc::SYS_openat2
        | libc::SYS_copy_file_range
        | libc::SYS_splice
        | libc::SYS_io_uring_setup
        | libc::SYS_close_range
        | libc::SYS_io_submit => -i64::from(libc::ENOSYS),
        number => old_call(setup, call, number),
    }
}

#[cfg(target_arch = "x86_64")]
fn old_call(setup: &Setup, call: &Call, number: c_long) -> i64 {
    let [a, b, c, ..] = call.args;
    let here = libc::AT_FDCWD as u64;
    let creat = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64;
    match number {
        libc::SYS_open => open(setup, [here, a, b, c, 0], b),
        libc::SYS_creat => open(setup, [here, a, creat, b, 0], creat),
        libc::SYS_dup2 => duplicate(setup, call),
        libc::SYS_rename => rename(setup, call, (here, a), (here, b)),
        libc::SYS_unlink => on_path(setup, call, Kind::Unlink, (here, a)),
        libc::SYS_mkdir => on_path(setup, call, Kind::Mkdir, (here, a)),
        libc::SYS_rmdir => on_path(setup, call, Kind::Rmdir, (here, a)),
        libc::SYS_link => unsupported_name(setup, call, (here, b), "link"),
        libc::SYS_symlink => unsupported_name(setup, call, (here, b), "symlink"),
        _ => give_up("a system call was stopped that has no handler"),
    }
}

#[cfg(target_arch = "aarch64")]
fn old_call(_setup: &Setup, _call: &Call, _number: c_long) -> i64 {
    give_up("a system call was stopped that has no handler")
}

fn pass(call: &Call) -> i64 {
    let [a, b, c, d, e, _] = call.args;
    raw::call(call.number, [a, b, c, d, e])
}

fn record(setup: &Setup, kind: Kind, fd: i32, a: u64, b: u64, payload: &[iovec]) {
    if setup.trace < 0 {
        return;
    }
    let total: usize = payload.iter().map(|part| part.iov_len).sum();
    let head = Head { kind, fd, a, b, payload: total as u32 }.encode();
    append(setup.trace, &[iovec { iov_base: head.as_ptr() as *mut c_void, iov_len: head.len() }]);
    append(setup.trace, payload);
}

fn append(trace: i32, parts: &[iovec]) {
    for part in parts {
        let (mut at, mut left) = (part.iov_base as u64, part.iov_len as u64);
        while left > 0 {
            let done = raw::call(libc::SYS_write, [trace as u64, at, left, 0, 0]);
            if done <= 0 {
                give_up("the trace can't be written");
            }
            at += done as u64;
            left -= done as u64;
        }
    }
}

fn part(bytes: &[u8]) -> iovec {
    iovec { iov_base: bytes.as_ptr() as *mut c_void, iov_len: bytes.len() }
}

fn watched(fd: u64) -> bool {
    WATCHED.get(fd as usize).is_some_and(|watched| watched.load(Ordering::Relaxed))
}

fn watch(fd: i64, on: bool) {
    match WATCHED.get(fd as usize) {
        Some(watched) => watched.store(on, Ordering::Relaxed),
        None if on => give_up("a descriptor beyond the table"),
        None => {}
    }
}

/// Whether `path` is the root or below it.
fn below(setup: &Setup, path: &[u8]) -> bool {
    path.starts_with(&setup.root) || path == &setup.root[..setup.root.len() - 1]
}

fn open(setup: &Setup, args: [u64; 5], flags: u64) -> i64 {
    let _guard = Guard::take();
    let fd = raw::call(libc::SYS_openat, args);
    if fd >= 0 {
        let path = Path::of(fd as u64);
        let on = below(setup, path.bytes());
        watch(fd, on);
        if on {
            record(setup, Kind::Open, fd as i32, flags, 0, &[part(path.bytes())]);
        }
    }
    fd
}

fn close(setup: &Setup, call: &Call) -> i64 {
    let fd = call.args[0];
    if !watched(fd) {
        return pass(call);
    }
    let _guard = Guard::take();
    record(setup, Kind::Close, fd as i32, 0, 0, &[]);
    watch(fd as i64, false);
    pass(call)
}

fn duplicate(setup: &Setup, call: &Call) -> i64 {
    let _guard = Guard::take();
    let fd = call.args[0];
    let new = pass(call);
    if new >= 0 {
        watch(new, watched(fd));
        if watched(fd) {
            record(setup, Kind::Dup, fd as i32, new as u64, 0, &[]);
        }
    }
    new
}

fn size_of(fd: u64) -> u64 {
    // SAFETY: fstat fills a stat that is ours.
    unsafe {
        let mut found: libc::stat = zeroed();
        if libc::fstat(fd as i32, &raw mut found) == 0 { found.st_size as u64 } else { 0 }
    }
}

fn position(fd: u64) -> u64 {
    raw::call(libc::SYS_lseek, [fd, 0, libc::SEEK_CUR as u64, 0, 0]).max(0) as u64
}

fn write(setup: &Setup, call: &Call, offset: Option<u64>) -> i64 {
    let [fd, buffer, count, ..] = call.args;
    if !watched(fd) {
        return pass_write(call);
    }
    let single = matches!(call.number, libc::SYS_write | libc::SYS_pwrite64);
    let one = [iovec { iov_base: buffer as *mut c_void, iov_len: count as usize }];
    let parts: &[iovec] = if single {
        &one
    } else {
        // SAFETY: the program gave the kernel this array of `count` parts.
        unsafe { std::slice::from_raw_parts(buffer as *const iovec, (count as usize).min(MAX_PARTS)) }
    };
    let _guard = Guard::take();
    if let Some(faults) = &setup.faults {
        let len = parts.iter().map(|part| part.iov_len as u64).sum();
        if let Some(errno) =
            faults.write(Path::of(fd).bytes(), offset.unwrap_or_else(|| position(fd)), len, size_of(fd))
        {
            return -i64::from(errno);
        }
    }
    let mut short = *call;
    if !single {
        short.args[2] = parts.len() as u64;
    }
    let done = pass_write(&short);
    if done > 0 {
        let at = offset.unwrap_or_else(|| position(fd) - done as u64);
        record_written(setup, fd, at, done as usize, parts);
    }
    done
}

/// pwritev2 has a sixth argument: without flags it is pwritev.
fn pass_write(call: &Call) -> i64 {
    let [a, b, c, d, e, flags] = call.args;
    if call.number != libc::SYS_pwritev2 {
        return pass(call);
    }
    if flags != 0 || d as i64 == -1 {
        return -i64::from(libc::EOPNOTSUPP);
    }
    raw::call(libc::SYS_pwritev, [a, b, c, d, e])
}

fn record_written(setup: &Setup, fd: u64, at: u64, done: usize, parts: &[iovec]) {
    let none = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let (mut written, mut left) = ([none; MAX_PARTS], done);
    for (part, out) in parts.iter().zip(&mut written) {
        *out = iovec { iov_base: part.iov_base, iov_len: part.iov_len.min(left) };
        left -= out.iov_len;
    }
    let written = &written[..parts.len()];
    let zeros = written.iter().filter(|part| part.iov_len > 0).all(|part| {
        // SAFETY: the kernel has just read these bytes of the program.
        unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) }.iter().all(|byte| *byte == 0)
    });
    if zeros {
        record(setup, Kind::Zero, fd as i32, at, done as u64, &[]);
    } else {
        record(setup, Kind::Write, fd as i32, at, done as u64, written);
    }
}

fn sync(setup: &Setup, call: &Call) -> i64 {
    let fd = call.args[0];
    if !watched(fd) {
        return pass(call);
    }
    if let Some(errno) = setup.faults.as_ref().and_then(|faults| faults.sync(Path::of(fd).bytes())) {
        return -i64::from(errno);
    }
    let number = SYNCS.fetch_add(1, Ordering::Relaxed);
    {
        let _guard = Guard::take();
        record(setup, Kind::SyncBegin, fd as i32, number, 0, &[]);
    }
    let result = pass(call);
    if result == 0 {
        let _guard = Guard::take();
        record(setup, Kind::SyncEnd, fd as i32, number, 0, &[]);
    }
    result
}

fn on_file(setup: &Setup, call: &Call, kind: Kind, a: u64, b: u64) -> i64 {
    let fd = call.args[0];
    if !watched(fd) {
        return pass(call);
    }
    let _guard = Guard::take();
    let result = pass(call);
    if result == 0 {
        record(setup, kind, fd as i32, a, b, &[]);
    }
    result
}

fn grow(setup: &Setup, call: &Call, offset: u64, len: u64) -> i64 {
    let fd = call.args[0];
    let faults = setup.faults.as_ref().filter(|_| watched(fd));
    if let Some(errno) = faults.and_then(|faults| faults.write(Path::of(fd).bytes(), offset, len, size_of(fd))) {
        return -i64::from(errno);
    }
    on_file(setup, call, Kind::Allocate, offset, len)
}

fn rename(setup: &Setup, call: &Call, from: (u64, u64), to: (u64, u64)) -> i64 {
    let (old, new) = (Path::resolve(from), Path::resolve(to));
    if !below(setup, old.bytes()) && !below(setup, new.bytes()) {
        return pass(call);
    }
    let _guard = Guard::take();
    let result = pass(call);
    if result == 0 {
        record(setup, Kind::Rename, 0, 0, 0, &[part(old.bytes()), part(b"\0"), part(new.bytes())]);
    }
    result
}

fn on_path(setup: &Setup, call: &Call, kind: Kind, at: (u64, u64)) -> i64 {
    let path = Path::resolve(at);
    if !below(setup, path.bytes()) {
        return pass(call);
    }
    let _guard = Guard::take();
    let result = pass(call);
    if result == 0 {
        record(setup, kind, 0, 0, 0, &[part(path.bytes())]);
    }
    result
}

fn unsupported_name(setup: &Setup, call: &Call, at: (u64, u64), what: &str) -> i64 {
    let _guard = Guard::take();
    let result = pass(call);
    if result == 0 && below(setup, Path::resolve(at).bytes()) {
        record(setup, Kind::Unsupported, 0, 0, 0, &[part(what.as_bytes())]);
    }
    result
}

fn unless_watched(setup: &Setup, call: &Call, what: &str) -> i64 {
    let _guard = Guard::take();
    let result = pass(call);
    if result == 0 && watched(call.args[0]) {
        record(setup, Kind::Unsupported, 0, 0, 0, &[part(what.as_bytes())]);
    }
    result
}
