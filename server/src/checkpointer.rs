//! The thread that writes applied state to the store behind everybody's back, and tells Raft how much of the log is no
//! longer needed. Nothing waits for it but a member that stops, and writers when it falls far behind.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::core::Core;
use crate::huge_pages;
use crate::raft::codec;

/// Unwritten bytes that make a checkpoint due at once.
const WRITE_BYTES: usize = 8 << 20;
/// A checkpoint is written, and the store flushed, at least this often while there is something to write.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// Bytes written since the last flush that make a flush due.
const FLUSH_BYTES: usize = 64 << 20;
/// How often the thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Asked {
    flush: u64,
    flushed: u64,
    stop: bool,
}

struct Shared {
    asked: Mutex<Asked>,
    changed: Condvar,
    /// The log index of the last flushed checkpoint.
    durable: watch::Sender<u64>,
}

/// Why a checkpoint failed. Either ends the member.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Store(#[from] keepstone_store::StoreError),
    #[error("the mark of the checkpoint can't be read: {0}")]
    Mark(std::io::Error),
}

/// Handle on the thread. Dropping it flushes and stops it.
pub struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// # Errors
    /// When the thread can't be started.
    pub fn start(core: Arc<Core>) -> std::io::Result<Self> {
        let (mut this, worker) = Self::inline(core);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || worker.run())?;
        this.thread = Some(thread);
        Ok(this)
    }

    /// Without a thread: whoever has the worker takes its steps. [`Checkpointer::flush`] must not be called then.
    pub fn inline(core: Arc<Core>) -> (Self, Worker) {
        let index = core.durable().log_id.as_ref().map_or(0, |id| id.index());
        let shared =
            Arc::new(Shared { asked: Mutex::default(), changed: Condvar::new(), durable: watch::Sender::new(index) });
        let worker = Worker { core, shared: shared.clone(), written: 0, last_flush: Duration::ZERO };
        (Self { shared, thread: None }, worker)
    }

    /// The log index of the last flushed checkpoint, as it moves.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.shared.durable.subscribe()
    }

    /// Writes and flushes everything applied before this call. Blocks.
    pub fn flush(&self) {
        let mut asked = self.shared.asked.lock();
        asked.flush += 1;
        let ticket = asked.flush;
        self.shared.changed.notify_all();
        while asked.flushed < ticket && !asked.stop {
            self.shared.changed.wait(&mut asked);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.flush();
        self.shared.asked.lock().stop = true;
        self.shared.changed.notify_all();
        drop(thread.join());
    }
}

/// Whoever waits for a flush learns that there is nobody left to make it.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.asked.lock().stop = true;
        self.0.changed.notify_all();
    }
}

/// Requests can't wait, a checkpoint can: where both want the same core, most of it is theirs. Enough is left to keep up:
/// writers have to wait for this thread once it is far behind. A kernel that refuses this changes nothing else.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
}

/// The one that writes. Times are since its start.
pub struct Worker {
    core: Arc<Core>,
    shared: Arc<Shared>,
    written: usize,
    last_flush: Duration,
}

impl Worker {
    fn run(mut self) {
        step_back();
        let _guard = self.core.guard("checkpointing");
        let _stopped = StopOnDrop(self.shared.clone());
        let began = Instant::now();
        loop {
            let ticket = {
                let mut asked = self.shared.asked.lock();
                if !asked.stop && asked.flush == asked.flushed {
                    self.shared.changed.wait_for(&mut asked, LOOK_EVERY);
                }
                if asked.stop {
                    return;
                }
                asked.flush
            };
            let asked_for = ticket > self.shared.asked.lock().flushed;
            if let Err(error) = self.step(began.elapsed(), asked_for) {
                self.core.fail(&error.to_string());
                return;
            }
            self.shared.asked.lock().flushed = ticket;
            self.shared.changed.notify_all();
        }
    }

    /// Writes, and flushes, what is due at `now`; everything if it was asked for.
    ///
    /// # Errors
    /// The store's or of its mark; the store is then not to be used any more.
    pub fn step(&mut self, now: Duration, asked_for: bool) -> Result<(), CheckpointError> {
        let dirty = self.core.records.dirty_bytes();
        if dirty >= WRITE_BYTES || self.core.records.total_bytes() >= huge_pages::LARGE_STORE {
            huge_pages::allow();
        }
        let overdue = now.saturating_sub(self.last_flush) >= FLUSH_EVERY;
        if dirty >= WRITE_BYTES || (dirty > 0 && (overdue || asked_for)) {
            let began = Instant::now();
            self.core.records.checkpoint()?;
            self.core.metrics.disk.backend_commit.observe(began.elapsed().as_secs_f64());
            self.written += dirty;
        }
        if self.written >= FLUSH_BYTES || (self.written > 0 && overdue) || asked_for {
            self.flush()?;
            self.last_flush = now;
        } else if overdue {
            self.last_flush = now;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CheckpointError> {
        let mark = self.core.records.flush()?;
        self.written = 0;
        if let Some(mark) = mark {
            // Taking it for an earlier one would be safe for the log, but its writer can't be trusted with the next.
            let applied = codec::decode_applied(&mark).map_err(CheckpointError::Mark)?;
            self.core.set_durable(applied);
            let index = self.core.durable().log_id.as_ref().map_or(0, |id| id.index());
            self.shared.durable.send_replace(index);
        }
        Ok(())
    }
}
