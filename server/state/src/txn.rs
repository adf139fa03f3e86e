//! Transactions.
//!
//! All conditions, nested ones too, are decided on the state before the transaction. Then every operation of the
//! chosen branches is checked, so that nothing is written unless all of it can be; then they run in order, and reads
//! see the writes before them.
//!
//! How deep transactions nest is bounded by the decoder, at 50 levels.

use keepstone_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    request_op::Request, response_op::Response,
};

use crate::{
    check::Intervals,
    compare,
    error::Error,
    keys::Keys,
    kv::{MAX_CHANGES, Writer},
    lease::Leases,
    range,
    types::{LeaseId, RecordError},
    view::{Fault, View},
};

/// Whether a txn only reads, and needs no entry of the log. As in etcd a nested txn counts as a write, whatever is in
/// it; and a txn without operations only reads.
pub fn is_read_only(txn: &TxnRequest) -> bool {
    ops(txn).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a txn consists of serializable reads alone, which need no leader.
pub fn is_serializable(txn: &TxnRequest) -> bool {
    ops(txn).all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn ops(txn: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    txn.success.iter().chain(&txn.failure)
}

/// Answers a txn that only reads.
///
/// # Errors
/// What the check of a chosen operation says; [`Error::NotCapable`] for a txn that writes.
pub(crate) fn read(txn: &TxnRequest, view: &View<'_>, leases: &Leases) -> Result<TxnResponse, Fault> {
    let path = decide(txn, view)?;
    Check::new(view, leases).txn(txn, &mut path.iter())?;
    let mut response = run(txn, &mut path.iter(), &mut Reader(view))?;
    response.header = range::header(view.current);
    Ok(response)
}

/// Applies a txn. The caller finishes the writer; if this is an error, nothing was changed.
///
/// # Errors
/// What the check of a chosen operation says.
pub(crate) fn write(txn: &TxnRequest, writer: &mut Writer<'_>) -> Result<TxnResponse, Fault> {
    let path = decide(txn, &writer.view())?;
    Check::new(&writer.view(), writer.leases()).txn(txn, &mut path.iter())?;
    let mut response = run(txn, &mut path.iter(), writer)?;
    response.header = range::header(writer.seen());
    Ok(response)
}

/// Which branch was chosen of the txn, then of each txn nested in that branch, in order, all the way down.
fn decide(txn: &TxnRequest, view: &View<'_>) -> Result<Vec<bool>, RecordError> {
    let mut path = Vec::with_capacity(1);
    decide_into(txn, view, &mut path)?;
    Ok(path)
}

fn decide_into(txn: &TxnRequest, view: &View<'_>, path: &mut Vec<bool>) -> Result<(), RecordError> {
    let mut succeeded = true;
    for condition in &txn.compare {
        if !compare::holds(condition, view)? {
            succeeded = false;
            break;
        }
    }
    path.push(succeeded);
    for op in branch(txn, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            decide_into(nested, view, path)?;
        }
    }
    Ok(())
}

type Path<'a> = std::slice::Iter<'a, bool>;

fn branch(txn: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn follow(path: &mut Path<'_>) -> bool {
    *path.next().expect("the path was made by the same walk over the same txn")
}

/// Checks the operations of the chosen branches against the state before the txn.
struct Check<'a> {
    view: &'a View<'a>,
    leases: &'a Leases,
    /// What was deleted on the way.
    deleted: Intervals<'a>,
    changes: usize,
}

impl<'a> Check<'a> {
    fn new(view: &'a View<'a>, leases: &'a Leases) -> Self {
        Self { view, leases, deleted: Intervals::default(), changes: 0 }
    }

    fn txn(&mut self, txn: &'a TxnRequest, path: &mut Path<'_>) -> Result<(), Error> {
        for op in branch(txn, follow(path)) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.range(range)?,
                Some(Request::RequestPut(put)) => self.put(put)?,
                Some(Request::RequestDeleteRange(delete)) => self.delete(delete),
                Some(Request::RequestTxn(nested)) => self.txn(nested, path)?,
                None => {}
            }
            if self.changes > MAX_CHANGES {
                return Err(Error::RequestTooLarge);
            }
        }
        Ok(())
    }

    /// As in etcd a negative revision is refused here once it is below the compact revision, although a Range by
    /// itself takes it for "now".
    fn range(&self, range: &RangeRequest) -> Result<(), Error> {
        match range.revision {
            0 => Ok(()),
            revision if revision > self.view.current => Err(Error::FutureRevision),
            revision if revision < self.view.floor => Err(Error::Compacted),
            _ => Ok(()),
        }
    }

    /// The key before the lease: the other way round than a Put by itself.
    fn put(&mut self, put: &PutRequest) -> Result<(), Error> {
        self.changes += 1;
        let refers = put.ignore_value || put.ignore_lease;
        // A delete up to "\0" gets past the check for duplicate keys. etcd panics on what may follow from it.
        if refers && (self.view.index.get(&put.key).is_none() || self.deleted.contains(&put.key)) {
            return Err(Error::KeyNotFound);
        }
        if put.lease != 0 {
            self.leases.admit(LeaseId(put.lease))?;
        }
        Ok(())
    }

    fn delete(&mut self, delete: &'a DeleteRangeRequest) {
        let keys = Keys::new(&delete.key, &delete.range_end);
        self.changes += self.view.index.count_live(keys);
        let end = match keys {
            Keys::One(key) => Some([key, &[0]].concat()),
            Keys::From(_) => None,
            Keys::Between(_, end) => Some(end.to_vec()),
        };
        self.deleted.insert(keys.start(), end);
    }
}

/// What operations run on.
trait Target {
    fn range(&self, range: &RangeRequest) -> Result<Response, Fault>;
    fn put(&mut self, put: &PutRequest) -> Result<Response, Fault>;
    fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<Response, Fault>;
}

impl Target for Writer<'_> {
    fn range(&self, range: &RangeRequest) -> Result<Response, Fault> {
        range::answer(range, &self.view()).map(Response::ResponseRange)
    }

    fn put(&mut self, put: &PutRequest) -> Result<Response, Fault> {
        Writer::put(self, put).map(Response::ResponsePut)
    }

    fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<Response, Fault> {
        Writer::delete_range(self, delete).map(Response::ResponseDeleteRange)
    }
}

struct Reader<'a>(&'a View<'a>);

impl Target for Reader<'_> {
    fn range(&self, range: &RangeRequest) -> Result<Response, Fault> {
        range::answer(range, self.0).map(Response::ResponseRange)
    }

    fn put(&mut self, _: &PutRequest) -> Result<Response, Fault> {
        Err(Error::NotCapable.into())
    }

    fn delete_range(&mut self, _: &DeleteRangeRequest) -> Result<Response, Fault> {
        Err(Error::NotCapable.into())
    }
}

/// Runs the chosen branch. The header of a nested answer stays empty, as in etcd.
fn run(txn: &TxnRequest, path: &mut Path<'_>, target: &mut impl Target) -> Result<TxnResponse, Fault> {
    let succeeded = follow(path);
    let ops = branch(txn, succeeded);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Some(target.range(range)?),
            Some(Request::RequestPut(put)) => Some(target.put(put)?),
            Some(Request::RequestDeleteRange(delete)) => Some(target.delete_range(delete)?),
            Some(Request::RequestTxn(nested)) => Some(Response::ResponseTxn(run(nested, path, target)?)),
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
}
