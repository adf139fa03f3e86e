//! ReadIndex: a read waits until this member has confirmed who leads and has applied all that was committed then.
//!
//! Reads that arrive while a confirmation is under way share the next one. A confirmation is never shared with a
//! read that arrived after it began: that is how a stale read would get in.

use std::sync::Arc;
use std::time::Duration;

use keepstone_proto::keepstonepb::{ReadIndex as Ask, peer_answer, peer_message};
use keepstone_state::{Error, MemberId};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::error::{LinearizableReadError, RaftError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::types::Raft;
use crate::cluster::Leadership;
use crate::lanes;
use crate::peer::{Transport, wire};

/// How long a refused confirmation rests when nothing changes.
const RETRY: Duration = Duration::from_millis(50);

/// How long a leader may take to confirm that it is one.
const PATIENCE: Duration = Duration::from_secs(1);

type Outcome = Result<(), Error>;

/// Takes reads from every thread. Cheap to clone. Holds at most one entry per request in flight.
#[derive(Clone)]
pub struct ReadIndex {
    slots: Arc<[Slot]>,
    timeout: Duration,
}

/// The reads of one serving thread that wait for their confirmation to begin.
#[derive(Default)]
struct Slot {
    waiting: Mutex<Vec<oneshot::Sender<Outcome>>>,
    arrived: Notify,
}

impl ReadIndex {
    /// One [`Confirmer`] per serving thread; each has to run there, so that its answers wake tasks of its own thread.
    /// `timeout` is etcd's request timeout.
    pub fn new(threads: usize, timeout: Duration) -> (Self, Vec<Confirmer>) {
        let slots: Arc<[Slot]> = (0..threads.max(1)).map(|_| Slot::default()).collect();
        let confirmers = (0..slots.len()).map(|number| Confirmer { slots: slots.clone(), number }).collect();
        (Self { slots, timeout }, confirmers)
    }

    /// Returns when a read of local state is linearizable.
    ///
    /// # Errors
    /// `Timeout` when leadership can't be confirmed in time, `Stopped`.
    pub async fn wait(&self) -> Outcome {
        let (tx, outcome) = oneshot::channel();
        let slot = &self.slots[lanes::here().unwrap_or(0) % self.slots.len()];
        slot.waiting.lock().push(tx);
        slot.arrived.notify_one();
        match tokio::time::timeout(self.timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }
}

/// The task that asks Raft for one thread's reads, a batch at a time.
pub struct Confirmer {
    slots: Arc<[Slot]>,
    number: usize,
}

impl Confirmer {
    /// Runs until its thread stops.
    pub async fn run(self, asker: Asker) {
        let slot = &self.slots[self.number];
        loop {
            slot.arrived.notified().await;
            // Whatever else this thread is about to read shares the round.
            tokio::task::yield_now().await;
            let mut waiting = std::mem::take(&mut *slot.waiting.lock());
            let outcome = confirm(&asker, &mut waiting).await;
            for waiter in waiting {
                // A reader that has gone needs no answer.
                let _ = waiter.send(outcome);
            }
        }
    }
}

/// Asks anew, with a request of its own each time, until leadership is confirmed: as in etcd a read waits for a leader,
/// and its own timeout ends the wait.
async fn confirm(asker: &Asker, waiting: &mut Vec<oneshot::Sender<Outcome>>) -> Outcome {
    let mut views = asker.leadership.watch();
    loop {
        views.borrow_and_update();
        let confirmed = match asker.leadership.leader() {
            Some(leader) if leader != asker.me => asker.ask(leader).await?,
            // A leader that can't tell yet is asked all the same: what counts is the answer.
            _ => asker.confirm_here().await?,
        };
        if confirmed {
            return Ok(());
        }
        waiting.retain(|waiter| !waiter.is_closed());
        if tokio::time::timeout(RETRY, views.changed()).await.is_ok_and(|changed| changed.is_err()) {
            return Err(Error::Stopped);
        }
    }
}

/// How a confirmation is got: from this member's own Raft while it leads, else from the leader.
#[derive(Clone)]
pub struct Asker {
    pub me: MemberId,
    pub raft: Raft,
    pub leadership: Leadership,
    pub transport: Arc<dyn Transport>,
}

impl Asker {
    async fn confirm_here(&self) -> Result<bool, Error> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(true),
            Err(RaftError::Fatal(_)) => Err(Error::Stopped),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
            )) => Ok(false),
        }
    }

    /// Asks the leader how far this member has to have applied, and waits for that.
    async fn ask(&self, leader: MemberId) -> Result<bool, Error> {
        let message = wire::message(peer_message::Kind::ReadIndex(Ask {}));
        let asking = tokio::time::timeout(PATIENCE, self.transport.call(leader, message)).await;
        let Ok(Ok(Ok(peer_answer::Kind::ReadIndex(answer)))) = asking.map(|answer| answer.map(wire::read_answer))
        else {
            return Ok(false);
        };
        let Some(index) = answer.index else { return Ok(false) };
        let mut applied = self.raft.data_metrics();
        while applied.borrow_watched().last_applied.as_ref().is_none_or(|id| id.index() < index) {
            applied.changed().await.map_err(|_| Error::Stopped)?;
        }
        Ok(true)
    }
}
