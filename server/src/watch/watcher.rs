//! What a watcher and a stream of watchers consist of.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::matcher::Keys;

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

/// A change some watcher has to be sent: where it is in the ring, its revision and about how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    pub seq: u64,
    pub revision: i64,
    pub change: u32,
    pub bytes: u32,
}

/// Whose response is to be made, and how.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub watch: i64,
    pub prev_kv: bool,
    pub fragment: bool,
    /// Others of its stream that have one to be made.
    pub others: usize,
}

/// A watcher that has to be fed from the store, from `next` on.
#[derive(Clone, Debug)]
pub struct Lagging {
    pub watch: i64,
    pub next: i64,
    pub spec: Arc<Spec>,
}

/// Watchers and streams, in step and lagging: for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub watchers: usize,
    pub streams: usize,
    pub lagging: usize,
    pub owed: usize,
}

/// What a progress answer may say.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    At(i64),
    Later,
    Never,
}

/// Where a watcher, or a stream, is kept.
pub(super) type Slot = usize;

#[derive(Debug)]
pub(super) struct Watcher {
    pub stream: Slot,
    pub id: i64,
    pub spec: Arc<Spec>,
    /// The first revision that this watcher has not been given (in step: not been matched against).
    pub next: i64,
    pub owed: VecDeque<Owed>,
    pub lags: bool,
    /// Owes all it may; it lags from the end of this run on.
    pub overfull: bool,
    /// Sent something since the last progress notification.
    pub active: bool,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub watchers: HashMap<i64, Slot>,
    /// In step and owing something.
    pub ready: VecDeque<Slot>,
    pub lagging: BTreeSet<i64>,
    pub owed: usize,
    /// Who polls this stream, once it has found nothing to send.
    pub waker: Option<Waker>,
    pub asleep: bool,
    /// To be woken when the log has been read up to here.
    pub waits_for: Option<i64>,
}

impl Stream {
    pub fn sleep(&mut self, waker: &Waker) {
        self.asleep = true;
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    pub fn wake(&mut self) {
        if std::mem::take(&mut self.asleep)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}
