//! Names and units that the whole server shares: revisions, IDs, records.
//!
//! Nothing here does IO or knows a clock.

use keepstone_proto::KeyValue;

/// Where a record stands in history: `main` is the store revision a client sees, `sub` the zero-based
/// index of the change inside that revision's transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

impl Revision {
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }
}

/// A lease's ID as clients see it. 0 is "no lease".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A member's ID; also its Raft node ID. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// One change of one key at one revision, as it is stored: etcd's canonical `mvccpb.KeyValue` bytes for a
/// put; for a delete (`tombstone`) a `KeyValue` that holds the key alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub at: Revision,
    pub tombstone: bool,
    /// The record that this one replaced, if the key was alive before: a watcher's `prev_kv`, when it is of an earlier
    /// revision.
    /// Known when the record is applied; `None` when it is read back from the store.
    pub prev: Option<Revision>,
    pub kv: KeyValue,
}

/// Why a record could not be read. Any of these stops the member: it never becomes an answer.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("record {0:?} is not in the store")]
    Missing(Revision),
    #[error("reading record {at:?}: {why}")]
    Failed { at: Revision, why: String },
}

/// Where values live that are not in the state's memory. Implemented by the record store.
pub trait Records {
    /// The canonical bytes of the put recorded at `at`.
    ///
    /// # Errors
    /// [`RecordError`] when the record is not there or can't be read.
    fn get(&self, at: Revision) -> Result<KeyValue, RecordError>;
}

/// One write to the small tables (leases, members, alarms, …): what a checkpoint stores beside the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableWrite {
    pub key: Vec<u8>,
    /// `None` removes the row.
    pub value: Option<Vec<u8>>,
}

/// What applying a run of entries changed. The caller hands it to the record store and the watch hub
/// before anybody can see the new state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// In revision order.
    pub records: Vec<Record>,
    /// In the order of their writing; a later row of the same key wins.
    pub tables: Vec<TableWrite>,
    /// For the leader's clock, which would have to look through all leases otherwise.
    pub leases: Vec<LeaseChange>,
    /// Whether the member table, or anything else that is kept with it, changed.
    pub members: bool,
    /// Whether an alarm was raised or lowered.
    pub alarms: bool,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Granted for so many seconds.
    Granted(LeaseId, i64),
    /// Noted by the leader: so many seconds are left; 0 if it was renewed in full.
    Checkpointed(LeaseId, i64),
    /// Revoked or expired.
    Gone(LeaseId),
}
