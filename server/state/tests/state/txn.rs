//! Transactions.

use keepstone_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use keepstone_state::{Error, is_read_only, is_serializable};

use crate::support::*;

fn compare(key: &str, target: CompareTarget, result: CompareResult, union: TargetUnion) -> Compare {
    Compare {
        key: key.to_owned().into(),
        target: target as i32,
        result: result as i32,
        target_union: Some(union),
        ..Compare::default()
    }
}

fn version(key: &str, result: CompareResult, n: i64) -> Compare {
    compare(key, CompareTarget::Version, result, TargetUnion::Version(n))
}

fn value(key: &str, result: CompareResult, value: &'static str) -> Compare {
    compare(key, CompareTarget::Value, result, TargetUnion::Value(value.into()))
}

fn put_with(change: impl FnOnce(&mut PutRequest)) -> RequestOp {
    let mut put = put_op("a", "", 0);
    change(&mut put);
    op(Request::RequestPut(put))
}

fn revision(response: &ResponseOp) -> i64 {
    let header = match response.response.as_ref().expect("a response") {
        Response::ResponseRange(response) => &response.header,
        Response::ResponsePut(response) => &response.header,
        Response::ResponseDeleteRange(response) => &response.header,
        Response::ResponseTxn(response) => &response.header,
    };
    header.as_ref().expect("a header").revision
}

fn outer(response: &TxnResponse) -> i64 {
    response.header.as_ref().expect("a header").revision
}

fn holds(member: &mut Member, compare: Compare) -> bool {
    member.txn(TxnRequest { compare: vec![compare], ..TxnRequest::default() }).expect("applied").succeeded
}

#[test]
fn all_writes_are_one_revision_and_reads_see_those_before_them() {
    let mut member = Member::default();
    member.put("a", "1");
    let response = member
        .txn(then(vec![
            ranges(range_op("a", "z")),
            deletes("x", ""),
            puts("b", "2"),
            ranges(range_op("a", "z")),
            deletes("a", ""),
            ranges(range_op("a", "z")),
        ]))
        .expect("applied");
    let revisions: Vec<_> = response.responses.iter().map(revision).collect();
    assert_eq!(revisions, [2, 2, 3, 3, 3, 3]);
    assert_eq!(outer(&response), 3);
    let seen = |at: usize| match &response.responses[at].response {
        Some(Response::ResponseRange(range)) => names(range),
        other => panic!("{other:?}"),
    };
    assert_eq!((seen(0), seen(3), seen(5)), (vec!["a".into()], vec!["a".into(), "b".into()], vec!["b".into()]));
    assert_eq!(member.stored(), [(2, 0), (3, 0), (3, 1)]);
}

#[test]
fn a_read_inside_a_txn_may_ask_for_the_past() {
    let mut member = Member::default();
    member.put("a", "1");
    let past = RangeRequest { revision: 2, ..range_op("a", "") };
    let response = member.txn(then(vec![puts("a", "2"), ranges(past)])).expect("applied");
    let Some(Response::ResponseRange(range)) = &response.responses[1].response else { panic!() };
    assert_eq!((range.kvs[0].value(), revision(&response.responses[1])), (&b"1"[..], 3));
}

#[test]
fn a_txn_that_changes_nothing_makes_no_revision() {
    let mut member = Member::default();
    let response = member.txn(then(vec![deletes("a", "z"), nests(then(vec![]))])).expect("applied");
    assert_eq!((outer(&response), member.state.revision()), (1, 1));
    assert!(response.succeeded);
}

#[test]
fn the_header_of_a_nested_txn_is_empty_but_not_those_inside() {
    let mut member = Member::default();
    let response = member.txn(then(vec![nests(then(vec![puts("a", "1")]))])).expect("applied");
    assert_eq!(revision(&response.responses[0]), 0);
    let Some(Response::ResponseTxn(nested)) = &response.responses[0].response else { panic!() };
    assert_eq!(revision(&nested.responses[0]), 2);
}

#[test]
fn nested_conditions_are_decided_before_anything_is_written() {
    let mut member = Member::default();
    let nested = TxnRequest {
        compare: vec![version("a", CompareResult::Equal, 0)],
        success: vec![puts("then", "")],
        failure: vec![puts("else", "")],
    };
    let response = member.txn(then(vec![puts("a", "1"), nests(nested)])).expect("applied");
    let Some(Response::ResponseTxn(nested)) = &response.responses[1].response else { panic!() };
    assert!(nested.succeeded);
    assert!(member.state.find(b"then", 2).is_some());
}

#[test]
fn one_bad_operation_on_the_chosen_path_stops_them_all() {
    let mut member = Member::default();
    member.put("x", "");
    member.put("x", "");
    member.compact(3).expect("compacted");
    let bad = [
        (ranges(RangeRequest { revision: 4, ..range_op("a", "") }), Error::FutureRevision),
        (ranges(RangeRequest { revision: 2, ..range_op("a", "") }), Error::Compacted),
        (ranges(RangeRequest { revision: -1, ..range_op("a", "") }), Error::Compacted),
        (put_with(|put| put.lease = 5), Error::LeaseNotFound),
        (put_with(|put| put.ignore_lease = true), Error::KeyNotFound),
        // The key before the lease: the other way round than outside of a txn.
        (put_with(|put| (put.ignore_value, put.lease) = (true, 5)), Error::KeyNotFound),
    ];
    for (op, error) in bad {
        assert_eq!(member.txn(then(vec![puts("b", ""), op.clone()])), Err(error));
        assert_eq!(member.txn(then(vec![nests(then(vec![op.clone()]))])), Err(error));
        assert_eq!(member.state.revision(), 3);
        let not_chosen = TxnRequest { failure: vec![op], ..TxnRequest::default() };
        assert!(member.txn(not_chosen).is_ok());
    }
}

#[test]
fn a_negative_revision_is_now_until_something_is_compacted() {
    let mut member = Member::default();
    let negative = |revision| then(vec![ranges(RangeRequest { revision, ..range_op("a", "") }), nests(then(vec![]))]);
    assert!(member.txn(negative(-1)).is_ok());
    assert_eq!(member.txn(negative(-2)), Err(Error::Compacted));
}

#[test]
fn a_put_that_refers_to_a_key_deleted_on_the_way_is_refused() {
    let mut member = Member::default();
    member.put("b", "1");
    // Not seen by the check for duplicate keys, which takes "\0" for a key.
    let txn = then(vec![
        deletes("a", "\0"),
        op(Request::RequestPut(PutRequest { ignore_value: true, ..put_op("b", "", 0) })),
    ]);
    assert_eq!(keepstone_state::check_txn(&txn, 128), Ok(()));
    assert_eq!(member.txn(txn), Err(Error::KeyNotFound));
    // Without the reference both happen, in order, at one revision.
    member.txn(then(vec![deletes("a", "\0"), puts("b", "2")])).expect("applied");
    assert_eq!(member.stored(), [(2, 0), (3, 0), (3, 1)]);
    let kv = member.range(range_op("b", "")).expect("read").kvs.remove(0);
    assert_eq!((kv.version(), kv.create_revision()), (1, 3));
}

#[test]
fn a_missing_key_compares_as_zeros_and_its_value_never() {
    let mut member = Member::default();
    for result in [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Less, CompareResult::Greater] {
        assert!(!holds(&mut member, value("a", result, "")));
    }
    for (target, union) in [
        (CompareTarget::Version, TargetUnion::Version(0)),
        (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        (CompareTarget::Mod, TargetUnion::ModRevision(0)),
        (CompareTarget::Lease, TargetUnion::Lease(0)),
    ] {
        assert!(holds(&mut member, compare("a", target, CompareResult::Equal, union)));
    }
    assert!(holds(&mut member, version("a", CompareResult::Less, 1)));
    let range = Compare { range_end: "z".into(), ..version("a", CompareResult::Less, 1) };
    assert!(holds(&mut member, range));
}

#[test]
fn a_compare_of_a_range_holds_for_every_key() {
    let mut member = Member::default();
    member.put("a", "1");
    member.put("b", "1");
    let range = |compare: Compare| Compare { range_end: "\0".into(), ..compare };
    assert!(holds(&mut member, range(value("a", CompareResult::Equal, "1"))));
    member.put("b", "2");
    assert!(!holds(&mut member, range(value("a", CompareResult::Equal, "1"))));
    assert!(holds(&mut member, range(value("a", CompareResult::Greater, "0"))));
}

#[test]
fn a_union_that_is_unset_or_another_is_zero() {
    let mut member = Member::default();
    member.grant(3, 60).expect("granted");
    member.apply(&put("a", "", 3)).expect("put");
    let unset = |target: CompareTarget| Compare {
        target_union: None,
        ..compare("a", target, CompareResult::Greater, TargetUnion::Version(9))
    };
    assert!(holds(&mut member, unset(CompareTarget::Version)));
    assert!(!holds(&mut member, unset(CompareTarget::Value)));
    let other = compare("a", CompareTarget::Mod, CompareResult::Greater, TargetUnion::Version(9));
    assert!(holds(&mut member, other));
    let lease = compare("a", CompareTarget::Lease, CompareResult::Equal, TargetUnion::Lease(3));
    assert!(holds(&mut member, lease));
    let nameless = Compare { result: 77, ..version("a", CompareResult::Equal, 5) };
    assert!(holds(&mut member, nameless));
}

#[test]
fn only_reads_at_the_top_make_a_txn_read_only() {
    let serializable = RangeRequest { serializable: true, ..range_op("a", "") };
    assert!(is_read_only(&TxnRequest::default()) && is_serializable(&TxnRequest::default()));
    let reads = TxnRequest {
        success: vec![ranges(range_op("a", ""))],
        failure: vec![ranges(serializable)],
        ..TxnRequest::default()
    };
    assert!(is_read_only(&reads) && !is_serializable(&reads));
    assert!(!is_read_only(&then(vec![nests(reads)])));
}

#[test]
fn a_read_only_txn_answers_as_an_applied_one() {
    let mut member = Member::default();
    member.put("a", "1");
    let reads = then(vec![ranges(range_op("a", "z"))]);
    let read = member.state.read_txn(&reads, &member.store).expect("the store never fails");
    assert_eq!(read, member.txn(reads));
    let writes = member.state.read_txn(&then(vec![puts("a", "")]), &member.store).expect("the store never fails");
    assert_eq!(writes, Err(Error::NotCapable));
}
