//! The scenarios by name. Each prepares what it needs, measures one window and checks the answers.

use crate::engine::Engine;
use crate::keys::{Distinct, NUMBERED_END};
use crate::load::{Load, Pace, Shape, Source};
use crate::report::{Report, Target};
use crate::sources::{Gets, Guarded, Lists, Mixed, NewKeys, Numbered, One};
use crate::wire::{self, Range};
use crate::{lease, watch};
use anyhow::{Result, bail};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Put { clients: usize, open: bool },
    Get { clients: usize, serializable: bool },
    Txn { clients: usize },
    Mixed { clients: usize },
    List { clients: usize, limit: u64 },
    Watch(watch::Plan),
    Lease { streams: usize },
}

const fn watching(watchers: usize, streams: usize, conns: usize, writers: usize) -> Kind {
    Kind::Watch(watch::Plan { watchers, streams, conns, writers })
}

/// Every scenario, in the order of a full run.
pub const ALL: &[(&str, Kind)] = &[
    ("put-1", Kind::Put { clients: 1, open: false }),
    ("put-1000", Kind::Put { clients: 1000, open: false }),
    ("put-open", Kind::Put { clients: 1000, open: true }),
    ("get-1", Kind::Get { clients: 1, serializable: false }),
    ("get-lin-1000", Kind::Get { clients: 1000, serializable: false }),
    ("get-ser-1000", Kind::Get { clients: 1000, serializable: true }),
    ("txn-1000", Kind::Txn { clients: 1000 }),
    ("mixed-1000", Kind::Mixed { clients: 1000 }),
    ("list-10k", Kind::List { clients: 1, limit: 0 }),
    ("page-500", Kind::List { clients: 50, limit: 500 }),
    ("watch-100x10", watching(100, 10, 1, 10)),
    ("watch-1000x10", watching(1000, 10, 1, 10)),
    ("watch-streams", watching(1000, 1000, 100, 1)),
    ("lease-1000", Kind::Lease { streams: 1000 }),
];

#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Measured seconds of each scenario
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds of load before the measured window
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Keys loaded before reads and transactions
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Octets of a value
    #[arg(long, default_value_t = 256)]
    pub value: usize,
    /// Calls a second of the open loop
    #[arg(long, default_value_t = 5000.0)]
    pub rate: f64,
    /// Clients that share a connection
    #[arg(long, default_value_t = 10)]
    pub clients_per_conn: usize,
}

impl Settings {
    pub fn window(&self) -> (Duration, Duration) {
        (Duration::from_secs_f64(self.warmup), Duration::from_secs_f64(self.seconds))
    }

    fn shape(&self, clients: usize, pace: Pace) -> Shape {
        let (warmup, window) = self.window();
        Shape { conns: clients.div_ceil(self.clients_per_conn), clients, pace, warmup, window }
    }
}

/// The kinds whose names `wanted` lists (comma separated); `all` is every one.
pub fn select(wanted: &str) -> Result<Vec<(&'static str, Kind)>> {
    if wanted == "all" {
        return Ok(ALL.to_vec());
    }
    let mut chosen = Vec::new();
    for name in wanted.split(',') {
        match ALL.iter().find(|(n, _)| *n == name) {
            Some(s) => chosen.push(*s),
            None => bail!("no scenario {name}; there are: {}", ALL.iter().map(|s| s.0).collect::<Vec<_>>().join(", ")),
        }
    }
    Ok(chosen)
}

pub fn run(name: &str, kind: Kind, target: &Target, set: &Settings) -> Result<Report> {
    let closed = |clients| set.shape(clients, Pace::Closed);
    match kind {
        Kind::Put { clients, open } => {
            let pace = if open { Pace::Open(set.rate) } else { Pace::Closed };
            puts(name, target, &set.shape(clients, pace), set.value)
        }
        Kind::Get { clients, serializable } => {
            preload(target, set.keys, set.value)?;
            measure(name, target, &closed(clients), Gets::new(set.keys, serializable)).map(|r| r.0)
        }
        Kind::Txn { clients } => {
            preload(target, set.keys, set.value)?;
            let (mut report, source) =
                measure(name, target, &closed(clients), Guarded::new(set.keys, clients, set.value))?;
            report.check = report.check.and_then(|_| source.check());
            Ok(report)
        }
        Kind::Mixed { clients } => {
            preload(target, set.keys, set.value)?;
            let (mut report, source) =
                measure(name, target, &closed(clients), Mixed::new(set.keys, clients, set.value))?;
            report.check = report.check.and_then(|_| source.check());
            Ok(report)
        }
        Kind::List { clients, limit } => {
            preload(target, set.keys, set.value)?;
            let there = count(target, b"k", NUMBERED_END)?;
            measure(name, target, &closed(clients), Lists::new(there, limit, clients)).map(|r| r.0)
        }
        Kind::Watch(plan) => watch::run(name, target, &plan, set),
        Kind::Lease { streams } => lease::run(name, target, streams, set),
    }
}

fn measure<S: Source>(name: &str, target: &Target, shape: &Shape, source: S) -> Result<(Report, S)> {
    let mut engine = Engine::connect(target.addr, shape.conns)?;
    let mut load = Load::new(source, shape.clients);
    let report = load.run(name, &mut engine, target, shape)?;
    Ok((report, load.source))
}

/// New keys only, and afterwards the server must count exactly the acknowledged ones.
fn puts(name: &str, target: &Target, shape: &Shape, value_len: usize) -> Result<Report> {
    let mut letters = b"ghijmnopqrstuvwxyz".iter();
    let letter = loop {
        let Some(&letter) = letters.next() else { bail!("every key space has been used; take a fresh server") };
        if count(target, &[letter], &[letter + 1])? == 0 {
            break letter;
        }
    };
    let mut engine = Engine::connect(target.addr, shape.conns)?;
    let mut load = Load::new(NewKeys::new(Distinct::new(letter, 11), value_len), shape.clients);
    let mut report = load.run(name, &mut engine, target, shape)?;
    let (from, to) = load.source.keys.range();
    let (there, acked, unknown) = (count(target, &from, &to)?, load.acked, load.in_flight() as u64 + load.errors);
    let text = format!("{acked} acknowledged, {there} there");
    let right = acked <= there && there <= acked + unknown;
    report.check = report.check.and(if right { Ok(text) } else { Err(text) });
    Ok(report)
}

/// Puts `keys` numbered keys, once each.
pub fn preload(target: &Target, keys: u64, value_len: usize) -> Result<()> {
    let mut engine = Engine::connect(target.addr, 20)?;
    Load::new(Numbered::new(keys, value_len), 400).run_total(&mut engine, keys)
}

/// One call on a connection of its own; returns the answer.
pub fn call(target: &Target, path: &'static str, body: Vec<u8>) -> Result<Vec<u8>> {
    let mut engine = Engine::connect(target.addr, 1)?;
    let mut load = Load::new(One::new(path, body), 1);
    load.run_total(&mut engine, 1)?;
    Ok(load.source.answer)
}

/// Keys the server counts in a range, linearizable.
pub fn count(target: &Target, key: &[u8], end: &[u8]) -> Result<u64> {
    let mut body = Vec::new();
    Range { key, end, count_only: true, ..Range::default() }.encode(&mut body);
    Ok(wire::field(&call(target, wire::RANGE, body)?, 4).map_or(0, wire::Value::int))
}
