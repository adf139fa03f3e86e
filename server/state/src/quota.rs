//! What a request is estimated to take of the space quota, in bytes. etcd's figures; the quota itself, and what is
//! in use, are a member's own business.

use keepstone_proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestOp, TxnRequest, request_op::Request};

const PUT: usize = 256;
const LEASE: usize = 64;

/// The estimate for a request; 0 for one that adds nothing.
pub fn cost(request: &InternalRaftRequest) -> usize {
    let put = request.put.as_ref().map_or(0, put_cost);
    let txn = request.txn.as_ref().map_or(0, txn_cost);
    let lease = if request.lease_grant.is_some() { LEASE } else { 0 };
    put + txn + lease
}

/// 256 bytes, key and value.
pub fn put_cost(put: &PutRequest) -> usize {
    PUT + put.key.len() + put.value.len()
}

/// The dearer one of the two branches.
pub fn txn_cost(txn: &TxnRequest) -> usize {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost).sum::<usize>();
    branch(&txn.success).max(branch(&txn.failure))
}

fn op_cost(op: &RequestOp) -> usize {
    match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: usize) -> RequestOp {
        let put = PutRequest { key: "k".into(), value: vec![0; value].into(), ..PutRequest::default() };
        RequestOp { request: Some(Request::RequestPut(put)) }
    }

    #[test]
    fn a_txn_costs_its_dearer_branch_all_the_way_down() {
        let nested = TxnRequest { success: vec![put(1)], failure: vec![put(100), put(1)], ..TxnRequest::default() };
        assert_eq!(txn_cost(&nested), 257 + 100 + 257 + 1);
        let inner = RequestOp { request: Some(Request::RequestTxn(nested)) };
        let outer = TxnRequest { success: vec![inner, put(0)], ..TxnRequest::default() };
        assert_eq!(txn_cost(&outer), 615 + 257);
        assert_eq!(txn_cost(&TxnRequest::default()), 0);
    }
}
