//! `EtcdCluster`: a cluster and its standing policies.

use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::BackupPolicy;
use crate::operation::Restore;
use crate::pod::{ClientService, PodTemplate};
use crate::policy::{DeletionPolicy, Maintenance, Monitoring, Recovery, UpdateStrategy};
use crate::refs::null_is_default;
use crate::status::EtcdClusterStatus;
use crate::storage::StorageSpec;
use crate::tls::Tls;

/// A keepstone cluster and its standing policies. `version` is all that must be said.
///
/// `size`, `version`, `imageRegistry`, `storageSpec`, `tls`, `etcdOptions` and `podTemplate` mean what they mean to
/// etcd-io/etcd-operator, but for four things: without `storageSpec` members have a volume of 10 Gi each; members share no volume
/// (no `pvcName`, no ReadWriteMany); certificates of `auto` are valid for 90 days; and `caBundleSecret` is trusted beside what
/// the issuer gives.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "keepstone.io",
    version = "v1alpha1",
    kind = "EtcdCluster",
    namespaced,
    status = "EtcdClusterStatus",
    derive = "PartialEq",
    shortname = "etc",
    category = "keepstone",
    doc = "A keepstone cluster and its standing policies.",
    scale(
        spec_replicas_path = ".spec.size",
        status_replicas_path = ".status.memberCount",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Size", type_ = "integer", json_path = ".spec.size"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyMembers"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.currentVersion"),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Available\")].status"
    ),
    printcolumn(name = "Backup", type_ = "date", json_path = ".status.lastBackup.time"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "ClusterID", type_ = "string", json_path = ".status.clusterID", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterSpec {
    /// How many members. Odd numbers: an even one bears no more losses than the odd one below it.
    #[serde(default = "three")]
    pub size: i32,
    /// The version of keepstone: the image's tag, and what the cluster is brought to.
    #[schemars(length(min = 1, max = 64))]
    pub version: String,
    /// The image without its tag; the operator's own setting where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image_registry: Option<String>,
    /// Secrets to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The members' volumes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub storage_spec: StorageSpec,
    /// Certificates. On, unless `disabled` is said.
    #[serde(default, deserialize_with = "null_is_default")]
    pub tls: Tls,
    /// More flags of the server, each `--name` or `--name=value`. Those the operator sets itself are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub etcd_options: Vec<String>,
    /// Where pods run, and what they may use.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub pod_template: PodTemplate,
    /// The operator looks, and touches nothing. A paused cluster can still be deleted.
    #[serde(default)]
    pub paused: bool,
    /// No pods; volumes, identity and size are kept until it wakes.
    #[serde(default)]
    pub hibernate: bool,
    /// What becomes of the members' volumes when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How large a member's store may become before writes are refused. Where absent: half the volume, 8Gi at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_backend_bytes: Option<Quantity>,
    /// How pods are renewed.
    #[serde(default, deserialize_with = "null_is_default")]
    pub update_strategy: UpdateStrategy,
    /// What is repaired without asking.
    #[serde(default, deserialize_with = "null_is_default")]
    pub recovery: Recovery,
    /// Housekeeping by schedule.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub maintenance: Maintenance,
    /// Backups by schedule. Absent: none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupPolicy>,
    /// What the cluster begins with; read until it is founded. Immutable, and can't be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// The Service for clients.
    #[serde(default, deserialize_with = "null_is_default")]
    pub client_service: ClientService,
    /// Objects for the Prometheus operator.
    #[serde(default, deserialize_with = "null_is_default")]
    pub monitoring: Monitoring,
}

fn three() -> i32 {
    3
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Begins with a backup; it becomes a new cluster, with an ID of its own.
    pub restore: Restore,
}
