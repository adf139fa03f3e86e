//! The process as its kernel sees it, read from `/proc`. What can't be read is left out.

use std::fs;
use std::sync::OnceLock;

use super::text::{Families, Kind};

/// One look at `/proc`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: Option<f64>,
    /// Unix time in seconds.
    pub start_time: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    /// `u64::MAX` for no limit.
    pub virtual_bytes_limit: Option<u64>,
    pub open_fds: Option<u64>,
    /// `u64::MAX` for no limit.
    pub fd_limit: Option<u64>,
    pub threads: Option<u64>,
    /// Bytes of the network namespace, not of this process alone: the kernel counts no finer.
    pub network: Option<(u64, u64)>,
}

impl Process {
    #[must_use]
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field, the program's name in parentheses, may hold spaces.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as u64;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) as f64 / ticks),
            start_time: field(22).zip(boot_time()).map(|(after_boot, boot)| boot as f64 + after_boot as f64 / ticks),
            resident_bytes: field(24).map(|pages| pages * page),
            virtual_bytes: field(23),
            virtual_bytes_limit: soft_limit(&limits, "Max address space"),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64),
            fd_limit: soft_limit(&limits, "Max open files"),
            threads: field(20),
            network: fs::read_to_string("/proc/self/net/netstat").ok().and_then(|text| octets(&text)),
        }
    }

    pub(super) fn add_to(&self, families: &mut Families) {
        let mut add = |name: &str, kind, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                families.single(name, kind, help, value);
            }
        };
        let float = |value: Option<u64>| value.map(|v| v as f64);
        let (g, c) = (Kind::Gauge, Kind::Counter);
        add("process_cpu_seconds_total", c, "Processor time used, in seconds.", self.cpu_seconds);
        add("process_start_time_seconds", g, "Unix time of the start.", self.start_time);
        add("process_resident_memory_bytes", g, "Bytes in memory.", float(self.resident_bytes));
        add("process_virtual_memory_bytes", g, "Bytes of address space.", float(self.virtual_bytes));
        add("process_virtual_memory_max_bytes", g, "Bytes of address space allowed.", float(self.virtual_bytes_limit));
        add("process_open_fds", g, "Open file descriptors.", float(self.open_fds));
        add("process_max_fds", g, "File descriptors allowed.", float(self.fd_limit));
        add("os_fd_used", g, "Open file descriptors.", float(self.open_fds));
        add("os_fd_limit", g, "File descriptors allowed.", float(self.fd_limit));
        let of_namespace = "Bytes over the network, of the whole network namespace.";
        add("process_network_receive_bytes_total", c, of_namespace, float(self.network.map(|n| n.0)));
        add("process_network_transmit_bytes_total", c, of_namespace, float(self.network.map(|n| n.1)));
    }
}

fn boot_time() -> Option<u64> {
    static BOOT: OnceLock<Option<u64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    })
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Received and sent bytes of the `IpExt` lines: one with names, one with values.
fn octets(netstat: &str) -> Option<(u64, u64)> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let find = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some((find("InOctets")?, find("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let process = Process::read();
        assert!(process.resident_bytes.expect("read") > 100_000);
        assert!(process.open_fds.expect("read") >= 3);
        assert!(process.fd_limit.expect("read") >= process.open_fds.expect("read"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - process.start_time.expect("read");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }

    #[test]
    fn limits_and_octets_are_found_by_name() {
        let limits = "Limit    Soft Limit   Hard Limit  Units\nMax open files   20000   20000   files\nMax address space  unlimited unlimited bytes\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(20_000));
        assert_eq!(soft_limit(limits, "Max address space"), Some(u64::MAX));
        assert_eq!(soft_limit(limits, "Max cats"), None);
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: X InOctets OutOctets\nIpExt: 9 7 8\n";
        assert_eq!(octets(netstat), Some((7, 8)));
    }
}
