use keepstone_operator_api::EtcdCluster;
use keepstone_operator_plan::ids::Version;
use serde_json::{Value, json};

use super::*;
use crate::Settings;
use crate::blueprint::OperatorPods;

const NOW: Time = Time(1_795_000_000);

fn ask(spec: &Value) -> Result<Desired, Unclear> {
    let mut spec = spec.clone();
    spec["version"] = json!("v1.4.2");
    let cluster: EtcdCluster = serde_json::from_value(json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdCluster",
        "metadata": {"name": "main", "namespace": "prod", "uid": "u"}, "spec": spec,
    }))
    .expect("the schema takes it");
    let operator = OperatorPods { namespace: "keepstone-system".to_owned(), labels: Vec::new() };
    let settings = Settings {
        image: "keepstone".to_owned(),
        domain: "cluster.local".to_owned(),
        agent: "agent".to_owned(),
        operator,
    };
    let template = Template { config: "5f3a".into(), version: Version { major: 1, minor: 4, patch: 2 } };
    read(&Blueprint::read(&cluster, &settings).expect("it is whole"), template, NOW)
}

#[test]
fn what_is_not_said_is_safe() {
    let desired = ask(&json!({})).expect("it is enough");
    assert_eq!((desired.size, desired.storage, desired.quota), (3, 10 << 30, 5 << 30));
    assert!(!desired.paused && !desired.hibernate && desired.backup.is_none() && desired.source.is_none());
    assert_eq!((desired.deletion_policy, desired.retain_policy), (Retention::Retain, Retention::Delete));
    assert!(desired.recovery.replace && !desired.recovery.automatic);
    assert_eq!((desired.recovery.min_unhealthy, desired.recovery.after), (Seconds(600), Seconds(900)));
    assert_eq!(desired.update.pause_between, Seconds(20));
    let Tls::Auto { renew_before, ca_renew_before, .. } = desired.tls else { panic!("TLS is on") };
    assert_eq!((renew_before, ca_renew_before), (Seconds(30 * 24 * 3600), Seconds(365 * 24 * 3600)));
}

#[test]
fn what_is_said_counts() {
    let desired = ask(&json!({
        "size": 5, "tls": {"provider": "disabled"}, "deletionPolicy": "Delete", "paused": true,
        "recovery": {"quorumLoss": {"mode": "Automatic", "after": "1h30m"}},
        "updateStrategy": {"snapshotBefore": "Full"},
        "maintenance": {
            "compact": {"schedule": "@hourly", "keep": {"revisions": 100}},
            "defragment": {"schedule": "@daily"},
        },
        "backup": {"full": {"schedule": "@daily"}, "store": {"pvc": {"claimName": "c"}}, "retention": {"keepLast": 3}},
        "bootstrap": {"restore": {"from": {"backupRef": {"name": "old"}}}},
    }))
    .expect("it is right");
    assert_eq!((desired.size, desired.tls, desired.paused), (5, Tls::Disabled, true));
    assert!(desired.recovery.automatic && desired.update.snapshot_before);
    assert_eq!(desired.recovery.after, Seconds(5400));
    assert_eq!(desired.maintenance.compact.expect("it is asked for").keep, Some(100));
    let rule = desired.maintenance.defragment.expect("it is asked for").rule;
    assert_eq!((rule.free_above, rule.quota_percent, rule.min_reclaim), (200 << 20, 80, 32 << 20));
    assert_eq!(desired.backup.expect("it is asked for").keep, 3);
    let restore = source_of(&desired.source.expect("it is asked for")).expect("we wrote it");
    assert_eq!(restore.from.backup_ref.map(|it| it.name).as_deref(), Some("old"));
    assert_eq!(restore.bump_revision, 1_000_000_000);
}

#[test]
fn a_suspended_backup_is_none() {
    let backup = json!({"suspend": true, "full": {"schedule": "@daily"}, "store": {"pvc": {"claimName": "c"}}});
    assert_eq!(ask(&json!({"backup": backup})).expect("it is right").backup, None);
}

#[test]
fn what_can_not_be_read_is_named() {
    for (spec, field) in [
        (json!({"maintenance": {"defragment": {"schedule": "99 * * * *"}}}), "spec.maintenance.defragment.schedule"),
        (
            json!({"backup": {"full": {"schedule": "@daily", "timeZone": "Mars/Olympus"}, "store": {}}}),
            "spec.backup.full.timeZone",
        ),
        (json!({"updateStrategy": {"pauseBetween": "soon"}}), "spec.updateStrategy.pauseBetween"),
        (
            json!({"maintenance": {"defragment": {"schedule": "@daily", "rule": {"quotaUsageAbove": "101%"}}}}),
            "spec.maintenance.defragment.rule.quotaUsageAbove",
        ),
    ] {
        assert_eq!(ask(&spec).expect_err("it is wrong").field, field, "{spec}");
    }
}

#[test]
fn rules_come_back() {
    let all = Rule { free_above: (200 << 20) + 1, quota_percent: 100, min_reclaim: 0 };
    assert_eq!(rule("x", &rule_of(&all)), Ok(all));
}
