//! What is said to orders that are not for now, or can't be carried out.

mod tap;

use keepstone_operator::controller::kind::Kind;
use keepstone_operator::controller::pass::Habits;
use keepstone_operator_plan::operation::{Intent, Verb};
use keepstone_opsim::render::{CLUSTER, NAMESPACE};
use keepstone_opsim::site::Site;
use serde_json::{Value, json};
use tap::{Differs, Place, whole};

fn order(cluster: &str, spec: Value) -> (Kind, Value) {
    named("asked", cluster, spec)
}

fn named(name: &str, cluster: &str, spec: Value) -> (Kind, Value) {
    let mut order = json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdOperation",
        "metadata": {
            "namespace": NAMESPACE, "name": name, "uid": name, "generation": 1,
            "creationTimestamp": "1970-01-12T13:46:40Z",
        },
        "spec": spec,
    });
    order["spec"]["clusterRef"] = json!({"name": cluster});
    (Kind::Operation, order)
}

fn backup(leaving: bool) -> (Kind, Value) {
    let mut backup = json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdBackup",
        "metadata": {"namespace": NAMESPACE, "name": "nightly", "uid": "b", "creationTimestamp": "1970-01-12T13:46:40Z"},
        "spec": {"clusterRef": {"name": "another"}, "store": {"pvc": {"claimName": "b"}}},
        "status": {"phase": "Completed", "artifact": {
            "uri": "pvc://b/nightly.db", "sizeBytes": 7, "sha256": "ab", "revision": 9, "clusterID": "1", "memberID": "2",
            "serverVersion": "3.6.0",
        }},
    });
    if leaving {
        backup["metadata"]["deletionTimestamp"] = json!("1970-01-12T13:46:40Z");
        backup["metadata"]["finalizers"] = json!(["keepstone.io/backup-file"]);
    }
    (Kind::Backup, backup)
}

fn from_backup(site: &Site) -> (Kind, Value) {
    let confirm = format!("{CLUSTER}/{:x}", site.world.latched.expect("it stands"));
    order(CLUSTER, json!({"restore": {"from": {"backupRef": {"name": "nightly"}}, "confirm": confirm}}))
}

fn said(differs: &Differs, phase: &str, reason: &str) -> bool {
    differs.told.iter().any(|status| status["phase"] == phase && status["conditions"][0]["reason"] == reason)
}

fn standing() -> Place {
    let mut place = Place::new(Habits::default());
    place.until(CLUSTER, "it stands", |site, _| whole(site));
    place
}

#[test]
fn an_order_that_waits_for_another_is_told_so() {
    let mut place = standing();
    place.site.lock().ask(Verb::RestartMembers { members: [].into() });
    place.until(CLUSTER, "it is begun", |site, _| site.world.operation.is_some());
    place.differs.lock().beside.push(order(CLUSTER, json!({"restartMembers": {}})));
    place.pass(CLUSTER);
    assert!(said(&place.differs.lock(), "Pending", "Queued"), "{:?}", place.differs.lock().told);
}

/// A manifest may have the order before the cluster.
#[test]
fn an_order_about_a_cluster_that_does_not_come_is_rejected() {
    let mut place = Place::new(Habits::default());
    let asked = order("nowhere", json!({"restartMembers": {}}));
    place.differs.lock().beside.push(asked);
    place.pass("nowhere");
    assert_eq!(place.differs.lock().told, Vec::<Value>::new());
    place.until("nowhere", "it is rejected", |_, differs| said(differs, "Rejected", "ClusterNotFound"));
}

#[test]
fn nothing_is_given_up_for_a_backup_that_is_on_its_way_out() {
    let mut place = standing();
    let asked = from_backup(&place.site.lock());
    place.differs.lock().beside.extend([backup(true), asked]);
    for _ in 0..5 {
        place.pass(CLUSTER);
        assert_eq!(place.site.lock().world.operation, None);
    }
    assert!(said(&place.differs.lock(), "Rejected", "BackupNotFound"), "{:?}", place.differs.lock().told);
}

/// Retention used to take it away while the data there was, was still being saved.
#[test]
fn a_restore_whose_backup_goes_before_anything_was_deleted_is_given_up() {
    let mut place = standing();
    let asked = from_backup(&place.site.lock());
    place.differs.lock().beside.extend([backup(false), asked]);
    let begun = |site: &Site| matches!(site.world.operation.as_ref().map(|it| &it.intent), Some(Intent::Restore(_)));
    place.until(CLUSTER, "it is begun", |site, _| begun(site));
    place.differs.lock().beside.retain(|(kind, _)| *kind == Kind::Operation);
    place.until(CLUSTER, "it is given up", |_, differs| said(differs, "Failed", "StepFailed"));
    place.differs.lock().beside.clear();
    place.until(CLUSTER, "it stands again", |site, _| whole(site));
    let site = place.site.lock();
    assert_eq!((&site.broken, site.world.latched), (&None, Some(1)));
}

/// The first stayed Running, and the second waited for it, for ever.
#[test]
fn what_is_no_backup_fails_its_order_and_another_is_carried_out() {
    let mut place = standing();
    let asked = from_backup(&place.site.lock());
    let again = named("again", CLUSTER, asked.1["spec"].clone());
    {
        let mut differs = place.differs.lock();
        differs.beside.extend([backup(false), asked]);
        differs.spoils = true;
    }
    place.until(CLUSTER, "the first has failed", |_, differs| said(differs, "Failed", "StepFailed"));
    assert!(!said(&place.differs.lock(), "Succeeded", "Succeeded"));
    {
        let mut differs = place.differs.lock();
        differs.beside.push(again);
        differs.spoils = false;
    }
    place.until(CLUSTER, "the second is done", |_, differs| said(differs, "Succeeded", "Succeeded"));
    place.until(CLUSTER, "it stands again", |site, _| whole(site));
    assert_eq!(place.site.lock().broken, None);
}
