//! Reads outside the log: the index is walked in steps, so that a long list neither blocks writers nor is read under
//! one lock; the revision it reads at stays pinned until the answer is made.

pub mod allowance;
pub mod body;
mod list;
mod sorted;
#[cfg(test)]
pub mod tests;
mod unary;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;

use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::request_op::Request as Op;
use keepstone_proto::etcdserverpb::response_op::Response as Answer;
use keepstone_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseOp, TxnRequest, TxnResponse};
use keepstone_state::range::{Fetch, Plan};
use keepstone_state::{Error, Foresight, RecordError, Records, Revision, State};
use tonic::Status;

use super::error::status;
pub use unary::{Answer as Answered, Large, answer};
pub use write::Format;

use crate::core::Core;
use crate::pins::Pin;
use crate::values::Ahead;

/// Keys looked up under one hold of the state's lock.
const STEP_KEYS: usize = 1024;
/// Bytes of values read before other requests of the thread get a turn.
const STEP_BYTES: usize = 256 << 10;

/// Bytes of key-values that the ranges of one read-only txn answer with, all together. Its answer is made in memory;
/// longer lists are for Range.
const TXN_BYTES: usize = 64 << 20;

/// Where a read stands: what it goes on after, and what it has looked up but not read yet.
#[derive(Clone, Debug, Default)]
pub struct Position {
    after: Option<Box<[u8]>>,
    left: usize,
    /// Nothing is left to look up.
    looked_up: bool,
    places: VecDeque<Revision>,
}

/// A Range that is being read: what it will answer, and the pin on its revision.
pub struct Reading<'a> {
    core: &'a Core,
    pub plan: Plan<'a>,
    pin: Arc<Pin>,
    position: Position,
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
        let pin = Arc::new(core.pins.pin_list(plan.at));
        let left = match plan.fetch {
            Fetch::Nothing => 0,
            Fetch::First(n) => n,
            Fetch::All => usize::MAX,
        };
        let position = Position { left, looked_up: left == 0, ..Position::default() };
        Ok(Self { core, plan, pin, position })
    }

    /// Goes on where another reading of the same request stood, under its pin.
    pub fn resume(core: &'a Core, plan: Plan<'a>, pin: Arc<Pin>, position: Position) -> Self {
        Self { core, plan, pin, position }
    }

    pub fn position(&self) -> Position {
        self.position.clone()
    }

    pub fn pin(&self) -> Arc<Pin> {
        self.pin.clone()
    }

    fn is_done(&self) -> bool {
        self.position.looked_up && self.position.places.is_empty()
    }

    /// Looks up the next keys' places in history.
    fn look_up(&mut self) -> Result<(), Status> {
        let at = &mut self.position;
        // At an old revision a step may pass over dead keys alone: only a scan without `next` is the end.
        while !at.looked_up && at.places.is_empty() {
            let want = STEP_KEYS.min(at.left);
            let state = self.core.state.read();
            if self.pin.is_revoked() {
                return Err(status(&Error::Compacted));
            }
            let scan = state.scan(self.plan.keys, self.plan.at, at.after.as_deref(), want);
            drop(state);
            at.left -= scan.found.len();
            at.after = scan.next;
            at.looked_up = at.left == 0 || at.after.is_none();
            at.places.extend(scan.found);
        }
        Ok(())
    }

    /// The values of the next keys: up to `keys` of them, and no more once they have `bytes`; empty at the end.
    ///
    /// # Errors
    /// A store that can't be read ends the member: the caller gets no answer made without it. A pin that was revoked
    /// makes the revision a compacted one.
    pub async fn next_values(&mut self, keys: usize, bytes: usize) -> Result<Vec<KeyValue>, Status> {
        let (mut values, mut have) = (Vec::new(), 0);
        while values.len() < keys && have < bytes {
            let Some(at) = self.next_place()? else { break };
            let kv = self.core.values.get(at).await.map_err(|error| failed(self.core, &self.pin, &error))?;
            have += kv.raw().len();
            values.push(kv);
        }
        Ok(values)
    }

    /// As [`Self::next_values`], for a thread that may wait for the disk.
    ///
    /// # Errors
    /// As [`Self::next_values`].
    pub fn next_values_here(&mut self, keys: usize, bytes: usize) -> Result<Vec<KeyValue>, Status> {
        let (mut values, mut have) = (Vec::new(), 0);
        while values.len() < keys && have < bytes {
            let Some(at) = self.next_place()? else { break };
            let kv = get_here(self.core, &self.pin, at)?;
            have += kv.raw().len();
            values.push(kv);
        }
        Ok(values)
    }

    fn next_place(&mut self) -> Result<Option<Revision>, Status> {
        if self.position.places.is_empty() {
            self.look_up()?;
        }
        Ok(self.position.places.pop_front())
    }

    /// The places in history of the next keys; empty at the end.
    ///
    /// # Errors
    /// A pin that was revoked makes the revision a compacted one.
    pub fn next_places(&mut self) -> Result<VecDeque<Revision>, Status> {
        if self.position.places.is_empty() {
            self.look_up()?;
        }
        Ok(std::mem::take(&mut self.position.places))
    }

    /// How many keys the range holds at its revision, whatever is fetched of them.
    ///
    /// # Errors
    /// As [`Self::next_places`].
    pub async fn count(&self) -> Result<usize, Status> {
        let mut after: Option<Box<[u8]>> = None;
        let mut count = 0;
        loop {
            let tally = {
                let state = self.core.state.read();
                if self.pin.is_revoked() {
                    return Err(status(&Error::Compacted));
                }
                state.count_some(self.plan.keys, self.plan.at, after.as_deref(), STEP_KEYS * 16)
            };
            count += tally.found;
            after = tally.next;
            if after.is_none() {
                return Ok(count);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// A record that was looked up under a pin, for a thread that may wait for the disk.
///
/// # Errors
/// As [`Reading::next_values`].
pub fn get_here(core: &Core, pin: &Pin, at: Revision) -> Result<KeyValue, Status> {
    core.records.get(at).map_err(|error| failed(core, pin, &error))
}

/// What to tell of a record that was looked up under a pin and can't be had.
fn failed(core: &Core, pin: &Pin, error: &RecordError) -> Status {
    match error {
        RecordError::Missing(_) if pin.is_revoked() => status(&Error::Compacted),
        error => core.fail(&error.to_string()),
    }
}

/// Reads a whole range into memory, if it fits into `room` bytes: for the ranges of a txn.
async fn finish(mut reading: Reading<'_>, room: &mut usize) -> Result<RangeResponse, Status> {
    let count = reading.count().await?;
    let mut kvs = Vec::new();
    loop {
        let values = reading.next_values(STEP_KEYS, STEP_BYTES).await?;
        if values.is_empty() {
            return Ok(reading.plan.finish(kvs, count));
        }
        for kv in values.into_iter().filter_map(|kv| reading.plan.keep(kv)) {
            *room = room.checked_sub(kv.raw().len()).ok_or_else(|| status(&Error::RequestTooLarge))?;
            kvs.push(kv);
        }
        if !reading.is_done() {
            tokio::task::yield_now().await;
        }
    }
}

/// What a txn's compares read, in memory.
async fn ahead_of(core: &Core, head: &TxnRequest) -> Result<Ahead, Status> {
    loop {
        let (places, of) = {
            let state = core.state.read();
            let mut foresight = Foresight::new(&state);
            foresight.txn(head);
            (foresight.places(), (core.epoch(), state.compact_revision()))
        };
        match core.values.ahead(places).await {
            Ok(ahead) => return Ok(ahead),
            // Overwritten and compacted since, or the state was replaced: what is read now is elsewhere.
            Err(RecordError::Missing(_)) if (core.epoch(), core.compact_revision()) != of => {}
            Err(error) => return Err(core.fail(&error.to_string())),
        }
    }
}

/// Answers a txn that only reads. Its compares are decided and its revisions pinned in one moment; the ranges are then
/// read as any other.
///
/// # Errors
/// etcd's status for a revision that can't be read, and for more than [`TXN_BYTES`].
pub async fn read_txn(core: &Core, txn: &TxnRequest) -> Result<TxnResponse, Status> {
    let head = TxnRequest { compare: txn.compare.clone(), ..Default::default() };
    // What the compares read is brought into memory before the state is locked; what is written since is there.
    let ahead = ahead_of(core, &head).await?;
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
    let mut room = TXN_BYTES;
    for reading in readings {
        let range = finish(reading, &mut room).await?;
        response.responses.push(ResponseOp { response: Some(Answer::ResponseRange(range)) });
    }
    Ok(response)
}
