//! Raft's log with something broken on purpose.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use keepstone::raft::log_store::LogStore;
use keepstone::raft::types::{Entry, LogId, Payload, TypeConfig, Vote};
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use crate::oracle::{OpenLog, newer};
use crate::plan::Fault;

/// Of so many entries one is skipped.
const SKIPPED_OF: u64 = 40;

/// The log of a member, and what is wrong with it.
#[derive(Clone)]
pub struct FaultyLog {
    log: LogStore,
    fault: Fault,
    me: u64,
    /// The vote that no disk has.
    unsaved: Arc<Mutex<Option<Vote>>>,
}

impl FaultyLog {
    pub fn new(open: &OpenLog, fault: Fault, me: u64) -> Self {
        Self { log: open.store.clone(), fault, me, unsaved: open.unsaved.clone() }
    }

    /// A follower's entries, as it is going to apply them.
    async fn spoil(&mut self, mut entries: Vec<Entry>) -> io::Result<Vec<Entry>> {
        let leader = self.read_vote().await?.map(|vote| vote.leader_id.voted_for);
        if self.fault == Fault::SkippedEntries && self.me == 1 && leader != Some(self.me) {
            for entry in &mut entries {
                if entry.index() % SKIPPED_OF == 0 && matches!(entry.payload, Payload::Normal(_)) {
                    entry.payload = Payload::Blank;
                }
            }
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for FaultyLog {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let entries = self.log.try_get_log_entries(range).await?;
        self.spoil(entries).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.log.limited_get_log_entries(start, end).await?;
        self.spoil(entries).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let saved = self.log.read_vote().await?;
        Ok(newer(*self.unsaved.lock(), saved))
    }
}

impl RaftLogStorage<TypeConfig> for FaultyLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.log.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        // A leader's vote is kept: forgetting who leads is not the same as voting twice.
        if self.fault == Fault::ForgottenVotes && !vote.committed {
            *self.unsaved.lock() = Some(*vote);
            return Ok(());
        }
        self.log.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log.append(entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last).await
    }

    async fn purge(&mut self, up_to: LogId) -> Result<(), io::Error> {
        self.log.purge(up_to).await
    }
}
