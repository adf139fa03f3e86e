//! What no client sees and must hold all the same: what a log said was on disk is there after a crash, nothing is applied
//! that is not on the member's own disk, a term has one leader, an index one entry. So a fault is named where it happens, and not only by what comes of it much later.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use keepstone::raft::codec;
use keepstone::raft::log_store::LogStore;
use keepstone::raft::synced::Synced;
use keepstone::raft::types::{LogId, Vote};
use keepstone_wal::Wal;
use openraft::RaftLogReader as _;
use parking_lot::Mutex;

/// A log that a member has opened.
#[derive(Clone)]
pub struct OpenLog {
    pub wal: Arc<Wal>,
    pub store: LogStore,
    pub synced: Synced,
    /// A vote that was said to be on disk, and is not: planted.
    pub unsaved: Arc<Mutex<Option<Vote>>>,
}

/// What a log has said is on its disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise {
    /// The first entry that it said nothing of.
    next: u64,
    vote: Option<Vote>,
}

impl OpenLog {
    pub fn new(wal: Arc<Wal>, store: LogStore) -> Self {
        let synced = store.synced();
        Self { wal, store, synced, unsaved: Arc::default() }
    }

    pub fn promise(&self) -> Promise {
        let saved = self.store.clone().read_vote().now_or_never().and_then(Result::ok).flatten();
        Promise { next: self.synced.next(), vote: newer(*self.unsaved.lock(), saved) }
    }
}

/// The newer of two votes of a member.
pub fn newer(a: Option<Vote>, b: Option<Vote>) -> Option<Vote> {
    if a > b { a } else { b }
}

#[derive(Default)]
struct Inner {
    promises: BTreeMap<u64, Promise>,
    leaders: BTreeMap<u64, u64>,
    /// The term of an applied entry, and who applied it first.
    applied: BTreeMap<u64, (u64, u64)>,
}

/// What was seen of all members so far.
#[derive(Default)]
pub struct Oracle(Mutex<Inner>);

impl Oracle {
    /// A member's machine has ended.
    pub fn ended(&self, id: u64, promise: Promise) {
        self.0.lock().promises.insert(id, promise);
    }

    /// A member has opened its log again.
    ///
    /// # Errors
    /// What it has forgotten.
    pub fn opened(&self, id: u64, found: &Promise) -> Result<(), String> {
        let Some(promised) = self.0.lock().promises.get(&id).copied() else { return Ok(()) };
        if found.next < promised.next {
            let (from, to) = (found.next, promised.next - 1);
            return Err(format!("m{id} has FORGOTTEN the entries {from} to {to}, which were on its disk"));
        }
        if found.vote.partial_cmp(&promised.vote).is_none_or(Ordering::is_lt) {
            let vote = |vote: Option<Vote>| vote.map_or_else(|| "none".to_owned(), |vote| vote.to_string());
            let (now, then) = (vote(found.vote), vote(promised.vote));
            return Err(format!("m{id} has FORGOTTEN its vote {then}, which was on its disk; now it has {now}"));
        }
        Ok(())
    }

    /// A member leads, as it believes.
    ///
    /// # Errors
    /// Another one leads in that term.
    pub fn leads(&self, id: u64, term: u64) -> Result<(), String> {
        match *self.0.lock().leaders.entry(term).or_insert(id) {
            first if first == id => Ok(()),
            first => Err(format!("TWO LEADERS in term {term}: m{first} and m{id}")),
        }
    }

    /// A member, whose log is `log`, has applied everything up to an entry.
    ///
    /// # Errors
    /// Its own log may still lose the entry, or somebody else applied another one there.
    pub fn applied(&self, id: u64, last: &LogId, log: &OpenLog) -> Result<(), String> {
        let (index, term) = (last.index(), codec::term_of(last));
        if index >= log.synced.next() && log.wal.purged().is_none_or(|purged| purged.index < index) {
            return Err(format!("m{id} has applied entry {index} AHEAD OF ITS LOG"));
        }
        match *self.0.lock().applied.entry(index).or_insert((term, id)) {
            (first, _) if first == term => Ok(()),
            (first, by) => Err(format!(
                "TWO ENTRIES {index} were applied: one of term {first} by m{by}, one of term {term} by m{id}"
            )),
        }
    }
}
