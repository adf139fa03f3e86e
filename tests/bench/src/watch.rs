//! Watches: writers put one prefix that every watcher watches. Each event carries the time its put was sent, and is checked:
//! a watcher must see every put exactly once, in the order of revisions.

use crate::clock;
use crate::engine::Engine;
use crate::hist::Hist;
use crate::keys::value;
use crate::lease::run_for;
use crate::report::{Meter, Report, Target};
use crate::scenario::Settings;
use crate::tx::{Failure, Handler, Tx};
use crate::wire::{self, Fields};
use anyhow::{Result, bail, ensure};
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(20);
const DRAIN: Duration = Duration::from_secs(60);
const KEY: &[u8] = b"w";
const KEYS_END: &[u8] = b"x";
/// Tags from here on are writers; below are watch streams.
const WRITERS: u32 = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    pub watchers: usize,
    /// Streams the watchers share.
    pub streams: usize,
    /// Connections of the streams; writers have one of their own.
    pub conns: usize,
    pub writers: usize,
}

#[derive(Default)]
struct Stream {
    /// Last revision of each watcher, by its id on the stream.
    seen: Vec<u64>,
    created: usize,
}

struct Watching {
    streams: Vec<Stream>,
    sent: Vec<u64>,
    value: Vec<u8>,
    puts: u64,
    events: u64,
    writing: usize,
    stopped: bool,
    recording: bool,
    put_hist: Hist,
    event_hist: Hist,
    recorded_events: u64,
    wrong: Option<String>,
}

impl Watching {
    fn new(plan: &Plan, value_len: usize) -> Self {
        Self {
            streams: (0..plan.streams).map(|_| Stream::default()).collect(),
            sent: vec![0; plan.writers],
            value: value(value_len.max(8)),
            puts: 0,
            events: 0,
            writing: 0,
            stopped: false,
            recording: false,
            put_hist: Hist::new(),
            event_hist: Hist::new(),
            recorded_events: 0,
            wrong: None,
        }
    }

    fn created(&self) -> usize {
        self.streams.iter().map(|s| s.created).sum()
    }

    fn write(&mut self, tx: &mut Tx, writer: usize) {
        let now = clock::now();
        self.sent[writer] = now;
        self.value[..8].copy_from_slice(&now.to_be_bytes());
        let key = format!("{}{writer:07}", char::from(KEY[0]));
        let mut body = Vec::with_capacity(self.value.len() + 32);
        wire::put(key.as_bytes(), &self.value, &mut body);
        tx.unary(wire::PUT, WRITERS + writer as u32, false, &body);
    }

    fn watch_response(&mut self, now: u64, stream: usize, body: &[u8]) -> Result<(), String> {
        let stream = &mut self.streams[stream];
        let (mut id, mut events) = (0, 0);
        for (field, v) in Fields::of(body) {
            match field {
                2 => id = v.int() as usize,
                3 if v.int() == 1 => stream.created += 1,
                4 if v.int() == 1 => return Err(format!("watch {id} was cancelled")),
                11 => {
                    events += 1;
                    if stream.seen.len() <= id {
                        stream.seen.resize(id + 1, 0);
                    }
                    let kv = wire::field(v.bytes(), 2).ok_or("an event without a key")?.bytes();
                    let (mut revision, mut sent) = (0, 0);
                    for (field, v) in Fields::of(kv) {
                        match field {
                            3 => revision = v.int(),
                            5 => sent = v.bytes().first_chunk().map_or(0, |b| u64::from_be_bytes(*b)),
                            _ => {}
                        }
                    }
                    if revision <= stream.seen[id] {
                        return Err(format!("watch {id}: revision {revision} after {}", stream.seen[id]));
                    }
                    stream.seen[id] = revision;
                    if self.recording {
                        self.event_hist.record(now.saturating_sub(sent));
                    }
                }
                _ => {}
            }
        }
        self.events += events;
        if self.recording {
            self.recorded_events += events;
        }
        Ok(())
    }
}

impl Handler for Watching {
    fn message(&mut self, tx: &mut Tx, tag: u32, body: &[u8]) {
        if tag < WRITERS
            && let Err(text) = self.watch_response(tx.now, tag as usize, body)
        {
            self.wrong.get_or_insert(text);
        }
    }

    fn ended(&mut self, tx: &mut Tx, tag: u32, outcome: Result<(), Failure>) {
        if tag < WRITERS || outcome.is_err() {
            self.wrong.get_or_insert(format!("stream {tag} ended: {outcome:?}"));
            return;
        }
        let writer = (tag - WRITERS) as usize;
        self.puts += 1;
        if self.recording {
            self.put_hist.record(tx.now.saturating_sub(self.sent[writer]));
        }
        if self.stopped {
            self.writing -= 1;
        } else {
            self.write(tx, writer);
        }
    }
}

pub fn run(name: &str, target: &Target, plan: &Plan, set: &Settings) -> Result<Report> {
    let mut engine = Engine::connect(target.addr, plan.conns + 1)?;
    engine.need_streams(plan.streams.div_ceil(plan.conns).max(plan.writers))?;
    let mut load = Watching::new(plan, set.value);
    let ids: Vec<u32> =
        (0..plan.streams).map(|s| engine.tx(s % plan.conns).open(wire::WATCH, s as u32, false)).collect();
    let mut body = Vec::new();
    wire::watch_create(KEY, KEYS_END, &mut body);
    for w in 0..plan.watchers {
        let stream = w % plan.streams;
        engine.tx(stream % plan.conns).send(ids[stream], &body, false);
    }
    settle(&mut engine, &mut load, |l| l.created() == plan.watchers, "watchers were not created")?;
    load.writing = plan.writers;
    for w in 0..plan.writers {
        load.write(engine.tx(plan.conns), w);
    }
    let (warmup, window) = set.window();
    run_for(&mut engine, &mut load, warmup)?;
    load.recording = true;
    let from = Meter::read(target)?;
    run_for(&mut engine, &mut load, window)?;
    let to = Meter::read(target)?;
    (load.recording, load.stopped) = (false, true);
    let mut report = Report::new(name, target, from, to, &load.put_hist);
    settle(&mut engine, &mut load, |l| l.writing == 0, "puts had no answer")?;
    let wanted = load.puts * plan.watchers as u64;
    let all = settle(&mut engine, &mut load, |l| l.events >= wanted, "events are missing");
    let text = format!("{} events of {wanted}", load.events);
    report.check = if all.is_ok() && load.events == wanted { Ok(text) } else { Err(text) };
    report.events_per_sec = Some(load.recorded_events as f64 / report.seconds);
    report.event_latency_us = Some((&load.event_hist).into());
    Ok(report)
}

fn settle(engine: &mut Engine, load: &mut Watching, done: impl Fn(&Watching) -> bool, what: &str) -> Result<()> {
    let deadline = clock::now() + DRAIN.as_nanos() as u64;
    while !done(load) {
        if let Some(wrong) = &load.wrong {
            bail!("{wrong}");
        }
        ensure!(clock::now() < deadline, "after {DRAIN:?} {what}");
        engine.turn(load, WAIT)?;
    }
    Ok(())
}
