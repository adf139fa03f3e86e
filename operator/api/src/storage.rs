//! The members' volumes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::DeletionPolicy;

/// The volume that each member has. The names are etcd-io/etcd-operator's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageSpec {
    /// How large each member's volume is. It may grow, where the storage class can; it never shrinks.
    pub volume_size_request: Quantity,
    /// The most a volume may become; for storage classes that look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_size_limit: Option<Quantity>,
    /// The storage class; the cluster's default one where absent. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Who may mount a volume: one node, or one pod. Members share nothing, so there is no ReadWriteMany. Immutable.
    pub access_modes: AccessMode,
    /// A volume of its own for the Raft log, whose syncs then wait for nothing else. It can't be added later, or taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_volume: Option<WalVolume>,
    /// What becomes of a member's volume when the cluster is made smaller. The others have all that is in it.
    pub retain_policy: DeletionPolicy,
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self {
            volume_size_request: Quantity("10Gi".to_owned()),
            volume_size_limit: None,
            storage_class_name: None,
            access_modes: AccessMode::default(),
            wal_volume: None,
            retain_policy: DeletionPolicy::Delete,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    #[default]
    ReadWriteOnce,
    ReadWriteOncePod,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalVolume {
    /// How large it is. It may grow, and never shrinks.
    pub volume_size_request: Quantity,
    /// Its storage class; that of the other volume where absent. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}
