//! Lease renewals: one LeaseKeepAlive stream a lease, each sending the next renewal when the last is answered.

use crate::clock;
use crate::engine::Engine;
use crate::hist::Hist;
use crate::load::{Load, Source};
use crate::report::{Meter, Report, Target};
use crate::scenario::Settings;
use crate::tx::{Failure, Handler, Tx};
use crate::wire;
use anyhow::{Result, ensure};
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(20);
const TTL: u64 = 600;

/// Grants of leases, the server choosing the ids.
pub struct Grants {
    pub ids: Vec<u64>,
}

impl Source for Grants {
    fn next(&mut self, _: usize, body: &mut Vec<u8>) -> &'static str {
        wire::int(1, TTL, body);
        wire::LEASE_GRANT
    }

    fn reply(&mut self, _: usize, body: &[u8]) -> Result<(), String> {
        match wire::field(body, 2).map_or(0, wire::Value::int) {
            0 => Err("a lease without an id".to_owned()),
            id => {
                self.ids.push(id);
                Ok(())
            }
        }
    }
}

/// Grants `count` leases and returns their ids.
pub fn grant(target: &Target, count: u64) -> Result<Vec<u64>> {
    let mut engine = Engine::connect(target.addr, 20)?;
    let mut load = Load::new(Grants { ids: Vec::new() }, 400);
    load.run_total(&mut engine, count)?;
    Ok(load.source.ids)
}

struct Renewals {
    /// Of each tag: stream id, lease id, when the renewal was sent.
    streams: Vec<(u32, u64, u64)>,
    recording: bool,
    stopped: bool,
    open: usize,
    hist: Hist,
    wrong: Option<String>,
}

impl Renewals {
    fn renew(&mut self, tx: &mut Tx, tag: u32, now: u64) {
        let (id, lease, sent) = &mut self.streams[tag as usize];
        *sent = now;
        let mut body = Vec::with_capacity(12);
        wire::int(1, *lease, &mut body);
        tx.send(*id, &body, false);
    }
}

impl Handler for Renewals {
    fn message(&mut self, tx: &mut Tx, tag: u32, body: &[u8]) {
        let (_, lease, sent) = self.streams[tag as usize];
        let got = (wire::field(body, 2).map_or(0, wire::Value::int), wire::field(body, 3).map_or(0, wire::Value::int));
        if got != (lease, TTL) {
            self.wrong.get_or_insert(format!("renewing lease {lease} gave (id, ttl) {got:?}"));
        }
        if self.recording {
            self.hist.record(tx.now.saturating_sub(sent));
        }
        if self.stopped {
            self.open -= 1;
        } else {
            self.renew(tx, tag, tx.now);
        }
    }

    fn ended(&mut self, _: &mut Tx, tag: u32, outcome: Result<(), Failure>) {
        self.wrong.get_or_insert(format!("stream {tag} ended: {outcome:?}"));
    }
}

pub fn run(name: &str, target: &Target, streams: usize, set: &Settings) -> Result<Report> {
    let leases = grant(target, streams as u64)?;
    ensure!(leases.len() == streams, "only {} leases were granted", leases.len());
    let mut engine = Engine::connect(target.addr, streams.div_ceil(set.clients_per_conn))?;
    engine.need_streams(set.clients_per_conn)?;
    let mut load = Renewals {
        streams: Vec::new(),
        recording: false,
        stopped: false,
        open: streams,
        hist: Hist::new(),
        wrong: None,
    };
    for (tag, lease) in leases.into_iter().enumerate() {
        let conns = engine.len();
        let tx = engine.tx(tag % conns);
        let id = tx.open(wire::KEEP_ALIVE, tag as u32, false);
        load.streams.push((id, lease, 0));
        load.renew(tx, tag as u32, clock::now());
    }
    let (warmup, window) = set.window();
    run_for(&mut engine, &mut load, warmup)?;
    load.recording = true;
    let from = Meter::read(target)?;
    run_for(&mut engine, &mut load, window)?;
    let to = Meter::read(target)?;
    (load.recording, load.stopped) = (false, true);
    let mut report = Report::new(name, target, from, to, &load.hist);
    let deadline = clock::now() + Duration::from_secs(10).as_nanos() as u64;
    while load.open > 0 && load.wrong.is_none() && clock::now() < deadline {
        engine.turn(&mut load, WAIT)?;
    }
    report.check = match load.wrong {
        Some(wrong) => Err(wrong),
        None if load.open > 0 => Err(format!("{} renewals had no answer", load.open)),
        None => Ok("every renewal gave the lease's TTL".to_owned()),
    };
    Ok(report)
}

/// Runs the loop for a time.
pub fn run_for<H: Handler>(engine: &mut Engine, handler: &mut H, time: Duration) -> Result<()> {
    let until = clock::now() + time.as_nanos() as u64;
    while clock::now() < until {
        engine.turn(handler, WAIT)?;
    }
    Ok(())
}
