//! What every part of a running member shares: the state, the records behind it, the watchers in front of it.

#[cfg(test)]
pub mod testing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use keepstone_proto::etcdserverpb::{AlarmMember, AlarmType, ResponseHeader};
use keepstone_state::{Effects, MemberId, Revision, State};
use keepstone_store::{RecordStore, Replaced};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tonic::Status;

use crate::clocks::LeaseClock;
use crate::cluster::changes::Turn;
use crate::cluster::repair::Hold;
use crate::compactor::Compactor;
use crate::data::Checkpoint;
use crate::forward::Awaiting;
use crate::metrics::Metrics;
use crate::peer::book::Book;
use crate::pins::Pins;
use crate::raft::codec::{self, Applied};
use crate::raft::snapshot::Outgoing;
use crate::values::Values;
use crate::watch::Hub;

/// Who this member is. Fixed for a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: MemberId,
}

/// The shared heart of a member. The state machine shell writes the state, and the compactor what is this member's own
/// in it; nobody else does.
pub struct Core {
    pub identity: Identity,
    pub state: RwLock<State>,
    pub records: Arc<RecordStore>,
    /// Reads of `records` that hold up no thread.
    pub values: Values,
    pub watch: Hub,
    pub pins: Pins,
    /// Told of every lease that comes or goes.
    pub leases: Arc<LeaseClock>,
    pub metrics: Arc<Metrics>,
    /// Carries out what a compaction leaves behind.
    pub compactor: Compactor,
    /// Whoever waits for a request that went into the log elsewhere.
    pub awaiting: Arc<Awaiting>,
    /// Where the other members are; follows the member table.
    pub book: Book,
    /// Bumped when the member table has changed.
    members: watch::Sender<u64>,
    /// Whether the table has this member as a learner.
    learner: AtomicBool,
    /// Whose turn it is to change the member table, if this member leads.
    pub changing: Turn,
    /// Whether this member takes no entries because it is being repaired.
    pub hold: Hold,
    /// Whether this member's data is known to differ from the others'.
    fenced: AtomicBool,
    /// Who is in Raft's membership, as far as it is applied.
    in_raft: RwLock<BTreeSet<u64>>,
    /// What members that lag are being sent.
    pub outgoing: Outgoing,
    durable: Mutex<Applied>,
    /// The mark of the last applied run. Changed under the state's write lock.
    mark: Mutex<Bytes>,
    applied_index: AtomicU64,
    /// Counts how often a snapshot has replaced the state. Changed under the state's write lock.
    epoch: AtomicU64,
    term: AtomicU64,
    failure: watch::Sender<Option<String>>,
    stopping: watch::Sender<bool>,
}

impl Core {
    pub fn new(
        identity: Identity,
        checkpoint: Checkpoint,
        watch: Hub,
        metrics: Arc<Metrics>,
        awaiting: Awaiting,
        book: Book,
    ) -> Self {
        let Checkpoint { records, state, applied: durable, .. } = checkpoint;
        book.update(state.members().iter());
        let learner = state.members().get(identity.member_id).is_some_and(|member| member.is_learner);
        let fenced = is_fenced(&state, identity.member_id);
        let in_raft = nodes(&durable);
        let index = durable.log_id.as_ref().map_or(0, |id| id.index());
        Self {
            identity,
            state: RwLock::new(state),
            values: Values::new(records.clone()),
            records,
            watch,
            pins: Pins::default(),
            leases: LeaseClock::new(metrics.clone()),
            metrics,
            compactor: Compactor::default(),
            awaiting: Arc::new(awaiting),
            book,
            members: watch::Sender::new(0),
            learner: AtomicBool::new(learner),
            changing: Turn::default(),
            hold: Hold::default(),
            fenced: AtomicBool::new(fenced),
            in_raft: RwLock::new(in_raft),
            outgoing: Outgoing::default(),
            mark: Mutex::new(codec::encode_applied(&durable)),
            durable: Mutex::new(durable),
            applied_index: AtomicU64::new(index),
            epoch: AtomicU64::new(0),
            term: AtomicU64::new(0),
            failure: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
        }
    }

    /// Hands a run's effects to the watchers and the record store. Call it under the state's write lock: nobody may
    /// see a revision whose records can't be read, or miss its events.
    pub fn publish(&self, state: &State, effects: Effects, applied: &Applied) {
        self.watch.publish(&effects.records, state.revision());
        self.leases.applied(&effects.leases);
        if effects.members {
            self.members_are(state);
        }
        if effects.alarms {
            self.fence(state);
        }
        let mark = codec::encode_applied(applied);
        self.records.append(effects.records, effects.tables, mark.clone());
        *self.mark.lock() = mark;
        if state.unfinished_compaction().is_some() {
            self.compactor.start();
        }
        self.applied_index.store(applied.log_id.as_ref().map_or(0, |id| id.index()), Ordering::Release);
    }

    fn members_are(&self, state: &State) {
        self.book.update(state.members().iter());
        let learner = state.members().get(self.identity.member_id).is_some_and(|member| member.is_learner);
        self.learner.store(learner, Ordering::Relaxed);
        self.fence(state);
        self.members.send_modify(|changes| *changes += 1);
    }

    /// Running watches end, and reads are refused, from here on or no longer.
    fn fence(&self, state: &State) {
        let fenced = is_fenced(state, self.identity.member_id);
        if fenced != self.fenced.swap(fenced, Ordering::Relaxed) {
            self.watch.look();
        }
    }

    /// Raft's membership has changed. Call it under the state's write lock.
    pub fn raft_members_are(&self, applied: &Applied) {
        *self.in_raft.write() = nodes(applied);
        self.members.send_modify(|changes| *changes += 1);
    }

    /// Whether Raft counts this member in, as voter or learner.
    pub fn in_raft(&self, id: MemberId) -> bool {
        self.in_raft.read().contains(&id.0)
    }

    /// Whether the cluster has this member as a learner.
    pub fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Relaxed)
    }

    /// Whether the cluster has others to read from, and found this member's data to differ from theirs.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Changes whenever the member table or Raft's membership does.
    pub fn members_changed(&self) -> watch::Receiver<u64> {
        self.members.subscribe()
    }

    /// Hands over changes that are this member's own and no log entry's. Call it under the state's write lock.
    pub fn publish_own(&self, effects: Effects) {
        self.records.append(effects.records, effects.tables, self.mark.lock().clone());
    }

    /// Puts a received state in the place of the one there was, in one step for everybody who reads: it is newer.
    /// Watchers go on from where they are out of the new history. Returns what is to be freed. Blocks until the store's
    /// background work pauses.
    pub fn replace(&self, state: State, records: RecordStore, applied: &Applied) -> (State, Replaced) {
        // Before the state's lock: the background takes both, in this order.
        let still = self.records.hold_still();
        let mut held = self.state.write();
        let old = std::mem::replace(&mut *held, state);
        let replaced = still.adopt(records);
        *self.mark.lock() = codec::encode_applied(applied);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.set_durable(applied.clone());
        self.applied_index.store(applied.log_id.as_ref().map_or(0, |id| id.index()), Ordering::Release);
        self.watch.restart(held.revision());
        // No pin holds back what another member has compacted.
        self.pins.revoke_lists_below(held.compact_revision());
        self.leases.replaced();
        self.members_are(&held);
        self.raft_members_are(applied);
        drop(held);
        self.compactor.start();
        (old, replaced)
    }

    /// How often the state was replaced. Whoever reads it in several steps compares what it is before and after.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What the last applied run was marked with. Under the state's lock it is what the state is of.
    pub fn applied(&self) -> Applied {
        // Our own encoding.
        codec::decode_applied(&self.mark.lock()).unwrap_or_default()
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
            raft_term: self.term(),
        }
    }

    /// The Raft term that headers show. Set by whoever watches Raft's metrics.
    pub fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// Ends the member: something it stands on has failed. The first reason counts. The status is for the caller whose
    /// request met the failure.
    pub fn fail(&self, why: &str) -> Status {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(why.to_owned());
            }
            first
        });
        Status::unavailable(keepstone_state::Error::Stopped.to_string())
    }

    /// Resolves with the reason once the member has failed.
    pub fn failures(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// The member is about to stop: calls that would never end by themselves do so now.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Turns true when the member is about to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Whether something that the member stands on has failed.
    pub fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Ends the member if the thread or task that holds it panics: nothing may go on as if it were still there.
    pub fn guard(self: &Arc<Self>, name: &'static str) -> Guard {
        Guard { core: self.clone(), name }
    }

    /// The log position of the last flushed checkpoint.
    pub fn durable(&self) -> Applied {
        self.durable.lock().clone()
    }

    /// Never goes back: a checkpoint may end after a snapshot was installed.
    pub fn set_durable(&self, applied: Applied) {
        let mut durable = self.durable.lock();
        if applied.log_id >= durable.log_id {
            *durable = applied;
        }
    }
}

fn is_fenced(state: &State, me: MemberId) -> bool {
    let alarm = AlarmMember { member_id: me.0, alarm: AlarmType::Corrupt as i32 };
    state.alarms().list(alarm.alarm).contains(&alarm) && state.members().iter().count() > 1
}

fn nodes(applied: &Applied) -> BTreeSet<u64> {
    applied.membership.membership().nodes().map(|(id, _)| *id).collect()
}

/// See [`Core::guard`].
pub struct Guard {
    core: Arc<Core>,
    name: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.fail(&format!("{} has panicked", self.name));
        }
    }
}
