//! The steps of the memory run: a large set and one Range over it, many watchers, a watcher that hangs, many leases, a restart
//! after SIGKILL, compaction and defragmentation under a probe. Each is on a fresh server; answers are read as a stream and
//! never held.

use crate::engine::Engine;
use crate::keys::{Distinct, numbered};
use crate::lease;
use crate::load::{Load, Source};
use crate::memory::{Notes, Unit};
use crate::report::Target;
use crate::scenario::{call, count, preload};
use crate::server::{Program, Server};
use crate::sources::{Gets, Lists, NewKeys, Numbered};
use crate::tx::{Failure, Handler, Tx};
use crate::{clock, hist::Hist, wire};
use anyhow::{Result, bail, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_millis(20);
const EVENTS_TIMEOUT: Duration = Duration::from_secs(60);
const BASELINE: Duration = Duration::from_secs(3);
const BIG_VALUE: usize = 16 << 10;

/// All sizes are for `scale` 1.
const KEYS: f64 = 1_000_000.0;
const WATCHERS: f64 = 10_000.0;
const LEASES: f64 = 100_000.0;
const STUCK_BYTES: f64 = (1u64 << 30) as f64;
const OVERWRITTEN: u64 = 10_000;

/// A million keys of 1 KiB: loaded, listed in one unary call, and brought back after SIGKILL.
pub fn large(program: &Program, scale: f64, notes: &mut Notes) -> Result<()> {
    let keys = ((KEYS * scale) as u64).max(1000);
    let mut server = Server::start(program)?;
    notes.memory(&server, ["fresh RSS", "", ""])?;
    let begin = Instant::now();
    preload(&server.target(), keys, 1024)?;
    notes.add("load rate", keys as f64 / begin.elapsed().as_secs_f64(), Unit::PerSecond);
    notes.memory(&server, ["loaded RSS", "loaded anonymous", "load peak"])?;
    notes.add("loaded disk", server.disk() as f64, Unit::Bytes);
    let begin = Instant::now();
    let mut engine = Engine::connect(server.target().addr, 1)?;
    Load::new(Lists::new(keys, 0, 1), 1).run_total(&mut engine, 1)?;
    drop(engine);
    notes.add("one Range over all", begin.elapsed().as_secs_f64() * 1e6, Unit::Micros);
    notes.memory(&server, ["listed RSS", "listed anonymous", "list peak"])?;
    let took = server.crash_and_restart()?;
    notes.add("restart to first answer", took.as_secs_f64() * 1e6, Unit::Micros);
    notes.memory(&server, ["restarted RSS", "restarted anonymous", "restart peak"])?;
    let there = count(&server.target(), b"k", b"l")?;
    ensure!(there == keys, "{there} of {keys} keys are there after the restart");
    Ok(())
}

/// Counts what watch streams say.
#[derive(Default)]
struct Counted {
    created: u64,
    events: u64,
    ended: Option<String>,
}

impl Handler for Counted {
    fn message(&mut self, _: &mut Tx, _: u32, body: &[u8]) {
        for (field, v) in wire::Fields::of(body) {
            self.created += u64::from(field == 3 && v.int() == 1);
            self.events += u64::from(field == 11);
        }
    }

    fn ended(&mut self, _: &mut Tx, tag: u32, outcome: Result<(), Failure>) {
        self.ended.get_or_insert(format!("watch stream {tag} ended: {outcome:?}"));
    }
}

impl Counted {
    fn wait(&mut self, engine: &mut Engine, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = clock::now() + EVENTS_TIMEOUT.as_nanos() as u64;
        while !done(self) {
            if let Some(ended) = &self.ended {
                bail!("{ended}");
            }
            ensure!(clock::now() < deadline, "{what}: {} created, {} events", self.created, self.events);
            engine.turn(self, WAIT)?;
        }
        Ok(())
    }
}

/// Ten thousand watchers, each on a key of its own, a hundred to a stream, ten streams to a connection.
pub fn watchers(program: &Program, scale: f64, notes: &mut Notes) -> Result<()> {
    let count = ((WATCHERS * scale) as u64).max(100);
    let server = Server::start(program)?;
    preload(&server.target(), count, 256)?;
    notes.memory(&server, ["RSS before", "anonymous before", ""])?;
    let streams = count.div_ceil(100) as usize;
    let mut engine = Engine::connect(server.target().addr, streams.div_ceil(10))?;
    let conns = engine.len();
    let ids: Vec<u32> = (0..streams).map(|s| engine.tx(s % conns).open(wire::WATCH, s as u32, false)).collect();
    for n in 0..count {
        let mut body = Vec::new();
        wire::watch_create(&numbered(n), b"", &mut body);
        let s = n as usize % streams;
        engine.tx(s % conns).send(ids[s], &body, false);
    }
    let mut counted = Counted::default();
    counted.wait(&mut engine, "watchers are missing", |c| c.created == count)?;
    notes.memory(&server, ["RSS with watchers", "anonymous with watchers", ""])?;
    preload(&server.target(), count, 256)?;
    counted.wait(&mut engine, "events are missing", |c| c.events >= count)?;
    ensure!(counted.events == count, "{} events for {count} puts", counted.events);
    notes.memory(&server, ["RSS after an event each", "", ""])
}

/// A gigabyte of events past a watcher that does not read; and the same writes without one, on another server.
pub fn stuck(program: &Program, scale: f64, notes: &mut Notes) -> Result<()> {
    let puts = ((STUCK_BYTES * scale) as u64 / BIG_VALUE as u64).max(100);
    let write = |server: &Server| -> Result<()> {
        let mut engine = Engine::connect(server.target().addr, 10)?;
        Load::new(Numbered::new(1000, BIG_VALUE), 20).run_total(&mut engine, puts)
    };
    {
        let server = Server::start(program)?;
        write(&server)?;
        notes.memory(&server, ["no watcher: RSS", "no watcher: anonymous", "no watcher: peak"])?;
    }
    let server = Server::start(program)?;
    let mut engine = Engine::connect(server.target().addr, 1)?;
    let id = engine.tx(0).open(wire::WATCH, 0, false);
    let mut body = Vec::new();
    wire::watch_create(b"k", b"l", &mut body);
    engine.tx(0).send(id, &body, false);
    Counted::default().wait(&mut engine, "the watcher is missing", |c| c.created == 1)?;
    engine.never_read(0)?;
    write(&server)?;
    notes.memory(&server, ["stuck watcher: RSS", "stuck watcher: anonymous", "stuck watcher: peak"])
}

pub fn leases(program: &Program, scale: f64, notes: &mut Notes) -> Result<()> {
    let count = ((LEASES * scale) as u64).max(100);
    let server = Server::start(program)?;
    notes.memory(&server, ["RSS before", "", ""])?;
    let begin = Instant::now();
    let ids = lease::grant(&server.target(), count)?;
    ensure!(ids.len() as u64 == count, "{} of {count} leases", ids.len());
    notes.add("grant rate", count as f64 / begin.elapsed().as_secs_f64(), Unit::PerSecond);
    notes.memory(&server, ["RSS with leases", "anonymous with leases", "peak"])
}

/// A million revisions of ten thousand keys, compacted and defragmented while one client puts and another gets.
pub fn compaction(program: &Program, scale: f64, notes: &mut Notes) -> Result<()> {
    let revisions = ((KEYS * scale) as u64).max(OVERWRITTEN);
    let server = Server::start(program)?;
    let target = server.target();
    let mut engine = Engine::connect(target.addr, 20)?;
    let mut load = Load::new(Numbered::new(OVERWRITTEN, 256), 400);
    load.run_total(&mut engine, revisions)?;
    drop(engine);
    notes.memory(&server, ["RSS before", "anonymous before", ""])?;
    notes.add("disk before", server.disk() as f64, Unit::Bytes);
    let (puts, gets, _) = probed(&target, b'a', || {
        let end = Instant::now() + BASELINE;
        while Instant::now() < end && !crate::interrupt::requested() {
            std::thread::sleep(WAIT);
        }
        Ok(())
    })?;
    notes.add("quiet: worst put", puts.max() as f64 / 1e3, Unit::Micros);
    notes.add("quiet: worst get", gets.max() as f64 / 1e3, Unit::Micros);
    let mut body = Vec::new();
    wire::int(1, load.source.revision, &mut body);
    wire::int(2, 1, &mut body);
    let (puts, gets, took) = probed(&target, b'b', || call(&target, wire::COMPACT, body).map(drop))?;
    notes.add("compaction", took.as_secs_f64() * 1e6, Unit::Micros);
    notes.add("compaction: p99 put", puts.quantile(0.99) as f64 / 1e3, Unit::Micros);
    notes.add("compaction: worst put", puts.max() as f64 / 1e3, Unit::Micros);
    notes.add("compaction: worst get", gets.max() as f64 / 1e3, Unit::Micros);
    notes.add("disk after compaction", server.disk() as f64, Unit::Bytes);
    let (puts, gets, took) = probed(&target, b'c', || call(&target, wire::DEFRAGMENT, Vec::new()).map(drop))?;
    notes.add("defragment", took.as_secs_f64() * 1e6, Unit::Micros);
    notes.add("defragment: worst put", puts.max() as f64 / 1e3, Unit::Micros);
    notes.add("defragment: worst get", gets.max() as f64 / 1e3, Unit::Micros);
    notes.add("disk after defragment", server.disk() as f64, Unit::Bytes);
    notes.memory(&server, ["RSS after", "anonymous after", "peak"])
}

/// Latencies of a lone writer and a lone reader while `work` runs, and how long it ran.
fn probed(target: &Target, letter: u8, work: impl FnOnce() -> Result<()>) -> Result<(Hist, Hist, Duration)> {
    let go = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let puts = scope.spawn(|| probe(target, NewKeys::new(Distinct::new(letter, 1), 256), &go));
        let gets = scope.spawn(|| probe(target, Gets::new(OVERWRITTEN, false), &go));
        let begin = Instant::now();
        let worked = work();
        let took = begin.elapsed();
        go.store(false, Ordering::Relaxed);
        let join = |h: std::thread::ScopedJoinHandle<'_, Result<Hist>>| h.join().expect("a probe does not panic");
        let (puts, gets) = (join(puts), join(gets));
        worked?;
        Ok((puts?, gets?, took))
    })
}

fn probe<S: Source>(target: &Target, source: S, go: &AtomicBool) -> Result<Hist> {
    let mut engine = Engine::connect(target.addr, 1)?;
    Load::new(source, 1).run_while(&mut engine, go)
}
