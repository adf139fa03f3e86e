//! Where a batch of requests goes: into this member's own log while it leads, else to the leader.
//!
//! Whoever sent a batch to the leader answers its callers when it applies the entry itself: no answer has to travel, and
//! a caller reads its own write. A batch is sent again only if it surely was not taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keepstone_failpoint::points;
use keepstone_proto::keepstonepb::{Propose, peer_answer, peer_message};
use keepstone_state::{Error, MemberId, Reply};
use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::cluster::Leadership;
use crate::host;
use crate::lanes::{Lanes, Waiter};
use crate::peer::{PeerError, Transport, wire};
use crate::propose::{Answer, Load};
use crate::raft::types::{Callback, Proposal, Raft, Replies, Request, TypeConfig};

/// Pause before a batch that nobody took is sent again, unless the leader changes first.
const RETRY: Duration = Duration::from_millis(20);

/// Requests of one log entry and who waits for their answers, in the same order.
pub struct Batch {
    pub requests: Arc<[Request]>,
    pub waiters: Vec<(Waiter<Answer>, Load)>,
}

impl Batch {
    /// Leaves out the requests whose callers have gone.
    fn without_gone(self) -> Self {
        if self.waiters.iter().all(|(waiter, _)| !waiter.is_gone()) {
            return self;
        }
        let pairs = self.requests.iter().cloned().zip(self.waiters).filter(|(_, (waiter, _))| !waiter.is_gone());
        let (requests, waiters): (Vec<_>, Vec<_>) = pairs.unzip();
        Self { requests: requests.into(), waiters }
    }

    /// Takes out what only this member could have decided as a leader. The rest may go elsewhere.
    fn for_another_leader(self, lanes: &Lanes) -> Self {
        if self.requests.iter().all(|request| request.decoded.only_in_term == 0) {
            return self;
        }
        let pairs = self.requests.iter().cloned().zip(self.waiters);
        let (own, others): (Vec<_>, Vec<_>) = pairs.partition(|(request, _)| request.decoded.only_in_term != 0);
        lanes.deliver(own.into_iter().map(|(_, (waiter, _))| (waiter, Err(Error::LeaderChanged))));
        let (requests, waiters): (Vec<_>, Vec<_>) = others.into_iter().unzip();
        Self { requests: requests.into(), waiters }
    }
}

/// Callers whose requests are on their way through another member's log. Bounded by what may be pending at all.
#[derive(Default)]
pub struct Awaiting {
    by_id: Mutex<HashMap<u64, (Waiter<Answer>, Load)>>,
    count: AtomicUsize,
    lanes: Lanes,
}

fn id(request: &Request) -> u64 {
    request.decoded.header.as_ref().map_or(0, |header| header.id)
}

impl Awaiting {
    pub fn new(lanes: Lanes) -> Self {
        Self { lanes, ..Self::default() }
    }

    fn register(&self, batch: Batch) {
        let mut by_id = self.by_id.lock();
        by_id.extend(batch.requests.iter().map(id).zip(batch.waiters));
        self.count.store(by_id.len(), Ordering::Release);
    }

    /// Takes back a batch that was not taken.
    fn withdraw(&self, requests: &Arc<[Request]>) -> Batch {
        let mut by_id = self.by_id.lock();
        let found = requests.iter().filter_map(|request| by_id.remove(&id(request)).map(|waiter| (request, waiter)));
        let (kept, waiters): (Vec<Request>, Vec<_>) = found.map(|(request, waiter)| (request.clone(), waiter)).unzip();
        self.count.store(by_id.len(), Ordering::Release);
        Batch { requests: kept.into(), waiters }
    }

    /// An entry was applied that this member had not put into the log itself: whoever waits for it is answered.
    pub fn settle(&self, proposal: &Proposal, replies: Vec<Result<Reply, Error>>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut by_id = self.by_id.lock();
        let answers = proposal.requests.iter().zip(replies);
        let found =
            answers.filter_map(|(request, reply)| by_id.remove(&id(request)).map(|(waiter, _)| (waiter, reply)));
        let found: Vec<_> = found.collect();
        self.count.store(by_id.len(), Ordering::Release);
        drop(by_id);
        self.lanes.deliver(found);
    }

    /// Forgets the callers that have gone.
    pub fn tidy(&self) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut by_id = self.by_id.lock();
            by_id.retain(|_, (waiter, _)| !waiter.is_gone());
            self.count.store(by_id.len(), Ordering::Release);
        }
    }
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Route {
    pub me: MemberId,
    pub raft: Raft,
    pub lanes: Lanes,
    pub leadership: Leadership,
    pub transport: Arc<dyn Transport>,
    pub awaiting: Arc<Awaiting>,
    /// Batches that nobody took.
    pub returned: mpsc::UnboundedSender<Batch>,
}

/// Raft has stopped.
#[derive(Debug)]
pub struct Stopped;

impl Route {
    /// Sends a batch on its way; `permit` is held until it is known what became of it. Waits for a leader.
    ///
    /// # Errors
    /// Raft has stopped: everybody who waits learns it from a closed channel.
    pub async fn send(&self, mut batch: Batch, permit: OwnedSemaphorePermit) -> Result<(), Stopped> {
        let mut views = None;
        loop {
            match self.leadership.leader() {
                Some(leader) if leader == self.me => return self.log_here(batch, permit).await,
                Some(leader) => {
                    let (this, batch) = (self.clone(), batch.for_another_leader(&self.lanes));
                    host::spawn(async move {
                        this.to_leader(leader, batch).await;
                        drop(permit);
                    });
                    return Ok(());
                }
                None => {
                    let views = views.get_or_insert_with(|| self.leadership.watch());
                    views.changed().await.map_err(|_| Stopped)?;
                    batch = batch.without_gone();
                    if batch.waiters.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn log_here(&self, batch: Batch, permit: OwnedSemaphorePermit) -> Result<(), Stopped> {
        let Batch { requests, waiters } = batch;
        let (lanes, returned, again) = (self.lanes.clone(), self.returned.clone(), requests.clone());
        let done = Callback::new(move |result: ClientWriteResult<TypeConfig>| {
            match result {
                Ok(response) => {
                    let Replies(replies) = response.data;
                    debug_assert_eq!(replies.len(), waiters.len());
                    lanes.deliver(waiters.into_iter().map(|(waiter, _)| waiter).zip(replies));
                }
                // Surely not in the log. The other side is gone only when the member stops.
                Err(ClientWriteError::ForwardToLeader(_)) => drop(returned.send(Batch { requests: again, waiters })),
                Err(_) => {
                    lanes.deliver(waiters.into_iter().map(|(waiter, _)| (waiter, Err(Error::LeaderChanged))));
                }
            }
            drop(permit);
        });
        points::RAFT_BEFORE_LEADER_SEND.hit();
        self.raft.client_write_ff(Proposal { requests }, Some(done)).await.map_err(|_| Stopped)
    }

    async fn to_leader(&self, leader: MemberId, batch: Batch) {
        let requests = batch.requests.clone();
        if requests.is_empty() {
            return;
        }
        let propose = Propose { requests: requests.iter().map(|request| request.encoded.clone()).collect() };
        self.awaiting.register(batch);
        let answer = self.transport.call(leader, wire::message(peer_message::Kind::Propose(propose))).await;
        let not_taken = match answer.map(wire::read_answer) {
            Ok(Ok(peer_answer::Kind::Propose(answer))) => !answer.taken,
            Err(PeerError::NotSent { .. } | PeerError::Refused { .. }) => true,
            // It may be in the leader's log: the callers wait as long as they like.
            Ok(_) | Err(_) => false,
        };
        if not_taken {
            let batch = self.awaiting.withdraw(&requests);
            drop(self.returned.send(batch));
        }
    }

    /// Puts another member's requests into the log; whether they were taken. Returns when it is known.
    ///
    /// # Errors
    /// Raft has stopped.
    pub async fn take(&self, requests: Vec<Request>) -> Result<bool, Stopped> {
        let (tx, rx) = oneshot::channel();
        let done = Callback::new(move |result: ClientWriteResult<TypeConfig>| {
            let _ = tx.send(!matches!(result, Err(ClientWriteError::ForwardToLeader(_))));
        });
        let proposal = Proposal { requests: requests.into() };
        self.raft.client_write_ff(proposal, Some(done)).await.map_err(|_| Stopped)?;
        Ok(rx.await.unwrap_or(true))
    }

    /// Rests until it makes sense to send a batch again.
    pub async fn rest(&self) {
        let mut views = self.leadership.watch();
        drop(tokio::time::timeout(RETRY, views.changed()).await);
    }
}
