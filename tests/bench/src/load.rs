//! Unary calls under load: closed loop (a client sends its next call when the last is answered) or open loop (calls are due
//! at a fixed rate and their latency counts from when they were due, so that a stall is not hidden).

use crate::clock;
use crate::engine::Engine;
use crate::hist::Hist;
use crate::report::{Meter, Report, Target};
use crate::tx::{Failure, Handler, Tx};
use anyhow::{Result, bail};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DRAIN: Duration = Duration::from_secs(60);
/// A server that says nothing for so long has hung.
const STALL: Duration = Duration::from_secs(300);
const WAIT: Duration = Duration::from_millis(20);

/// Where calls come from and answers go to. `client` is below the number of clients.
pub trait Source {
    /// Answers are too long to hold: `part` gets them in pieces.
    fn chunked(&self) -> bool {
        false
    }
    /// Writes the next request of a client; returns the method's path.
    fn next(&mut self, client: usize, body: &mut Vec<u8>) -> &'static str;
    /// A whole answer; an error is a wrong answer.
    fn reply(&mut self, _client: usize, _body: &[u8]) -> Result<(), String> {
        Ok(())
    }
    /// A piece of an answer, `left` octets of which are still to come.
    fn part(&mut self, _client: usize, _part: &[u8], _left: usize) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Pace {
    Closed,
    /// Calls a second.
    Open(f64),
}

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub conns: usize,
    /// In the open loop: the most calls that may be on their way.
    pub clients: usize,
    pub pace: Pace,
    pub warmup: Duration,
    pub window: Duration,
}

#[derive(Clone, Copy, Default)]
struct Client {
    started: u64,
    answered: bool,
}

pub struct Load<S> {
    pub source: S,
    clients: Vec<Client>,
    /// Oldest first, so that the open loop too uses every connection.
    idle: VecDeque<u32>,
    refill: bool,
    budget: u64,
    recording: bool,
    hist: Hist,
    body: Vec<u8>,
    pub acked: u64,
    pub errors: u64,
    pub wrong: Option<String>,
}

impl<S: Source> Load<S> {
    pub fn new(source: S, clients: usize) -> Self {
        Self {
            source,
            clients: vec![Client::default(); clients],
            idle: (0..clients as u32).collect(),
            refill: true,
            budget: u64::MAX,
            recording: false,
            hist: Hist::new(),
            body: Vec::new(),
            acked: 0,
            errors: 0,
            wrong: None,
        }
    }

    /// Calls without an answer yet.
    pub fn in_flight(&self) -> usize {
        self.clients.len() - self.idle.len()
    }

    fn issue(&mut self, tx: &mut Tx, client: u32, started: u64) {
        self.clients[client as usize] = Client { started, answered: false };
        self.body.clear();
        let path = self.source.next(client as usize, &mut self.body);
        tx.unary(path, client, self.source.chunked(), &self.body);
    }

    /// Lets every idle client send its first call.
    pub fn start(&mut self, engine: &mut Engine) {
        self.refill = true;
        while self.budget > 0 && self.start_one(engine, clock::now()) {
            self.budget -= 1;
        }
    }

    /// No client sends another call.
    pub fn stop(&mut self) {
        self.refill = false;
    }

    fn start_one(&mut self, engine: &mut Engine, started: u64) -> bool {
        let Some(client) = self.idle.pop_front() else {
            return false;
        };
        let conns = engine.len();
        self.issue(engine.tx(client as usize % conns), client, started);
        true
    }

    pub fn drain(&mut self, engine: &mut Engine) -> Result<()> {
        self.stop();
        let deadline = clock::now() + DRAIN.as_nanos() as u64;
        while self.in_flight() > 0 && clock::now() < deadline {
            engine.turn(self, WAIT)?;
        }
        Ok(())
    }

    /// Sends exactly `total` calls, closed loop, and waits for the answers. Any failure is an error.
    pub fn run_total(&mut self, engine: &mut Engine, total: u64) -> Result<()> {
        let before = self.acked;
        self.budget = total;
        self.start(engine);
        let (mut seen, mut moved) = (engine.received(), clock::now());
        while self.in_flight() > 0 {
            engine.turn(self, WAIT)?;
            if engine.received() != seen {
                (seen, moved) = (engine.received(), clock::now());
            } else if clock::now() - moved > STALL.as_nanos() as u64 {
                bail!("nothing came for {STALL:?}, {} calls without an answer", self.in_flight());
            }
        }
        self.budget = u64::MAX;
        if self.acked - before != total || self.wrong.is_some() {
            bail!("{} of {total} calls were answered: {}", self.acked - before, self.wrong.clone().unwrap_or_default());
        }
        Ok(())
    }

    /// Closed loop as long as `go` holds; the latencies of all calls.
    pub fn run_while(&mut self, engine: &mut Engine, go: &AtomicBool) -> Result<Hist> {
        self.recording = true;
        self.start(engine);
        while go.load(Ordering::Relaxed) {
            engine.turn(self, WAIT)?;
        }
        self.drain(engine)?;
        match &self.wrong {
            Some(wrong) => bail!("{wrong}"),
            None => Ok(std::mem::replace(&mut self.hist, Hist::new())),
        }
    }

    /// Warm-up, measured window, drain.
    pub fn run(&mut self, name: &str, engine: &mut Engine, target: &Target, shape: &Shape) -> Result<Report> {
        engine.need_streams(self.clients.len().div_ceil(engine.len()))?;
        let begin = clock::now();
        let mut due = begin as f64;
        if matches!(shape.pace, Pace::Closed) {
            self.start(engine);
        } else {
            self.stop();
        }
        let from = begin + shape.warmup.as_nanos() as u64;
        let to = from + shape.window.as_nanos() as u64;
        self.run_until(engine, from, shape.pace, &mut due)?;
        self.recording = true;
        let start = Meter::read(target)?;
        self.run_until(engine, to, shape.pace, &mut due)?;
        let end = Meter::read(target)?;
        self.recording = false;
        let late = (clock::now() as f64 - due).max(0.0);
        self.drain(engine)?;
        let mut report = Report::new(name, target, start, end, &self.hist);
        report.errors = self.errors;
        if let Some(wrong) = &self.wrong {
            report.check = Err(wrong.clone());
        } else if self.in_flight() > 0 {
            report.check = Err(format!("{} calls had no answer after {DRAIN:?}", self.in_flight()));
        } else if matches!(shape.pace, Pace::Open(_)) && late > 1e9 {
            report.check = Err(format!("the rate was not held: {:.1} s behind at the end", late / 1e9));
        }
        Ok(report)
    }

    fn run_until(&mut self, engine: &mut Engine, until: u64, pace: Pace, due: &mut f64) -> Result<()> {
        loop {
            let now = clock::now();
            if now >= until {
                return Ok(());
            }
            let mut wait = WAIT.min(Duration::from_nanos(until - now));
            if let Pace::Open(rate) = pace {
                while *due <= now as f64 && self.start_one(engine, *due as u64) {
                    *due += 1e9 / rate;
                }
                if !self.idle.is_empty() {
                    wait = wait.min(Duration::from_nanos((*due - now as f64).max(0.0) as u64));
                }
            }
            engine.turn(self, wait)?;
        }
    }

    fn verdict(&mut self, verdict: Result<(), String>) {
        if let Err(text) = verdict {
            self.wrong.get_or_insert(text);
        }
    }
}

impl<S: Source> Handler for Load<S> {
    fn message(&mut self, _: &mut Tx, tag: u32, body: &[u8]) {
        self.clients[tag as usize].answered = true;
        let verdict = self.source.reply(tag as usize, body);
        self.verdict(verdict);
    }

    fn chunk(&mut self, _: &mut Tx, tag: u32, part: &[u8], left: usize) {
        self.clients[tag as usize].answered |= left == 0;
        let verdict = self.source.part(tag as usize, part, left);
        self.verdict(verdict);
    }

    fn ended(&mut self, tx: &mut Tx, tag: u32, outcome: Result<(), Failure>) {
        let client = self.clients[tag as usize];
        match outcome {
            Ok(()) if client.answered => {
                self.acked += 1;
                if self.recording {
                    self.hist.record(tx.now.saturating_sub(client.started));
                }
            }
            Ok(()) => self.verdict(Err("an answer without a message".to_owned())),
            Err(e) => {
                self.errors += 1;
                self.verdict(Err(format!("code {}: {}", e.code, e.message)));
            }
        }
        // A server that refuses everything must not be asked at full speed for ever.
        let give_up = self.errors > 1000 && self.errors > self.acked;
        if self.refill && self.budget > 0 && !give_up {
            self.budget -= 1;
            self.issue(tx, tag, tx.now);
        } else {
            self.idle.push_back(tag);
        }
    }
}
