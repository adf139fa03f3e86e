//! The StatefulSet: it gives pods names and volumes, and makes those anew that are gone, also while no operator runs. It
//! never renews one by itself (`OnDelete`), and never lets one wait for another (`Parallel`): without a quorum none of them
//! becomes ready.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use keepstone_operator_api::storage::AccessMode;

use crate::Blueprint;
use crate::objects::{mounts, pod};

/// On a claim: the UID of the `EtcdCluster` it was made for. One of the same name that comes later must not take it over.
pub const OWNER_ANNOTATION: &str = "keepstone.io/owner";

/// What the planner has settled.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    pub replicas: u32,
    /// As the spec had it when it was settled.
    pub version: &'a str,
    /// The one that is there. What of it can't be changed is kept: else the API server would refuse all the rest, too.
    pub existing: Option<&'a StatefulSet>,
}

#[must_use]
pub fn build(b: &Blueprint, workload: Workload<'_>) -> StatefulSet {
    let kept = workload.existing.and_then(|set| set.spec.as_ref()?.volume_claim_templates.clone());
    let keep = Some("Retain".to_owned());
    StatefulSet {
        metadata: b.metadata(b.names.main()),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(workload.replicas).expect("nine at most")),
            service_name: Some(b.names.peers()),
            selector: LabelSelector { match_labels: Some(b.names.selector()), ..LabelSelector::default() },
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            // Which claims go is the operator's to say: only a member that is out of the table has no use for its own.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: keep.clone(),
                when_scaled: keep,
            }),
            template: pod::template(b, workload.version),
            volume_claim_templates: Some(kept.unwrap_or_else(|| claims(b))),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn claims(b: &Blueprint) -> Vec<PersistentVolumeClaim> {
    let storage = &b.spec.storage_spec;
    mounts::claims(b)
        .into_iter()
        .map(|name| match &storage.wal_volume {
            Some(wal) if name == mounts::WAL => {
                let class = wal.storage_class_name.as_ref().or(storage.storage_class_name.as_ref());
                claim(b, name, &wal.volume_size_request, None, class)
            }
            _ => {
                let (size, limit) = (&storage.volume_size_request, storage.volume_size_limit.as_ref());
                claim(b, name, size, limit, storage.storage_class_name.as_ref())
            }
        })
        .collect()
}

fn claim(
    b: &Blueprint,
    name: &str,
    size: &Quantity,
    limit: Option<&Quantity>,
    class: Option<&String>,
) -> PersistentVolumeClaim {
    let amount = |size: &Quantity| [("storage".to_owned(), size.clone())].into();
    let access = match b.spec.storage_spec.access_modes {
        AccessMode::ReadWriteOnce => "ReadWriteOnce",
        AccessMode::ReadWriteOncePod => "ReadWriteOncePod",
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(b.names.labels()),
            annotations: Some([(OWNER_ANNOTATION.to_owned(), b.uid.clone())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![access.to_owned()]),
            volume_mode: Some("Filesystem".to_owned()),
            storage_class_name: class.cloned(),
            resources: Some(VolumeResourceRequirements { requests: Some(amount(size)), limits: limit.map(amount) }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
