//! What the controller asks of members, as one narrow trait: the real calls are gRPC and HTTP, those of the simulation a
//! table in memory.
//!
//! One call, one member, one bound of time. Nothing is tried again here and nobody else is asked: what a failure means is
//! the planner's to say.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{MemberId, Nonce, Revision, Version};

pub use crate::members::{Row, Status};

/// A member to call. Equal targets may share a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where clients are served.
    pub client_url: String,
    /// Plain HTTP: `/keepstone/member` is asked here.
    pub metrics_url: String,
    /// None where the cluster has no TLS. With it an answer of somebody else is no answer.
    pub credentials: Option<Arc<Credentials>>,
}

/// What members are shown, and trusted by: as a Secret has it, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    pub ca: Vec<u8>,
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// That nothing was heard is not that nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody answered in time, or the connection broke. A change may have been made all the same.
    #[error("no answer: {0}")]
    Silence(String),
    /// The member answered that it won't, in its words.
    #[error("refused: {0}")]
    Refused(String),
}

/// A member's answer about itself, and what it tells of its data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    /// The nonce of the permit that its data directory used last, where that is one of the operator's.
    pub permit: Option<Nonce>,
    /// The version of the program, where it tells.
    pub release: Option<Version>,
}

/// A change, made by whichever voter is asked as long as there is a leader. What is the case already is success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Of a learner.
    Add {
        peer_url: String,
    },
    Promote {
        id: MemberId,
    },
    Remove {
        id: MemberId,
    },
    /// Wants the leader itself.
    MoveLeader {
        to: MemberId,
    },
    Compact {
        revision: Revision,
    },
    /// Of the member that is asked.
    Defragment,
    Disarm {
        id: MemberId,
        alarm: Alarm,
    },
}

pub trait Members: Send + Sync {
    /// What a member says of itself; it needs no leader for it.
    fn status(&self, of: &Target) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// The member table, read linearizably.
    fn table(&self, from: &Target) -> impl Future<Output = Result<Vec<Row>, Failure>> + Send;

    /// Those that are armed, whoever raised them.
    fn alarms(&self, from: &Target) -> impl Future<Output = Result<BTreeSet<(MemberId, Alarm)>, Failure>> + Send;

    fn change(&self, with: &Target, change: &Change) -> impl Future<Output = Result<(), Failure>> + Send;
}
