//! What members answer, as far as it is used.

use keepstone_operator_plan::ids::{ClusterId, MemberId, Revision};
use keepstone_proto::etcdserverpb;

/// A member's answer about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    /// Whom it follows; none while there is nobody.
    pub leader: Option<MemberId>,
    pub term: u64,
    pub applied: u64,
    pub revision: Revision,
    pub learner: bool,
    /// Of etcd's API, as the member tells it.
    pub version: String,
    /// Bytes.
    pub db_size: u64,
    /// Bytes.
    pub db_in_use: u64,
    /// What is wrong, in the member's words.
    pub errors: Vec<String>,
}

/// A row of the member table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: MemberId,
    /// Empty until it has started.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub learner: bool,
}

/// What a member's data sums up to at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash {
    pub hash: u32,
    /// Up to which revision the history was forgotten; hashes are equal only where this is.
    pub compacted: Revision,
    pub revision: Revision,
}

fn unsigned(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

impl From<etcdserverpb::StatusResponse> for Status {
    fn from(answer: etcdserverpb::StatusResponse) -> Self {
        let header = answer.header.unwrap_or_default();
        Self {
            cluster_id: ClusterId(header.cluster_id),
            member_id: MemberId(header.member_id),
            leader: Some(answer.leader).filter(|id| *id != 0).map(MemberId),
            term: answer.raft_term,
            applied: answer.raft_applied_index,
            revision: Revision(header.revision),
            learner: answer.is_learner,
            version: answer.version,
            db_size: unsigned(answer.db_size),
            db_in_use: unsigned(answer.db_size_in_use),
            errors: answer.errors,
        }
    }
}

impl From<etcdserverpb::Member> for Row {
    fn from(row: etcdserverpb::Member) -> Self {
        let etcdserverpb::Member { id, name, peer_urls, is_learner, .. } = row;
        Self { id: MemberId(id), name, peer_urls, learner: is_learner }
    }
}
