//! The one way in for a write: request -> log entry -> answer.
//!
//! Requests that arrive while earlier batches are on their way to disk become one batch, one log entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use keepstone_proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use keepstone_state::{Error, Reply};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::cluster::Leadership;
use crate::forward::{Batch, Route};
use crate::lanes::Waiter;
use crate::raft::types::Request;

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
pub struct Load {
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
    leadership: Leadership,
}

impl Proposer {
    /// `first_id` must differ between runs of a member, so that request IDs are not used twice.
    /// `timeout` is etcd's request timeout; `max_request_bytes` bounds one encoded request.
    pub fn new(first_id: u64, timeout: Duration, max_request_bytes: usize, leadership: Leadership) -> (Self, Batcher) {
        let (tx, rx) = mpsc::unbounded_channel();
        let next_id = Arc::new(AtomicU64::new(first_id));
        let this = Self { tx, gauge: Arc::default(), next_id, timeout, max_request_bytes, leadership };
        (this, Batcher { rx })
    }

    /// Proposes one request and waits until it is applied here. Of its header the ID is set here; the user and the auth
    /// revision, if whoever lets callers in has set them, go with it into the log.
    ///
    /// # Errors
    /// The state machine's own answer, or `RequestTooLarge`, `TooManyRequests`, `Timeout` (the outcome is then
    /// unknown), `Stopped`.
    pub async fn propose(&self, request: impl Into<Box<InternalRaftRequest>>) -> Answer {
        let mut decoded = request.into();
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
        let began = Instant::now();
        match tokio::time::timeout_at(began + self.timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(self.leadership.timeout(began)),
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
    /// `must_wait` says that the checkpoints have fallen too far behind: nothing new is proposed meanwhile. `returned`
    /// is the other end of the route's.
    pub async fn run(
        mut self,
        route: Route,
        mut returned: mpsc::UnboundedReceiver<Batch>,
        must_wait: impl Fn() -> bool + Send + 'static,
    ) {
        let in_flight = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT));
        let mut carried = None;
        while let Ok(permit) = in_flight.clone().acquire_owned().await {
            while must_wait() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let batch = tokio::select! {
                biased;
                Some(batch) = returned.recv() => {
                    route.rest().await;
                    Some(batch)
                }
                batch = self.next_batch(&mut carried) => batch,
            };
            let Some(batch) = batch else { return };
            if route.send(batch, permit).await.is_err() {
                return;
            }
        }
    }

    async fn next_batch(&mut self, carried: &mut Option<Pending>) -> Option<Batch> {
        let first = loop {
            let pending = match carried.take() {
                Some(pending) => pending,
                None => self.rx.recv().await?,
            };
            // Whoever gave up before the request was sent would be surprised by what it does now.
            if !pending.waiter.is_gone() {
                break pending;
            }
        };
        let mut bytes = first.request.encoded.len();
        let mut requests = vec![first.request];
        let mut waiters = vec![(first.waiter, first.load)];
        while requests.len() < BATCH_REQUESTS {
            let Ok(next) = self.rx.try_recv() else { break };
            if next.waiter.is_gone() {
                continue;
            }
            bytes += next.request.encoded.len();
            if bytes > BATCH_BYTES {
                *carried = Some(next);
                break;
            }
            requests.push(next.request);
            waiters.push((next.waiter, next.load));
        }
        Some(Batch { requests: requests.into(), waiters })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use keepstone_proto::etcdserverpb::PutRequest;
    use keepstone_state::MemberId;
    use prost::Message as _;

    use super::*;

    #[tokio::test]
    async fn who_a_request_is_of_goes_with_it() {
        let leadership = Leadership::new(MemberId(1), Duration::from_secs(1));
        let (proposer, mut batcher) = Proposer::new(5, Duration::from_secs(5), 1 << 20, leadership);
        let header = RequestHeader { username: "alice".to_owned(), auth_revision: 7, ..Default::default() };
        let signed = InternalRaftRequest { header: Some(header.clone()), ..Default::default() };
        for request in [signed, InternalRaftRequest::default()] {
            let mut write = Box::pin(proposer.propose(request));
            assert!(write.as_mut().now_or_never().is_none());
            let batch = batcher.next_batch(&mut None).await.expect("a request");
            let sent = InternalRaftRequest::decode(batch.requests[0].encoded.clone()).expect("a request");
            let expected = match sent.header.as_ref().map_or(0, |header| header.id) {
                5 => RequestHeader { id: 5, ..header.clone() },
                id => RequestHeader { id, ..Default::default() },
            };
            assert_eq!(sent.header, Some(expected));
        }
    }

    #[tokio::test]
    async fn a_write_whose_caller_gave_up_before_it_was_sent_is_not_sent() {
        let leadership = Leadership::new(MemberId(1), Duration::from_secs(1));
        let (proposer, mut batcher) = Proposer::new(1, Duration::from_secs(5), 1 << 20, leadership);
        let put = |key: &'static str| {
            let put = Some(PutRequest { key: key.into(), ..Default::default() });
            Box::pin(proposer.propose(InternalRaftRequest { put, ..Default::default() }))
        };
        let mut writes = ["gone", "a", "gone too", "b"].map(put);
        for write in &mut writes {
            assert!(write.as_mut().now_or_never().is_none());
        }
        let [gone, a, gone_too, b] = writes;
        drop((gone, gone_too));
        let batch = batcher.next_batch(&mut None).await.expect("two are left");
        let key = |request: &Request| request.decoded.put.as_ref().map(|put| put.key.clone());
        let keys: Vec<_> = batch.requests.iter().filter_map(key).collect();
        assert_eq!(keys, ["a", "b"]);
        drop((a, b));
    }
}
