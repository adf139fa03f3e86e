//! openraft's log on our WAL. The newest entries are also kept decoded, so that applying what was just proposed
//! decodes nothing.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use keepstone_failpoint::points;
use keepstone_wal::{LogPos, Wal, WalError};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::codec;
use super::missed::Missed;
use super::synced::{Synced, Syncing};
use super::types::{Entry, LogId, Payload, TypeConfig, Vote};

/// Bytes of requests in decoded entries that are kept for applying.
const DECODED_BYTES: usize = 16 << 20;
/// Bytes of entries handed out by one read from disk.
const READ_BYTES: usize = 8 << 20;

/// The log of one member. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    wal: Arc<Wal>,
    shared: Arc<Mutex<Shared>>,
    syncing: Syncing,
    missed: Missed,
}

#[derive(Default)]
struct Shared {
    vote: Option<Vote>,
    committed: Option<LogId>,
    decoded: VecDeque<(usize, Entry)>,
    decoded_bytes: usize,
}

fn failed(error: WalError) -> io::Error {
    io::Error::other(error)
}

fn position(pos: LogPos) -> LogId {
    codec::log_id(pos.term, pos.index)
}

impl LogStore {
    /// Takes over an opened WAL.
    ///
    /// # Errors
    /// When the vote or the committed position in it are not ours.
    pub fn new(wal: Arc<Wal>) -> io::Result<Self> {
        let recovered = wal.recovered();
        let vote = recovered.vote.as_deref().map(codec::decode_vote).transpose()?;
        let committed = recovered.committed.as_deref().map(codec::decode_log_id).transpose()?;
        let shared = Shared { vote, committed, ..Shared::default() };
        let syncing = Syncing::new(wal.last().map_or(0, |last| last.index + 1));
        Ok(Self { wal, shared: Arc::new(Mutex::new(shared)), syncing, missed: Missed::default() })
    }

    /// What replication has asked for and was purged.
    pub fn missed(&self) -> Missed {
        self.missed.clone()
    }

    /// How much of the log is on disk.
    pub fn synced(&self) -> Synced {
        self.syncing.synced()
    }

    /// Runs a WAL call that reports through a callback and waits for that.
    async fn wait(&self, call: impl FnOnce(&Wal, keepstone_wal::Done) -> Result<(), WalError>) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        call(&self.wal, Box::new(move |result| drop(tx.send(result)))).map_err(failed)?;
        rx.await.unwrap_or_else(|_| Err(failed(WalError::Closed)))
    }
}

impl Shared {
    fn keep(&mut self, entry: Entry) {
        let bytes = match &entry.payload {
            Payload::Normal(p) => {
                p.requests.iter().map(|r| r.encoded.len() + size_of_val(r) + size_of_val(&*r.decoded)).sum()
            }
            Payload::Blank | Payload::Membership(_) => 64,
        };
        self.decoded_bytes += bytes;
        self.decoded.push_back((bytes, entry));
        while self.decoded_bytes > DECODED_BYTES
            && let Some((bytes, _)) = self.decoded.pop_front()
        {
            self.decoded_bytes -= bytes;
        }
    }

    /// Drops the decoded entries from `index` on.
    fn forget_from(&mut self, index: u64) {
        while self.decoded.back().is_some_and(|(_, entry)| entry.index() >= index)
            && let Some((bytes, _)) = self.decoded.pop_back()
        {
            self.decoded_bytes -= bytes;
        }
    }

    /// The decoded entries of `range`, if all are here.
    fn find(&self, range: std::ops::Range<u64>) -> Option<Vec<Entry>> {
        let first = self.decoded.front()?.1.index();
        let from = usize::try_from(range.start.checked_sub(first)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(first)?).ok()?;
        if to > self.decoded.len() || from > to {
            return None;
        }
        Some(self.decoded.range(from..to).map(|(_, entry)| entry.clone()).collect())
    }
}

fn bounds(range: &impl RangeBounds<u64>, end: u64) -> std::ops::Range<u64> {
    let from = match range.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(n) => n + 1,
        Bound::Excluded(n) => *n,
        Bound::Unbounded => u64::MAX,
    };
    from..to.min(end).max(from)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let end = self.wal.last().map_or(0, |last| last.index + 1);
        // What has been purged is missing at the head, as openraft allows.
        let mut range = bounds(&range, end);
        range.start = range.start.max(self.wal.first_index().unwrap_or(end)).min(range.end);
        if let Some(entries) = self.shared.lock().find(range.clone()) {
            return Ok(entries);
        }
        let mut entries = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let read = self.wal.read(next..range.end, READ_BYTES).map_err(failed)?;
            if read.is_empty() {
                break;
            }
            for entry in read {
                next = entry.index + 1;
                entries.push(codec::decode_entry(codec::log_id(entry.term, entry.index), &entry.data)?);
            }
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        if let Some(entries) = self.shared.lock().find(start..end) {
            return Ok(entries);
        }
        let read = match self.wal.read(start..end, READ_BYTES) {
            Err(_) if self.wal.purged().is_some_and(|purged| start <= purged.index) => {
                tracing::warn!(start, "entries to replicate were purged: a snapshot is due");
                self.missed.at(start);
                return Ok(Vec::new());
            }
            read => read.map_err(failed)?,
        };
        let decode =
            |entry: keepstone_wal::Entry| codec::decode_entry(codec::log_id(entry.term, entry.index), &entry.data);
        read.into_iter().map(decode).collect()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(LogState { last_purged_log_id: self.wal.purged().map(position), last_log_id: self.wal.last().map(position) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = codec::encode_vote(vote);
        points::RAFT_BEFORE_SAVE_VOTE.hit();
        self.wait(|wal, done| wal.save_vote(bytes, done)).await?;
        points::RAFT_AFTER_SAVE_VOTE.hit();
        self.shared.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(id) = &committed {
            let bytes = bytes::Bytes::copy_from_slice(&codec::encode_log_id(id));
            self.wal.save_committed(bytes).map_err(failed)?;
        }
        self.shared.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut shared = self.shared.lock();
        for entry in entries {
            let id = entry.log_id();
            let data = codec::encode_payload(&entry.payload);
            records.push(keepstone_wal::Entry { index: id.index(), term: codec::term_of(&id), data });
            shared.keep(entry);
        }
        drop(shared);
        let pending = self.syncing.appending(records.last().map_or(0, |last| last.index + 1));
        let done = move |result: io::Result<()>| {
            pending.ended(result.is_ok());
            callback.io_completed(result);
        };
        self.wal.append(records, Box::new(done)).map_err(failed)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let keep = last.map(|id| id.index());
        let next = keep.map_or(0, |index| index + 1);
        self.shared.lock().forget_from(next);
        let cut = self.syncing.cutting(next);
        points::RAFT_BEFORE_TRUNCATE.hit();
        let result = self.wait(|wal, done| wal.truncate_after(keep, done)).await;
        points::RAFT_AFTER_TRUNCATE.hit();
        cut.ended(result.is_ok());
        result
    }

    async fn purge(&mut self, up_to: LogId) -> Result<(), io::Error> {
        let pos = LogPos { term: codec::term_of(&up_to), index: up_to.index() };
        {
            let mut shared = self.shared.lock();
            while shared.decoded.front().is_some_and(|(_, entry)| entry.index() <= pos.index)
                && let Some((bytes, _)) = shared.decoded.pop_front()
            {
                shared.decoded_bytes -= bytes;
            }
        }
        points::RAFT_BEFORE_PURGE.hit();
        self.wait(|wal, done| wal.purge(pos, done)).await?;
        points::RAFT_AFTER_PURGE.hit();
        tracing::info!("compact-index" = pos.index, "compacted Raft logs");
        Ok(())
    }
}
