//! Reads outside the log: the index is walked in steps, so that a long list neither blocks writers nor is read under
//! one lock; the revision it reads at stays pinned until the answer is made.

use std::collections::VecDeque;

use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::request_op::Request as Op;
use keepstone_proto::etcdserverpb::response_op::Response as Answer;
use keepstone_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseOp, TxnRequest, TxnResponse};
use keepstone_state::range::{Fetch, Plan};
use keepstone_state::{Error, Foresight, Revision, State};
use tonic::Status;

use super::error::status;
use crate::core::Core;
use crate::pins::Pin;

/// Keys looked up under one hold of the state's lock.
const STEP_KEYS: usize = 1024;
/// Bytes of values read before other requests of the thread get a turn.
const STEP_BYTES: usize = 1 << 20;

/// A Range that is being read: what it will answer, and the pin on its revision.
pub struct Reading<'a> {
    core: &'a Core,
    pub plan: Plan<'a>,
    _pin: Pin,
    after: Option<Box<[u8]>>,
    left: usize,
    done: bool,
    /// Looked up but not read yet.
    places: VecDeque<Revision>,
}

impl<'a> Reading<'a> {
    /// # Errors
    /// The revision is compacted or not there yet.
    pub fn start(core: &'a Core, request: &'a RangeRequest) -> Result<Self, Error> {
        Self::under(&core.state.read(), core, request)
    }

    /// As [`Self::start`], on the state that the caller has locked.
    ///
    /// # Errors
    /// The revision is compacted or not there yet.
    pub fn under(state: &State, core: &'a Core, request: &'a RangeRequest) -> Result<Self, Error> {
        let plan = Plan::new(request, state.revision(), state.compact_revision())?;
        let pin = core.pins.pin(plan.at);
        let left = match plan.fetch {
            Fetch::Nothing => 0,
            Fetch::First(n) => n,
            Fetch::All => usize::MAX,
        };
        Ok(Self { core, plan, _pin: pin, after: None, left, done: left == 0, places: VecDeque::new() })
    }

    /// Looks up the next keys' places in history.
    fn look_up(&mut self) {
        // At an old revision a step may pass over dead keys alone: only a scan without `next` is the end.
        while !self.done && self.places.is_empty() {
            let want = STEP_KEYS.min(self.left);
            let scan = self.core.state.read().scan(self.plan.keys, self.plan.at, self.after.as_deref(), want);
            self.left -= scan.found.len();
            self.after = scan.next;
            self.done = self.left == 0 || self.after.is_none();
            self.places.extend(scan.found);
        }
    }

    /// The values of the next keys: up to `keys` of them, and no more once they have `bytes`; empty at the end.
    ///
    /// # Errors
    /// A store that can't be read ends the member: the caller gets no answer made without it.
    pub async fn next_values(&mut self, keys: usize, bytes: usize) -> Result<Vec<KeyValue>, Status> {
        let (mut values, mut have) = (Vec::new(), 0);
        while values.len() < keys && have < bytes {
            if self.places.is_empty() {
                self.look_up();
            }
            let Some(at) = self.places.pop_front() else { break };
            let kv = self.core.values.get(at).await.map_err(|error| self.core.fail(&error.to_string()))?;
            have += kv.raw().len();
            values.push(kv);
        }
        Ok(values)
    }

    /// How many keys the range holds at its revision, whatever is fetched of them.
    pub async fn count(&self) -> usize {
        let mut after: Option<Box<[u8]>> = None;
        let mut count = 0;
        loop {
            let tally =
                self.core.state.read().count_some(self.plan.keys, self.plan.at, after.as_deref(), STEP_KEYS * 16);
            count += tally.found;
            after = tally.next;
            if after.is_none() {
                return count;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Answers a Range all at once.
///
/// # Errors
/// etcd's status for a revision that can't be read.
pub async fn range(core: &Core, request: &RangeRequest) -> Result<RangeResponse, Status> {
    let reading = Reading::start(core, request).map_err(|error| status(&error))?;
    finish(reading).await
}

async fn finish(mut reading: Reading<'_>) -> Result<RangeResponse, Status> {
    let count = reading.count().await;
    let mut kvs = Vec::with_capacity(reading.left.min(count));
    loop {
        let values = reading.next_values(STEP_KEYS, STEP_BYTES).await?;
        if values.is_empty() {
            return Ok(reading.plan.finish(kvs, count));
        }
        kvs.extend(values.into_iter().filter(|kv| reading.plan.wants(kv)));
        if !reading.done {
            tokio::task::yield_now().await;
        }
    }
}

/// Answers a txn that only reads. Its compares are decided and its revisions pinned in one moment; the ranges are then
/// read as any other.
///
/// # Errors
/// etcd's status for a revision that can't be read.
pub async fn read_txn(core: &Core, txn: &TxnRequest) -> Result<TxnResponse, Status> {
    let head = TxnRequest { compare: txn.compare.clone(), ..Default::default() };
    // What the compares read is brought into memory before the state is locked; what is written since is there.
    let places = {
        let state = core.state.read();
        let mut foresight = Foresight::new(&state);
        foresight.txn(&head);
        foresight.places()
    };
    let ahead = core.values.ahead(places).await.map_err(|error| core.fail(&error.to_string()))?;
    let (mut response, readings) = {
        let state = core.state.read();
        let decided = state.read_txn(&head, &ahead).map_err(|error| core.fail(&error.to_string()))?;
        let response = decided.map_err(|error| status(&error))?;
        let ops = if response.succeeded { &txn.success } else { &txn.failure };
        let ranges = ops.iter().filter_map(|op| match &op.request {
            Some(Op::RequestRange(range)) => Some(range),
            _ => None,
        });
        // Inside a txn a revision below zero is one that is gone, not the current one.
        let reading = |range: &'_ RangeRequest| if range.revision < 0 { Err(Error::Compacted) } else { Ok(()) };
        let readings = ranges
            .map(|range| reading(range).and_then(|()| Reading::under(&state, core, range)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| status(&error))?;
        (response, readings)
    };
    for reading in readings {
        let range = finish(reading).await?;
        response.responses.push(ResponseOp { response: Some(Answer::ResponseRange(range)) });
    }
    Ok(response)
}
