//! ReadIndex: a read waits until this member has confirmed who leads and has applied all that was committed then.
//!
//! Reads that arrive while a confirmation is under way share the next one. A confirmation is never shared with a
//! read that arrived after it began: that is how a stale read would get in.

use std::time::Duration;

use keepstone_state::Error;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::error::{LinearizableReadError, RaftError};
use tokio::sync::mpsc;

use super::types::Raft;
use crate::lanes::{Lanes, Waiter};

/// How long a refused confirmation rests when nothing changes.
const RETRY: Duration = Duration::from_millis(50);

type Outcome = Result<(), Error>;

/// Takes reads from every connection thread. Cheap to clone. Holds at most one entry per request in flight.
#[derive(Clone)]
pub struct ReadIndex {
    tx: mpsc::UnboundedSender<Waiter<Outcome>>,
    timeout: Duration,
}

impl ReadIndex {
    /// `timeout` is etcd's request timeout.
    pub fn new(timeout: Duration) -> (Self, Confirmer) {
        let (tx, rx) = mpsc::unbounded_channel();
        (Self { tx, timeout }, Confirmer { rx })
    }

    /// Returns when a read of local state is linearizable.
    ///
    /// # Errors
    /// `Timeout` when leadership can't be confirmed in time, `NoLeader`, `LeaderChanged`, `Stopped`.
    pub async fn wait(&self) -> Outcome {
        let (waiter, outcome) = Waiter::new();
        if self.tx.send(waiter).is_err() {
            return Err(Error::Stopped);
        }
        match tokio::time::timeout(self.timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }
}

/// The task that asks Raft. Runs beside it until the readers are gone.
pub struct Confirmer {
    rx: mpsc::UnboundedReceiver<Waiter<Outcome>>,
}

impl Confirmer {
    pub async fn run(mut self, raft: Raft, lanes: Lanes) {
        let mut waiting = Vec::new();
        while self.rx.recv_many(&mut waiting, usize::MAX).await > 0 {
            let outcome = confirm(&raft, &mut waiting).await;
            lanes.deliver(waiting.drain(..).map(|waiter| (waiter, outcome)));
        }
    }
}

/// Asks anew, with a request of its own each time, until leadership is confirmed: as in etcd a read waits for a leader,
/// and its own timeout ends the wait.
async fn confirm(raft: &Raft, waiting: &mut Vec<Waiter<Outcome>>) -> Outcome {
    let mut changes = raft.metrics();
    loop {
        match raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => return Ok(()),
            Err(RaftError::Fatal(_)) => return Err(Error::Stopped),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
            )) => {
                waiting.retain(|waiter| !waiter.is_closed());
                if tokio::time::timeout(RETRY, changes.changed()).await.is_ok_and(|changed| changed.is_err()) {
                    return Err(Error::Stopped);
                }
            }
        }
    }
}
