//! Runs before `main`: reads the environment, catches SIGSYS, installs the filter.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::sync::OnceLock;

use crate::fault::Faults;
use crate::{ARM_VAR, FAULT_PATH_VAR, FAULT_VAR, ROOT_VAR, TRACE_VAR, filter, handler};

/// What the environment asks for. Never changes once set.
pub struct Setup {
    /// Ends with a slash.
    pub root: Vec<u8>,
    /// Where records go; -1 without a trace.
    pub trace: i32,
    pub faults: Option<Faults>,
}

static SETUP: OnceLock<Setup> = OnceLock::new();

/// The setup, once there is one.
pub fn setup() -> Option<&'static Setup> {
    SETUP.get()
}

// SAFETY: the loader calls what this section lists, before main, on the only thread.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let Some(root) = std::env::var_os(ROOT_VAR) else { return };
    let mut root = root.into_encoded_bytes();
    if !root.ends_with(b"/") {
        root.push(b'/');
    }
    let trace = std::env::var_os(TRACE_VAR).map_or(-1, |path| {
        match std::fs::OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => file.into_raw_fd(),
            Err(error) => give_up(&format!("opening {}: {error}", path.display())),
        }
    });
    let faults = Faults::from_env(
        std::env::var(FAULT_VAR).ok().as_deref(),
        std::env::var_os(ARM_VAR).and_then(|path| CString::new(path.into_encoded_bytes()).ok()),
        std::env::var_os(FAULT_PATH_VAR).map(|part| part.into_encoded_bytes()).unwrap_or_default(),
    );
    drop(SETUP.set(Setup { root, trace, faults }));
    if !handler::install() || !filter::install() {
        give_up("the kernel refuses a seccomp filter");
    }
    handler::process_began();
}

/// A trace that misses something is worse than none.
pub fn give_up(why: &str) -> ! {
    drop(writeln!(std::io::stderr(), "keepstone-preload: {why}"));
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(70) }
}
