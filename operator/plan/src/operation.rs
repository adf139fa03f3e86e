//! The one operation under way, as `status.operation` keeps it: written before its first act, closed after its last.
//!
//! It holds what no later look at the world can tell: what was meant, and whom it was about. How far it has come is
//! never written; each pass sees it anew. So it doesn't matter after which call the operator died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::act::{Alarm, Permit};
use crate::desired::Rule;
use crate::ids::{ClusterId, MemberId, Nonce, Ordinal, Revision, Template, Time, Uid};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Operation {
    /// Grows by one with every record that is written, so that of two operators one fails to write.
    pub seq: u64,
    pub intent: Intent,
    pub started: Time,
    /// When it is said aloud that this takes too long. It never sets off anything else but an undoing.
    pub deadline: Time,
    /// `metadata.generation` when it began: what gave up tries again once the spec has changed.
    pub generation: i64,
    /// The `EtcdOperation` that asked for it.
    pub request: Option<Uid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Intent {
    Bootstrap(Bootstrap),
    ScaleUp(Join),
    ReplaceMember(Join),
    ScaleDown(Leave),
    Roll(Roll),
    /// Open as long as the cluster sleeps: it remembers how many pods to wake.
    Hibernate {
        replicas: u32,
    },
    RecoverQuorum(Recover),
    Restore(Restore),
    Defragment(Defragment),
    MakeRoom(MakeRoom),
    Compact {
        revision: Revision,
    },
    MoveLeader {
        to: Ordinal,
    },
    DisarmAlarm,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bootstrap {
    /// From 1.
    pub attempt: u32,
    /// None until pod and claim of the seed are there to be named.
    pub permit: Option<Permit>,
    /// The claim of an attempt that failed. It must be gone before the next permit.
    pub spoiled: Option<Uid>,
    /// The backup to begin with.
    pub source: Option<Arc<str>>,
    /// The cluster that was given up for it, where it is a restore in place.
    pub lost: Option<ClusterId>,
}

/// A member comes to a place, after whoever was there is gone from the table and from the disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Join {
    pub ordinal: Ordinal,
    /// The member to be removed first.
    pub leaver: Option<MemberId>,
    /// The claim to be deleted first.
    pub stale: Option<Uid>,
    /// From 1.
    pub attempt: u32,
    /// Where the learner was when the deadline was last put off.
    pub applied: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leave {
    pub ordinal: Ordinal,
    pub member: Option<MemberId>,
    pub claim: Option<Uid>,
}

/// One pod is replaced, its claim stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Roll {
    pub ordinal: Ordinal,
    /// The pod that has to go.
    pub pod: Uid,
    /// What comes after it is made of.
    pub template: Template,
}

/// A majority is given up: a new cluster, with an ID of its own, is made of one survivor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Recover {
    pub survivor: Ordinal,
    /// The survivor's claim, whose data becomes the new cluster's.
    pub claim: Uid,
    /// The cluster that is given up.
    pub lost: ClusterId,
    pub nonce: Nonce,
    /// Whether the others have been fenced, and `pods` written down after that.
    pub fenced: bool,
    /// All pods there were: none of these may run once the new cluster does.
    pub pods: BTreeMap<Ordinal, Uid>,
    /// Claims of the others: saved first, deleted last.
    pub claims: BTreeMap<Ordinal, Uid>,
}

/// The data is replaced by a backup's: a new cluster in the place of the old.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Restore {
    pub source: Arc<str>,
    pub lost: ClusterId,
    /// Whether what there is, is saved first.
    pub save: bool,
    /// Claims of the old cluster, all to be deleted.
    pub claims: BTreeMap<Ordinal, Uid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Defragment {
    /// None: whatever there is to gain is reason enough.
    pub rule: Option<Rule>,
    /// Whom it is about; all when empty.
    pub members: BTreeSet<Ordinal>,
    pub done: BTreeSet<Ordinal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MakeRoom {
    pub compacted: bool,
    pub done: BTreeSet<Ordinal>,
}

/// What an `EtcdOperation` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verb {
    Defragment {
        members: BTreeSet<Ordinal>,
        rule: Option<Rule>,
    },
    Compact {
        revision: Revision,
    },
    /// To the lowest voter that is well, where nobody is named.
    MoveLeader {
        to: Option<Ordinal>,
    },
    ReplaceMember {
        ordinal: Ordinal,
    },
    RecoverQuorum {
        survivor: Ordinal,
        /// The ID of the cluster that is given up, so that a copied manifest harms no other.
        confirm: ClusterId,
    },
    DisarmAlarm {
        alarm: Alarm,
        /// Everybody's where nobody is named.
        member: Option<Ordinal>,
    },
    /// All when empty.
    RestartMembers {
        members: BTreeSet<Ordinal>,
    },
    Restore {
        source: Arc<str>,
        save: bool,
        confirm: ClusterId,
    },
}
