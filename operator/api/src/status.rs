//! What the operator answers: facts as it last saw them, and the one operation under way.
//!
//! Only `clusterID`, `observed` and `operation` are ever read back. The rest is for people and monitoring: members, leader
//! and health are asked anew before anything is decided on them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::Alarm;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    pub observed_generation: i64,
    /// One word for people; nothing decides on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Which pods the members are, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// In hex. Written once: from then on nobody may found this cluster again.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Members the cluster itself lists, learners among them.
    pub member_count: i32,
    pub ready_members: i32,
    /// The name of the pod that leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// In hex.
    #[serde(rename = "leaderID", skip_serializing_if = "Option::is_none")]
    pub leader_id: Option<String>,
    /// The lowest version that a voter runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberStatus>,
    /// What the operation under way is to reach; changes of the spec wait for its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedTarget>,
    /// What is under way. Written before the act, taken away after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificateStatus>,
    /// When a schedule of maintenance is next due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_maintenance: Option<Time>,
    /// How often the quorum was recovered from one survivor.
    pub recovery_count: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    Pending,
    Bootstrapping,
    Running,
    Changing,
    Degraded,
    Unavailable,
    Paused,
    Hibernated,
    Deleting,
    Failed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MemberStatus {
    /// The name of its pod.
    pub name: String,
    /// In hex; absent until it is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub is_healthy: bool,
    pub is_leader: bool,
    pub is_learner: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_in_use_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raft_applied_index: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc_name: Option<String>,
    #[serde(rename = "pvcUID", skip_serializing_if = "Option::is_none")]
    pub pvc_uid: Option<String>,
    /// When `isHealthy` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedTarget {
    pub size: i32,
    pub version: String,
    pub storage: Quantity,
}

/// Intent, written before the act: after a crash it says what was half done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationRecord {
    /// Grows by one with every record: whoever holds an older one has lost the right to act.
    pub seq: i64,
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// How far it is; the words are the planner's.
    pub step: String,
    /// The name of the pod it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The ID of the member it is about, in hex.
    #[serde(default, rename = "memberID", skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// For a founding: the permit's nonce, and the UIDs of pod and volume it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<PermitRecord>,
    /// The `EtcdOperation` that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// How often it was begun again.
    #[serde(default)]
    pub attempts: i32,
    pub started_at: Time,
    /// When it counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationType {
    Bootstrap,
    Restore,
    ScaleUp,
    ScaleDown,
    ReplaceMember,
    RecoverQuorum,
    RollMembers,
    ResizeStorage,
    RotateCertificates,
    Hibernate,
    WakeUp,
    Compact,
    Defragment,
    DisarmAlarm,
    MoveLeader,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermitRecord {
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    #[serde(rename = "pvcUID")]
    pub pvc_uid: String,
    pub nonce: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// The `EtcdBackup`.
    pub name: String,
    pub revision: i64,
    pub time: Time,
}

/// When certificates end: the first of each plane to do so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CertificateStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_not_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_not_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_not_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_not_after: Option<Time>,
}
