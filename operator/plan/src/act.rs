//! The acts there are. Each is one call, harmless when repeated, and names what it is about by UID or ID, so that it
//! fails on anything else that has come by in the meantime.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::desired::Rule;
use crate::ids::{ClusterId, MemberId, Nonce, Ordinal, Revision, Template, Time, Uid, Version};
use crate::observed::Surface;
use crate::operation::{Intent, Operation};

/// Leave for one data directory to found a cluster, once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permit {
    pub kind: PermitKind,
    pub ordinal: Ordinal,
    /// None where the pod will be another by then; the claim and the nonce bind it all the same.
    pub pod: Option<Uid>,
    pub claim: Uid,
    pub nonce: Nonce,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PermitKind {
    /// In an empty directory.
    Found,
    /// In a directory that was made of a backup.
    FoundFrom(Arc<str>),
    /// From what the directory holds, with a new cluster ID and nobody else in it.
    ForceNew,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Act {
    /// Writes `status.operation`, on the condition that the last one was `seq - 1`.
    RecordIntent(Operation),
    /// Clears it, on the condition that it still is that one.
    CloseIntent {
        seq: u64,
    },
    /// Writes `status.clusterID`, on the condition that it has been `from`.
    Latch {
        from: Option<ClusterId>,
        to: Option<ClusterId>,
    },

    /// Services, NetworkPolicy, service accounts and the like, as they should be.
    ApplyObjects,
    /// The PodDisruptionBudget; none deletes it.
    ApplyBudget {
        min_available: Option<u32>,
    },
    /// Has the client Service select pods, or none.
    OpenClientService {
        open: bool,
    },
    /// Creates the StatefulSet, or changes the template of one that has just as many replicas.
    ApplyWorkload {
        replicas: u32,
        template: Template,
        storage: u64,
    },
    /// On the condition that it is still that StatefulSet with `from` replicas.
    SetReplicas {
        uid: Uid,
        from: u32,
        to: u32,
    },
    /// Deletes the StatefulSet. With `orphan` its pods stay.
    DeleteWorkload {
        uid: Uid,
        orphan: bool,
    },
    GrantPermit(Permit),
    RevokePermit {
        nonce: Nonce,
    },
    /// Has the backup that a permit is for put onto the volume that it names, whose server is fenced; named after the nonce.
    Fill(Permit),
    /// Which servers may not start.
    SetFence(BTreeSet<Ordinal>),
    /// `force` doesn't wait for a kubelet that is gone. It is used only on pods whose member is out of the table.
    DeletePod {
        ordinal: Ordinal,
        uid: Uid,
        force: bool,
    },
    DeleteClaim {
        ordinal: Ordinal,
        uid: Uid,
    },
    /// Writes on a claim that is kept whose data it holds.
    MarkClaimLeft {
        ordinal: Ordinal,
        uid: Uid,
        member: Option<MemberId>,
    },
    GrowClaim {
        ordinal: Ordinal,
        uid: Uid,
        bytes: u64,
    },
    RemoveFinalizer,

    /// Adds a learner with the place's peer URL. That there is one already is success.
    MemberAdd {
        ordinal: Ordinal,
    },
    /// Asks a voter; whether the learner is ready is the server's to say.
    MemberPromote {
        id: MemberId,
    },
    /// That it is gone already is success.
    MemberRemove {
        id: MemberId,
    },
    MoveLeader {
        from: Ordinal,
        to: MemberId,
    },
    Compact {
        revision: Revision,
    },
    Defragment {
        ordinal: Ordinal,
    },
    Disarm {
        id: MemberId,
        alarm: Alarm,
    },

    /// Copies a data directory, or what its server still gives, to where it is safe; named after the operation and place.
    Save {
        seq: u64,
        ordinal: Ordinal,
        claim: Uid,
    },

    CreateCa {
        next: bool,
    },
    PublishBundle {
        cas: BTreeSet<Arc<str>>,
    },
    IssueLeaf {
        surface: Surface,
        ca: Arc<str>,
    },
    /// From now on the next CA signs.
    SwitchCa {
        to: Arc<str>,
    },

    /// Creates an `EtcdOperation`, named after its time, so that it is made once.
    Stamp {
        job: Job,
        at: Time,
    },
    FinishRequest {
        uid: Uid,
        outcome: Outcome,
    },
    /// Creates an `EtcdBackup` and the agent that takes it, named after time or version.
    StartBackup {
        from: Ordinal,
        purpose: Purpose,
    },
    DeleteBackup {
        uid: Uid,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alarm {
    NoSpace,
    Corrupt,
}

/// What a schedule sets off.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Job {
    Compact { revision: Revision },
    Defragment { rule: Rule },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    Scheduled(Time),
    Before { version: Version, generation: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    Succeeded,
    Failed(&'static str),
    /// It was never begun.
    Rejected(&'static str),
}

impl Act {
    /// Whether it begins, or goes on with, what gives a cluster up for another. Decided without a cache, too.
    #[must_use]
    pub fn gives_up(&self) -> bool {
        let Act::RecordIntent(operation) = self else { return false };
        matches!(operation.intent, Intent::RecoverQuorum(_) | Intent::Restore(_))
    }

    /// Whether it takes something away that the act before it cannot bring back. Who carries it out looks again without
    /// a cache first, plans again, and goes on only if it is the same act; the object's resource version goes with it.
    pub fn destroys(&self) -> bool {
        matches!(
            self,
            Act::DeletePod { .. } | Act::DeleteClaim { .. } | Act::MemberRemove { .. } | Act::DeleteWorkload { .. }
        )
    }
}
