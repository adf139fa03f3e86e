//! One serving thread's watchers: who is in step with the shared log, what each has yet to be sent, who lags.
//!
//! A watcher in step owes its client references into the ring, never copies of events. One that owes too many, or
//! whose run has left the ring, lags: it keeps only the revision it needs next and is fed from the store until it has
//! caught up. So a watcher costs a bounded amount of memory however slow its client is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use super::matcher::Matcher;
use super::ring::Run;
use super::watcher::{Counts, Lagging, Owed, Progress, Slot, Spec, Stream, Turn, Watcher};

/// References one watcher, and all watchers of one stream, may owe before the watcher lags. 24 bytes each.
const OWED_BY_WATCHER: usize = 4096;
const OWED_BY_STREAM: usize = 65_536;

/// References turned into one response at most, and bytes of their records, at a revision's edge.
const EVENTS_A_RESPONSE: usize = 1000;
const BYTES_A_RESPONSE: u64 = 1 << 20;

/// References whose room a watcher or a stream keeps while it owes nothing.
pub(super) const ROOM_KEPT: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Table {
    in_step: Matcher<Slot>,
    watchers: Slab<Watcher>,
    streams: Slab<Stream>,
    /// The streams that wait for the log to be read up to a revision.
    waiting: Vec<Slot>,
    /// The revision up to which every run has been matched.
    position: i64,
}

impl Table {
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub fn open(&mut self) -> Slot {
        self.streams.insert(Stream::default())
    }

    pub fn close(&mut self, stream: Slot) {
        let Some(state) = self.streams.try_remove(stream) else { return };
        for slot in state.watchers.into_values() {
            let watcher = self.watchers.remove(slot);
            if !watcher.lags {
                self.in_step.remove(&watcher.spec.keys, slot);
            }
        }
        self.waiting.retain(|waiting| *waiting != stream);
    }

    /// Adds a watcher to a store at `current`, the log's position included.
    pub fn add(&mut self, stream: Slot, id: i64, spec: Spec, current: i64) {
        if self.watchers.is_empty() {
            self.position = self.position.max(current);
        }
        let Some(state) = self.streams.get_mut(stream) else { return };
        let lags = spec.start != 0 && spec.start <= current;
        let next = if lags { spec.start } else { spec.start.max(current + 1) };
        let (spec, owed) = (Arc::new(spec), VecDeque::new());
        let watcher = Watcher { stream, id, spec, next, owed, lags, overfull: false, active: false };
        let slot = self.watchers.insert(watcher);
        if lags {
            state.lagging.insert(id);
        } else {
            self.in_step.insert(&self.watchers[slot].spec.keys, slot);
        }
        state.watchers.insert(id, slot);
    }

    pub fn has(&self, stream: Slot, id: i64) -> bool {
        self.slot(stream, id).is_some()
    }

    fn slot(&self, stream: Slot, id: i64) -> Option<Slot> {
        self.streams.get(stream)?.watchers.get(&id).copied()
    }

    /// Whether there was such a watcher.
    pub fn remove(&mut self, stream: Slot, id: i64) -> bool {
        let Some(slot) = self.slot(stream, id) else { return false };
        let watcher = self.watchers.remove(slot);
        if !watcher.lags {
            self.in_step.remove(&watcher.spec.keys, slot);
        }
        let state = &mut self.streams[stream];
        state.watchers.remove(&id);
        state.lagging.remove(&id);
        state.owed -= watcher.owed.len();
        state.ready.retain(|ready| *ready != slot);
        true
    }

    /// Moves the next response's references to `owed`, never half a revision's, and tells whose they are.
    pub fn take(&mut self, stream: Slot, owed: &mut Vec<Owed>) -> Option<Turn> {
        let state = self.streams.get_mut(stream)?;
        let slot = state.ready.pop_front()?;
        let watcher = &mut self.watchers[slot];
        let count = response(&watcher.owed);
        watcher.active = true;
        state.owed -= count;
        if count == watcher.owed.len() {
            owed.extend(&watcher.owed);
            watcher.owed.clear();
            watcher.owed.shrink_to(ROOM_KEPT);
        } else {
            owed.extend(watcher.owed.drain(..count));
            state.ready.push_back(slot);
        }
        let Spec { prev_kv, fragment, .. } = *watcher.spec;
        Some(Turn { watch: watcher.id, prev_kv, fragment, others: state.ready.len() })
    }

    /// Wakes the stream when it has something to send, or somebody who lags. Whether somebody does already.
    pub fn sleep(&mut self, stream: Slot, waker: &Waker) -> bool {
        let Some(state) = self.streams.get_mut(stream) else { return false };
        state.sleep(waker);
        !state.lagging.is_empty()
    }

    /// Has every stream look again, the idle ones too.
    pub fn wake_all(&mut self) {
        self.streams.iter_mut().for_each(|(_, state)| state.wake());
    }

    /// The watcher can't be served from the ring: it has everything before `next` and reads on from the store.
    pub fn fall_behind(&mut self, stream: Slot, id: i64, next: i64) {
        if let Some(slot) = self.slot(stream, id) {
            self.put_behind(slot, next);
        }
    }

    fn put_behind(&mut self, slot: Slot, next: i64) {
        let watcher = &mut self.watchers[slot];
        let state = &mut self.streams[watcher.stream];
        if !watcher.lags {
            self.in_step.remove(&watcher.spec.keys, slot);
            watcher.lags = true;
            state.lagging.insert(watcher.id);
        }
        watcher.next = next;
        watcher.overfull = false;
        state.owed -= watcher.owed.len();
        watcher.owed = VecDeque::new();
        state.ready.retain(|ready| *ready != slot);
        state.wake();
    }

    pub fn lagging(&self, stream: Slot) -> Vec<Lagging> {
        let Some(state) = self.streams.get(stream) else { return Vec::new() };
        let describe = |id: &i64| {
            let watcher = &self.watchers[*state.watchers.get(id)?];
            Some(Lagging { watch: *id, next: watcher.next, spec: watcher.spec.clone() })
        };
        state.lagging.iter().filter_map(describe).collect()
    }

    /// The watcher has been given everything below `next`. In step again once that is past the log's position.
    pub fn caught_up_to(&mut self, stream: Slot, id: i64, next: i64, sent: bool) {
        let Some(slot) = self.slot(stream, id) else { return };
        let watcher = &mut self.watchers[slot];
        watcher.next = next;
        watcher.active |= sent;
        if next > self.position {
            watcher.lags = false;
            self.streams[stream].lagging.remove(&id);
            self.in_step.insert(&watcher.spec.keys, slot);
        }
    }

    /// The revision that a progress answer may name: every watcher has been sent all up to it. None while one lags,
    /// owes something, or starts beyond it; the stream is then woken when the log reaches `at_least`.
    pub fn progress(&mut self, stream: Slot, at_least: i64) -> Progress {
        let Some(state) = self.streams.get_mut(stream) else { return Progress::Never };
        if state.watchers.is_empty() || !state.lagging.is_empty() {
            return Progress::Never;
        }
        let known = self.position.max(at_least);
        if state.watchers.values().any(|slot| self.watchers[*slot].spec.start > known) {
            return Progress::Never;
        }
        if self.position < at_least {
            if state.waits_for.replace(at_least).is_none() {
                self.waiting.push(stream);
            }
            return Progress::Later;
        }
        if state.ready.is_empty() { Progress::At(self.position) } else { Progress::Later }
    }

    /// The watchers that asked for progress notifications, are in step and were sent nothing since the last call.
    pub fn idle_watchers(&mut self, stream: Slot) -> Vec<(i64, i64)> {
        let Some(state) = self.streams.get(stream) else { return Vec::new() };
        let mut idle = Vec::new();
        for (id, slot) in &state.watchers {
            let watcher = &mut self.watchers[*slot];
            let in_step = !watcher.lags && watcher.owed.is_empty() && watcher.spec.start <= self.position;
            if watcher.spec.progress_notify && in_step && !std::mem::take(&mut watcher.active) {
                idle.push((*id, self.position));
            }
        }
        idle.sort_unstable();
        idle
    }

    pub fn counts(&self) -> Counts {
        let streams = self.streams.iter().map(|(_, state)| state);
        let (lagging, owed) = streams.fold((0, 0), |(l, o), state| (l + state.lagging.len(), o + state.owed));
        Counts { watchers: self.watchers.len(), streams: self.streams.len(), lagging, owed }
    }

    pub fn match_run(&mut self, run: &Run) {
        let Self { in_step, watchers, streams, .. } = self;
        let mut overfull = Vec::new();
        for (at, change) in run.changes.iter().enumerate() {
            let kv = &change.record.kv;
            let bytes = u32::try_from(kv.raw().len()).unwrap_or(u32::MAX);
            let owed = Owed { seq: run.seq, change: at as u32, revision: change.record.at.main, bytes };
            in_step.find(kv.key(), |slot| {
                let watcher = &mut watchers[slot];
                if owed.revision < watcher.next || watcher.overfull || !watcher.spec.wants(change.record.tombstone) {
                    return;
                }
                let state = &mut streams[watcher.stream];
                if watcher.owed.len() >= OWED_BY_WATCHER || state.owed >= OWED_BY_STREAM {
                    watcher.overfull = true;
                    overfull.push((slot, owed.revision));
                    return;
                }
                if watcher.owed.is_empty() {
                    state.ready.push_back(slot);
                    state.wake();
                }
                watcher.owed.push_back(owed);
                state.owed += 1;
            });
        }
        for (slot, revision) in overfull {
            let oldest = self.watchers[slot].owed.front().map(|owed| owed.revision);
            self.put_behind(slot, oldest.unwrap_or(revision));
        }
        self.advance(run.revision);
    }

    /// Runs up to `revision` left the log before they were matched: everybody in step reads them from the store.
    pub fn lose_runs(&mut self, revision: i64) {
        let mut behind = Vec::new();
        for (slot, watcher) in self.watchers.iter().filter(|(_, watcher)| !watcher.lags) {
            let unmatched = watcher.next.max(self.position + 1);
            let next = watcher.owed.front().map_or(unmatched, |owed| owed.revision);
            if next <= revision {
                behind.push((slot, next));
            }
        }
        for (slot, next) in behind {
            self.put_behind(slot, next);
        }
        self.advance(revision);
    }

    fn advance(&mut self, revision: i64) {
        self.position = self.position.max(revision);
        let Self { waiting, streams, position, .. } = self;
        waiting.retain(|stream| {
            let state = &mut streams[*stream];
            let waits = state.waits_for.is_some_and(|revision| revision > *position);
            if !waits {
                state.waits_for = None;
                state.wake();
            }
            waits
        });
    }
}

/// How many of a watcher's references make its next response.
fn response(owed: &VecDeque<Owed>) -> usize {
    let (mut count, mut bytes) = (0, 0);
    for (at, one) in owed.iter().enumerate() {
        let edge = at == 0 || owed[at - 1].revision != one.revision;
        if edge && (at >= EVENTS_A_RESPONSE || bytes >= BYTES_A_RESPONSE) {
            break;
        }
        bytes += u64::from(one.bytes);
        count = at + 1;
    }
    count
}

#[cfg(test)]
mod tests;
