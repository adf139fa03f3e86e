//! Orders: one verb, carried out once, with a history.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::BackupSource;
use crate::policy::{DefragmentRule, Keep};
use crate::refs::NameRef;

/// One order to a cluster: exactly one verb, never changed. Orders to a cluster are carried out one after the other.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "keepstone.io",
    version = "v1alpha1",
    kind = "EtcdOperation",
    namespaced,
    status = "EtcdOperationStatus",
    derive = "PartialEq",
    shortname = "eto",
    category = "keepstone",
    selectable = ".spec.clusterRef.name",
    doc = "One order to a cluster: exactly one verb, carried out once.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Verb", type_ = "string", json_path = ".status.verb"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Finished", type_ = "date", json_path = ".status.finishedAt"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdOperationSpec {
    /// The cluster that is told.
    pub cluster_ref: NameRef,
    /// How long the record stays once it is done, in seconds.
    #[serde(default = "a_week")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: i32,
    /// Gives free space back, one member at a time, the leader last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defragment: Option<Defragment>,
    /// Forgets old revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<Compact>,
    /// Hands leadership over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_leader: Option<MoveLeader>,
    /// Removes a member with its data and adds a new one in its place, while the others have a quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_member: Option<Member>,
    /// Goes on with one survivor after the majority is lost for good. What only the lost members knew is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_quorum: Option<RecoverQuorum>,
    /// Takes an alarm back once its cause is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disarm_alarm: Option<DisarmAlarm>,
    /// Restarts members, one at a time, the leader last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_members: Option<Members>,
    /// Puts a backup in the place of what the cluster holds. It becomes a new cluster, with an ID of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreInPlace>,
}

fn a_week() -> i32 {
    7 * 24 * 60 * 60
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defragment {
    /// Names of pods; all members where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), inner(length(min = 1, max = 63)))]
    pub members: Vec<String>,
    /// Which of them are worth it. Absent: whatever there is to gain is reason enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<DefragmentRule>,
}

/// Up to where: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compact {
    /// This revision, and all before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// All but so much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
}

/// Which members, by the names of their pods; all where none is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    /// Names of pods; all members where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), inner(length(min = 1, max = 63)))]
    pub members: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The name of its pod.
    #[schemars(length(min = 1, max = 63))]
    pub member: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoveLeader {
    /// The name of the pod that leads from then on; the operator chooses a healthy follower where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoverQuorum {
    /// The pod whose data the cluster goes on with. The condition names the one that knows most.
    #[schemars(length(min = 1, max = 63))]
    pub survivor: String,
    /// The cluster's name, a slash, and its ID: so that a copied manifest harms no other cluster.
    #[schemars(length(min = 3, max = 128))]
    pub confirm: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisarmAlarm {
    /// Which alarm.
    pub alarm: Alarm,
    /// The name of the pod whose alarm it is; that of all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub member: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Alarm {
    #[serde(rename = "NOSPACE")]
    NoSpace,
    #[serde(rename = "CORRUPT")]
    Corrupt,
}

/// How a backup becomes a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// The backup.
    pub from: BackupSource,
    /// How many revisions are skipped, so that none that a client may have seen comes again: a billion at least, as for every
    /// new cluster ID.
    #[serde(default = "a_billion")]
    #[schemars(range(min = 0))]
    pub bump_revision: i64,
    /// Watchers from before are told that their revision is compacted, so that they list anew. Under a new cluster ID it is
    /// always so.
    #[serde(default = "yes")]
    pub mark_compacted: bool,
}

fn a_billion() -> i64 {
    1_000_000_000
}

pub(crate) fn yes() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreInPlace {
    #[serde(flatten)]
    pub restore: Restore,
    /// Whether what is there is saved first. Without, it is lost.
    #[serde(default = "yes")]
    pub snapshot_current_first: bool,
    /// The cluster's name, a slash, and its ID: so that a copied manifest harms no other cluster. After a restore that has
    /// failed, the ID is that of the cluster which was given up for it.
    #[schemars(length(min = 3, max = 128))]
    pub confirm: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct EtcdOperationStatus {
    pub observed_generation: i64,
    /// The order's verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// One word for people. The last three are for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<OperationPhase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What was done to each member.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberResult>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Rejected,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MemberResult {
    /// The name of its pod.
    pub name: String,
    pub done: bool,
    /// The size of its store before and after, for a defragmentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_after: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
