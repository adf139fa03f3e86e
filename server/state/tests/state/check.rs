//! What is refused before it is proposed.

use keepstone_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use keepstone_state::{Error, check_delete, check_put, check_range, check_txn};

use crate::support::*;

const DUPLICATE: Result<(), Error> = Err(Error::DuplicateKey);

fn both(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    nests(TxnRequest { success, failure, ..TxnRequest::default() })
}

fn check(success: Vec<RequestOp>) -> Result<(), Error> {
    let as_then = check_txn(&then(success.clone()), 128);
    let as_else = check_txn(&TxnRequest { failure: success, ..TxnRequest::default() }, 128);
    assert_eq!(as_then, as_else);
    as_then
}

#[test]
fn keys_and_sort_options_are_asked_for_in_order() {
    assert_eq!(check_range(&RangeRequest { sort_order: 9, ..range_op("", "") }), Err(Error::EmptyKey));
    assert_eq!(check_range(&RangeRequest { sort_order: 3, ..range_op("a", "") }), Err(Error::InvalidSortOption));
    assert_eq!(check_range(&RangeRequest { sort_target: 5, ..range_op("a", "") }), Err(Error::InvalidSortOption));
    assert_eq!(check_delete(&delete_op("", "z")), Err(Error::EmptyKey));
    assert_eq!(check_put(&put_op("", "v", 0)), Err(Error::EmptyKey));
    let value = PutRequest { ignore_value: true, ..put_op("a", "v", 0) };
    assert_eq!(check_put(&value), Err(Error::ValueProvided));
    let lease = PutRequest { ignore_lease: true, ..put_op("a", "v", 1) };
    assert_eq!(check_put(&lease), Err(Error::LeaseProvided));
}

#[test]
fn the_longest_list_counts_and_nesting_gets_what_is_left() {
    let reads = |n| vec![ranges(range_op("a", "")); n];
    let txn = |success, failure| TxnRequest { success, failure, ..TxnRequest::default() };
    assert_eq!(check_txn(&txn(reads(128), reads(128)), 128), Ok(()));
    assert_eq!(check_txn(&txn(reads(1), reads(129)), 128), Err(Error::TooManyOps));
    let compares = TxnRequest { compare: vec![Compare::default(); 129], ..TxnRequest::default() };
    assert_eq!(check_txn(&compares, 128), Err(Error::TooManyOps));
    let mut nested = reads(27);
    nested.push(nests(then(reads(100))));
    assert_eq!(check_txn(&then(nested.clone()), 128), Ok(()));
    nested.push(ranges(range_op("a", "")));
    assert_eq!(check_txn(&then(nested), 128), Err(Error::TooManyOps));
}

#[test]
fn an_empty_compare_key_and_an_empty_operation_are_refused() {
    let compare = TxnRequest { compare: vec![Compare::default()], ..TxnRequest::default() };
    assert_eq!(check_txn(&compare, 128), Err(Error::EmptyKey));
    assert_eq!(check(vec![RequestOp { request: None }]), Err(Error::KeyNotFound));
    assert_eq!(check(vec![both(vec![], vec![puts("", "")])]), Err(Error::EmptyKey));
}

#[test]
fn one_branch_touches_a_key_once() {
    assert_eq!(check(vec![puts("a", ""), puts("a", "")]), DUPLICATE);
    assert_eq!(check(vec![puts("b", ""), deletes("a", "c")]), DUPLICATE);
    assert_eq!(check(vec![deletes("b", ""), puts("b", "")]), DUPLICATE);
    assert_eq!(check(vec![puts("c", ""), deletes("a", "c")]), Ok(()));
    assert_eq!(check(vec![deletes("a", "c"), deletes("b", "d"), deletes("b", "")]), Ok(()));
    let either = TxnRequest { success: vec![puts("a", "")], failure: vec![puts("a", "")], ..TxnRequest::default() };
    assert_eq!(check_txn(&either, 128), Ok(()));
}

#[test]
fn deletes_that_overlap_are_taken_together() {
    let deletes = || vec![deletes("b", "d"), deletes("f", "h"), deletes("c", "g"), deletes("a", "c")];
    for (key, free) in [("a", false), ("e", false), ("g", false), ("h", true), ("Z", true)] {
        let mut ops = deletes();
        ops.push(puts(key, ""));
        assert_eq!(check(ops).is_ok(), free, "{key}");
    }
}

#[test]
fn nested_branches_exclude_each_other_but_nothing_else() {
    let a = || vec![puts("a", "")];
    assert_eq!(check(vec![both(a(), a())]), Ok(()));
    assert_eq!(check(vec![both(a(), vec![]), both(vec![], a())]), DUPLICATE);
    assert_eq!(check(vec![both(vec![], a()), puts("a", "")]), DUPLICATE);
    assert_eq!(check(vec![both(vec![], a()), deletes("a", "")]), DUPLICATE);
    assert_eq!(check(vec![both(vec![deletes("a", "")], vec![]), puts("a", "")]), DUPLICATE);
    // Deeper down as well.
    assert_eq!(check(vec![both(vec![both(a(), vec![])], vec![]), puts("a", "")]), DUPLICATE);
}

#[test]
fn a_nested_delete_is_seen_by_what_comes_after_it_only() {
    let (put, delete) = (both(vec![puts("a", "")], vec![]), both(vec![deletes("a", "")], vec![]));
    assert_eq!(check(vec![delete.clone(), put.clone()]), DUPLICATE);
    assert_eq!(check(vec![put, delete]), Ok(()));
}

#[test]
fn an_open_end_is_taken_for_the_key_it_spells() {
    assert_eq!(check(vec![deletes("a", "\0"), puts("b", "")]), Ok(()));
}
