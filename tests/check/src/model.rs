//! What etcd's keyspace is at every revision, and what each request makes of it. Written from etcd's documentation, apart
//! from the server: a mistake here shows, a mistake shared would not.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use keepstone_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keepstone_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keepstone_proto::etcdserverpb::request_op::Request;
use keepstone_proto::etcdserverpb::response_op::Response;
use keepstone_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    ResponseOp, TxnRequest, TxnResponse,
};
use keepstone_proto::{Event, KeyValue, KeyValueParts};

use crate::call::{Op, Outcome};

/// A key's states, each with the revision that made it; `None` where it was deleted.
type Versions = Vec<(i64, Option<KeyValue>)>;

/// The keyspace with all of its history. Headers in its answers are empty.
#[derive(Clone, Debug)]
pub struct Model {
    revision: i64,
    keys: BTreeMap<Bytes, Versions>,
}

impl Default for Model {
    /// A new cluster's: revision 1 and no keys.
    fn default() -> Self {
        Self { revision: 1, keys: BTreeMap::new() }
    }
}

fn bounds<'a>(key: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    match end {
        [] => (Bound::Included(key), Bound::Included(key)),
        [0] => (Bound::Included(key), Bound::Unbounded),
        end if end <= key => (Bound::Included(key), Bound::Excluded(key)),
        end => (Bound::Included(key), Bound::Excluded(end)),
    }
}

fn at(versions: &Versions, revision: i64) -> Option<&KeyValue> {
    let known = versions.partition_point(|(made, _)| *made <= revision);
    versions[..known].last().and_then(|(_, kv)| kv.as_ref())
}

impl Model {
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// A key as it was at `revision`.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        self.keys.get(key).and_then(|versions| at(versions, revision))
    }

    /// The keys of a range as they were at `revision`, in order.
    pub fn range<'a>(&'a self, key: &'a [u8], end: &'a [u8], revision: i64) -> impl Iterator<Item = &'a KeyValue> {
        self.keys.range::<[u8], _>(bounds(key, end)).filter_map(move |(_, versions)| at(versions, revision))
    }

    /// The keys that hang on a lease now, in order.
    pub fn attached(&self, lease: i64) -> Vec<Bytes> {
        let now = self.keys.values().filter_map(|versions| at(versions, i64::MAX));
        now.filter(|kv| lease != 0 && kv.lease() == lease).map(KeyValue::key_bytes).collect()
    }

    /// Deletes `keys`, which are there, as one revision, the next.
    pub fn delete_keys(&mut self, keys: &[Bytes]) -> Vec<Event> {
        let mut events = Vec::new();
        for key in keys {
            self.erase(key, self.revision + 1, &mut events);
        }
        self.revision += i64::from(!events.is_empty());
        events
    }

    /// Carries out a request of writes as the next revision: its answer, and the events in their order, each with what
    /// was there before. A request that changes nothing makes no revision.
    pub fn write(&mut self, op: &Op) -> (Outcome, Vec<Event>) {
        let next = self.revision + 1;
        let mut events = Vec::new();
        let outcome = match op {
            Op::Put(put) => Outcome::Put(self.put(put, next, &mut events)),
            Op::Delete(delete) => Outcome::Delete(self.delete(delete, next, &mut events)),
            Op::Txn(txn) => Outcome::Txn(self.txn(txn, next, &mut events)),
            _ => Outcome::Unknown,
        };
        self.revision += i64::from(!events.is_empty());
        (outcome, events)
    }

    /// The events that a request would make as the next revision.
    pub fn preview(&mut self, op: &Op) -> Vec<Event> {
        let (_, events) = self.write(op);
        if !events.is_empty() {
            for event in &events {
                if let Some(versions) = self.keys.get_mut(event.kv().key()) {
                    versions.retain(|(made, _)| *made < self.revision);
                }
            }
            self.revision -= 1;
        }
        events
    }

    /// Answers a request that writes nothing, as of `revision`.
    pub fn read(&self, op: &Op, revision: i64) -> Outcome {
        match op {
            Op::Range(range) => Outcome::Range(self.answer(range, revision)),
            Op::Delete(delete) => {
                debug_assert!(self.range(&delete.key, &delete.range_end, revision).next().is_none());
                Outcome::Delete(DeleteRangeResponse::default())
            }
            Op::Txn(txn) => {
                let succeeded = txn.compare.iter().all(|compare| self.holds(compare, revision));
                let ops = if succeeded { &txn.success } else { &txn.failure };
                let responses = ops.iter().map(|op| self.read_op(op, revision)).collect();
                Outcome::Txn(TxnResponse { header: None, succeeded, responses })
            }
            _ => Outcome::Unknown,
        }
    }

    fn read_op(&self, op: &RequestOp, revision: i64) -> ResponseOp {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Response::ResponseRange(self.answer(range, revision)),
            // One that would have deleted something is no read: its answer differs then.
            _ => Response::ResponseDeleteRange(DeleteRangeResponse::default()),
        };
        ResponseOp { response: Some(response) }
    }

    /// Answers a range as of `now`, or of the revision that it names.
    fn answer(&self, request: &RangeRequest, now: i64) -> RangeResponse {
        let revision = if request.revision > 0 { request.revision } else { now };
        let mut kvs: Vec<&KeyValue> = self.range(&request.key, &request.range_end, revision).collect();
        let count = kvs.len();
        sort(&mut kvs, request);
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let more = !request.count_only && kvs.len() > limit;
        kvs.truncate(if request.count_only { 0 } else { limit });
        let keep = |kv: &KeyValue| if request.keys_only { kv.without_value() } else { kv.clone() };
        RangeResponse { header: None, kvs: kvs.into_iter().map(keep).collect(), more, count: count as i64 }
    }

    fn put(&mut self, put: &PutRequest, next: i64, events: &mut Vec<Event>) -> PutResponse {
        let before = self.get(&put.key, next).cloned();
        let (create, version) = before.as_ref().map_or((next, 1), |kv| (kv.create_revision(), kv.version() + 1));
        let old = before.clone().unwrap_or_default();
        let kv = KeyValue::new(&KeyValueParts {
            key: &put.key,
            create_revision: create,
            mod_revision: next,
            version,
            value: if put.ignore_value { old.value() } else { &put.value },
            lease: if put.ignore_lease { old.lease() } else { put.lease },
        });
        events.push(Event::put(&kv, before.as_ref()));
        self.keys.entry(put.key.clone()).or_default().push((next, Some(kv)));
        PutResponse { header: None, prev_kv: before.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest, next: i64, events: &mut Vec<Event>) -> DeleteRangeResponse {
        let gone: Vec<KeyValue> = self.range(&delete.key, &delete.range_end, next).cloned().collect();
        for kv in &gone {
            self.erase(&kv.key_bytes(), next, events);
        }
        let deleted = gone.len() as i64;
        DeleteRangeResponse { header: None, deleted, prev_kvs: if delete.prev_kv { gone } else { Vec::new() } }
    }

    fn erase(&mut self, key: &Bytes, next: i64, events: &mut Vec<Event>) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let Some(before) = at(versions, next).cloned() else { return };
        events.push(Event::delete(key, next, Some(&before)));
        versions.push((next, None));
    }

    fn txn(&mut self, txn: &TxnRequest, next: i64, events: &mut Vec<Event>) -> TxnResponse {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare, self.revision));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            let response = match &op.request {
                Some(Request::RequestPut(put)) => Some(Response::ResponsePut(self.put(put, next, events))),
                Some(Request::RequestDeleteRange(delete)) => {
                    Some(Response::ResponseDeleteRange(self.delete(delete, next, events)))
                }
                // Sees what came before it in the same transaction.
                Some(Request::RequestRange(range)) => Some(Response::ResponseRange(self.answer(range, next))),
                _ => None,
            };
            responses.push(ResponseOp { response });
        }
        TxnResponse { header: None, succeeded, responses }
    }

    /// Whether a compare holds for every key of its range; a single key that is not there counts as all zeros.
    fn holds(&self, compare: &Compare, revision: i64) -> bool {
        let mut keys = self.range(&compare.key, &compare.range_end, revision).peekable();
        if keys.peek().is_none() {
            let is_value = compare.target == CompareTarget::Value as i32;
            return !is_value && compare.range_end.is_empty() && compare_one(compare, &KeyValue::default());
        }
        keys.all(|kv| compare_one(compare, kv))
    }
}

fn compare_one(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target_union {
        Some(TargetUnion::Version(n)) => kv.version().cmp(n),
        Some(TargetUnion::CreateRevision(n)) => kv.create_revision().cmp(n),
        Some(TargetUnion::ModRevision(n)) => kv.mod_revision().cmp(n),
        Some(TargetUnion::Lease(n)) => kv.lease().cmp(n),
        Some(TargetUnion::Value(value)) => kv.value().cmp(value),
        None => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result).unwrap_or_default() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}

fn sort(kvs: &mut [&KeyValue], request: &RangeRequest) {
    match SortTarget::try_from(request.sort_target).unwrap_or_default() {
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version()),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision()),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision()),
        SortTarget::Value => kvs.sort_by(|a, b| a.value().cmp(b.value())),
    }
    if request.sort_order == SortOrder::Descend as i32 {
        kvs.reverse();
    }
}
