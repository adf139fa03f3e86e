//! A store in memory, and short ways to write requests down.

use std::collections::BTreeMap;

use keepstone_proto::{KeyValue, etcdserverpb::*};
use keepstone_state::{Effects, Error, Record, RecordError, Records, Reply, Restore, Revision, State};

/// What a record store holds: records and rows.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub records: BTreeMap<Revision, Record>,
    pub tables: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records for Store {
    fn get(&self, at: Revision) -> Result<KeyValue, RecordError> {
        let record = self.records.get(&at).ok_or(RecordError::Missing(at))?;
        assert!(!record.tombstone, "a tombstone has no value");
        Ok(record.kv.clone())
    }
}

impl Store {
    pub fn take(&mut self, effects: Effects) {
        for record in effects.records {
            // What is read back from a store does not know what it replaced.
            let at = record.at;
            assert!(self.records.last_key_value().is_none_or(|(last, _)| *last < at));
            self.records.insert(at, Record { prev: None, ..record });
        }
        for row in effects.tables {
            match row.value {
                Some(value) => drop(self.tables.insert(row.key, value)),
                None => drop(self.tables.remove(&row.key)),
            }
        }
    }

    pub fn drop_dead(&mut self, dead: &[Revision]) {
        for at in dead {
            assert!(self.records.remove(at).is_some(), "{at:?} was dead before");
        }
    }

    pub fn restore(&self) -> State {
        let mut restore = Restore::new(&self.tables).expect("rows are sound");
        for record in self.records.values() {
            restore.record(record).expect("records are sound");
        }
        restore.finish().expect("a sound store")
    }
}

/// A state with its store, one request a run.
#[derive(Default)]
pub struct Member {
    pub state: State,
    pub store: Store,
}

impl Member {
    pub fn apply(&mut self, request: &InternalRaftRequest) -> Result<Reply, Error> {
        let mut effects = Effects::default();
        let reply = self.state.apply(1, 1, request, &self.store, &mut effects);
        self.store.take(effects);
        reply.expect("the store never fails")
    }

    pub fn put(&mut self, key: &str, value: &str) -> PutResponse {
        match self.apply(&put(key, value, 0)).expect("applied") {
            Reply::Put(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn delete(&mut self, key: &str, end: &str) -> DeleteRangeResponse {
        let delete = DeleteRangeRequest { prev_kv: true, ..delete_op(key, end) };
        match self.apply(&InternalRaftRequest { delete_range: Some(delete), ..request() }) {
            Ok(Reply::DeleteRange(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn range(&mut self, range: RangeRequest) -> Result<RangeResponse, Error> {
        let before = self.state.clone();
        let reply = self.apply(&InternalRaftRequest { range: Some(range), ..request() })?;
        assert!(self.state == before, "a read changes nothing");
        match reply {
            Reply::Range(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub fn txn(&mut self, txn: TxnRequest) -> Result<TxnResponse, Error> {
        match self.apply(&InternalRaftRequest { txn: Some(txn), ..request() })? {
            Reply::Txn(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<Reply, Error> {
        let lease_grant = Some(LeaseGrantRequest { id, ttl });
        self.apply(&InternalRaftRequest { lease_grant, ..request() })
    }

    pub fn revoke(&mut self, id: i64) -> Result<Reply, Error> {
        let lease_revoke = Some(LeaseRevokeRequest { id });
        self.apply(&InternalRaftRequest { lease_revoke, ..request() })
    }

    pub fn compact(&mut self, revision: i64) -> Result<Reply, Error> {
        let compaction = Some(CompactionRequest { revision, physical: false });
        self.apply(&InternalRaftRequest { compaction, ..request() })
    }

    /// Lets a compaction run to its end, a key at a time, and drops what is dead.
    pub fn sweep(&mut self) {
        let mut dead = Vec::new();
        while !self.state.compact_some(1, &mut dead) {}
        self.store.drop_dead(&dead);
        if let Some(revision) = self.state.unfinished_compaction() {
            let mut effects = Effects::default();
            self.state.finish_compaction(revision, &mut effects);
            self.store.take(effects);
        }
    }

    pub fn stored(&self) -> Vec<(i64, i64)> {
        self.store.records.keys().map(|at| (at.main, at.sub)).collect()
    }
}

pub fn request() -> InternalRaftRequest {
    InternalRaftRequest::default()
}

pub fn put_op(key: &str, value: &str, lease: i64) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, lease, ..PutRequest::default() }
}

pub fn put(key: &str, value: &str, lease: i64) -> InternalRaftRequest {
    InternalRaftRequest { put: Some(put_op(key, value, lease)), ..request() }
}

pub fn delete_op(key: &str, end: &str) -> DeleteRangeRequest {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    DeleteRangeRequest { key, range_end, prev_kv: false }
}

pub fn range_op(key: &str, end: &str) -> RangeRequest {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

pub fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

pub fn puts(key: &str, value: &str) -> RequestOp {
    op(request_op::Request::RequestPut(put_op(key, value, 0)))
}

pub fn deletes(key: &str, end: &str) -> RequestOp {
    op(request_op::Request::RequestDeleteRange(delete_op(key, end)))
}

pub fn ranges(range: RangeRequest) -> RequestOp {
    op(request_op::Request::RequestRange(range))
}

pub fn nests(txn: TxnRequest) -> RequestOp {
    op(request_op::Request::RequestTxn(txn))
}

pub fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

pub fn names(response: &RangeResponse) -> Vec<String> {
    let name = |kv: &KeyValue| String::from_utf8(kv.key().to_vec()).expect("a text key");
    response.kvs.iter().map(name).collect()
}
