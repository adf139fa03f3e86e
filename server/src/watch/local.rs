//! One serving thread's watchers: who is in step with the shared log, what each has yet to be sent, who lags.
//!
//! A watcher in step owes its client references into the ring, never copies of events. One that owes too many, or
//! whose run has left the ring, lags: it keeps only the revision it needs next and is fed from the store until it has
//! caught up. So a watcher costs a bounded amount of memory however slow its client is.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::matcher::{Keys, Matcher};
use super::ring::{Ring, Run};

/// References one watcher, and all watchers of one stream, may owe before the watcher lags. 24 bytes each.
const OWED_BY_WATCHER: usize = 4096;
const OWED_BY_STREAM: usize = 65_536;

/// What a client asked of a watcher.
#[derive(Clone, Debug)]
pub struct Spec {
    pub keys: Keys,
    /// The revision the client named; 0 for "from now".
    pub start: i64,
    pub prev_kv: bool,
    pub fragment: bool,
    pub progress_notify: bool,
    pub no_put: bool,
    pub no_delete: bool,
}

impl Spec {
    pub fn wants(&self, tombstone: bool) -> bool {
        !(if tombstone { self.no_delete } else { self.no_put })
    }
}

/// A change some watcher has to be sent: where it is in the ring and its revision.
#[derive(Clone, Copy, Debug)]
pub struct Owed {
    pub seq: u64,
    pub change: u32,
    pub revision: i64,
}

#[derive(Debug)]
struct Watcher {
    spec: Arc<Spec>,
    /// The first revision that this watcher has not been given (in step: not been matched against).
    next: i64,
    owed: VecDeque<Owed>,
    lags: bool,
    /// Owes all it may; it lags from the end of this run on.
    overfull: bool,
    /// Sent something since the last progress notification.
    active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    stream: u64,
    watch: i64,
}

#[derive(Debug, Default)]
struct Stream {
    watchers: HashMap<i64, Watcher>,
    ready: VecDeque<i64>,
    lagging: BTreeSet<i64>,
    owed: usize,
    changed: Arc<Notify>,
    /// Tell the stream when the log has been read up to here.
    waits_for: Option<i64>,
}

#[derive(Debug, Default)]
struct Inner {
    in_step: Matcher<Target>,
    streams: HashMap<u64, Stream>,
    watchers: usize,
    next_stream: u64,
    /// The revision up to which every run has been matched.
    position: i64,
}

/// A run in the ring: its place and the revision after it. The ring alone keeps the run, so that a thread which is slow to
/// match costs no memory.
#[derive(Clone, Copy, Debug)]
struct Announced {
    seq: u64,
    revision: i64,
}

/// The watchers of one thread.
#[derive(Debug)]
pub struct Local {
    runs: mpsc::UnboundedSender<Announced>,
    interested: AtomicBool,
    inner: Mutex<Inner>,
}

/// The receiving end of a [`Local`]: a task for its thread.
pub struct Matching {
    local: Arc<Local>,
    runs: mpsc::UnboundedReceiver<Announced>,
}

/// A watcher that has to be fed from the store, from `next` on.
#[derive(Clone, Debug)]
pub struct Lagging {
    pub watch: i64,
    pub next: i64,
    pub spec: Arc<Spec>,
}

impl Local {
    pub fn new() -> (Arc<Self>, Matching) {
        let (tx, rx) = mpsc::unbounded_channel();
        let local = Arc::new(Self { runs: tx, interested: AtomicBool::new(false), inner: Mutex::default() });
        (local.clone(), Matching { local, runs: rx })
    }

    /// Whether runs have to be sent here. Read under the state's write lock.
    pub fn is_interested(&self) -> bool {
        self.interested.load(Ordering::SeqCst)
    }

    /// Announces a run; dropped if the thread is gone.
    pub fn send(&self, run: &Run) {
        let announced = Announced { seq: run.seq, revision: run.revision };
        if self.runs.send(announced).is_err() {
            tracing::trace!("the thread is gone");
        }
    }

    pub fn open(&self) -> (u64, Arc<Notify>) {
        let mut inner = self.inner.lock();
        inner.next_stream += 1;
        let id = inner.next_stream;
        let stream = inner.streams.entry(id).or_default();
        (id, stream.changed.clone())
    }

    /// Adds a watcher. `current` reads the store's revision; it is called once runs are sent here and while none is
    /// matched, so that the watcher gets every later one. Returns what it read.
    pub fn add(&self, stream: u64, watch: i64, spec: Spec, current: impl FnOnce() -> i64) -> i64 {
        let mut guard = self.inner.lock();
        self.interested.store(true, Ordering::SeqCst);
        let current = current();
        let inner = &mut *guard;
        if inner.watchers == 0 {
            inner.position = inner.position.max(current);
        }
        let lags = spec.start != 0 && spec.start <= current;
        let next = if lags { spec.start } else { spec.start.max(current + 1) };
        let Some(state) = inner.streams.get_mut(&stream) else { return current };
        let owed = VecDeque::new();
        let watcher = Watcher { spec: Arc::new(spec), next, owed, lags, overfull: false, active: false };
        if lags {
            state.lagging.insert(watch);
        } else {
            inner.in_step.insert(&watcher.spec.keys, Target { stream, watch });
        }
        state.watchers.insert(watch, watcher);
        inner.watchers += 1;
        current
    }

    pub fn has(&self, stream: u64, watch: i64) -> bool {
        self.inner.lock().streams.get(&stream).is_some_and(|s| s.watchers.contains_key(&watch))
    }

    /// Whether there was such a watcher.
    pub fn remove(&self, stream: u64, watch: i64) -> bool {
        let mut guard = self.inner.lock();
        let removed = guard.remove(stream, watch);
        self.settle(&guard);
        removed
    }

    pub fn close(&self, stream: u64) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if let Some(state) = inner.streams.remove(&stream) {
            inner.watchers -= state.watchers.len();
            for (watch, watcher) in state.watchers.iter().filter(|(_, watcher)| !watcher.lags) {
                inner.in_step.remove(&watcher.spec.keys, Target { stream, watch: *watch });
            }
        }
        self.settle(&guard);
    }

    /// The next watcher in step that owes something, with up to `most` references, never half a revision.
    pub fn take(&self, stream: u64, most: usize) -> Option<(i64, Arc<Spec>, Vec<Owed>)> {
        let mut guard = self.inner.lock();
        let state = guard.streams.get_mut(&stream)?;
        let watch = state.ready.pop_front()?;
        let watcher = state.watchers.get_mut(&watch)?;
        let mut count = watcher.owed.len().min(most);
        while count > 0
            && count < watcher.owed.len()
            && watcher.owed[count].revision == watcher.owed[count - 1].revision
        {
            count += 1;
        }
        let taken: Vec<Owed> = watcher.owed.drain(..count).collect();
        watcher.active = true;
        state.owed -= taken.len();
        if watcher.owed.is_empty() {
            watcher.owed.shrink_to(16);
        } else {
            state.ready.push_back(watch);
        }
        Some((watch, watcher.spec.clone(), taken))
    }

    /// The watcher can't be served from the ring: it has everything before `next` and reads on from the store.
    pub fn fall_behind(&self, stream: u64, watch: i64, next: i64) {
        self.inner.lock().fall_behind(Target { stream, watch }, next);
    }

    pub fn has_ready(&self, stream: u64) -> bool {
        self.inner.lock().streams.get(&stream).is_some_and(|s| !s.ready.is_empty())
    }

    pub fn has_lagging(&self, stream: u64) -> bool {
        self.inner.lock().streams.get(&stream).is_some_and(|s| !s.lagging.is_empty())
    }

    pub fn lagging(&self, stream: u64) -> Vec<Lagging> {
        let inner = self.inner.lock();
        let Some(state) = inner.streams.get(&stream) else { return Vec::new() };
        let describe = |watch: &i64| {
            let watcher = state.watchers.get(watch)?;
            Some(Lagging { watch: *watch, next: watcher.next, spec: watcher.spec.clone() })
        };
        state.lagging.iter().filter_map(describe).collect()
    }

    /// The watcher has been given everything below `next`. In step again once that is past the log's position.
    pub fn caught_up_to(&self, stream: u64, watch: i64, next: i64, sent: bool) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(state) = inner.streams.get_mut(&stream) else { return };
        let Some(watcher) = state.watchers.get_mut(&watch) else { return };
        watcher.next = next;
        watcher.active |= sent;
        if next > inner.position {
            watcher.lags = false;
            state.lagging.remove(&watch);
            inner.in_step.insert(&watcher.spec.keys, Target { stream, watch });
        }
    }

    /// The revision that a progress answer may name: every watcher has been sent all up to it. None while one lags,
    /// owes something, or starts beyond it; the stream is then told when the log reaches `at_least`.
    pub fn progress(&self, stream: u64, at_least: i64) -> Progress {
        let mut inner = self.inner.lock();
        let position = inner.position;
        let Some(state) = inner.streams.get_mut(&stream) else { return Progress::Never };
        if state.watchers.is_empty() || !state.lagging.is_empty() {
            return Progress::Never;
        }
        if state.watchers.values().any(|w| w.spec.start > position.max(at_least)) {
            return Progress::Never;
        }
        if position < at_least {
            state.waits_for = Some(at_least);
            return Progress::Later;
        }
        if state.ready.is_empty() { Progress::At(position) } else { Progress::Later }
    }

    /// The watchers that asked for progress notifications, are in step and were sent nothing since the last call.
    pub fn idle_watchers(&self, stream: u64) -> Vec<(i64, i64)> {
        let mut inner = self.inner.lock();
        let position = inner.position;
        let Some(state) = inner.streams.get_mut(&stream) else { return Vec::new() };
        let mut idle = Vec::new();
        for (watch, watcher) in state.watchers.iter_mut().filter(|(_, w)| w.spec.progress_notify) {
            let in_step = !watcher.lags && watcher.owed.is_empty() && watcher.spec.start <= position;
            if in_step && !std::mem::take(&mut watcher.active) {
                idle.push((*watch, position));
            }
        }
        idle.sort_unstable();
        idle
    }

    /// Watchers and streams, in step and lagging: for the metrics.
    pub fn counts(&self) -> Counts {
        let inner = self.inner.lock();
        let lagging = inner.streams.values().map(|s| s.lagging.len()).sum();
        let owed = inner.streams.values().map(|s| s.owed).sum();
        Counts { watchers: inner.watchers, streams: inner.streams.len(), lagging, owed }
    }

    fn settle(&self, inner: &Inner) {
        if inner.watchers == 0 {
            self.interested.store(false, Ordering::SeqCst);
        }
    }
}

/// See [`Local::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub watchers: usize,
    pub streams: usize,
    pub lagging: usize,
    pub owed: usize,
}

/// See [`Local::progress`].
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    At(i64),
    Later,
    Never,
}

impl Inner {
    fn remove(&mut self, stream: u64, watch: i64) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else { return false };
        let Some(watcher) = state.watchers.remove(&watch) else { return false };
        if watcher.lags {
            state.lagging.remove(&watch);
        } else {
            self.in_step.remove(&watcher.spec.keys, Target { stream, watch });
        }
        state.owed -= watcher.owed.len();
        state.ready.retain(|ready| *ready != watch);
        self.watchers -= 1;
        true
    }

    fn fall_behind(&mut self, target: Target, next: i64) {
        let Some(state) = self.streams.get_mut(&target.stream) else { return };
        let Some(watcher) = state.watchers.get_mut(&target.watch) else { return };
        if !watcher.lags {
            self.in_step.remove(&watcher.spec.keys, target);
            watcher.lags = true;
            state.lagging.insert(target.watch);
        }
        watcher.next = next;
        watcher.overfull = false;
        state.owed -= watcher.owed.len();
        watcher.owed = VecDeque::new();
        state.ready.retain(|ready| *ready != target.watch);
    }

    fn match_run(&mut self, run: &Run) {
        let Self { in_step, streams, .. } = self;
        let mut touched = Vec::new();
        let mut overfull = Vec::new();
        for (at, change) in run.changes.iter().enumerate() {
            let owed = Owed { seq: run.seq, change: at as u32, revision: change.record.at.main };
            in_step.find(change.record.kv.key(), |target| {
                let Some(state) = streams.get_mut(&target.stream) else { return };
                let Some(watcher) = state.watchers.get_mut(&target.watch) else { return };
                if owed.revision < watcher.next || !watcher.spec.wants(change.record.tombstone) {
                    return;
                }
                if watcher.overfull {
                    return;
                }
                if watcher.owed.len() >= OWED_BY_WATCHER || state.owed >= OWED_BY_STREAM {
                    watcher.overfull = true;
                    overfull.push((target, owed.revision));
                    return;
                }
                if watcher.owed.is_empty() {
                    state.ready.push_back(target.watch);
                    touched.push(target.stream);
                }
                watcher.owed.push_back(owed);
                state.owed += 1;
            });
        }
        for (target, revision) in overfull {
            let watcher = self.streams.get(&target.stream).and_then(|s| s.watchers.get(&target.watch));
            let oldest = watcher.and_then(|w| w.owed.front()).map(|owed| owed.revision);
            self.fall_behind(target, oldest.unwrap_or(revision));
            touched.push(target.stream);
        }
        self.position = self.position.max(run.revision);
        self.wake(touched);
    }

    /// Runs up to `revision` left the log before they were matched: everybody in step reads them from the store.
    fn lose_runs(&mut self, revision: i64) {
        let mut behind = Vec::new();
        for (stream, state) in &self.streams {
            for (watch, watcher) in state.watchers.iter().filter(|(_, watcher)| !watcher.lags) {
                let unmatched = watcher.next.max(self.position + 1);
                let next = watcher.owed.front().map_or(unmatched, |owed| owed.revision);
                if next <= revision {
                    behind.push((Target { stream: *stream, watch: *watch }, next));
                }
            }
        }
        let touched = behind.iter().map(|(target, _)| target.stream).collect();
        for (target, next) in behind {
            self.fall_behind(target, next);
        }
        self.position = self.position.max(revision);
        self.wake(touched);
    }

    fn wake(&mut self, mut touched: Vec<u64>) {
        touched.sort_unstable();
        touched.dedup();
        for stream in touched {
            if let Some(state) = self.streams.get(&stream) {
                state.changed.notify_one();
            }
        }
        for state in self.streams.values_mut() {
            if state.waits_for.is_some_and(|revision| revision <= self.position) {
                state.waits_for = None;
                state.changed.notify_one();
            }
        }
    }
}

impl Matching {
    /// Matches the runs in `ring` until the hub is gone.
    pub async fn run(mut self, ring: Arc<Ring>) {
        while let Some(announced) = self.runs.recv().await {
            let run = ring.get(announced.seq);
            let mut inner = self.local.inner.lock();
            match run {
                Some(run) => inner.match_run(&run),
                None => inner.lose_runs(announced.revision),
            }
        }
    }
}
