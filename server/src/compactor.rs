//! The thread that carries out compactions: the index gives up what is dead in small steps, the store packs what is
//! left. Clients see a compaction when it is applied, not when this has caught up.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keepstone_state::Effects;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::core::Core;
use crate::metrics::Metrics;

/// Bytes of chunks rewritten between two looks at whether to stop.
const REWRITE_BYTES: usize = 8 << 20;
/// How often a compaction that a pinned read holds back is tried again.
const RETRY_PINNED: Duration = Duration::from_millis(20);

struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
    finished: watch::Sender<i64>,
}

#[derive(Default)]
struct Wanted {
    look: bool,
    stop: bool,
}

/// Asks for compactions and waits for them. Clones share the thread.
#[derive(Clone)]
pub struct Compactor {
    shared: Arc<Shared>,
}

/// The thread. Dropping it stops it; an unfinished compaction goes on at the next start.
pub struct CompactorThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How fast a compaction may go.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Keys and revisions looked at under one hold of the state's lock.
    pub batch: usize,
    /// Pause between two batches.
    pub sleep: Duration,
}

impl Compactor {
    /// # Errors
    /// When the thread can't be started.
    pub fn spawn(core: Arc<Core>, metrics: Arc<Metrics>, pace: Pace) -> std::io::Result<(Self, CompactorThread)> {
        let done = {
            let state = core.state.read();
            if state.unfinished_compaction().is_some() { 0 } else { state.compact_revision() }
        };
        let wanted = Mutex::new(Wanted { look: true, stop: false });
        let shared = Arc::new(Shared { wanted, changed: Condvar::new(), finished: watch::Sender::new(done) });
        let worker = Worker { core, metrics, pace, shared: shared.clone() };
        let thread = std::thread::Builder::new().name("compact".to_owned()).spawn(move || worker.run())?;
        let handle = CompactorThread { shared: shared.clone(), thread: Some(thread) };
        Ok((Self { shared }, handle))
    }

    /// There is, or may be, a new compaction to carry out.
    pub fn start(&self) {
        self.shared.wanted.lock().look = true;
        self.shared.changed.notify_all();
    }

    /// Returns when everything dead up to `revision` has left the store, or the member stops.
    pub async fn finished(&self, revision: i64) {
        drop(self.shared.finished.subscribe().wait_for(|done| *done >= revision).await);
    }
}

impl Drop for CompactorThread {
    fn drop(&mut self) {
        self.shared.wanted.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Worker {
    core: Arc<Core>,
    metrics: Arc<Metrics>,
    pace: Pace,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self) {
        let _guard = self.core.guard("compaction");
        loop {
            {
                let mut wanted = self.shared.wanted.lock();
                while !wanted.look && !wanted.stop {
                    self.shared.changed.wait(&mut wanted);
                }
                if wanted.stop {
                    return;
                }
                wanted.look = false;
            }
            if let Err(error) = self.compact() {
                self.core.fail(&error.to_string());
                return;
            }
        }
    }

    /// Whether to go on after resting for `rest`.
    fn rest(&self, rest: Duration) -> bool {
        let mut wanted = self.shared.wanted.lock();
        if !wanted.stop {
            self.shared.changed.wait_for(&mut wanted, rest);
        }
        !wanted.stop
    }

    fn compact(&self) -> Result<(), keepstone_store::StoreError> {
        loop {
            // Not in the loop's head: the guard would live as long as its body.
            let unfinished = self.core.state.read().unfinished_compaction();
            let Some(floor) = unfinished else { return Ok(()) };
            let began = Instant::now();
            let Some(floor) = self.shrink_index(floor) else { return Ok(()) };
            if !self.rewrite(floor)? {
                return Ok(());
            }
            let mut effects = Effects::default();
            {
                let mut state = self.core.state.write();
                state.finish_compaction(floor, &mut effects);
                self.core.publish_own(effects);
            }
            let took = began.elapsed();
            self.metrics.mvcc.compaction_total.observe(took.as_secs_f64() * 1000.0);
            tracing::info!(compact_revision = floor, took = ?took, "finished scheduled compaction");
            self.shared.finished.send_replace(floor);
        }
    }

    /// Takes what is dead out of the index. Returns the compaction it went by, which may be a newer one than `floor`;
    /// none when the member stops.
    fn shrink_index(&self, mut floor: i64) -> Option<i64> {
        let mut dead = Vec::new();
        loop {
            let began = Instant::now();
            let done = {
                // The pins are looked at under the lock that readers pin under, and against the newest compaction: it
                // is what the index goes by.
                let mut state = self.core.state.write();
                floor = state.compact_revision().max(floor);
                let pinned = self.core.pins.lowest().is_some_and(|pin| pin < floor);
                (!pinned).then(|| state.compact_some(self.pace.batch, &mut dead))
            };
            self.metrics.mvcc.index_compaction_pause.observe(began.elapsed().as_secs_f64() * 1000.0);
            self.metrics.mvcc.compacted_keys.inc_by(dead.len() as u64);
            self.core.records.remove(&dead);
            dead.clear();
            let rest = match done {
                Some(true) => return Some(floor),
                Some(false) => self.pace.sleep,
                None => RETRY_PINNED,
            };
            if !self.rest(rest) {
                return None;
            }
        }
    }

    /// Packs the store anew; false when the member stops.
    fn rewrite(&self, floor: i64) -> Result<bool, keepstone_store::StoreError> {
        let core = &self.core;
        loop {
            let is_live =
                |key: &[u8], at: keepstone_state::Revision| at.main >= floor || core.state.read().keeps(key, at, floor);
            if core.records.rewrite(&is_live, REWRITE_BYTES)?.done {
                return Ok(true);
            }
            if !self.rest(self.pace.sleep) {
                return Ok(false);
            }
        }
    }
}
