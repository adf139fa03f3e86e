//! etcd's HashKV: a CRC-32C over the records up to a revision, the same on every member whatever its compaction has
//! got to.
//!
//! Takes records in order; reads nothing itself.

use crate::{
    error::Error,
    types::{Record, Revision},
};

/// What a HashKV covers.
///
/// Above the floor every record counts. Up to the floor a record counts only if a compaction at `keep_at` would keep
/// it alive: ask `State::keeps`. While the hash is taken the index must not go on with a compaction above the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashPlan {
    /// The last revision covered.
    pub revision: i64,
    /// The compact revision; -1 if there is none.
    pub floor: i64,
    pub keep_at: i64,
}

impl HashPlan {
    /// `revision` 0 is the current one. `alive` says whether any key is alive at the revision: if none is, etcd
    /// hashes all that its last compaction left, and otherwise nothing up to the floor that is not current at the
    /// revision itself.
    pub(crate) fn new(revision: i64, current: i64, floor: i64, alive: impl FnOnce(i64) -> bool) -> Result<Self, Error> {
        if revision > 0 && revision < floor {
            return Err(Error::Compacted);
        }
        if revision > current {
            return Err(Error::FutureRevision);
        }
        let revision = if revision == 0 { current } else { revision };
        let keep_at = if alive(revision) { revision } else { floor };
        Ok(Self { revision, floor, keep_at })
    }
}

/// A HashKV under way.
#[derive(Clone, Debug)]
pub struct HashKv {
    plan: HashPlan,
    crc: u32,
}

impl HashKv {
    pub fn new(plan: HashPlan) -> Self {
        // etcd's bucket of records is called "key", and its hash starts with that.
        Self { plan, crc: crc32c::crc32c(b"key") }
    }

    /// Adds the next record, in revision order. `keeps` is asked for a put up to the floor: whether it is kept by a
    /// compaction at `keep_at`.
    pub fn record(&mut self, record: &Record, keeps: impl FnOnce(&Record) -> bool) {
        let at = record.at;
        if at.main > self.plan.revision {
            return;
        }
        if at.main <= self.plan.floor && (record.tombstone || !keeps(record)) {
            return;
        }
        let (key, len) = stored_key(at, record.tombstone);
        self.crc = crc32c::crc32c_append(self.crc, &key[..len]);
        self.crc = crc32c::crc32c_append(self.crc, record.kv.raw());
    }

    pub fn finish(&self) -> u32 {
        self.crc
    }
}

/// The key of a record in etcd's store: both numbers big-endian with `_` between, and a `t` behind a tombstone's.
/// Returns the buffer, and how much of it is the key.
pub fn stored_key(at: Revision, tombstone: bool) -> ([u8; 18], usize) {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&at.main.to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&at.sub.to_be_bytes());
    key[17] = b't';
    (key, if tombstone { 18 } else { 17 })
}
