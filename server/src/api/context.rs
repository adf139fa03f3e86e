//! What every service needs of the member behind it.

use std::sync::Arc;

use keepstone_proto::etcdserverpb::{InternalRaftRequest, ResponseHeader};
use keepstone_state::{Error, Reply};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::Semaphore;
use tonic::Status;

use super::error::status;
use crate::checkpointer::Checkpointer;
use crate::config::Config;
use crate::core::Core;
use crate::data::Paths;
use crate::propose::Proposer;
use crate::raft::read_index::ReadIndex;
use crate::raft::types::Raft;

/// Reads of everything that may run at once: each holds a thread and a pin.
pub const BULK_READS: usize = 8;

/// Shared by all services of all listeners.
pub struct Context {
    pub config: Arc<Config>,
    pub core: Arc<Core>,
    pub raft: Raft,
    pub proposer: Proposer,
    pub reads: ReadIndex,
    pub checkpointer: Arc<Checkpointer>,
    pub paths: Paths,
    /// Reads of everything (snapshots, hashes) that may run at once.
    pub bulk: Arc<Semaphore>,
}

impl Context {
    /// Puts a write through the log.
    ///
    /// # Errors
    /// etcd's status for whatever refused it.
    pub async fn propose(&self, request: InternalRaftRequest) -> Result<Reply, Status> {
        self.core.metrics.proposals.pending.inc();
        let answer = self.proposer.propose(request).await;
        self.core.metrics.proposals.pending.dec();
        answer.map_err(|error| {
            if matches!(error, Error::Timeout | Error::Stopped | Error::NoLeader | Error::LeaderChanged) {
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
        self.reads.wait().await.map_err(|error| status(&error))
    }

    /// Fills the IDs and the term into a header; a revision of 0 becomes the store's.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        self.core.header(if revision == 0 { self.core.revision() } else { revision })
    }

    pub fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().current_leader
    }

    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.core.identity.member_id.0)
    }
}
