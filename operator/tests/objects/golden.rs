//! Every object of some clusters, to the letter. `KEEPSTONE_WRITE_GOLDEN=1` writes the files anew; read what changed.

use std::fs;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use keepstone_operator::Blueprint;
use keepstone_operator::objects::client_service::Door;
use keepstone_operator::objects::permit::{Action, Permit};
use keepstone_operator::objects::{
    certificate, client_service, disruption_budget, network_policy, peers_service, permit, pod_monitor,
    prometheus_rule, service_account, tls_secret, trust,
};
use keepstone_operator::pki::{Bundle, Leaf};
use keepstone_operator_plan::ids::{Nonce, Ordinal, Time, Uid};
use keepstone_operator_plan::observed::Surface;
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::common::{cluster, golden, sample, workload};

/// All objects, in the order they are made.
fn objects(b: &Blueprint) -> Vec<Value> {
    let seed = Permit {
        action: Action::Found,
        ordinal: Ordinal::SEED,
        pod: Some(Uid::from("pod-uid")),
        claim: Uid::from("claim-uid"),
        directory: Some("5f0c5f0c5f0c5f0c5f0c5f0c5f0c5f0c".to_owned()),
        nonce: Nonce(0xfeed),
    };
    let mut all = vec![
        value(&service_account::build(b)),
        value(&network_policy::build(b)),
        value(&peers_service::build(b)),
        value(&client_service::build(b, Door::Shut)),
        value(&workload(b)),
        value(&permit::build(b, &seed)),
        value(&permit::nudge(b, seed.ordinal, &Uid::from("pod-uid"), seed.nonce)),
        value(&client_service::build(b, Door::Open)),
        value(&disruption_budget::build(b, 2)),
    ];
    if b.names_certificates() {
        all.push(value(&trust::build(b, &Bundle::default(), None, Time(1_800_000_000))));
    }
    all.extend(Surface::ALL.iter().filter_map(|surface| certificate::build(b, *surface)));
    all.extend(pod_monitor::build(b));
    all.extend(prometheus_rule::build(b));
    all
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

fn compare(name: &str, objects: &[Value]) {
    let text: String =
        objects.iter().map(|one| format!("---\n{}", serde_yaml::to_string(one).expect("YAML"))).collect();
    let path = golden(name);
    if std::env::var_os("KEEPSTONE_WRITE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("the file is written");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(wanted.lines()).position(|(made, wanted)| made != wanted);
    assert!(text == wanted, "{} differs from what is made, first in line {differs:?}:\n{text}", path.display());
}

#[test]
fn the_smallest_cluster() {
    compare("ten-lines", &objects(&sample("ten-lines.yaml")));
}

#[test]
fn a_cluster_with_every_field() {
    compare("every-field", &objects(&sample("every-field.yaml")));
}

#[test]
fn a_cluster_of_etcd_io() {
    compare("etcd-io-every-field", &objects(&sample("etcd-io-every-field.yaml")));
}

#[test]
fn a_cluster_with_certificates_of_cert_manager() {
    compare("cert-manager", &objects(&sample("etcd-io-cert-manager.yaml")));
}

#[test]
fn a_cluster_without_tls() {
    compare("disabled", &objects(&cluster(serde_json::json!({"size": 1, "tls": {"provider": "disabled"}}))));
}

#[test]
fn secrets_of_certificates() {
    let b = sample("ten-lines.yaml");
    let leaf = Leaf { certificate_pem: "a certificate\n".to_owned(), key_pem: "a key\n".to_owned() };
    let all: Vec<Value> =
        Surface::ALL.iter().map(|surface| value(&tls_secret::leaf(&b, *surface, &leaf, &Bundle::default()))).collect();
    compare("secrets", &all);
}

fn assert_typed<T: DeserializeOwned + Serialize>(one: &Value, name: &str) {
    let typed: T = serde_json::from_value(one.clone()).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(serde_json::to_value(typed).expect("JSON"), *one, "{name}: something is in no field");
}

/// A field that Kubernetes doesn't know would be dropped there without a word.
#[test]
fn every_field_in_the_files_is_one_of_kubernetes() {
    let mut seen = 0;
    for entry in fs::read_dir(golden("x").parent().expect("a directory")).expect("files") {
        let path = entry.expect("a file").path();
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).expect("the file");
        for one in serde_yaml::Deserializer::from_str(&text) {
            let one = Value::deserialize(one).expect("YAML");
            seen += 1;
            match one["kind"].as_str().expect("a kind") {
                "StatefulSet" => assert_typed::<StatefulSet>(&one, &name),
                "ConfigMap" => assert_typed::<ConfigMap>(&one, &name),
                "Pod" => assert_typed::<Pod>(&one, &name),
                "Secret" => assert_typed::<Secret>(&one, &name),
                "Service" => assert_typed::<Service>(&one, &name),
                "ServiceAccount" => assert_typed::<ServiceAccount>(&one, &name),
                "NetworkPolicy" => assert_typed::<NetworkPolicy>(&one, &name),
                "PodDisruptionBudget" => assert_typed::<PodDisruptionBudget>(&one, &name),
                // Kinds of others; their types are not at hand.
                "Certificate" | "PodMonitor" | "PrometheusRule" => {}
                other => panic!("{name}: {other}"),
            }
        }
    }
    assert!(seen >= 44, "{seen}");
}

/// What has no owner stays behind when its cluster is deleted.
#[test]
fn every_object_goes_with_its_cluster() {
    for name in ["ten-lines.yaml", "every-field.yaml", "etcd-io-cert-manager.yaml"] {
        let b = sample(name);
        for object in objects(&b).iter().filter(|object| object["kind"] != "Pod") {
            let owner = &object["metadata"]["ownerReferences"][0];
            assert_eq!((owner["kind"].as_str(), owner["controller"].as_bool()), (Some("EtcdCluster"), Some(true)));
            assert_eq!(owner["uid"].as_str(), Some(b.uid.as_str()), "{}", object["kind"]);
            assert_eq!(object["metadata"]["namespace"].as_str(), Some(b.names.namespace.as_str()));
        }
    }
}
