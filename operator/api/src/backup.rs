//! Backups: where they go, when they are taken, and the record of each.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{DeletionPolicy, Schedule};
use crate::refs::{NameRef, null_is_default};

/// Where backups lie: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// A bucket of S3, or of anything that speaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Store>,
    /// A volume of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcStore>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Store {
    /// The server's URL; Amazon's of the region where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// The bucket, which must be there.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// What keys begin with, without slashes at its ends. Two clusters must not share one; the second is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = "^[^/].*[^/]$|^[^/]$"))]
    pub prefix: Option<String>,
    /// The region, as requests are signed with it.
    #[serde(default = "first_region")]
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// Whether the bucket stands in the path, as most servers that are not Amazon's want it.
    #[serde(default)]
    pub force_path_style: bool,
    /// A Secret with `accessKeyID` and `secretAccessKey`; where absent, the identity of the pod is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NameRef>,
    /// A Secret with `ca.crt`, for a server whose certificate no public CA signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<NameRef>,
}

fn first_region() -> String {
    "us-east-1".to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PvcStore {
    /// The claim, which must be there.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// A directory in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"))]
    pub sub_path: Option<String>,
}

/// Backups by schedule. Each is an `EtcdBackup`; one that was missed is taken once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicy {
    /// Takes none while set.
    #[serde(default)]
    pub suspend: bool,
    /// Full snapshots, taken from a follower.
    pub full: FullSchedule,
    /// Where they go.
    pub store: Store,
    #[serde(default, deserialize_with = "null_is_default")]
    pub retention: Retention,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullSchedule {
    #[serde(flatten)]
    pub when: Schedule,
    /// Whether the first is taken at once.
    #[serde(default = "yes")]
    pub immediate: bool,
}

fn yes() -> bool {
    true
}

/// How many backups of the schedule are kept. The newest complete one always is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Retention {
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    pub keep_last: i32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_last: 7 }
    }
}

/// Where a restore reads: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSource {
    /// An `EtcdBackup` of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<NameRef>,
    /// A file in a store, when its `EtcdBackup` is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<StoredObject>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredObject {
    /// Where it lies.
    pub store: Store,
    /// The file's full key or path in it, prefix included.
    #[schemars(length(min = 1, max = 1024))]
    pub key: String,
}

/// The record of one backup. The operator makes them by the cluster's schedule; made by hand, it takes one.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "keepstone.io",
    version = "v1alpha1",
    kind = "EtcdBackup",
    namespaced,
    status = "EtcdBackupStatus",
    derive = "PartialEq",
    shortname = "etb",
    category = "keepstone",
    selectable = ".spec.clusterRef.name",
    doc = "The record of one backup. Made by hand, it takes one.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.artifact.revision"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.artifact.sizeBytes"),
    printcolumn(name = "Completed", type_ = "date", json_path = ".status.completedAt"),
    printcolumn(name = "URI", type_ = "string", json_path = ".status.artifact.uri", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdBackupSpec {
    /// The cluster that is saved.
    pub cluster_ref: NameRef,
    /// What is saved.
    #[serde(rename = "type", default)]
    pub kind: BackupType,
    /// Where it goes.
    pub store: Store,
    /// What becomes of the file when this record is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupType {
    #[default]
    Full,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct EtcdBackupStatus {
    pub observed_generation: i64,
    /// One word for people. `Completed` and `Failed` are for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// The file, once it is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    Pending,
    Running,
    Completed,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// `s3://bucket/key` or `pvc://claim/path`.
    pub uri: String,
    pub size_bytes: i64,
    /// Of the file, in hex.
    pub sha256: String,
    /// The revision that the file holds.
    pub revision: i64,
    /// In hex.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// The member it was taken from, in hex.
    #[serde(rename = "memberID")]
    pub member_id: String,
    pub server_version: String,
}
