//! The StatefulSet around the pods, and its volumes.

use keepstone_operator::objects::mounts;
use keepstone_operator::objects::stateful_set::{self, OWNER_ANNOTATION, Workload};
use keepstone_operator::{Blueprint, Unreadable};
use serde_json::json;

use crate::common::{cluster, container, flag, sample, settings, workload};

/// Which pod is made anew, and when, is the operator's to say.
#[test]
fn the_stateful_set_renews_no_pod_and_waits_for_none() {
    let spec = workload(&cluster(json!({}))).spec.expect("a spec");
    assert_eq!(spec.update_strategy.and_then(|strategy| strategy.type_).as_deref(), Some("OnDelete"));
    assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
}

#[test]
fn the_stateful_set_deletes_no_volume() {
    let spec = workload(&cluster(json!({"deletionPolicy": "Delete"}))).spec.expect("a spec");
    let policy = spec.persistent_volume_claim_retention_policy.expect("a policy");
    assert_eq!((policy.when_deleted.as_deref(), policy.when_scaled.as_deref()), (Some("Retain"), Some("Retain")));
}

/// A claim template can't be changed: with another one the API server would refuse the whole object.
#[test]
fn what_a_stateful_set_asks_for_can_not_be_changed_and_is_kept() {
    let small = workload(&cluster(json!({"storageSpec": {"volumeSizeRequest": "1Gi"}})));
    let b = cluster(json!({"storageSpec": {"volumeSizeRequest": "2Gi"}, "etcdOptions": ["--snapshot-count=5"]}));
    let after = stateful_set::build(&b, Workload { replicas: 3, version: "v0.1.0", existing: Some(&small) });
    let (before, after) = (small.spec.expect("a spec"), after.spec.expect("a spec"));
    assert_eq!(after.volume_claim_templates, before.volume_claim_templates);
    assert!(after.template != before.template);
    assert_eq!((after.selector, after.service_name), (before.selector, before.service_name));
}

/// A volume of a cluster that had the same name is somebody else's data.
#[test]
fn a_volume_tells_whose_it_is() {
    let b = cluster(json!({}));
    for claim in workload(&b).spec.and_then(|spec| spec.volume_claim_templates).expect("claims") {
        let annotations = claim.metadata.annotations.expect("annotations");
        assert_eq!(annotations.get(OWNER_ANNOTATION), Some(&b.uid));
    }
}

/// What a file system keeps at its root (`lost+found`) is no data of a member's.
#[test]
fn data_lies_below_the_volumes_root() {
    let b = sample("every-field.yaml");
    let mounts: Vec<String> = container(&b).volume_mounts.expect("mounts").into_iter().map(|m| m.mount_path).collect();
    for (name, dir) in [("data-dir", mounts::DATA_DIR), ("wal-dir", mounts::WAL_DIR)] {
        assert_eq!(flag(&b, name).as_deref(), Some(dir));
        let parent = dir.rsplit_once('/').expect("a path").0;
        assert!(mounts.iter().any(|mount| mount == parent), "{dir} is in no volume");
    }
}

#[test]
fn every_mount_has_its_volume() {
    for name in ["ten-lines.yaml", "every-field.yaml", "etcd-io-cert-manager.yaml"] {
        let spec = workload(&sample(name)).spec.expect("a spec");
        let claims = spec.volume_claim_templates.expect("claims").into_iter().filter_map(|claim| claim.metadata.name);
        let pod = spec.template.spec.expect("a pod");
        let volumes: Vec<String> =
            pod.volumes.expect("volumes").into_iter().map(|volume| volume.name).chain(claims).collect();
        let mut mounted: Vec<String> =
            pod.containers[0].volume_mounts.clone().expect("mounts").into_iter().map(|mount| mount.name).collect();
        assert!(mounted.iter().all(|mount| volumes.contains(mount)), "{name}");
        mounted.dedup();
        assert_eq!(mounted.len(), volumes.len(), "{name}");
    }
}

fn refused(spec: serde_json::Value) -> Unreadable {
    let mut whole = json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdCluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": "u"}, "spec": {"version": "v0.1.0"},
    });
    let fields = whole["spec"].as_object_mut().expect("an object");
    fields.extend(spec.as_object().expect("an object").clone());
    Blueprint::read(&serde_json::from_value(whole).expect("a cluster"), &settings()).expect_err("it can't be read")
}

/// To a member 0 means its default, which may be more than the volume holds.
#[test]
fn a_quota_of_nothing_is_not_taken_for_one() {
    assert_eq!(
        refused(json!({"quotaBackendBytes": "0"})),
        Unreadable::Quantity { field: "spec.quotaBackendBytes", text: "0".to_owned() }
    );
    assert!(matches!(
        refused(json!({"storageSpec": {"volumeSizeRequest": "much"}})),
        Unreadable::Quantity { field: "spec.storageSpec.volumeSizeRequest", .. }
    ));
    assert!(matches!(refused(json!({"tls": {"provider": "cert-manager"}})), Unreadable::Provider(_)));
}
