//! Put, DeleteRange and Range by themselves.

use crate::support::*;
use keepstone_proto::etcdserverpb::{
    InternalRaftRequest, PutRequest, RangeRequest,
    range_request::{SortOrder, SortTarget},
};
use keepstone_state::{Error, Reply};

fn revision(header: &Option<keepstone_proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

fn flagged(key: &str, change: impl FnOnce(&mut PutRequest)) -> InternalRaftRequest {
    let mut put = put_op(key, "", 0);
    change(&mut put);
    InternalRaftRequest { put: Some(put), ..request() }
}

#[test]
fn an_empty_store_is_at_revision_1_and_the_first_put_makes_2() {
    let mut member = Member::default();
    assert_eq!(member.state.revision(), 1);
    assert_eq!(member.state.compact_revision(), -1);
    let response = member.put("a", "1");
    assert_eq!(revision(&response.header), 2);
    assert_eq!(response.prev_kv, None);
}

#[test]
fn a_put_of_the_same_value_is_a_revision_and_a_version() {
    let mut member = Member::default();
    member.put("a", "1");
    member.put("a", "1");
    let kv = member.range(range_op("a", "")).expect("read").kvs.remove(0);
    let parts = kv.parts();
    assert_eq!((parts.create_revision, parts.mod_revision, parts.version), (2, 3, 2));
}

#[test]
fn a_delete_starts_the_next_put_afresh() {
    let mut member = Member::default();
    member.put("a", "1");
    member.put("a", "2");
    let deleted = member.delete("a", "");
    assert_eq!((deleted.deleted, revision(&deleted.header)), (1, 4));
    assert_eq!(deleted.prev_kvs[0].value(), b"2");
    member.put("a", "3");
    let kv = member.range(range_op("a", "")).expect("read").kvs.remove(0);
    let parts = kv.parts();
    assert_eq!((parts.create_revision, parts.mod_revision, parts.version), (5, 5, 1));
}

#[test]
fn a_delete_of_nothing_makes_no_revision() {
    let mut member = Member::default();
    member.put("a", "1");
    let deleted = member.delete("b", "z");
    assert_eq!((deleted.deleted, revision(&deleted.header)), (0, 2));
    assert_eq!(member.state.revision(), 2);
}

#[test]
fn a_delete_of_a_range_is_one_revision_in_key_order() {
    let mut member = Member::default();
    for key in ["c", "a", "b", "d"] {
        member.put(key, key);
    }
    let deleted = member.delete("a", "d");
    assert_eq!((deleted.deleted, revision(&deleted.header)), (3, 6));
    let prev: Vec<_> = deleted.prev_kvs.iter().map(|kv| kv.key().to_vec()).collect();
    assert_eq!(prev, [b"a", b"b", b"c"]);
    let (at, last) = member.store.records.last_key_value().expect("records");
    assert_eq!((at.main, at.sub, last.tombstone), (6, 2, true));
    assert_eq!(last.kv, keepstone_proto::KeyValue::tombstone(b"c"));
}

#[test]
fn ignore_flags_refer_to_the_key_as_it_is() {
    let mut member = Member::default();
    member.grant(7, 60).expect("granted");
    let missing = member.apply(&flagged("a", |put| put.ignore_value = true));
    assert_eq!(missing, Err(Error::KeyNotFound));
    member.apply(&put("a", "v", 7)).expect("put");

    member.apply(&flagged("a", |put| put.ignore_lease = true)).expect("put");
    let kv = member.range(range_op("a", "")).expect("read").kvs.remove(0);
    assert_eq!((kv.value(), kv.lease()), (&b""[..], 7));

    member.apply(&put("a", "v", 7)).expect("put");
    let prev = member.apply(&flagged("a", |put| {
        put.ignore_value = true;
        put.prev_kv = true;
    }));
    let Ok(Reply::Put(response)) = prev else { panic!("{prev:?}") };
    assert_eq!(response.prev_kv.expect("there was one").lease(), 7);
    let kv = member.range(range_op("a", "")).expect("read").kvs.remove(0);
    assert_eq!((kv.value(), kv.lease()), (&b"v"[..], 0));
    assert_eq!(member.state.leases().get(keepstone_state::LeaseId(7)).expect("a lease").keys().len(), 0);
}

#[test]
fn a_put_asks_for_its_lease_before_its_key() {
    let mut member = Member::default();
    let both = member.apply(&flagged("a", |put| {
        put.ignore_value = true;
        put.lease = 9;
    }));
    assert_eq!(both, Err(Error::LeaseNotFound));
    assert_eq!(member.state.revision(), 1);
}

#[test]
fn a_range_reads_at_an_older_revision_and_shows_the_current_one() {
    let mut member = Member::default();
    member.put("a", "1");
    member.put("b", "1");
    member.delete("a", "");
    member.put("b", "2");
    let old = member.range(RangeRequest { revision: 3, ..range_op("a", "\0") }).expect("read");
    assert_eq!(names(&old), ["a", "b"]);
    assert_eq!(old.kvs[1].value(), b"1");
    assert_eq!((old.count, revision(&old.header)), (2, 5));
    let future = member.range(RangeRequest { revision: 6, ..range_op("a", "") });
    assert_eq!(future, Err(Error::FutureRevision));
    let now = member.range(RangeRequest { revision: -3, ..range_op("a", "\0") }).expect("read");
    assert_eq!(names(&now), ["b"]);
}

#[test]
fn reading_exactly_at_the_compact_revision_is_allowed() {
    let mut member = Member::default();
    member.put("a", "1");
    member.put("a", "2");
    member.put("a", "3");
    member.compact(3).expect("compacted");
    member.sweep();
    let at = |revision| RangeRequest { revision, ..range_op("a", "") };
    assert_eq!(member.range(at(3)).expect("read").kvs[0].value(), b"2");
    assert_eq!(member.range(at(2)), Err(Error::Compacted));
}

#[test]
fn limit_says_more_and_count_ignores_it() {
    let mut member = Member::default();
    for key in ["a", "b", "c"] {
        member.put(key, "");
    }
    let limit = |limit| RangeRequest { limit, ..range_op("a", "z") };
    let two = member.range(limit(2)).expect("read");
    assert_eq!((names(&two).len(), two.more, two.count), (2, true, 3));
    let three = member.range(limit(3)).expect("read");
    assert_eq!((names(&three).len(), three.more, three.count), (3, false, 3));
    let all = member.range(limit(-1)).expect("read");
    assert_eq!((names(&all).len(), all.more), (3, false));
    let only = RangeRequest { count_only: true, limit: 1, ..range_op("a", "z") };
    let only = member.range(only).expect("read");
    assert_eq!((only.kvs.len(), only.more, only.count), (0, false, 3));
}

#[test]
fn filters_do_not_change_the_count_and_are_cut_after() {
    let mut member = Member::default();
    for key in ["a", "b", "c", "d"] {
        member.put(key, "");
    }
    let filtered = RangeRequest { min_mod_revision: 3, max_mod_revision: 5, limit: 2, ..range_op("a", "z") };
    let filtered = member.range(filtered).expect("read");
    assert_eq!((names(&filtered), filtered.more, filtered.count), (vec!["b".into(), "c".into()], true, 4));
    let created = RangeRequest { max_create_revision: 2, ..range_op("a", "z") };
    assert_eq!(names(&member.range(created).expect("read")), ["a"]);
}

#[test]
fn a_sort_target_without_an_order_sorts_only_what_the_limit_let_in() {
    let mut member = Member::default();
    for key in ["d", "c", "b", "a"] {
        member.put(key, "");
    }
    let sorted = |order: SortOrder, limit| RangeRequest {
        sort_target: SortTarget::Mod as i32,
        sort_order: order as i32,
        limit,
        ..range_op("a", "z")
    };
    // The first three keys a, b, c by revision are c, b, a.
    assert_eq!(names(&member.range(sorted(SortOrder::None, 2)).expect("read")), ["c", "b"]);
    assert_eq!(names(&member.range(sorted(SortOrder::Ascend, 2)).expect("read")), ["d", "c"]);
    assert_eq!(names(&member.range(sorted(SortOrder::Descend, 0)).expect("read")), ["a", "b", "c", "d"]);
}

#[test]
fn keys_only_blanks_the_value_and_nothing_else() {
    let mut member = Member::default();
    member.grant(7, 60).expect("granted");
    member.apply(&put("a", "v", 7)).expect("put");
    let only = member.range(RangeRequest { keys_only: true, ..range_op("a", "") }).expect("read");
    let parts = only.kvs[0].parts();
    assert_eq!((parts.key, parts.value, parts.lease, parts.version), (&b"a"[..], &b""[..], 7, 1));
}

#[test]
fn alarms_refuse_what_takes_space_or_touches_keys() {
    use keepstone_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
    let mut member = Member::default();
    member.put("a", "1");
    let alarm = |action: AlarmAction, kind: AlarmType| InternalRaftRequest {
        alarm: Some(AlarmRequest { action: action as i32, member_id: 5, alarm: kind as i32 }),
        ..request()
    };
    member.apply(&alarm(AlarmAction::Activate, AlarmType::Nospace)).expect("raised");
    assert_eq!(member.apply(&put("a", "1", 77)), Err(Error::NoSpace));
    assert_eq!(member.grant(1, 5), Err(Error::NoSpace));
    assert_eq!(member.txn(then(vec![puts("a", "1")])), Err(Error::NoSpace));
    assert!(member.txn(then(vec![deletes("x", "")])).is_ok());
    assert_eq!(member.delete("a", "").deleted, 1);

    member.apply(&alarm(AlarmAction::Activate, AlarmType::Corrupt)).expect("raised");
    assert_eq!(member.apply(&put("a", "1", 0)), Err(Error::Corrupt));
    assert_eq!(member.range(range_op("a", "")), Err(Error::Corrupt));
    assert_eq!(member.compact(2), Err(Error::Corrupt));
    let listed = member.apply(&alarm(AlarmAction::Get, AlarmType::None)).expect("listed");
    let Reply::Alarm(listed) = listed else { panic!("{listed:?}") };
    assert_eq!(listed.alarms.len(), 2);

    for kind in [AlarmType::Corrupt, AlarmType::Nospace] {
        member.apply(&alarm(AlarmAction::Deactivate, kind)).expect("lowered");
    }
    member.put("a", "1");
    assert!(member.store.restore() == member.state);
}

#[test]
fn a_scan_past_many_dead_keys_comes_in_pieces() {
    use keepstone_state::Keys;
    let mut member = Member::default();
    member.put("z", "");
    for n in 0..3000 {
        member.put(&format!("k{n:04}"), "");
    }
    // At revision 2 only the last key of the range was alive.
    let first = member.state.scan(Keys::ALL, 2, None, 1);
    assert!(first.found.is_empty() && first.next.is_some());
    let (mut pieces, mut found, mut after) = (0, Vec::new(), None::<Box<[u8]>>);
    loop {
        let scan = member.state.scan(Keys::ALL, 2, after.as_deref(), 1);
        pieces += 1;
        found.extend(scan.found);
        after = scan.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [keepstone_state::Revision::new(2, 0)]);
    assert!(pieces > 2);
    let limited = RangeRequest { revision: 2, limit: 1, ..range_op("a", "\0") };
    let limited = member.range(limited).expect("read");
    assert_eq!((names(&limited), limited.count, limited.more), (vec!["z".into()], 1, false));
}
