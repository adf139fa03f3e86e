//! Time as the load generator sees it: nanoseconds since the process first asked, and the CPU time of this thread.

use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::time::Instant;

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

pub fn now() -> u64 {
    ORIGIN.elapsed().as_nanos() as u64
}

/// CPU time of the calling thread, nanoseconds.
pub fn thread_cpu() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
