//! What one pass saw. Nothing here is remembered from an earlier pass, but what is said to be.
//!
//! [`Cluster`] is read live from the API server, members' answers live from the members. Pods, claims and the
//! StatefulSet may come from a cache that is behind: acts on them name UIDs, and whoever acts has the API server check
//! those. What could not be read is [`Seen::Unknown`] and never counts as absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::act::{Act, Alarm, Permit};
use crate::condition::Reason;
use crate::ids::{ClusterId, MemberId, Nonce, Ordinal, Revision, Template, Time, Uid, Version};
use crate::operation::{Operation, Verb};

/// An answer, or that there was none. Not an `Option`: the code that reads it has to say what it does about silence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seen<T> {
    Known(T),
    Unknown,
}

impl<T> Seen<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known(value) => Some(value),
            Seen::Unknown => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Observed {
    pub cluster: Cluster,
    /// Whether Services, PodDisruptionBudget, NetworkPolicy and the rest, but the StatefulSet, are as they should be.
    pub objects: Seen<Objects>,
    pub workload: Seen<Option<Workload>>,
    pub pods: Seen<BTreeMap<Ordinal, Pod>>,
    pub claims: Seen<BTreeMap<Ordinal, Claim>>,
    pub permit: Seen<Option<Permit>>,
    /// The member table, read linearizably; unknown without a quorum.
    pub table: Seen<Vec<Member>>,
    /// Answers of members to `Status`, by the place that was asked. Who did not answer is not in it.
    pub answers: BTreeMap<Ordinal, Status>,
    /// Armed alarms, those of members that are gone among them.
    pub alarms: Seen<BTreeSet<(MemberId, Alarm)>>,
    pub certificates: Seen<Certificates>,
    /// `EtcdOperation`s that are not finished, and the finished ones that still exist, oldest first.
    pub requests: Seen<Vec<Request>>,
    /// `EtcdBackup`s, oldest first.
    pub backups: Seen<Vec<Backup>>,
    /// Copies of data directories, made for the quorum recovery or restore with this `operation.seq`.
    pub saved: Seen<BTreeMap<Ordinal, Phase>>,
    /// Whether the backup is on the seed's volume, for the permit of the founding that is under way; none where nobody
    /// has begun to put it there.
    pub filled: Seen<Option<Phase>>,
    /// Whether what the restore under way is to be made of is there; true where there is none.
    pub source: Seen<bool>,
    /// Places whose server may not start.
    pub fenced: Seen<BTreeSet<Ordinal>>,
    /// The revision that was current as long ago as the compaction schedule keeps; none where nobody wrote it down.
    pub keep_from: Option<Revision>,
    /// Drawn anew for each pass.
    pub nonce: Nonce,
    /// What this process did in the passes just before, the newest last, and what came of it: each act once. Nothing after
    /// a start, and after a pass that did nothing: only patience may depend on it.
    pub echo: Vec<Echo>,
}

/// The `EtcdCluster`: what names it and what its status keeps because nothing else can tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub name: Arc<str>,
    pub uid: Uid,
    pub created: Time,
    pub generation: i64,
    pub deleting: bool,
    /// `status.clusterID`: once there, nothing founds again.
    pub cluster_id: Option<ClusterId>,
    /// `status.operation`.
    pub operation: Option<Operation>,
    /// The number of the last operation there was.
    pub seq: u64,
    pub marks: Marks,
    /// `status.members`: of each voter that the table named last, the claim that its data is on.
    pub volumes: BTreeMap<Ordinal, Uid>,
    /// `status.currentVersion`: the lowest that a voter ran when the table was last read.
    pub ran: Option<Version>,
}

/// When something was done for the last time, as status remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Marks {
    pub compact: Option<Time>,
    pub defragment: Option<Time>,
    pub backup: Option<Time>,
    /// When room was last made for a NOSPACE alarm.
    pub room: Option<Time>,
    /// Since when no quorum has been seen.
    pub quorum_lost: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Objects {
    pub current: bool,
    /// Whether the client Service selects pods.
    pub open: bool,
    /// `minAvailable` of the PodDisruptionBudget; none where there is no budget.
    pub min_available: Option<u32>,
}

/// The StatefulSet. It is `OnDelete` and `Parallel`: it replaces pods that are gone, and deletes none but above `replicas`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workload {
    pub uid: Uid,
    pub replicas: u32,
    pub template: Template,
    /// Bytes each new claim asks for.
    pub storage: u64,
    /// Whether its controller has seen its newest generation.
    pub settled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    pub uid: Uid,
    pub created: Time,
    pub template: Template,
    /// Whether its container passed its startup probe since it last began: a server that runs, with or without a quorum.
    pub started: bool,
    pub ready: bool,
    /// When `ready` last changed.
    pub ready_changed: Time,
    pub terminating: bool,
    /// Restarts of its container, those for want of memory left out.
    pub restarts: u32,
    /// Since when its node has not been heard of.
    pub node_lost: Option<Time>,
    pub verdict: Option<Verdict>,
}

impl Pod {
    /// It is to end, and nobody is there to end it.
    #[must_use]
    pub fn stranded(&self) -> bool {
        self.terminating && self.node_lost.is_some()
    }
}

/// What a server that ended, or waits, said about its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Its directory is empty or another's, and its ID is bound to one that is gone.
    DataLost,
    /// The directory is damaged and nothing is left to rebuild it from.
    Corrupt,
    /// The member was removed from the cluster.
    Removed,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    pub uid: Uid,
    /// The UID of the `EtcdCluster` it was made for.
    pub owner: Uid,
    pub terminating: bool,
    /// Whether it is only kept, and of which member.
    pub left: Option<Option<MemberId>>,
    /// Bytes asked for.
    pub request: u64,
    /// Bytes there are; 0 before it is bound.
    pub capacity: u64,
    pub resize_rejected: bool,
}

/// A row of the member table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    pub id: MemberId,
    /// From its peer URL; none where that is no pod's of ours.
    pub ordinal: Option<Ordinal>,
    pub learner: bool,
}

/// A member's own answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Status {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    pub leader: Option<MemberId>,
    pub term: u64,
    pub applied: u64,
    pub revision: Revision,
    pub learner: bool,
    pub version: Version,
    pub db_size: u64,
    pub db_in_use: u64,
    /// Of the last founding, or of the last recovery from a lost majority, that this data directory went through.
    pub permit: Option<Nonce>,
}

/// What the secrets hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Certificates {
    /// The CA new leaves are signed with.
    pub issuer: Option<Ca>,
    /// The CA that will follow, while one does.
    pub next: Option<Ca>,
    /// What members and clients are given to trust.
    pub bundle: BTreeSet<Arc<str>>,
    /// Since when the bundle has been as it is.
    pub bundle_since: Option<Time>,
    pub leaves: BTreeMap<Surface, Leaf>,
    /// What is wrong with the Secrets that others fill: the first such thing.
    pub flaw: Option<(Reason, Arc<str>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ca {
    pub id: Arc<str>,
    pub not_after: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leaf {
    pub ca: Arc<str>,
    pub not_after: Time,
    pub issued: Time,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Surface {
    Server,
    Peer,
    /// The operator's own.
    Operator,
    /// One for clients, so that a first client needs no CA of its own.
    Client,
}

impl Surface {
    pub const ALL: [Surface; 4] = [Surface::Server, Surface::Peer, Surface::Operator, Surface::Client];

    /// In words for people.
    #[must_use]
    pub fn told(self) -> &'static str {
        match self {
            Surface::Server => "the certificate that clients are shown",
            Surface::Peer => "the certificate that members show each other",
            Surface::Operator => "the operator's certificate",
            Surface::Client => "the certificate for clients",
        }
    }
}

/// An `EtcdOperation`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    pub name: Arc<str>,
    pub uid: Uid,
    pub created: Time,
    /// Of a scheduled run, the time it was scheduled for.
    pub scheduled: Option<Time>,
    pub verb: Verb,
    pub phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backup {
    pub name: Arc<str>,
    pub uid: Uid,
    pub created: Time,
    pub scheduled: Option<Time>,
    /// Of one taken ahead of a version change, the version to come and the generation of the spec that asks for it.
    pub before: Option<(Version, i64)>,
    pub phase: Phase,
    pub completed: Option<Time>,
    /// Never collected.
    pub keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub fn finished(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Echo {
    pub act: Act,
    /// False where it failed, or was not answered.
    pub done: bool,
}
