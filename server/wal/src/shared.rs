//! What callers and the writer share: the queue, the directory of entries, and the failure that ended it all.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::disk::File;
use crate::error::{Failure, WalError};
use crate::index::Index;
use crate::options::Options;
use crate::pacing::Pacer;
use crate::record::{self, Record};

/// Called once, on the writer's thread (inline: in `step`), in the order of the calls; must not block. `Ok` means
/// durable; an error is final for the whole log, and its record may or may not be there after a restart.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What a queued record costs besides its bytes, so that a queue of empty entries is bounded too.
const OP_OVERHEAD: usize = 64;

/// What an entry with a payload of `len` bytes counts for in the queue.
pub(crate) fn entry_cost(len: usize) -> usize {
    OP_OVERHEAD + record::ENTRY_OVERHEAD + len
}

/// One queued record, or with `record: None` a wait for all before it.
pub(crate) struct Op {
    pub(crate) record: Option<Record>,
    /// The entry's ticket in the index.
    pub(crate) ticket: u32,
    pub(crate) done: Option<Done>,
}

impl Op {
    pub(crate) fn bytes(&self) -> usize {
        OP_OVERHEAD + self.record.as_ref().map_or(0, Record::len)
    }

    /// Whether it waits for somebody else's sync.
    pub(crate) fn is_lazy(&self) -> bool {
        self.done.is_none() && matches!(self.record, Some(Record::Committed(_)))
    }
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes queued or being written; bounded by `Options::queue_bytes`.
    pub queued_bytes: usize,
    /// Bytes of entries in memory, `queued_bytes` included.
    pub cached_bytes: usize,
    /// Segment files in use, spares not counted.
    pub segments: usize,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// The writer waits here.
    work: Condvar,
    /// Appenders wait here.
    room: Condvar,
    pub(crate) options: Options,
    began: Instant,
    /// Nobody writes but `step`: never block, never look at a clock.
    inline: bool,
}

pub(crate) struct State {
    pub(crate) queue: VecDeque<Op>,
    pub(crate) queued_bytes: usize,
    /// Queued records that want a sync of their own.
    pub(crate) eager: usize,
    /// Records taken from the queue, or in it, that want a sync and have no answer.
    pub(crate) unanswered: usize,
    /// Something queued must not wait for company.
    pub(crate) urgent: bool,
    pub(crate) index: Index,
    pub(crate) files: BTreeMap<u32, Arc<dyn File>>,
    pub(crate) failed: Option<Arc<Failure>>,
    pub(crate) closing: bool,
    pub(crate) has_meta: bool,
    pub(crate) pacer: Pacer,
    idle: bool,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        index: Index,
        files: BTreeMap<u32, Arc<dyn File>>,
        has_meta: bool,
        inline: bool,
    ) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            eager: 0,
            unanswered: 0,
            urgent: false,
            index,
            files,
            failed: None,
            closing: false,
            has_meta,
            pacer: Pacer::new(options.pacing),
            idle: false,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            options,
            began: Instant::now(),
            inline,
        }
    }

    /// The state, unless the log has ended.
    pub(crate) fn open_state(&self) -> Result<MutexGuard<'_, State>, WalError> {
        let state = self.state.lock();
        state.check()?;
        Ok(state)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits until `bytes` more may be queued; inline, refuses instead.
    pub(crate) fn wait_for_room(&self, state: &mut MutexGuard<'_, State>, bytes: usize) -> Result<(), WalError> {
        let limit = self.options.queue_bytes;
        while state.queued_bytes > 0 && state.queued_bytes + bytes > limit {
            if self.inline {
                return Err(WalError::QueueFull { queued: state.queued_bytes, limit });
            }
            self.room.wait(state);
            state.check()?;
        }
        Ok(())
    }

    /// Queues `ops`, which arrived as one call, and wakes the writer if it should look.
    pub(crate) fn enqueue(&self, mut state: MutexGuard<'_, State>, ops: impl IntoIterator<Item = Op>, urgent: bool) {
        let (before, unanswered) = (state.eager, state.unanswered);
        for op in ops {
            state.queued_bytes += op.bytes();
            if !op.is_lazy() {
                state.eager += 1;
                state.unanswered += 1;
            }
            state.queue.push_back(op);
        }
        if state.eager == before {
            return;
        }
        if self.inline {
            if let Some(queued) = &self.options.on_queued {
                queued();
            }
            return;
        }
        state.urgent |= urgent;
        let now = self.began.elapsed();
        state.pacer.arrived(now, unanswered);
        // A writer that lingers wakes by itself; waking it for each write would cost what lingering saves.
        if state.idle && (before == 0 || state.urgent || state.queued_bytes >= self.options.pacing.enough) {
            drop(state);
            self.work.notify_one();
        }
    }

    /// Blocks the writer until a group should be written; `false` when the log is closed and the queue empty.
    pub(crate) fn wait_for_work(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() || (state.closing && state.queue.is_empty()) {
                return false;
            }
            if state.closing || (state.eager > 0 && state.urgent) {
                return true;
            }
            state.idle = true;
            if state.eager == 0 {
                self.work.wait(&mut state);
            } else {
                let wait = state.pacer.wait(self.began.elapsed(), state.queued_bytes);
                if wait.is_zero() {
                    state.idle = false;
                    return true;
                }
                self.work.wait_for(&mut state, wait);
            }
            state.idle = false;
        }
    }

    /// Takes what the next group holds: at most `Options::group_bytes`, but always one record.
    pub(crate) fn take(&self, batch: &mut Vec<Op>) -> Result<(), WalError> {
        let mut state = self.open_or_closing()?;
        let mut bytes = 0;
        while let Some(op) = state.queue.front() {
            bytes += op.bytes();
            if bytes > self.options.group_bytes && !batch.is_empty() {
                break;
            }
            let op = state.queue.pop_front().expect("it was just looked at");
            state.eager -= usize::from(!op.is_lazy());
            batch.push(op);
        }
        if !self.inline {
            let left = state.eager > 0;
            state.urgent &= left;
            state.pacer.began(self.began.elapsed(), left);
        }
        Ok(())
    }

    /// Ends the log: every queued callback and every later call hears of `failure`, unless an earlier one was first.
    /// `batch` are the records that were being written.
    pub(crate) fn fail(&self, failure: Failure, batch: &mut Vec<Op>) -> Arc<Failure> {
        let mut state = self.state.lock();
        let failure = state.failed.get_or_insert_with(|| {
            tracing::error!(error = %failure, "the log stopped: nothing is accepted any more");
            Arc::new(failure)
        });
        let failure = Arc::clone(failure);
        let queued = std::mem::take(&mut state.queue);
        state.eager = 0;
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        let error = WalError::Failed(Arc::clone(&failure));
        for op in batch.drain(..).chain(queued) {
            if let Some(done) = op.done {
                done(Err(error.to_io()));
            }
        }
        failure
    }

    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    pub(crate) fn notify_room(&self) {
        self.room.notify_all();
    }

    fn open_or_closing(&self) -> Result<MutexGuard<'_, State>, WalError> {
        let state = self.state.lock();
        match &state.failed {
            Some(failure) => Err(WalError::Failed(Arc::clone(failure))),
            None => Ok(state),
        }
    }
}

impl State {
    fn check(&self) -> Result<(), WalError> {
        match &self.failed {
            Some(failure) => Err(WalError::Failed(Arc::clone(failure))),
            None if self.closing => Err(WalError::Closed),
            None => Ok(()),
        }
    }
}
