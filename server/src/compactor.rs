//! The thread that carries out compactions: the index gives up what is dead in small steps, the store packs what is
//! left. Clients see a compaction when it is applied, not when this has caught up.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keepstone_failpoint::points;
use keepstone_state::Effects;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::core::Core;
use crate::pins::HeldBack;

/// Bytes of chunks rewritten between two looks at whether to stop.
const REWRITE_BYTES: usize = 8 << 20;
/// How often a compaction that a pinned read holds back is tried again.
const RETRY_PINNED: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
    /// The newest compaction that was carried out.
    finished: watch::Sender<i64>,
}

#[derive(Default)]
struct Wanted {
    look: bool,
    stop: bool,
}

/// Asks for compactions and waits for them.
#[derive(Default)]
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
    /// Starts the thread that does what `core.compactor` is asked for.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn spawn(core: Arc<Core>, pace: Pace) -> std::io::Result<CompactorThread> {
        let shared = core.compactor.shared.clone();
        let worker = Worker { inline: false, ..Self::inline(core, pace) };
        let thread = std::thread::Builder::new().name("compact".to_owned()).spawn(move || worker.run())?;
        Ok(CompactorThread { shared, thread: Some(thread) })
    }

    /// Without a thread: whoever has the worker calls [`Worker::step`].
    pub fn inline(core: Arc<Core>, pace: Pace) -> Worker {
        let shared = core.compactor.shared.clone();
        {
            let state = core.state.read();
            if state.unfinished_compaction().is_none() {
                shared.finished.send_replace(state.compact_revision());
            }
        }
        // A compaction that the last run of this member did not finish.
        shared.wanted.lock().look = true;
        Worker { core, pace, shared, inline: true }
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

/// The one that compacts.
pub struct Worker {
    core: Arc<Core>,
    pace: Pace,
    shared: Arc<Shared>,
    /// Never waits.
    inline: bool,
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

    /// Carries out as much of a compaction as can be done now, without rests.
    ///
    /// # Errors
    /// The store's, which is then not to be used any more.
    pub fn step(&self) -> Result<(), keepstone_store::StoreError> {
        if std::mem::take(&mut self.shared.wanted.lock().look) { self.compact() } else { Ok(()) }
    }

    /// Whether to go on after resting for `rest`.
    fn rest(&self, rest: Duration) -> bool {
        if self.inline {
            return true;
        }
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
            points::COMPACT_BEFORE_COMMIT_SCHEDULED_COMPACT.hit();
            let Some(floor) = self.shrink_index(floor) else { return Ok(()) };
            points::COMPACT_AFTER_COMMIT_SCHEDULED_COMPACT.hit();
            if !self.rewrite(floor)? {
                return Ok(());
            }
            points::COMPACT_BEFORE_SET_FINISHED_COMPACT.hit();
            let mut effects = Effects::default();
            {
                let mut state = self.core.state.write();
                state.finish_compaction(floor, &mut effects);
                self.core.publish_own(effects);
            }
            points::COMPACT_AFTER_SET_FINISHED_COMPACT.hit();
            let took = began.elapsed();
            self.core.metrics.mvcc.compaction_total.observe(took.as_secs_f64() * 1000.0);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.core.metrics.mvcc.last_compaction.set(now.as_secs() as i64);
            tracing::info!(compact_revision = floor, took = ?took, "finished scheduled compaction");
            self.shared.finished.send_replace(floor);
        }
    }

    /// Takes what is dead out of the index. Returns the compaction it went by, which may be a newer one than `floor`;
    /// none when the member stops.
    fn shrink_index(&self, mut floor: i64) -> Option<i64> {
        let mut dead = Vec::new();
        let mut held: Option<HeldBack> = None;
        loop {
            let began = Instant::now();
            let done = {
                // The pins are looked at under the lock that readers pin under, and against the newest compaction: it
                // is what the index goes by.
                let mut state = self.core.state.write();
                floor = state.compact_revision().max(floor);
                if held.as_ref().is_some_and(|held| held.is_over(self.core.records.total_bytes())) {
                    tracing::warn!(compact_revision = floor, "lists that are read too slowly lose their revision");
                    self.core.pins.revoke_lists_below(floor);
                    held = None;
                }
                let pinned = self.core.pins.lowest().is_some_and(|pin| pin < floor);
                (!pinned).then(|| state.compact_some(self.pace.batch, &mut dead))
            };
            if done.is_none() {
                held.get_or_insert_with(|| HeldBack::new(self.core.records.total_bytes()));
            } else {
                held = None;
            }
            self.core.metrics.mvcc.index_compaction_pause.observe(began.elapsed().as_secs_f64() * 1000.0);
            self.core.metrics.mvcc.compacted_keys.inc_by(dead.len() as u64);
            self.core.records.remove(&dead);
            dead.clear();
            let rest = match done {
                Some(true) => return Some(floor),
                Some(false) => self.pace.sleep,
                None if self.inline => {
                    self.shared.wanted.lock().look = true;
                    return None;
                }
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
            points::COMPACT_BEFORE_COMMIT_BATCH.hit();
            let done = core.records.rewrite(&is_live, REWRITE_BYTES)?.done;
            points::COMPACT_AFTER_COMMIT_BATCH.hit();
            if done {
                return Ok(true);
            }
            if !self.rest(self.pace.sleep) {
                return Ok(false);
            }
        }
    }
}
