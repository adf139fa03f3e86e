//! The state as a naive person would write it down: every change is kept, and there is no index.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_proto::{
    KeyValue, KeyValueParts,
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, DeleteRangeResponse, InternalRaftRequest, LeaseGrantRequest,
        LeaseRevokeRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, ResponseOp,
        TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request, response_op::Response,
    },
};
use keepstone_state::{Error, Reply, Revision};

use crate::support::*;

/// A change, as a naive person would write it down.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Revision,
    pub key: Vec<u8>,
    /// `None` is a delete.
    pub put: Option<KeyValue>,
}

#[derive(Clone)]
pub struct Model {
    pub changes: Vec<Change>,
    pub revision: i64,
    pub floor: i64,
    pub leases: BTreeSet<i64>,
}

pub fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

pub fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

impl Model {
    pub fn new() -> Self {
        Self { changes: Vec::new(), revision: 1, floor: -1, leases: BTreeSet::new() }
    }

    pub fn all(&self, at: i64) -> BTreeMap<Vec<u8>, KeyValue> {
        let mut keys = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.at.main <= at) {
            match &change.put {
                Some(kv) => drop(keys.insert(change.key.clone(), kv.clone())),
                None => drop(keys.remove(&change.key)),
            }
        }
        keys
    }

    pub fn range(&self, start: &[u8], end: &[u8], at: i64) -> Vec<KeyValue> {
        let keys = self.all(at).into_iter();
        keys.filter(|(key, _)| inside(key, start, end)).map(|(_, kv)| kv).collect()
    }

    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.range(key, b"", i64::MAX).pop()
    }

    /// Inside a txn `base` is the revision before it.
    pub fn seen(&self, base: i64) -> i64 {
        self.changes.last().map_or(base, |last| last.at.main.max(base))
    }

    pub fn write(&mut self, base: i64, key: &[u8], value: Option<(&[u8], i64)>) {
        let main = base + 1;
        let sub = self.changes.iter().filter(|change| change.at.main == main).count();
        let put = value.map(|(value, lease)| {
            let old = self.get(key);
            KeyValue::new(&KeyValueParts {
                key,
                create_revision: old.as_ref().map_or(main, KeyValue::create_revision),
                mod_revision: main,
                version: old.map_or(0, |old| old.version()) + 1,
                value,
                lease,
            })
        });
        let at = Revision::new(main, i64::try_from(sub).expect("few changes"));
        self.changes.push(Change { at, key: key.to_vec(), put });
    }

    pub fn do_range(&self, base: i64, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let current = self.seen(base);
        if request.revision > current {
            return Err(Error::FutureRevision);
        }
        let at = if request.revision <= 0 { current } else { request.revision };
        if at < self.floor {
            return Err(Error::Compacted);
        }
        let mut kvs = self.range(&request.key, &request.range_end, at);
        let count = i64::try_from(kvs.len()).expect("few keys");
        if request.count_only {
            kvs.clear();
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let limit = usize::try_from(request.limit).expect("a limit");
        if limit > 0 && request.sort_order == 0 && filters == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (filters[0] == 0 || kv.mod_revision() >= filters[0])
                && (filters[1] == 0 || kv.mod_revision() <= filters[1])
                && (filters[2] == 0 || kv.create_revision() >= filters[2])
                && (filters[3] == 0 || kv.create_revision() <= filters[3])
        });
        let number = |kv: &KeyValue| match request.sort_target {
            1 => kv.version(),
            2 => kv.create_revision(),
            3 => kv.mod_revision(),
            _ => 0,
        };
        if request.sort_target != 0 || request.sort_order == 2 {
            kvs.sort_by(|a, b| {
                let by_target = match request.sort_target {
                    0 => a.key().cmp(b.key()),
                    4 => a.value().cmp(b.value()),
                    _ => number(a).cmp(&number(b)),
                };
                if request.sort_order == 2 { by_target.reverse() } else { by_target }
            });
        }
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            kvs = kvs.iter().map(KeyValue::without_value).collect();
        }
        Ok(RangeResponse { header: header(current), kvs, more, count })
    }

    pub fn do_put(&mut self, base: i64, request: &PutRequest) -> Result<PutResponse, Error> {
        let old = self.get(&request.key);
        if old.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        let parts = old.as_ref().map(KeyValue::parts).unwrap_or_default();
        let value = if request.ignore_value { parts.value } else { &request.value };
        let lease = if request.ignore_lease { parts.lease } else { request.lease };
        self.write(base, &request.key, Some((value, lease)));
        Ok(PutResponse { header: header(base + 1), prev_kv: old.filter(|_| request.prev_kv) })
    }

    pub fn do_delete(&mut self, base: i64, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let doomed = self.range(&request.key, &request.range_end, i64::MAX);
        for kv in &doomed {
            self.write(base, kv.key(), None);
        }
        DeleteRangeResponse {
            header: header(self.seen(base)),
            deleted: i64::try_from(doomed.len()).expect("few keys"),
            prev_kvs: if request.prev_kv { doomed } else { Vec::new() },
        }
    }

    pub fn holds(&self, compare: &Compare) -> bool {
        let kvs = self.range(&compare.key, &compare.range_end, i64::MAX);
        let kvs = if kvs.is_empty() && compare.target != 3 { vec![KeyValue::default()] } else { kvs };
        let holds = |kv: &KeyValue| {
            let ordering = match &compare.target_union {
                Some(TargetUnion::Version(n)) => kv.version().cmp(n),
                Some(TargetUnion::CreateRevision(n)) => kv.create_revision().cmp(n),
                Some(TargetUnion::ModRevision(n)) => kv.mod_revision().cmp(n),
                Some(TargetUnion::Lease(n)) => kv.lease().cmp(n),
                Some(TargetUnion::Value(value)) => kv.value().cmp(value),
                None => panic!("always set here"),
            };
            [ordering.is_eq(), ordering.is_gt(), ordering.is_lt(), ordering.is_ne()]
                [usize::try_from(compare.result).expect("a result")]
        };
        !kvs.is_empty() && kvs.iter().all(holds)
    }

    /// `before` is the state that conditions and checks look at.
    pub fn do_txn(&mut self, before: &Self, txn: &TxnRequest) -> Result<TxnResponse, Error> {
        let base = before.revision;
        let succeeded = txn.compare.iter().all(|compare| before.holds(compare));
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            let response = match op.request.as_ref().expect("a request") {
                Request::RequestRange(range) if range.revision > base => {
                    return Err(Error::FutureRevision);
                }
                Request::RequestRange(range) => Response::ResponseRange(self.do_range(base, range)?),
                Request::RequestPut(put) => {
                    if (put.ignore_value || put.ignore_lease) && self.get(&put.key).is_none() {
                        return Err(Error::KeyNotFound);
                    }
                    if put.lease != 0 && !before.leases.contains(&put.lease) {
                        return Err(Error::LeaseNotFound);
                    }
                    Response::ResponsePut(self.do_put(base, put)?)
                }
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.do_delete(base, delete)),
                Request::RequestTxn(txn) => {
                    let mut nested = self.do_txn(before, txn)?;
                    nested.header = Some(ResponseHeader::default());
                    Response::ResponseTxn(nested)
                }
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(TxnResponse { header: header(self.seen(base)), succeeded, responses })
    }

    pub fn apply(&mut self, step: &Step) -> Result<Reply, Error> {
        let mut next = self.clone();
        let base = self.revision;
        let reply = match step {
            Step::Range(range) => Reply::Range(self.do_range(base, range)?),
            Step::Put(put) => {
                if put.lease != 0 && !self.leases.contains(&put.lease) {
                    return Err(Error::LeaseNotFound);
                }
                Reply::Put(next.do_put(base, put)?)
            }
            Step::Delete(delete) => Reply::DeleteRange(next.do_delete(base, delete)),
            Step::Txn(txn) => Reply::Txn(next.do_txn(self, txn)?),
            Step::Grant(id) => {
                if !next.leases.insert(*id) {
                    return Err(Error::LeaseExists);
                }
                Reply::Done
            }
            Step::Revoke(id) => {
                if !next.leases.remove(id) {
                    return Err(Error::LeaseNotFound);
                }
                for (key, kv) in self.all(i64::MAX) {
                    if kv.lease() == *id {
                        next.write(base, &key, None);
                    }
                }
                Reply::Done
            }
            Step::Compact(revision) => {
                if *revision <= self.floor {
                    return Err(Error::Compacted);
                }
                if *revision > base {
                    return Err(Error::FutureRevision);
                }
                next.floor = *revision;
                Reply::Done
            }
            Step::Sweep(_) | Step::Store => Reply::Done,
        };
        next.revision = next.seen(base);
        *self = next;
        Ok(reply)
    }

    /// What a finished compaction leaves.
    pub fn kept(&self) -> Vec<Revision> {
        let newest: BTreeMap<_, _> =
            self.changes.iter().filter(|c| c.at.main <= self.floor).map(|c| (&c.key, c.at)).collect();
        let kept = |change: &&Change| {
            change.at.main > self.floor
                || newest[&change.key] == change.at && (change.put.is_some() || change.at.main == self.floor)
        };
        self.changes.iter().filter(kept).map(|change| change.at).collect()
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Grant(i64),
    Revoke(i64),
    Compact(i64),
    /// Lets compaction go on by so much.
    Sweep(usize),
    /// Hands the run to the store.
    Store,
}

impl Step {
    pub fn request(&self) -> Option<InternalRaftRequest> {
        let mut request = request();
        match self.clone() {
            Self::Range(range) => request.range = Some(range),
            Self::Put(put) => request.put = Some(put),
            Self::Delete(delete) => request.delete_range = Some(delete),
            Self::Txn(txn) => request.txn = Some(txn),
            Self::Grant(id) => request.lease_grant = Some(LeaseGrantRequest { id, ttl: 60 }),
            Self::Revoke(id) => request.lease_revoke = Some(LeaseRevokeRequest { id }),
            Self::Compact(revision) => request.compaction = Some(CompactionRequest { revision, physical: false }),
            Self::Sweep(_) | Self::Store => return None,
        }
        Some(request)
    }
}
