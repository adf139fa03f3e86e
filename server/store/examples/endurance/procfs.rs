//! What the kernel says about this process.

use std::fs;

/// Seconds of CPU that all threads have used.
pub fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |nth: usize| -> f64 {
        let word = after_name.split_whitespace().nth(nth);
        word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// MiB of a line of `/proc/self/status`: `VmRSS`, `VmHWM`.
pub fn memory(line: &str) -> usize {
    kib("/proc/self/status", line) / 1024
}

/// MiB that this process has had written to disks.
pub fn written() -> usize {
    kib("/proc/self/io", "write_bytes") >> 20
}

fn kib(file: &str, line: &str) -> usize {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|row| row.strip_prefix(line)?.strip_prefix(':'));
    let number = found.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|word| word.parse().ok()).unwrap_or(0)
}
