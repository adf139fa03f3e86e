//! The one way in for a write: request -> log entry -> answer.
//!
//! Requests that arrive while earlier batches are on their way to disk become one batch, one log entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use keepstone_proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use keepstone_state::{Error, Reply};
use openraft::error::ClientWriteError;
use tokio::sync::{Semaphore, mpsc};

use crate::lanes::{Lanes, Waiter};
use crate::raft::types::{Callback, Proposal, Raft, Replies, Request, TypeConfig};

/// Batches on their way at once: one being synced, one being filled behind it.
const BATCHES_IN_FLIGHT: usize = 2;
/// How often a held-back batch looks whether it may go.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Requests and bytes of one batch at most. A single larger request is a batch of its own.
const BATCH_REQUESTS: usize = 2048;
const BATCH_BYTES: usize = 1 << 20;
/// Requests and bytes that may wait for an answer; past either the caller gets `too many requests`.
const PENDING_REQUESTS: usize = 65_536;
const PENDING_BYTES: usize = 256 << 20;

/// What a proposal came to.
pub type Answer = Result<Reply, Error>;

struct Pending {
    request: Request,
    waiter: Waiter<Answer>,
    load: Load,
}

/// This request's share of the pending bounds, given back when it is answered or dropped.
struct Load {
    gauge: Arc<Gauge>,
    bytes: usize,
}

#[derive(Default)]
struct Gauge {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Gauge {
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Load> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let load = Load { gauge: self.clone(), bytes };
        (requests < PENDING_REQUESTS && before + bytes <= PENDING_BYTES).then_some(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.gauge.requests.fetch_sub(1, Ordering::Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes requests from every connection thread. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    tx: mpsc::UnboundedSender<Pending>,
    gauge: Arc<Gauge>,
    next_id: Arc<AtomicU64>,
    timeout: Duration,
    max_request_bytes: usize,
}

impl Proposer {
    /// `first_id` must differ between runs of a member, so that request IDs are not used twice.
    /// `timeout` is etcd's request timeout; `max_request_bytes` bounds one encoded request.
    pub fn new(first_id: u64, timeout: Duration, max_request_bytes: usize) -> (Self, Batcher) {
        let (tx, rx) = mpsc::unbounded_channel();
        let next_id = Arc::new(AtomicU64::new(first_id));
        let this = Self { tx, gauge: Arc::default(), next_id, timeout, max_request_bytes };
        (this, Batcher { rx })
    }

    /// Proposes one request and waits until it is applied here.
    ///
    /// # Errors
    /// The state machine's own answer, or `RequestTooLarge`, `TooManyRequests`, `Timeout` (the outcome is then
    /// unknown), `Stopped`.
    pub async fn propose(&self, mut decoded: InternalRaftRequest) -> Answer {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        decoded.header.get_or_insert_with(RequestHeader::default).id = id;
        let request = Request::new(decoded);
        if request.encoded.len() > self.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let Some(load) = self.gauge.take(request.encoded.len()) else {
            return Err(Error::TooManyRequests);
        };
        let (waiter, answer) = Waiter::new();
        if self.tx.send(Pending { request, waiter, load }).is_err() {
            return Err(Error::Stopped);
        }
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Requests that wait for their answer now.
    pub fn pending(&self) -> usize {
        self.gauge.requests.load(Ordering::Relaxed)
    }
}

/// The task that turns waiting requests into log entries. Runs beside Raft until the proposers are gone.
pub struct Batcher {
    rx: mpsc::UnboundedReceiver<Pending>,
}

impl Batcher {
    /// `must_wait` says that the checkpoints have fallen too far behind: nothing new is proposed meanwhile.
    pub async fn run(mut self, raft: Raft, lanes: Lanes, must_wait: impl Fn() -> bool + Send + 'static) {
        let in_flight = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT));
        let mut carried = None;
        while let Ok(permit) = in_flight.clone().acquire_owned().await {
            while must_wait() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let Some((requests, waiters)) = self.next_batch(&mut carried).await else {
                return;
            };
            let lanes = lanes.clone();
            let done = Callback::new(move |result: openraft::raft::ClientWriteResult<TypeConfig>| {
                drop(permit);
                answer(&lanes, waiters, result);
            });
            let proposal = Proposal { requests: requests.into() };
            if raft.client_write_ff(proposal, Some(done)).await.is_err() {
                // Raft has stopped: the callback is dropped, every waiter learns it from its closed channel.
                return;
            }
        }
    }

    async fn next_batch(
        &mut self,
        carried: &mut Option<Pending>,
    ) -> Option<(Vec<Request>, Vec<(Waiter<Answer>, Load)>)> {
        let first = match carried.take() {
            Some(pending) => pending,
            None => self.rx.recv().await?,
        };
        let mut bytes = first.request.encoded.len();
        let mut requests = vec![first.request];
        let mut waiters = vec![(first.waiter, first.load)];
        while requests.len() < BATCH_REQUESTS {
            let Ok(next) = self.rx.try_recv() else { break };
            bytes += next.request.encoded.len();
            if bytes > BATCH_BYTES {
                *carried = Some(next);
                break;
            }
            requests.push(next.request);
            waiters.push((next.waiter, next.load));
        }
        Some((requests, waiters))
    }
}

fn answer(lanes: &Lanes, waiters: Vec<(Waiter<Answer>, Load)>, result: openraft::raft::ClientWriteResult<TypeConfig>) {
    match result {
        Ok(response) => {
            let Replies(replies) = response.data;
            debug_assert_eq!(replies.len(), waiters.len());
            lanes.deliver(waiters.into_iter().map(|(waiter, _)| waiter).zip(replies));
        }
        Err(error) => {
            let refused = match error {
                ClientWriteError::ForwardToLeader(_) => Error::NoLeader,
                _ => Error::LeaderChanged,
            };
            lanes.deliver(waiters.into_iter().map(|(waiter, _)| (waiter, Err(refused))));
        }
    }
}
