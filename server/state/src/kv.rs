//! Puts and deletes: what one request writes, at one new revision.

use std::sync::Arc;

use keepstone_proto::{
    KeyValue, KeyValueParts,
    etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse},
};

use crate::{
    error::Error,
    index::Index,
    keys::Keys,
    lease::Leases,
    range::header,
    types::{Effects, LeaseId, Record, Records, Revision},
    view::{Fault, View},
};

/// How many changes one request may make. A revision arrives at a watcher in one piece.
pub const MAX_CHANGES: usize = 1 << 24;

/// The revisions of the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kv {
    pub index: Index,
    /// The newest revision; 1 in an empty store.
    pub revision: i64,
    /// The revision of the last Compact; -1 before the first.
    pub floor: i64,
    /// The revision whose compaction this member has finished; -1 before the first.
    pub done: i64,
}

impl Default for Kv {
    fn default() -> Self {
        Self { index: Index::default(), revision: 1, floor: -1, done: -1 }
    }
}

impl Kv {
    /// A view at the store's revision.
    pub fn view<'a>(&'a self, run: &'a [Record], records: &'a dyn Records) -> View<'a> {
        View { index: &self.index, current: self.revision, floor: self.floor, run, records }
    }

    /// Raises the floor to `revision`.
    ///
    /// # Errors
    /// [`Error::Compacted`] if it is there already, [`Error::FutureRevision`].
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.floor {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.floor = revision;
        self.index.start_compaction(revision);
        Ok(())
    }
}

/// One request's writes. They are at one revision, which the store takes on with [`Writer::finish`].
pub(crate) struct Writer<'a> {
    kv: &'a mut Kv,
    leases: &'a mut Leases,
    effects: &'a mut Effects,
    records: &'a dyn Records,
    /// How many changes have been made: the next sub-revision.
    changes: i64,
}

impl<'a> Writer<'a> {
    pub fn new(kv: &'a mut Kv, leases: &'a mut Leases, effects: &'a mut Effects, records: &'a dyn Records) -> Self {
        Self { kv, leases, effects, records, changes: 0 }
    }

    /// What a read sees now, with the writes so far.
    pub fn view(&self) -> View<'_> {
        View { current: self.seen(), ..self.kv.view(&self.effects.records, self.records) }
    }

    pub fn leases(&self) -> &Leases {
        self.leases
    }

    /// The revision a read sees.
    pub fn seen(&self) -> i64 {
        self.kv.revision + i64::from(self.changes > 0)
    }

    fn next(&self) -> Revision {
        Revision::new(self.kv.revision + 1, self.changes)
    }

    /// Makes the revision the store's, if anything was written. Returns the store's revision.
    pub fn finish(self) -> i64 {
        let revision = self.seen();
        if revision != self.kv.revision {
            self.kv.revision = revision;
            self.effects.write_revision(revision);
        }
        revision
    }

    /// Writes one key. The caller has checked the lease.
    ///
    /// # Errors
    /// [`Error::KeyNotFound`] if an `ignore_` flag has nothing to refer to; nothing is changed then.
    pub fn put(&mut self, put: &PutRequest) -> Result<PutResponse, Fault> {
        let mut present = None;
        if put.ignore_value || put.ignore_lease || put.prev_kv {
            let head = self.kv.index.get(&put.key);
            if head.is_none() && (put.ignore_value || put.ignore_lease) {
                return Err(Error::KeyNotFound.into());
            }
            if let Some(head) = head {
                present = Some(self.view().get(head.modified())?);
            }
        }
        let mut value: &[u8] = &put.value;
        let mut lease = put.lease;
        if let Some(present) = &present {
            let parts = present.parts();
            if put.ignore_value {
                value = parts.value;
            }
            if put.ignore_lease {
                lease = parts.lease;
            }
        }
        self.write(&put.key, value, lease);
        let prev_kv = if put.prev_kv { present } else { None };
        Ok(PutResponse { header: header(self.seen()), prev_kv })
    }

    fn write(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let at = self.next();
        let (head, old) = self.kv.index.put(key, at, lease != 0);
        let kv = KeyValue::new(&KeyValueParts {
            key,
            create_revision: head.create(),
            mod_revision: at.main,
            version: head.version(),
            value,
            lease,
        });
        if lease != 0 {
            self.leases.attach(key, LeaseId(lease));
        } else if old.is_some_and(|old| old.leased()) {
            self.leases.detach(key);
        }
        let prev = old.map(|old| old.modified());
        self.effects.records.push(Record { at, tombstone: false, prev, kv });
        self.changes += 1;
    }

    /// Deletes a range.
    ///
    /// # Errors
    /// [`Error::RequestTooLarge`] past [`MAX_CHANGES`]; nothing is changed then.
    pub fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Fault> {
        let keys = Keys::new(&delete.key, &delete.range_end);
        let count = self.kv.index.count_live(keys);
        if count > MAX_CHANGES {
            return Err(Error::RequestTooLarge.into());
        }
        let mut doomed: Vec<Box<[u8]>> = Vec::with_capacity(count);
        let mut prev_kvs = Vec::new();
        let view = self.view();
        for (key, head) in view.index.live(keys) {
            doomed.push(key.into());
            if delete.prev_kv {
                prev_kvs.push(view.get(head.modified())?);
            }
        }
        for key in &doomed {
            self.delete(key);
        }
        let deleted = i64::try_from(count).expect("the count is bounded");
        Ok(DeleteRangeResponse { header: header(self.seen()), deleted, prev_kvs })
    }

    /// Deletes the keys that hung on a lease which is gone.
    pub fn delete_detached(&mut self, keys: &[Arc<[u8]>]) {
        for key in keys {
            self.delete(key);
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let at = self.next();
        let Some(old) = self.kv.index.delete(key, at) else {
            return;
        };
        if old.leased() {
            self.leases.detach(key);
        }
        let kv = KeyValue::tombstone(key);
        self.effects.records.push(Record { at, tombstone: true, prev: Some(old.modified()), kv });
        self.changes += 1;
    }
}
