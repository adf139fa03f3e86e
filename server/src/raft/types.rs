//! What openraft is told about us: the types of a log entry, its answer and its callbacks.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use keepstone_proto::etcdserverpb::InternalRaftRequest;
use keepstone_state::{Error, Reply};
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use prost::Message;

/// Keepstone's choice of openraft types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Replies;
    type NodeId = u64;
    type Node = openraft::EmptyNode;
    type Term = u64;
    /// One leader a term, as etcd's `raft_term` promises.
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Proposal, u64, openraft::EmptyNode>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type AsyncRuntime = super::runtime::Runtime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type Payload = openraft::alias::PayloadOf<TypeConfig>;
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, openraft::EmptyNode>;
pub type Raft = openraft::Raft<TypeConfig, super::state_machine::StateMachine>;

/// One request of a proposal: the bytes that go to the log and what they mean.
#[derive(Clone, Debug)]
pub struct Request {
    pub encoded: Bytes,
    /// Boxed: it has room for every kind of request, and is handed on many times.
    pub decoded: Box<InternalRaftRequest>,
}

impl Request {
    pub fn new(decoded: impl Into<Box<InternalRaftRequest>>) -> Self {
        let decoded = decoded.into();
        let encoded = Bytes::from(decoded.encode_to_vec());
        Self { encoded, decoded }
    }
}

/// The requests of one log entry: all that arrived while the last batch was on its way.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub requests: Arc<[Request]>,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.requests.len())
    }
}

/// One answer per request of the entry, in their order. Empty for entries that carry no request.
pub struct Replies(pub Vec<Result<Reply, Error>>);

/// A one-shot callback as openraft's responder. Dropped uncalled when Raft stops.
pub struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub fn new(call: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
