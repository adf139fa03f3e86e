//! What the operator answers: facts as it last saw them, and the one operation under way.
//!
//! Only `clusterID`, `operation`, `operationSeq`, `marks`, `currentVersion` and the claims of `members` are ever read back.
//! The rest is for people and monitoring: members, leader and health are asked anew before anything is decided on them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::Alarm;
use crate::record::OperationRecord;

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
    /// The lowest version that a voter runs, as the tag of its image has it; `members[].version` is what it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberStatus>,
    /// What is under way. Written before the act, taken away after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationRecord>,
    /// The `seq` of the last operation there was; it outlives the record.
    pub operation_seq: u64,
    #[serde(skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
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
    /// Of the claim that its data is on, or was when it last answered.
    #[serde(rename = "pvcUID", skip_serializing_if = "Option::is_none")]
    pub pvc_uid: Option<String>,
    /// When `isHealthy` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// When something was done for the last time; a schedule that was missed is known by it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Marks {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defragment: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Time>,
    /// When room was last made for an alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<Time>,
    /// Since when no quorum has been seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum_lost: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// The `EtcdBackup`.
    pub name: String,
    pub revision: i64,
    pub time: Time,
}

impl Marks {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
