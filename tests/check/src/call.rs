//! A client's call: what it asked, when, and what it was told.

use std::time::Duration;

use bytes::Bytes;
use keepstone_proto::etcdserverpb::request_op::Request;
use keepstone_proto::etcdserverpb::response_op::Response;
use keepstone_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse,
};

/// A moment, on one clock for all clients of a history.
pub type Time = Duration;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Range(RangeRequest),
    /// Without nested transactions.
    Txn(TxnRequest),
    Compact(i64),
    /// A lease for at least so many seconds.
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke(i64),
    /// A renewal.
    KeepAlive(i64),
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Range(RangeResponse),
    Txn(TxnResponse),
    /// A compaction, a grant, a revocation or a renewal: the revision in its header.
    Done(i64),
    /// For certain not carried out.
    Refused(String),
    /// No answer, or one that leaves open whether it was carried out.
    Unknown,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub client: u64,
    pub begun: Time,
    /// When the answer came; means nothing with [`Outcome::Unknown`].
    pub ended: Time,
    pub op: Op,
    pub outcome: Outcome,
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

impl Call {
    /// The revision in the answer's header.
    pub fn revision(&self) -> Option<i64> {
        Some(match &self.outcome {
            Outcome::Put(answer) => revision(answer.header.as_ref()),
            Outcome::Delete(answer) => revision(answer.header.as_ref()),
            Outcome::Range(answer) => revision(answer.header.as_ref()),
            Outcome::Txn(answer) => revision(answer.header.as_ref()),
            Outcome::Done(revision) => *revision,
            Outcome::Refused(_) | Outcome::Unknown => return None,
        })
    }

    /// Whether the answer says that a revision was made.
    pub fn wrote(&self) -> bool {
        match &self.outcome {
            Outcome::Put(_) => true,
            Outcome::Delete(answer) => answer.deleted > 0,
            Outcome::Txn(answer) => answer.responses.iter().any(|one| match &one.response {
                Some(Response::ResponsePut(_)) => true,
                Some(Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
                _ => false,
            }),
            _ => false,
        }
    }

    /// Whether the answer came while the cluster was asked to agree on it: all but serializable reads.
    pub fn is_linearizable(&self) -> bool {
        match &self.op {
            Op::Range(range) => !range.serializable,
            Op::Txn(txn) => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                !ops.all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
            }
            _ => true,
        }
    }

    /// Every value that the call may write.
    pub fn values(&self) -> Vec<Bytes> {
        let of = |ops: &[RequestOp]| -> Vec<Bytes> {
            let value = |op: &RequestOp| match &op.request {
                Some(Request::RequestPut(put)) => Some(put.value.clone()),
                _ => None,
            };
            ops.iter().filter_map(value).collect()
        };
        match &self.op {
            Op::Put(put) => vec![put.value.clone()],
            Op::Txn(txn) => [of(&txn.success), of(&txn.failure)].concat(),
            _ => Vec::new(),
        }
    }

    /// Whether it may make a revision.
    pub fn may_write(&self) -> bool {
        match &self.op {
            Op::Put(_) | Op::Delete(_) => true,
            Op::Txn(txn) => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                ops.any(|op| !matches!(op.request, Some(Request::RequestRange(_))))
            }
            _ => false,
        }
    }

    /// For messages: who, when and what, without the values' bulk.
    pub fn brief(&self) -> String {
        let mut what = format!("{:?}", self.op);
        if what.len() > 300 {
            what.truncate((0..=300).rev().find(|at| what.is_char_boundary(*at)).unwrap_or(0));
            what.push('…');
        }
        format!("client {} at {:?}..{:?}: {what}", self.client, self.begun, self.ended)
    }
}
