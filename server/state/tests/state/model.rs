//! Random histories against a model that keeps everything and knows no index.

use std::collections::BTreeMap;

use keepstone_proto::{
    KeyValue,
    etcdserverpb::{
        Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        compare::TargetUnion, request_op::Request,
    },
};
use keepstone_state::{
    Effects, Error, Foresight, HashKv, Keys, Record, RecordError, Records, Reply, Revision, State, check_txn,
    reads_values,
};
use proptest::{prelude::*, sample::select};

use crate::naive::{Model, Step};
use crate::support::*;

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
