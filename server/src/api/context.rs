//! What every service needs of the member behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keepstone_proto::etcdserverpb::{InternalRaftRequest, ResponseHeader};
use keepstone_state::{Code, Error, Reply};
use tokio::sync::Semaphore;
use tonic::Status;

use super::error::status;
use super::range::allowance::Allowance;
use crate::checkpointer::Checkpointer;
use crate::cluster::Leadership;
use crate::config::Config;
use crate::core::Core;
use crate::data::Paths;
use crate::forward::Route;
use crate::peer::Transport;
use crate::propose::Proposer;
use crate::raft::read_index::ReadIndex;
use crate::raft::snapshot::Receiver;
use crate::raft::types::Raft;

/// A read that waits longer to be linearizable counts as slow: where etcd asks its leader again.
const SLOW_READ: Duration = Duration::from_millis(500);

/// Reads of everything that may run at once: each holds a thread and a pin.
pub const BULK_READS: usize = 8;

/// Shared by all services of all listeners.
pub struct Context {
    pub config: Arc<Config>,
    pub core: Arc<Core>,
    pub raft: Raft,
    pub leadership: Leadership,
    pub transport: Arc<dyn Transport>,
    pub route: Route,
    pub proposer: Proposer,
    pub reads: ReadIndex,
    pub checkpointer: Arc<Checkpointer>,
    /// Takes in what a leader sends a member that lags.
    pub snapshots: Arc<Receiver>,
    pub paths: Paths,
    /// Reads of everything (snapshots, hashes) that may run at once.
    pub bulk: Arc<Semaphore>,
    /// Memory that answers of many keys may take.
    pub lists: Allowance,
}

impl Context {
    /// Puts a write through the log.
    ///
    /// # Errors
    /// etcd's status for whatever refused it.
    pub async fn propose(&self, request: impl Into<Box<InternalRaftRequest>>) -> Result<Reply, Status> {
        self.check_learner()?;
        self.core.metrics.proposals.pending.inc();
        let answer = self.proposer.propose(request).await;
        self.core.metrics.proposals.pending.dec();
        answer.map_err(|error| {
            if error.code() == Code::Unavailable {
                self.core.metrics.proposals.failed.inc();
            }
            status(&error)
        })
    }

    /// Waits until a read of local state is linearizable.
    ///
    /// # Errors
    /// etcd's status when leadership can't be confirmed.
    pub async fn linearizable(&self) -> Result<(), Status> {
        self.check_learner()?;
        let began = Instant::now();
        let confirmed = self.reads.wait().await;
        let server = &self.core.metrics.server;
        if began.elapsed() >= SLOW_READ {
            server.slow_read_indexes.inc();
        }
        confirmed.map_err(|error| {
            server.failed_read_indexes.inc();
            status(&error)
        })
    }

    /// What clients may not ask of a learner.
    ///
    /// # Errors
    /// This member is one.
    pub fn check_learner(&self) -> Result<(), Status> {
        if self.core.is_learner() { Err(status(&Error::NotSupportedForLearner)) } else { Ok(()) }
    }

    /// What may be wrong is not read: the others have it right.
    ///
    /// # Errors
    /// This member's data is known to differ from the others'.
    pub fn check_fence(&self) -> Result<(), Status> {
        if self.core.is_fenced() { Err(status(&Error::Corrupt)) } else { Ok(()) }
    }

    /// Fills the IDs and the term into a header; a revision of 0 becomes the store's.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        self.core.header(if revision == 0 { self.core.revision() } else { revision })
    }

    pub fn leader(&self) -> Option<u64> {
        self.leadership.leader().map(|leader| leader.0)
    }

    pub fn is_leader(&self) -> bool {
        self.leadership.leads()
    }
}
