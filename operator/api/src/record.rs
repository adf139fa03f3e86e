//! `status.operation`: the one operation under way, written before its first act and taken away after its last.
//!
//! It holds what no later look can tell: what is meant, and whom it is about. How far it has come is never written. The
//! words are the planner's; `type` says which of the parts is there.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::yes;
use crate::policy::DefragmentRule;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationRecord {
    /// Grows by one with every record: of two operators that write the same, one fails.
    pub seq: u64,
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// The name of the pod it is about; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    pub started_at: Time,
    /// When it is said aloud that it takes too long.
    pub deadline: Time,
    /// Of the spec, when it began.
    pub generation: i64,
    /// UID of the `EtcdOperation` that asked for it.
    #[serde(default, rename = "requestUID", skip_serializing_if = "Option::is_none")]
    pub request_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapRecord>,
    /// Of `ScaleUp` and `ReplaceMember`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinRecord>,
    /// Of `ScaleDown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave: Option<LeaveRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<RollRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernate: Option<HibernateRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_quorum: Option<RecoverRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defragment: Option<DefragmentRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub make_room: Option<MakeRoomRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<CompactRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_leader: Option<MoveLeaderRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationType {
    Bootstrap,
    ScaleUp,
    ReplaceMember,
    ScaleDown,
    Roll,
    Hibernate,
    RecoverQuorum,
    Restore,
    Defragment,
    MakeRoom,
    Compact,
    MoveLeader,
    DisarmAlarm,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapRecord {
    /// From 1.
    pub attempt: u32,
    /// Absent until pod and claim of the seed are there to be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<PermitRecord>,
    /// UID of the claim of an attempt that failed; it must be gone before the next permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoiled_claim_uid: Option<String>,
    /// The backup to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of a restore in place, the ID of the cluster that was given up, in hex: what another order has to confirm, once this
    /// backup was none.
    #[serde(default, rename = "lostClusterID", skip_serializing_if = "Option::is_none")]
    pub lost_cluster_id: Option<String>,
}

/// Leave for one data directory to found a cluster, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermitRecord {
    #[serde(rename = "type")]
    pub kind: PermitType,
    pub ordinal: u32,
    /// Absent where the pod will be another by then.
    #[serde(default, rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    #[serde(rename = "claimUID")]
    pub claim_uid: String,
    /// In hex.
    pub nonce: String,
    /// The backup, for `FoundFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PermitType {
    /// In an empty directory.
    Found,
    /// In an empty directory, from a backup.
    FoundFrom,
    /// From what the directory holds, with nobody else in it.
    ForceNew,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinRecord {
    /// The place that gets a member.
    pub ordinal: u32,
    /// ID, in hex, of the member to be removed first.
    #[serde(default, rename = "leaverID", skip_serializing_if = "Option::is_none")]
    pub leaver_id: Option<String>,
    /// UID of the claim to be deleted first.
    #[serde(default, rename = "staleClaimUID", skip_serializing_if = "Option::is_none")]
    pub stale_claim_uid: Option<String>,
    /// From 1.
    pub attempt: u32,
    /// Where the learner was when the deadline was last put off.
    pub applied: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaveRecord {
    /// The place that loses its member.
    pub ordinal: u32,
    /// Its ID, in hex.
    #[serde(default, rename = "memberID", skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    #[serde(default, rename = "claimUID", skip_serializing_if = "Option::is_none")]
    pub claim_uid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollRecord {
    pub ordinal: u32,
    /// The pod that has to go.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// What comes after it: the hash of its configuration, and its version.
    pub config: String,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HibernateRecord {
    /// How many pods to wake.
    pub replicas: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoverRecord {
    /// The place whose data becomes the new cluster's.
    pub survivor: u32,
    /// UID of its claim.
    #[serde(rename = "claimUID")]
    pub claim_uid: String,
    /// ID, in hex, of the cluster that is given up.
    #[serde(rename = "lostClusterID")]
    pub lost_cluster_id: String,
    /// In hex.
    pub nonce: String,
    /// Whether the others have been fenced, and `pods` written down after that.
    #[serde(default)]
    pub fenced: bool,
    /// UIDs of all pods there were, by place: none may run once the new cluster does.
    pub pods: BTreeMap<String, String>,
    /// UIDs of the others' claims, by place: saved first, deleted last.
    pub claims: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRecord {
    /// The backup.
    pub source: String,
    /// ID, in hex, of the cluster that is given up.
    #[serde(rename = "lostClusterID")]
    pub lost_cluster_id: String,
    /// Whether what there is, is saved first.
    #[serde(default = "yes")]
    pub snapshot_current_first: bool,
    /// UIDs of its claims, by place, all to be deleted.
    pub claims: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DefragmentRecord {
    /// Absent: whatever there is to gain is reason enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<DefragmentRule>,
    /// Places it is about; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<u32>,
    /// Places that are done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MakeRoomRecord {
    pub compacted: bool,
    /// Places that are defragmented.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompactRecord {
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoveLeaderRecord {
    /// The place that leads from then on.
    pub to: u32,
}
