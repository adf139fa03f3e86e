//! The calls of each unary scenario, and what makes an answer right.

use crate::keys::{Distinct, NUMBERED_END, Rng, numbered, value};
use crate::load::Source;
use crate::report::scanned_range;
use crate::wire::{self, Range, Scan};

/// One prepared call, sent by one client; keeps the answer.
pub struct One {
    path: &'static str,
    body: Vec<u8>,
    pub answer: Vec<u8>,
}

impl One {
    pub fn new(path: &'static str, body: Vec<u8>) -> Self {
        Self { path, body, answer: Vec::new() }
    }
}

impl Source for One {
    fn next(&mut self, _: usize, body: &mut Vec<u8>) -> &'static str {
        body.extend_from_slice(&self.body);
        self.path
    }

    fn reply(&mut self, _: usize, body: &[u8]) -> Result<(), String> {
        self.answer = body.to_vec();
        Ok(())
    }
}

/// Puts of keys that are all new.
pub struct NewKeys {
    pub keys: Distinct,
    value: Vec<u8>,
}

impl NewKeys {
    pub fn new(keys: Distinct, value_len: usize) -> Self {
        Self { keys, value: value(value_len) }
    }
}

impl Source for NewKeys {
    fn next(&mut self, _: usize, body: &mut Vec<u8>) -> &'static str {
        wire::put(&self.keys.next(), &self.value, body);
        wire::PUT
    }
}

/// Puts of numbered keys in order, round and round `keys` of them.
pub struct Numbered {
    next: u64,
    keys: u64,
    value: Vec<u8>,
    pub revision: u64,
}

impl Numbered {
    pub fn new(keys: u64, value_len: usize) -> Self {
        Self { next: 0, keys, value: value(value_len), revision: 0 }
    }
}

impl Source for Numbered {
    fn next(&mut self, _: usize, body: &mut Vec<u8>) -> &'static str {
        wire::put(&numbered(self.next % self.keys), &self.value, body);
        self.next += 1;
        wire::PUT
    }

    fn reply(&mut self, _: usize, body: &[u8]) -> Result<(), String> {
        self.revision = self.revision.max(wire::revision(body));
        Ok(())
    }
}

/// Gets of random numbered keys, each of which must be there.
pub struct Gets {
    keys: u64,
    serializable: bool,
    rng: Rng,
}

impl Gets {
    pub fn new(keys: u64, serializable: bool) -> Self {
        Self { keys, serializable, rng: Rng::new(keys) }
    }
}

impl Source for Gets {
    fn next(&mut self, _: usize, body: &mut Vec<u8>) -> &'static str {
        let key = numbered(self.rng.below(self.keys));
        Range { key: &key, serializable: self.serializable, ..Range::default() }.encode(body);
        wire::RANGE
    }

    fn reply(&mut self, _: usize, body: &[u8]) -> Result<(), String> {
        if wire::field(body, 2).is_none() { Err("a loaded key was not found".to_owned()) } else { Ok(()) }
    }
}

/// Guarded updates as kube-apiserver makes them. Each client has keys of its own, so that after the first round every
/// compare should hold; one that fails answers with the revision to try next.
pub struct Guarded {
    known: Vec<u64>,
    clients: u64,
    last: Vec<u64>,
    tries: u64,
    conflicts: u64,
    value: Vec<u8>,
    rng: Rng,
}

impl Guarded {
    pub fn new(keys: u64, clients: usize, value_len: usize) -> Self {
        Self {
            known: vec![0; keys as usize],
            clients: clients as u64,
            last: vec![0; clients],
            tries: 0,
            conflicts: 0,
            value: value(value_len),
            rng: Rng::new(3),
        }
    }

    /// Every key fails once, as its revision is not known yet; more would be wrong.
    pub fn check(&self) -> Result<String, String> {
        let text = format!("{} of {} compares failed", self.conflicts, self.tries);
        if self.conflicts <= self.known.len() as u64 { Ok(text) } else { Err(text) }
    }
}

impl Source for Guarded {
    fn next(&mut self, client: usize, body: &mut Vec<u8>) -> &'static str {
        let own = (self.known.len() as u64).div_euclid(self.clients).max(1);
        let key = (self.rng.below(own) * self.clients + client as u64) % self.known.len() as u64;
        self.last[client] = key;
        wire::guarded_put(&numbered(key), self.known[key as usize], &self.value, body);
        wire::TXN
    }

    fn reply(&mut self, client: usize, body: &[u8]) -> Result<(), String> {
        self.tries += 1;
        let known = &mut self.known[self.last[client] as usize];
        if wire::field(body, 2).is_some_and(|v| v.int() == 1) {
            *known = wire::revision(body);
            return Ok(());
        }
        self.conflicts += 1;
        let op = wire::field(body, 3).ok_or("a failed compare without the get's answer")?;
        let range = wire::field(op.bytes(), 1).ok_or("a failed compare without the get's answer")?;
        *known = wire::first_mod_revision(range.bytes());
        Ok(())
    }
}

/// 80 % linearizable gets, 20 % guarded updates.
pub struct Mixed {
    gets: Gets,
    guarded: Guarded,
    writing: Vec<bool>,
    rng: Rng,
}

impl Mixed {
    pub fn new(keys: u64, clients: usize, value_len: usize) -> Self {
        Self {
            gets: Gets::new(keys, false),
            guarded: Guarded::new(keys, clients, value_len),
            writing: vec![false; clients],
            rng: Rng::new(5),
        }
    }

    pub fn check(&self) -> Result<String, String> {
        self.guarded.check()
    }
}

impl Source for Mixed {
    fn next(&mut self, client: usize, body: &mut Vec<u8>) -> &'static str {
        self.writing[client] = self.rng.below(5) == 0;
        if self.writing[client] { self.guarded.next(client, body) } else { self.gets.next(client, body) }
    }

    fn reply(&mut self, client: usize, body: &[u8]) -> Result<(), String> {
        if self.writing[client] { self.guarded.reply(client, body) } else { self.gets.reply(client, body) }
    }
}

/// Lists over the numbered keys: all of them, or a page from a random key on. Answers are counted, not held.
pub struct Lists {
    keys: u64,
    limit: u64,
    expect: Vec<(u64, u64)>,
    scans: Vec<Scan>,
    rng: Rng,
}

impl Lists {
    /// `limit` 0 lists everything.
    pub fn new(keys: u64, limit: u64, clients: usize) -> Self {
        let scans = (0..clients).map(|_| Scan::new()).collect();
        Self { keys, limit, expect: vec![(0, 0); clients], scans, rng: Rng::new(7) }
    }
}

impl Source for Lists {
    fn chunked(&self) -> bool {
        true
    }

    fn next(&mut self, client: usize, body: &mut Vec<u8>) -> &'static str {
        let pages = self.keys.checked_div(self.limit).unwrap_or(1).max(1);
        let from = self.rng.below(pages) * self.limit;
        let all = self.keys - from;
        self.expect[client] = (if self.limit == 0 { all } else { all.min(self.limit) }, all);
        self.scans[client].clear();
        Range { key: &numbered(from), end: NUMBERED_END, limit: self.limit, ..Range::default() }.encode(body);
        wire::RANGE
    }

    fn part(&mut self, client: usize, part: &[u8], left: usize) -> Result<(), String> {
        self.scans[client].feed(part);
        let got = scanned_range(&self.scans[client]);
        if left > 0 || got == self.expect[client] {
            return Ok(());
        }
        Err(format!("a list gave (keys, count) {got:?} instead of {:?}", self.expect[client]))
    }
}
