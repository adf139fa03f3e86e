//! What happened in a run, line by line, as a hash: two runs of one seed are the same when their hashes are.

use std::cell::RefCell;
use std::fmt;

use tokio::time::{Duration, Instant};

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

struct Trace {
    began: Instant,
    hash: u64,
    lines: u64,
    print: bool,
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.print {
            print!("{text}");
        }
        Ok(())
    }
}

/// Begins a trace on this thread; `print` shows it as well.
pub fn begin(print: bool) {
    let trace = Trace { began: Instant::now(), hash: 0xcbf2_9ce4_8422_2325, lines: 0, print };
    TRACE.set(Some(trace));
}

/// Adds a line.
pub fn line(text: fmt::Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        trace.lines += 1;
        let now = trace.began.elapsed();
        // Writing to a hash never fails.
        let written = fmt::Write::write_fmt(trace, format_args!("{:>12} {text}\n", now.as_micros()));
        debug_assert!(written.is_ok());
    });
}

/// The simulated time since the run began.
pub fn now() -> Duration {
    TRACE.with_borrow(|trace| trace.as_ref().map_or(Duration::ZERO, |trace| trace.began.elapsed()))
}

/// The hash so far, and of how many lines.
pub fn hash() -> (u64, u64) {
    TRACE.with_borrow(|trace| trace.as_ref().map_or((0, 0), |trace| (trace.hash, trace.lines)))
}

/// Adds a line to the trace.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => { $crate::trace::line(format_args!($($text)*)) };
}
