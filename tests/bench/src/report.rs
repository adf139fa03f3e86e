//! The result of one scenario on one server, and how a person and a program read it.

use crate::hist::Hist;
use crate::procfs::{self, Memory};
use crate::{clock, wire::Scan};
use anyhow::Result;
use serde::Serialize;
use std::fmt;
use std::net::SocketAddr;

/// The server under test. Without a pid its CPU and memory are unknown.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub addr: SocketAddr,
    pub pid: Option<u32>,
}

/// Reads of clocks at both ends of the measured window.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    at: u64,
    client: u64,
    server: u64,
}

impl Meter {
    pub fn read(target: &Target) -> Result<Self> {
        let server = target.pid.map_or(Ok(0), procfs::cpu)?;
        Ok(Self { at: clock::now(), client: clock::thread_cpu(), server })
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl From<&Hist> for Latency {
    fn from(h: &Hist) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        Self { p50: us(h.quantile(0.5)), p99: us(h.quantile(0.99)), p999: us(h.quantile(0.999)), max: us(h.max()) }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub scenario: String,
    pub seconds: f64,
    pub ops: u64,
    pub ops_per_sec: f64,
    pub latency_us: Latency,
    /// CPU microseconds per operation.
    pub server_cpu_us: f64,
    pub client_cpu_us: f64,
    /// Share of one core the client's thread used: near 1 the client, not the server, was the limit.
    pub client_busy: f64,
    /// Cores the server used on average. Below 1 in a pinned run with a thousand clients, others had the rest of its core.
    pub server_busy: f64,
    pub memory: Memory,
    pub errors: u64,
    /// What was verified, or how verifying failed.
    pub check: Result<String, String>,
    /// Watches: events a second and their latency from just before the put was sent.
    pub events_per_sec: Option<f64>,
    pub event_latency_us: Option<Latency>,
}

impl Report {
    pub fn new(scenario: &str, target: &Target, from: Meter, to: Meter, hist: &Hist) -> Self {
        let ops = hist.count();
        let seconds = (to.at - from.at) as f64 / 1e9;
        let per_op = |ns: u64| ns as f64 / 1e3 / ops.max(1) as f64;
        Self {
            scenario: scenario.to_owned(),
            seconds,
            ops,
            ops_per_sec: ops as f64 / seconds,
            latency_us: hist.into(),
            server_cpu_us: per_op(to.server - from.server),
            client_cpu_us: per_op(to.client - from.client),
            server_busy: (to.server - from.server) as f64 / 1e9 / seconds,
            client_busy: (to.client - from.client) as f64 / 1e9 / seconds,
            memory: target.pid.and_then(|p| procfs::memory(p).ok()).unwrap_or_default(),
            errors: 0,
            check: Ok(String::new()),
            events_per_sec: None,
            event_latency_us: None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let l = &self.latency_us;
        write!(
            f,
            "{:<18} {:>9.0} op/s  p50 {:>9} p99 {:>9} p99.9 {:>9} max {:>9}  cpu/op server {:>8} ({:.0} %) client {:>8} ({:.0} %)  rss {} peak {}",
            self.scenario,
            self.ops_per_sec,
            time(l.p50),
            time(l.p99),
            time(l.p999),
            time(l.max),
            time(self.server_cpu_us),
            self.server_busy * 100.0,
            time(self.client_cpu_us),
            self.client_busy * 100.0,
            mib(self.memory.rss),
            mib(self.memory.peak),
        )?;
        if let (Some(rate), Some(l)) = (self.events_per_sec, &self.event_latency_us) {
            write!(f, "  {rate:.0} events/s p50 {} p99 {}", time(l.p50), time(l.p99))?;
        }
        if self.errors > 0 {
            write!(f, "  {} ERRORS", self.errors)?;
        }
        match &self.check {
            Ok(text) if text.is_empty() => Ok(()),
            Ok(text) => write!(f, "  [{text}]"),
            Err(text) => write!(f, "  CHECK FAILED: {text}"),
        }
    }
}

/// Microseconds with a unit a person reads.
pub fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.2} us"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Keys and count of a RangeResponse that was scanned.
pub fn scanned_range(scan: &Scan) -> (u64, u64) {
    (scan.counts[2], scan.ints[4])
}
