//! Preloaded into a member under test (`LD_PRELOAD`), it records every change the process makes to files below one
//! directory, and can make disk operations fail. Test only: nothing of Keepstone depends on it.
//!
//! It does not interpose libc's functions: rustix calls the kernel itself. Instead a seccomp filter turns the system calls
//! that change files into SIGSYS, and the handler records and carries them out. A shared writable mapping of a file
//! ends the process, since its writes could not be seen.
//!
//! Without [`ROOT_VAR`] in the environment it does nothing.

pub mod trace;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod fault;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod filter;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod handler;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod path;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod raw;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod start;

/// The directory, absolute and without symbolic links, whose files are watched.
pub const ROOT_VAR: &str = "KEEPSTONE_PRELOAD_ROOT";
/// The file that the trace is appended to; without it nothing is recorded.
pub const TRACE_VAR: &str = "KEEPSTONE_PRELOAD_TRACE";
/// A file whose existence turns the faults on.
pub const ARM_VAR: &str = "KEEPSTONE_PRELOAD_ARM";
/// `enospc`: no file grows any more. `sync`: the next sync fails once with EIO, and what was to be synced counts as
/// clean afterwards, as Linux does it. `write`: the next write fails once with EIO.
pub const FAULT_VAR: &str = "KEEPSTONE_PRELOAD_FAULT";
/// Only paths that contain this fail.
pub const FAULT_PATH_VAR: &str = "KEEPSTONE_PRELOAD_FAULT_PATH";
