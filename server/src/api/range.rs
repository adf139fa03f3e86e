//! Reads outside the log: the index is walked in steps, so that a long list neither blocks writers nor is read under
//! one lock; the revision it reads at stays pinned until the answer is made.

use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keepstone_state::range::{Fetch, Plan};
use keepstone_state::{Error, Records, Revision};
use tonic::Status;

use super::error::status;
use crate::core::Core;
use crate::pins::Pin;

/// Keys looked up under one hold of the state's lock.
const STEP_KEYS: usize = 1024;

/// A Range that is being read: what it will answer, and the pin on its revision.
pub struct Reading<'a> {
    core: &'a Core,
    pub plan: Plan<'a>,
    _pin: Pin,
    after: Option<Box<[u8]>>,
    left: usize,
    done: bool,
}

impl<'a> Reading<'a> {
    /// # Errors
    /// The revision is compacted or not there yet.
    pub fn start(core: &'a Core, request: &'a RangeRequest) -> Result<Self, Error> {
        let state = core.state.read();
        let plan = Plan::new(request, state.revision(), state.compact_revision())?;
        let pin = core.pins.pin(plan.at);
        let left = match plan.fetch {
            Fetch::Nothing => 0,
            Fetch::First(n) => n,
            Fetch::All => usize::MAX,
        };
        Ok(Self { core, plan, _pin: pin, after: None, left, done: left == 0 })
    }

    /// The next keys' places in history, at most `max`; empty at the end.
    pub fn next_places(&mut self, max: usize) -> Vec<Revision> {
        // At an old revision a step may pass over dead keys alone: only a scan without `next` is the end.
        while !self.done {
            let want = max.min(self.left);
            let scan = self.core.state.read().scan(self.plan.keys, self.plan.at, self.after.as_deref(), want);
            self.left -= scan.found.len();
            self.after = scan.next;
            self.done = self.left == 0 || self.after.is_none();
            if !scan.found.is_empty() {
                return scan.found;
            }
        }
        Vec::new()
    }

    /// The value recorded at a place.
    ///
    /// # Errors
    /// A store that can't be read ends the member: the caller gets no answer made without it.
    pub fn value(&self, at: Revision) -> Result<KeyValue, Status> {
        self.core.records.get(at).map_err(|error| self.core.fail(&error.to_string()))
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
    let mut reading = Reading::start(core, request).map_err(|error| status(&error))?;
    let count = reading.count().await;
    let mut kvs = Vec::with_capacity(reading.left.min(count));
    loop {
        let places = reading.next_places(STEP_KEYS);
        if places.is_empty() {
            break;
        }
        for at in places {
            let kv = reading.value(at)?;
            if reading.plan.wants(&kv) {
                kvs.push(kv);
            }
        }
        if !reading.done {
            tokio::task::yield_now().await;
        }
    }
    Ok(reading.plan.finish(kvs, count))
}
