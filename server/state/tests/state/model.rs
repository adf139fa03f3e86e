//! Random histories against a model that keeps everything and knows no index.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_proto::{
    KeyValue, KeyValueParts,
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, DeleteRangeResponse, InternalRaftRequest, LeaseGrantRequest,
        LeaseRevokeRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
        ResponseOp, TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request, response_op::Response,
    },
};
use keepstone_state::{
    Effects, Error, Foresight, HashKv, Keys, Record, RecordError, Records, Reply, Revision, State, check_txn,
    reads_values,
};
use proptest::{prelude::*, sample::select};

use crate::support::*;

/// A change, as a naive person would write it down.
#[derive(Clone, Debug)]
struct Change {
    at: Revision,
    key: Vec<u8>,
    /// `None` is a delete.
    put: Option<KeyValue>,
}

#[derive(Clone)]
struct Model {
    changes: Vec<Change>,
    revision: i64,
    floor: i64,
    leases: BTreeSet<i64>,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

impl Model {
    fn new() -> Self {
        Self { changes: Vec::new(), revision: 1, floor: -1, leases: BTreeSet::new() }
    }

    fn all(&self, at: i64) -> BTreeMap<Vec<u8>, KeyValue> {
        let mut keys = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.at.main <= at) {
            match &change.put {
                Some(kv) => drop(keys.insert(change.key.clone(), kv.clone())),
                None => drop(keys.remove(&change.key)),
            }
        }
        keys
    }

    fn range(&self, start: &[u8], end: &[u8], at: i64) -> Vec<KeyValue> {
        let keys = self.all(at).into_iter();
        keys.filter(|(key, _)| inside(key, start, end)).map(|(_, kv)| kv).collect()
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.range(key, b"", i64::MAX).pop()
    }

    /// Inside a txn `base` is the revision before it.
    fn seen(&self, base: i64) -> i64 {
        self.changes.last().map_or(base, |last| last.at.main.max(base))
    }

    fn write(&mut self, base: i64, key: &[u8], value: Option<(&[u8], i64)>) {
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

    fn do_range(&self, base: i64, request: &RangeRequest) -> Result<RangeResponse, Error> {
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

    fn do_put(&mut self, base: i64, request: &PutRequest) -> Result<PutResponse, Error> {
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

    fn do_delete(&mut self, base: i64, request: &DeleteRangeRequest) -> DeleteRangeResponse {
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

    fn holds(&self, compare: &Compare) -> bool {
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
    fn do_txn(&mut self, before: &Self, txn: &TxnRequest) -> Result<TxnResponse, Error> {
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

    fn apply(&mut self, step: &Step) -> Result<Reply, Error> {
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
    fn kept(&self) -> Vec<Revision> {
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
enum Step {
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
    fn request(&self) -> Option<InternalRaftRequest> {
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

fn key() -> impl Strategy<Value = &'static str> {
    select(&["a", "aa", "b", "c", "d", "e"][..])
}

fn end() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(""), 2 => Just("\0"), 3 => select(&["aa", "b", "d", "f"][..])]
}

fn a_put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![4 => Just(0_i64), 2 => 1..4_i64];
    (key(), select(&["", "x", "y"][..]), lease, any::<bool>(), 0..8_u8).prop_map(
        |(key, value, lease, prev_kv, flags)| {
            let mut put = PutRequest { prev_kv, ..put_op(key, value, lease) };
            if flags == 0 || flags == 2 {
                (put.ignore_value, put.value) = (true, "".into());
            }
            if flags == 1 || flags == 2 {
                (put.ignore_lease, put.lease) = (true, 0);
            }
            put
        },
    )
}

fn a_delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, end, prev_kv)| DeleteRangeRequest { prev_kv, ..delete_op(key, end) })
}

fn a_range(revisions: std::ops::Range<i64>) -> impl Strategy<Value = RangeRequest> {
    let filter = || prop_oneof![6 => Just(0), 1 => 2..20_i64];
    let shape = (0..4_i64, prop_oneof![Just(0), revisions], 0..3_i32, 0..5_i32, 0..6_u8);
    (key(), end(), shape, [filter(), filter(), filter(), filter()]).prop_map(|(key, end, shape, filters)| {
        let (limit, revision, sort_order, sort_target, only) = shape;
        RangeRequest {
            limit,
            revision,
            sort_order,
            sort_target,
            keys_only: only == 0,
            count_only: only == 1,
            min_mod_revision: filters[0],
            max_mod_revision: filters[1],
            min_create_revision: filters[2],
            max_create_revision: filters[3],
            ..range_op(key, end)
        }
    })
}

fn a_compare() -> impl Strategy<Value = Compare> {
    (key(), end(), 0..4_i32, 0..5_i32, 0..12_i64).prop_map(|(key, end, result, target, n)| Compare {
        key: key.into(),
        range_end: end.into(),
        result,
        target,
        target_union: Some(match target {
            0 => TargetUnion::Version(n % 4),
            1 => TargetUnion::CreateRevision(n),
            2 => TargetUnion::ModRevision(n),
            3 => TargetUnion::Value("x".into()),
            _ => TargetUnion::Lease(n % 4),
        }),
    })
}

fn a_txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        4 => a_put().prop_map(|put| RequestOp { request: Some(Request::RequestPut(put)) }),
        2 => a_delete().prop_map(|delete| RequestOp { request: Some(Request::RequestDeleteRange(delete)) }),
        2 => a_range(1..12).prop_map(ranges),
    ];
    let ops = leaf.prop_recursive(2, 8, 3, |inner| {
        let branch = || proptest::collection::vec(inner.clone(), 0..3);
        (proptest::collection::vec(a_compare(), 0..2), branch(), branch())
            .prop_map(|(compare, success, failure)| nests(TxnRequest { compare, success, failure }))
    });
    let branch = || proptest::collection::vec(ops.clone(), 0..4);
    (proptest::collection::vec(a_compare(), 0..3), branch(), branch())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .prop_map(|mut txn| {
            // What the API door refuses never gets here.
            while check_txn(&txn, 128).is_err() {
                let longer = if txn.success.len() > txn.failure.len() { &mut txn.success } else { &mut txn.failure };
                longer.pop();
            }
            txn
        })
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => a_put().prop_map(Step::Put),
        3 => a_delete().prop_map(Step::Delete),
        6 => a_txn().prop_map(Step::Txn),
        5 => a_range(1..40).prop_map(Step::Range),
        2 => (1..4_i64).prop_map(Step::Grant),
        1 => (1..4_i64).prop_map(Step::Revoke),
        1 => (0..30_i64).prop_map(Step::Compact),
        2 => (1..5_usize).prop_map(Step::Sweep),
        2 => Just(Step::Store),
    ]
}

/// Everything a reader can ask of the index, in small steps.
fn compare_reads(state: &State, model: &Model) -> Result<(), TestCaseError> {
    for at in model.floor.max(1)..=model.revision {
        for (start, end) in [("", "\0"), ("aa", "d"), ("b", ""), ("d", "b")] {
            let expected = model.range(start.as_bytes(), end.as_bytes(), at);
            let keys = Keys::new(start.as_bytes(), end.as_bytes());
            let mut found = Vec::new();
            let mut after: Option<Box<[u8]>> = None;
            loop {
                let scan = state.scan(keys, at, after.as_deref(), 2);
                prop_assert!(scan.found.len() <= 2);
                found.extend(scan.found);
                after = scan.next;
                if after.is_none() {
                    break;
                }
            }
            let mains: Vec<_> = found.iter().map(|revision| revision.main).collect();
            prop_assert_eq!(mains, expected.iter().map(KeyValue::mod_revision).collect::<Vec<_>>());
            prop_assert_eq!(state.count(keys, at), expected.len());
            let (mut count, mut after): (usize, Option<Box<[u8]>>) = (0, None);
            loop {
                let tally = state.count_some(keys, at, after.as_deref(), 1);
                count += tally.found;
                after = tally.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(count, expected.len());
        }
        for (key, kv) in model.all(at) {
            prop_assert_eq!(state.find(&key, at).map(|at| at.main), Some(kv.mod_revision()));
        }
    }
    Ok(())
}

fn hash(state: &State, store: &Store, revision: i64) -> u32 {
    let plan = state.hash_plan(revision).expect("a revision that may be read");
    let mut hash = HashKv::new(plan);
    for record in store.records.values() {
        hash.record(record, |record: &Record| state.keeps(record.kv.key(), record.at, plan.keep_at));
    }
    hash.finish()
}

/// The values that a run was said to need.
struct Foreseen {
    values: BTreeMap<Revision, KeyValue>,
}

impl Records for Foreseen {
    fn get(&self, at: Revision) -> Result<KeyValue, RecordError> {
        self.values.get(&at).cloned().ok_or(RecordError::Missing(at))
    }
}

/// One member: a state, its store, and the run that is not in the store yet.
#[derive(Clone, Default)]
struct Replica {
    member: (State, Store),
    run: Effects,
}

impl Replica {
    fn apply(&mut self, request: &InternalRaftRequest) -> Result<Reply, Error> {
        let (state, store) = &mut self.member;
        state.apply(1, 1, request, store as &dyn Records, &mut self.run).expect("the store never fails")
    }

    /// Applies some requests as one run, with nothing of the store at hand but what was foreseen.
    fn apply_foreseen(&mut self, requests: &[InternalRaftRequest]) -> Vec<Result<Reply, Error>> {
        self.store();
        let (state, store) = &mut self.member;
        let mut foresight = Foresight::new(state);
        requests.iter().for_each(|request| foresight.add(request));
        let places = foresight.places();
        assert!(places.is_empty() || requests.iter().any(reads_values));
        let foreseen =
            Foreseen { values: places.into_iter().map(|at| (at, store.get(at).expect("it is there"))).collect() };
        let apply = |request| state.apply(1, 1, request, &foreseen, &mut self.run).expect("it was foreseen");
        requests.iter().map(apply).collect()
    }

    fn store(&mut self) {
        self.member.1.take(std::mem::take(&mut self.run));
    }

    fn sweep(&mut self, max: usize) -> bool {
        self.store();
        let mut dead = Vec::new();
        let done = self.member.0.compact_some(max, &mut dead);
        self.member.1.drop_dead(&dead);
        if done && let Some(revision) = self.member.0.unfinished_compaction() {
            self.member.0.finish_compaction(revision, &mut self.run);
            self.store();
        }
        done
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn answers_as_a_model_that_keeps_everything(steps in proptest::collection::vec(a_step(), 1..60)) {
        let mut model = Model::new();
        let mut one = Replica::default();
        // Gets the same requests, but stores only at the end, and compacts at another pace.
        let mut two = Replica::default();
        for step in &steps {
            let before = one.clone();
            let expected = model.apply(step);
            let Some(request) = step.request() else {
                match step {
                    Step::Sweep(max) => drop(one.sweep(*max)),
                    _ => one.store(),
                }
                continue;
            };
            let answer = one.apply(&request);
            prop_assert_eq!(&answer, &two.apply(&request));
            match (answer, expected) {
                (Ok(Reply::LeaseGrant(_) | Reply::LeaseRevoke(_) | Reply::Compaction(_)), Ok(Reply::Done)) => {}
                (answer, expected) => {
                    if answer.is_err() {
                        prop_assert!(one.member.0 == before.member.0 && one.run == before.run, "a refusal changes nothing");
                    }
                    prop_assert_eq!(answer, expected);
                }
            }
            prop_assert_eq!(one.member.0.revision(), model.revision);
            prop_assert_eq!(one.member.0.compact_revision(), model.floor);
        }
        one.store();
        compare_reads(&one.member.0, &model)?;
        let restored = one.member.1.restore();
        prop_assert!(restored == one.member.0, "{:#?}\n{:#?}", restored, one.member.0);

        two.store();
        let from = model.floor.max(1);
        let hashes = |replica: &Replica| (from..=model.revision).map(|at| hash(&replica.member.0, &replica.member.1, at)).collect::<Vec<_>>();
        prop_assert_eq!(hashes(&one), hashes(&two));
        while !one.sweep(1) {}
        while !two.sweep(3) {}
        prop_assert_eq!(hashes(&one), hashes(&two));
        prop_assert_eq!(one.member.1.records.keys().copied().collect::<Vec<_>>(), model.kept());
        prop_assert!(one.member.0 == two.member.0);
        prop_assert_eq!(&one.member.1.records, &two.member.1.records);
        prop_assert_eq!(&one.member.1.tables, &two.member.1.tables);
        compare_reads(&one.member.0, &model)?;
        prop_assert!(one.member.1.restore() == one.member.0);
    }

    #[test]
    fn a_run_reads_nothing_that_was_not_foreseen(steps in proptest::collection::vec(a_step(), 1..60), longest in 1usize..9) {
        let (mut one, mut two) = (Replica::default(), Replica::default());
        let requests: Vec<_> = steps.iter().filter_map(Step::request).collect();
        for run in requests.chunks(longest) {
            let answers: Vec<_> = run.iter().map(|request| one.apply(request)).collect();
            prop_assert_eq!(answers, two.apply_foreseen(run));
        }
        prop_assert!(one.member.0 == two.member.0);
    }

    #[test]
    fn the_same_requests_have_the_same_effects(steps in proptest::collection::vec(a_step(), 1..60)) {
        let (mut one, mut two) = (Replica::default(), Replica::default());
        for request in steps.iter().filter_map(Step::request) {
            one.apply(&request).ok();
            two.apply(&request).ok();
        }
        prop_assert_eq!(&one.run, &two.run);
        prop_assert!(one.member.0 == two.member.0);
        for record in &one.run.records {
            let prev = record.prev.map(|prev| one.run.records.iter().find(|r| r.at == prev).expect("an earlier record"));
            prop_assert!(prev.is_none_or(|prev| !prev.tombstone && prev.kv.key() == record.kv.key()));
            let is_new = !record.tombstone && record.kv.version() == 1;
            prop_assert_eq!(prev.is_none(), is_new);
        }
    }
}
