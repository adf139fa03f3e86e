//! Clusters to make objects of.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec};
use keepstone_operator::blueprint::OperatorPods;
use keepstone_operator::objects::stateful_set::Workload;
use keepstone_operator::objects::{pod, stateful_set};
use keepstone_operator::{Blueprint, Settings};
use keepstone_operator_api::EtcdCluster;
use serde::Deserialize as _;
use serde_json::{Value, json};

pub fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn settings() -> Settings {
    Settings {
        image: "registry.example/keepstone".to_owned(),
        domain: "cluster.local".to_owned(),
        agent: "registry.example/keepstone-operator:v1".to_owned(),
        operator: OperatorPods {
            namespace: "keepstone-system".to_owned(),
            labels: vec![("app.kubernetes.io/name".to_owned(), "keepstone-operator".to_owned())],
        },
    }
}

/// A cluster as an API server gives it back.
pub fn stored(mut cluster: EtcdCluster) -> EtcdCluster {
    cluster.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    cluster.metadata.uid = Some("7d3c5a52-5f5e-4b0e-9a55-0c6f3f4f2b11".to_owned());
    cluster
}

/// The first cluster of a sample of the API.
pub fn sample(name: &str) -> Blueprint {
    let text = fs::read_to_string(here().join("api/tests/samples").join(name)).expect(name);
    let mut documents = serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).expect(name));
    let cluster = documents.find(|one| one["kind"] == "EtcdCluster").expect("a cluster");
    read(cluster)
}

fn read(cluster: Value) -> Blueprint {
    Blueprint::read(&stored(serde_json::from_value(cluster).expect("a cluster")), &settings()).expect("it can be read")
}

/// A cluster with this in its spec besides the version.
pub fn cluster(spec: Value) -> Blueprint {
    let mut whole = json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdCluster", "metadata": {"name": "demo"},
        "spec": {"version": "v0.1.0"},
    });
    let fields = whole["spec"].as_object_mut().expect("an object");
    fields.extend(spec.as_object().expect("an object").clone());
    read(whole)
}

pub fn pod_spec(b: &Blueprint) -> PodSpec {
    pod::template(b, &b.spec.version).spec.expect("a spec")
}

pub fn container(b: &Blueprint) -> Container {
    pod_spec(b).containers.remove(0)
}

pub fn args(b: &Blueprint) -> Vec<String> {
    container(b).args.expect("arguments")
}

/// The value of a flag; the last one where it is given more than once.
pub fn flag(b: &Blueprint, name: &str) -> Option<String> {
    let prefix = format!("--{name}=");
    args(b).iter().rev().find_map(|arg| arg.strip_prefix(&prefix).map(str::to_owned))
}

pub fn workload(b: &Blueprint) -> k8s_openapi::api::apps::v1::StatefulSet {
    let replicas = u32::try_from(b.spec.size).expect("a size");
    stateful_set::build(b, Workload { replicas, version: &b.spec.version, existing: None })
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(&here()).join("tests/golden").join(format!("{name}.yaml"))
}
