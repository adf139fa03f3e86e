//! What is wrong with a KV request by itself, whatever is stored. The API door asks before it proposes; apply does
//! not ask again, and is safe on a request that never passed here.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, range_request::SortOrder,
    range_request::SortTarget, request_op::Request,
};

use crate::error::Error;

/// # Errors
/// [`Error::EmptyKey`], [`Error::InvalidSortOption`].
pub fn check_range(range: &RangeRequest) -> Result<(), Error> {
    if range.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let order = SortOrder::try_from(range.sort_order);
    let target = SortTarget::try_from(range.sort_target);
    if order.is_err() || target.is_err() {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// # Errors
/// [`Error::EmptyKey`], [`Error::ValueProvided`], [`Error::LeaseProvided`].
pub fn check_put(put: &PutRequest) -> Result<(), Error> {
    if put.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// # Errors
/// [`Error::EmptyKey`].
pub fn check_delete(delete: &DeleteRangeRequest) -> Result<(), Error> {
    if delete.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// `max_ops` bounds the longest of compares and the two branches; a nested txn gets what its parent leaves of it.
///
/// # Errors
/// [`Error::TooManyOps`], what is wrong with an operation, then [`Error::DuplicateKey`].
pub fn check_txn(txn: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    check_ops(txn, max_ops)?;
    // Only now: the bound on operations keeps this from being slow.
    changes(&txn.success)?;
    changes(&txn.failure)?;
    Ok(())
}

fn check_ops(txn: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    let widest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = max_ops.checked_sub(widest).ok_or(Error::TooManyOps)?;
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete(delete)?,
            Some(Request::RequestTxn(txn)) => check_ops(txn, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What one branch of a txn changes.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// Refuses a key that is put twice, or put and deleted, in one branch. Both branches of a nested txn count, but not
/// against each other. As in etcd, a nested delete is seen only by what comes after it, or is of the level above,
/// and the end `"\0"` is taken for the key it spells.
fn changes(ops: &[RequestOp]) -> Result<Changes<'_>, Error> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            let end = match &*delete.range_end {
                [] => after(&delete.key),
                end => end.to_vec(),
            };
            all.deletes.insert(&delete.key, Some(end));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(txn)) = &op.request {
            let (then, other) = (changes(&txn.success)?, changes(&txn.failure)?);
            let shared: BTreeSet<_> = then.puts.intersection(&other.puts).copied().collect();
            for key in then.puts {
                all.put(key)?;
            }
            for key in other.puts {
                if !shared.contains(key) {
                    all.put(key)?;
                }
            }
            all.deletes.union(then.deletes);
            all.deletes.union(other.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

impl<'a> Changes<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// The smallest key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// A set of keys made of half-open intervals, kept apart and in order. An end of `None` is past every key.
#[derive(Default)]
pub(crate) struct Intervals<'a>(BTreeMap<&'a [u8], Option<Vec<u8>>>);

impl<'a> Intervals<'a> {
    pub(crate) fn insert(&mut self, start: &'a [u8], end: Option<Vec<u8>>) {
        if end.as_ref().is_some_and(|end| &**end <= start) {
            return;
        }
        let (mut start, mut end) = (start, end);
        if let Some((left, upto)) = self.0.range(..=start).next_back()
            && upto.as_ref().is_none_or(|upto| &**upto >= start)
        {
            start = left;
        }
        while let Some((next, upto)) = self.0.range(start..).next() {
            if end.as_ref().is_some_and(|end| *next > &**end) {
                break;
            }
            let longer = upto.is_none() || end.is_some() && *upto > end;
            let next = *next;
            let upto = self.0.remove(next).flatten();
            if longer {
                end = upto;
            }
        }
        self.0.insert(start, end);
    }

    fn union(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let before = self.0.range(..=key).next_back();
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < &**end))
    }
}
