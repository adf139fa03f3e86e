//! What every part of a running member shares: the state, the records behind it, the watchers in front of it.

use std::sync::atomic::{AtomicU64, Ordering};

use std::sync::Arc;

use keepstone_proto::etcdserverpb::ResponseHeader;
use keepstone_state::{Effects, MemberId, Revision, State};
use keepstone_store::RecordStore;
use parking_lot::{Mutex, RwLock};

use crate::pins::Pins;
use crate::raft::codec::{self, Applied};
use crate::watch::Hub;

/// Who this member is. Fixed for a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: MemberId,
}

/// The shared heart of a member. Only the state machine shell writes the state.
pub struct Core {
    pub identity: Identity,
    pub state: RwLock<State>,
    pub records: Arc<RecordStore>,
    pub watch: Hub,
    pub pins: Pins,
    durable: Mutex<Applied>,
    applied_index: AtomicU64,
    term: AtomicU64,
}

impl Core {
    /// `durable` is the position of the checkpoint that `state` was restored from.
    pub fn new(identity: Identity, state: State, records: Arc<RecordStore>, watch: Hub, durable: Applied) -> Self {
        let index = durable.log_id.as_ref().map_or(0, |id| id.index());
        Self {
            identity,
            state: RwLock::new(state),
            records,
            watch,
            pins: Pins::default(),
            durable: Mutex::new(durable),
            applied_index: AtomicU64::new(index),
            term: AtomicU64::new(0),
        }
    }

    /// Hands a run's effects to the watchers and the record store. Call it under the state's write lock: nobody may
    /// see a revision whose records can't be read, or miss its events.
    pub fn publish(&self, state: &State, effects: Effects, applied: &Applied) {
        self.watch.publish(&effects.records, state.revision());
        self.records.append(effects.records, effects.tables, codec::encode_applied(applied));
        self.applied_index.store(applied.log_id.as_ref().map_or(0, |id| id.index()), Ordering::Release);
    }

    /// The store's revision: what a client sees in headers.
    pub fn revision(&self) -> i64 {
        self.state.read().revision()
    }

    /// The last compaction's revision; history below it is gone for clients.
    pub fn compact_revision(&self) -> i64 {
        self.state.read().compact_revision()
    }

    /// Where the value of `key` at revision `at` is recorded, if the key was alive then.
    pub fn find(&self, key: &[u8], at: i64) -> Option<Revision> {
        self.state.read().find(key, at)
    }

    /// A response header with this member's IDs and the current term.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id.0,
            revision,
            raft_term: self.term.load(Ordering::Relaxed),
        }
    }

    /// The Raft term that headers show. Set by whoever watches Raft's metrics.
    pub fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// The log position of the last flushed checkpoint.
    pub fn durable(&self) -> Applied {
        self.durable.lock().clone()
    }

    pub fn set_durable(&self, applied: Applied) {
        *self.durable.lock() = applied;
    }
}
