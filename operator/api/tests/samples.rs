//! What users write is understood whole: no field of it is dropped, and what they leave out is safe.

use std::fs;
use std::path::{Path, PathBuf};

use keepstone_operator_api::cluster::EtcdCluster;
use keepstone_operator_api::policy::{DeletionPolicy, QuorumLossMode, SnapshotBefore};
use keepstone_operator_api::storage::AccessMode;
use keepstone_operator_api::tls::TlsProvider;
use keepstone_operator_api::{EtcdBackup, EtcdOperation};
use serde::Deserialize as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

fn documents(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(samples().join(name)).expect(name);
    serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).expect(name)).collect()
}

fn cluster(name: &str) -> EtcdCluster {
    serde_json::from_value(documents(name).remove(0)).expect(name)
}

/// Everything that was given is in what comes back, `null` aside.
fn assert_kept(given: &Value, back: &Value, at: &str) {
    match (given, back) {
        (Value::Null, _) => {}
        (Value::Object(given), Value::Object(back)) => {
            for (key, value) in given {
                let at = format!("{at}.{key}");
                assert_kept(value, back.get(key).unwrap_or_else(|| panic!("{at} was dropped")), &at);
            }
        }
        (Value::Array(given), Value::Array(back)) => {
            assert_eq!(given.len(), back.len(), "{at}");
            for (index, (given, back)) in given.iter().zip(back).enumerate() {
                assert_kept(given, back, &format!("{at}[{index}]"));
            }
        }
        (given, back) => assert_eq!(given, back, "{at}"),
    }
}

fn assert_decodes<T: DeserializeOwned + Serialize>(given: &Value, at: &str) {
    let typed: T = serde_json::from_value(given.clone()).unwrap_or_else(|why| panic!("{at}: {why}"));
    let back = serde_json::to_value(&typed).expect("it is JSON");
    // What is false, empty or the default may be left out on the way back only where the default says the same.
    let again: T = serde_json::from_value(back.clone()).expect("what we write we read");
    assert_eq!(serde_json::to_value(&again).expect("it is JSON"), back, "{at}");
    assert_kept(given, &back, at);
}

#[test]
fn every_sample_is_understood_whole() {
    let mut seen = 0;
    for entry in fs::read_dir(samples()).expect("samples") {
        let name = entry.expect("a file").file_name().into_string().expect("a name");
        for document in documents(&name) {
            assert_eq!(document["apiVersion"], "keepstone.io/v1alpha1", "{name}");
            match document["kind"].as_str() {
                Some("EtcdCluster") => assert_decodes::<EtcdCluster>(&document, &name),
                Some("EtcdBackup") => assert_decodes::<EtcdBackup>(&document, &name),
                Some("EtcdOperation") => assert_decodes::<EtcdOperation>(&document, &name),
                other => panic!("{name}: {other:?}"),
            }
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
}

/// Ten lines are enough, and leave nothing open.
#[test]
fn defaults_are_safe() {
    let text = fs::read_to_string(samples().join("ten-lines.yaml")).expect("the sample");
    assert!(text.lines().count() <= 10);
    let spec = cluster("ten-lines.yaml").spec;
    assert_eq!(spec.tls.provider, TlsProvider::Auto);
    assert!(spec.tls.client_cert_auth, "clients show certificates");
    assert_eq!(spec.storage_spec.volume_size_request.0, "10Gi");
    assert_eq!(spec.storage_spec.access_modes, AccessMode::ReadWriteOnce);
    assert_eq!(spec.deletion_policy, DeletionPolicy::Retain);
    assert_eq!(spec.recovery.quorum_loss.mode, QuorumLossMode::Manual);
    assert!(spec.recovery.replace_member.enabled);
    assert_eq!(spec.update_strategy.max_unavailable, 1);
    assert_eq!(spec.update_strategy.snapshot_before, SnapshotBefore::None);
    assert!(!spec.update_strategy.allow_downgrade && !spec.paused && !spec.hibernate);
    assert!(spec.backup.is_none() && spec.bootstrap.is_none() && spec.maintenance.defragment.is_none());
}

#[test]
fn size_is_three_where_it_is_not_said() {
    let spec: EtcdCluster = serde_json::from_value(serde_json::json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdCluster",
        "metadata": {"name": "demo"}, "spec": {"version": "v0.1.0"},
    }))
    .expect("it is enough");
    assert_eq!(spec.spec.size, 3);
}

/// As etcd-io/etcd-operator's first sample has it.
#[test]
fn tls_with_nothing_after_it_is_on() {
    assert_eq!(cluster("etcd-io-plain.yaml").spec.tls, cluster("ten-lines.yaml").spec.tls);
}

/// tests/kube sees that the API server fills in the same: then a default stands in one place, and is in force everywhere.
#[test]
fn what_is_left_out_is_filled_in_as_written_down() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/defaulted.yaml");
    let wanted: Value = serde_yaml::from_str(&fs::read_to_string(path).expect("the file")).expect("YAML");
    let filled = serde_json::to_value(cluster("ten-lines.yaml").spec).expect("it is JSON");
    assert_eq!(filled, wanted, "{}", serde_yaml::to_string(&filled).expect("YAML"));
}
