//! Which values a run of requests may read that were stored before it. Asked before the run is applied, so that they can
//! be brought into memory first and nothing waits for a disk while the state is locked.
//!
//! It may name values that are not read in the end: of the branch that a txn does not take, or of a key that the run
//! overwrites first. It leaves none out, but for those past [`MAX_PLACES`].

use keepstone_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::CompareTarget, request_op::Request,
};

use crate::{
    keys::Keys,
    range::{Fetch, Plan},
    state::State,
    types::{LeaseId, Revision},
};

/// Values that are named for one run at most. What a longer answer reads beyond it is read while it is made.
pub const MAX_PLACES: usize = 1 << 17;

/// Whether applying a request may read a value that was stored before. A look at the request alone.
#[must_use]
pub fn reads_values(request: &InternalRaftRequest) -> bool {
    request.range.is_some()
        || request.put.as_ref().is_some_and(put_reads)
        || request.delete_range.as_ref().is_some_and(|delete| delete.prev_kv)
        || request.txn.as_ref().is_some_and(txn_reads)
}

fn put_reads(put: &PutRequest) -> bool {
    put.prev_kv || put.ignore_value || put.ignore_lease
}

fn txn_reads(txn: &TxnRequest) -> bool {
    txn.compare.iter().any(compare_reads) || txn.success.iter().chain(&txn.failure).any(op_reads)
}

fn op_reads(op: &RequestOp) -> bool {
    match &op.request {
        Some(Request::RequestRange(_)) => true,
        Some(Request::RequestPut(put)) => put_reads(put),
        Some(Request::RequestDeleteRange(delete)) => delete.prev_kv,
        Some(Request::RequestTxn(nested)) => txn_reads(nested),
        None => false,
    }
}

/// Versions and revisions are in the index; values and leases are not.
fn compare_reads(compare: &Compare) -> bool {
    compare.target == CompareTarget::Value as i32 || compare.target == CompareTarget::Lease as i32
}

/// What the requests of a run, handed to [`Foresight::add`] in their order, may read.
pub struct Foresight<'a> {
    state: &'a State,
    places: Vec<Revision>,
    /// Keys that the requests so far may have deleted: so many more a Range with a limit may look at.
    deleted: usize,
}

impl<'a> Foresight<'a> {
    /// `state` is the one before the run.
    #[must_use]
    pub fn new(state: &'a State) -> Self {
        Self { state, places: Vec::new(), deleted: 0 }
    }

    /// The next request of the run.
    pub fn add(&mut self, request: &InternalRaftRequest) {
        if let Some(range) = &request.range {
            self.range(range);
        } else if let Some(put) = &request.put {
            self.put(put);
        } else if let Some(delete) = &request.delete_range {
            self.delete(delete);
        } else if let Some(txn) = &request.txn {
            self.txn(txn);
        } else if let Some(revoke) = &request.lease_revoke {
            self.lease(revoke.id);
        } else if let Some(expire) = &request.lease_expire {
            expire.ids.iter().for_each(|id| self.lease(*id));
        }
    }

    /// The conditions of a txn, nested ones too, and all that its operations may read, whichever are chosen.
    pub fn txn(&mut self, txn: &TxnRequest) {
        for compare in txn.compare.iter().filter(|compare| compare_reads(compare)) {
            self.live(Keys::new(&compare.key, &compare.range_end));
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.range(range),
                Some(Request::RequestPut(put)) => self.put(put),
                Some(Request::RequestDeleteRange(delete)) => self.delete(delete),
                Some(Request::RequestTxn(nested)) => self.txn(nested),
                None => {}
            }
        }
    }

    /// Where the values are, in the order of their naming, some perhaps twice.
    #[must_use]
    pub fn places(self) -> Vec<Revision> {
        self.places
    }

    fn room(&self) -> usize {
        MAX_PLACES.saturating_sub(self.places.len())
    }

    fn live(&mut self, keys: Keys<'_>) {
        let (index, room) = (&self.state.kv.index, self.room());
        match keys {
            Keys::One(key) => self.places.extend(index.get(key).filter(|_| room > 0).map(|head| head.modified())),
            keys => self.places.extend(index.live(keys).take(room).map(|(_, head)| head.modified())),
        }
    }

    fn put(&mut self, put: &PutRequest) {
        if put_reads(put) {
            self.live(Keys::One(&put.key));
        }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) {
        let keys = Keys::new(&delete.key, &delete.range_end);
        if delete.prev_kv {
            self.live(keys);
        }
        self.deleted = self.deleted.saturating_add(self.state.kv.index.count_live(keys));
    }

    fn lease(&mut self, id: i64) {
        let keys = self.state.leases.get(LeaseId(id)).map_or(0, |lease| lease.keys().len());
        self.deleted = self.deleted.saturating_add(keys);
    }

    fn range(&mut self, range: &RangeRequest) {
        let kv = &self.state.kv;
        // A revision that the run has yet to make is the current one for what was there before.
        let Ok(plan) = Plan::new(range, kv.revision.max(range.revision), kv.floor) else { return };
        let past = plan.at < kv.revision;
        let wanted = match plan.fetch {
            Fetch::Nothing => 0,
            Fetch::First(n) if past => n,
            Fetch::First(n) => n.saturating_add(self.deleted),
            Fetch::All => usize::MAX,
        };
        let mut left = wanted.min(self.room());
        if !past {
            self.places.extend(kv.index.live(plan.keys).take(left).map(|(_, head)| head.modified()));
            return;
        }
        let mut after: Option<Box<[u8]>> = None;
        while left > 0 {
            let scan = kv.index.scan(plan.keys, plan.at, after.as_deref(), left);
            left -= scan.found.len();
            self.places.extend(scan.found);
            after = scan.next;
            if after.is_none() {
                break;
            }
        }
    }
}
