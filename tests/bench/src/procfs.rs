//! What the kernel says about a process: CPU time, memory, whether it lives. Reads /proc, changes nothing.

use anyhow::{Context, Result};
use std::fs;

/// User and system time of the process, all threads, in nanoseconds (in steps of a kernel tick, usually 10 ms).
pub fn cpu(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
    let ticks = parse_stat(&stat).context("/proc/PID/stat has another shape")?;
    Ok(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

fn parse_stat(stat: &str) -> Option<u64> {
    // The command's name may hold anything, so fields are counted from its closing parenthesis.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Resident memory in bytes: now, and the highest there was.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Memory {
    pub rss: u64,
    pub peak: u64,
    /// The part of `rss` that is no page of a file and cannot simply be dropped.
    pub anon: u64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
    Ok(parse_status(&status))
}

/// Lets `peak` start anew from the present size, where the kernel allows it.
pub fn reset_peak(pid: u32) {
    drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
}

fn parse_status(status: &str) -> Memory {
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    Memory { rss: field("VmRSS:"), peak: field("VmHWM:"), anon: field("RssAnon:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        assert_eq!(parse_stat("12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 700 42 0 0"), Some(742));
    }

    #[test]
    fn memory_is_in_bytes() {
        let m = parse_status("Name:\tx\nVmHWM:\t  20 kB\nVmRSS:\t   8 kB\nRssAnon:\t 4 kB\n");
        assert_eq!((m.rss, m.peak, m.anon), (8192, 20480, 4096));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(memory(std::process::id()).unwrap().rss > 0);
        cpu(std::process::id()).unwrap();
    }
}
