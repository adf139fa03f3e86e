//! The watchers of one serving thread behind their lock, and the task that matches them against the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::chunks::Chunks;
use super::ring::{Ring, Run};
use super::table::Table;
use super::watcher::{Counts, Lagging, Owed, Progress, Slot, Spec, Turn};

/// A run in the ring: its place and the revision after it. The ring alone keeps the run, so that a thread which is slow to
/// match costs no memory.
#[derive(Clone, Copy, Debug)]
struct Announced {
    seq: u64,
    revision: i64,
}

/// What a thread is told.
#[derive(Clone, Copy, Debug)]
enum News {
    Run(Announced),
    /// Something that every stream has to look at.
    Look,
}

/// The watchers of one thread. Streams are woken under the lock and never polled under it.
#[derive(Debug)]
pub struct Local {
    runs: mpsc::UnboundedSender<News>,
    interested: AtomicBool,
    table: Mutex<Table>,
    chunks: Arc<Chunks>,
}

/// The receiving end of a [`Local`]: a task for its thread.
pub struct Matching {
    local: Arc<Local>,
    runs: mpsc::UnboundedReceiver<News>,
}

impl Local {
    pub fn new() -> (Arc<Self>, Matching) {
        let (tx, rx) = mpsc::unbounded_channel();
        let local = Arc::new(Self {
            runs: tx,
            interested: AtomicBool::new(false),
            table: Mutex::default(),
            chunks: Arc::default(),
        });
        (local.clone(), Matching { local, runs: rx })
    }

    /// Whether runs have to be sent here. Read under the state's write lock.
    pub fn is_interested(&self) -> bool {
        self.interested.load(Ordering::SeqCst)
    }

    /// Announces a run; dropped if the thread is gone.
    pub fn send(&self, run: &Run) {
        let announced = Announced { seq: run.seq, revision: run.revision };
        if self.runs.send(News::Run(announced)).is_err() {
            tracing::trace!("the thread is gone");
        }
    }

    /// Announces that the ring has nothing for the revisions up to `revision`, in the place `seq`.
    pub fn lost(&self, seq: u64, revision: i64) {
        // A thread that is gone has nobody to tell.
        let _ = self.runs.send(News::Run(Announced { seq, revision }));
    }

    /// Has every stream look again.
    pub fn look(&self) {
        // A thread that is gone has nobody to tell.
        let _ = self.runs.send(News::Look);
    }

    pub fn counts(&self) -> Counts {
        self.table.lock().counts()
    }

    /// A stream of watchers, none yet.
    pub fn open(self: &Arc<Self>) -> Watchers {
        Watchers { stream: self.table.lock().open(), local: self.clone() }
    }

    fn settle(&self, table: &Table) {
        if table.is_empty() {
            self.interested.store(false, Ordering::SeqCst);
        }
    }
}

/// See [`Watchers::next`].
pub enum Next {
    Of(Turn),
    /// Whether somebody lags.
    Nothing {
        lagging: bool,
    },
}

/// One stream's watchers. They go when this is dropped.
#[derive(Debug)]
pub struct Watchers {
    local: Arc<Local>,
    stream: Slot,
}

impl Watchers {
    /// A number that no other stream of this thread has at this time.
    pub fn number(&self) -> usize {
        self.stream
    }

    /// Where its thread has room for chunks.
    pub fn chunks(&self) -> &Arc<Chunks> {
        &self.local.chunks
    }

    /// Adds a watcher. `current` reads the store's revision; it is called once runs are sent here and while none is
    /// matched, so that the watcher gets every later one. Returns what it read.
    pub fn add(&self, watch: i64, spec: Spec, current: impl FnOnce() -> i64) -> i64 {
        let mut table = self.local.table.lock();
        self.local.interested.store(true, Ordering::SeqCst);
        let current = current();
        table.add(self.stream, watch, spec, current);
        current
    }

    pub fn has(&self, watch: i64) -> bool {
        self.local.table.lock().has(self.stream, watch)
    }

    /// Whether there was such a watcher.
    pub fn remove(&self, watch: i64) -> bool {
        let mut table = self.local.table.lock();
        let removed = table.remove(self.stream, watch);
        self.local.settle(&table);
        removed
    }

    /// The next response's references, in `owed`, and whose they are; or has `waker` woken once that is worth asking again.
    pub fn next(&self, owed: &mut Vec<Owed>, waker: &Waker) -> Next {
        let mut table = self.local.table.lock();
        match table.take(self.stream, owed) {
            Some(turn) => Next::Of(turn),
            None => Next::Nothing { lagging: table.sleep(self.stream, waker) },
        }
    }

    /// See [`Table::fall_behind`].
    pub fn fall_behind(&self, watch: i64, next: i64) {
        self.local.table.lock().fall_behind(self.stream, watch, next);
    }

    pub fn lagging(&self) -> Vec<Lagging> {
        self.local.table.lock().lagging(self.stream)
    }

    /// See [`Table::caught_up_to`].
    pub fn caught_up_to(&self, watch: i64, next: i64, sent: bool) {
        self.local.table.lock().caught_up_to(self.stream, watch, next, sent);
    }

    /// See [`Table::progress`].
    pub fn progress(&self, at_least: i64) -> Progress {
        self.local.table.lock().progress(self.stream, at_least)
    }

    /// See [`Table::idle_watchers`].
    pub fn idle(&self) -> Vec<(i64, i64)> {
        self.local.table.lock().idle_watchers(self.stream)
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        let mut table = self.local.table.lock();
        table.close(self.stream);
        self.local.settle(&table);
    }
}

impl Matching {
    /// Matches the runs in `ring` until the hub is gone.
    pub async fn run(mut self, ring: Arc<Ring>) {
        while let Some(news) = self.runs.recv().await {
            let News::Run(announced) = news else {
                self.local.table.lock().wake_all();
                continue;
            };
            let run = ring.get(announced.seq);
            let mut table = self.local.table.lock();
            match run {
                Some(run) => table.match_run(&run),
                None => table.lose_runs(announced.revision),
            }
        }
    }
}
