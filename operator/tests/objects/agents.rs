//! The Jobs beside the members.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use keepstone_operator::backup::job::{self, Record, Source};
use keepstone_operator::backup::task::{Location, Task};
use keepstone_operator_api::backup::Store;
use keepstone_operator_plan::ids::Ordinal;
use serde_json::{Value, json};

use crate::common::cluster;

fn store(value: Value) -> Store {
    serde_json::from_value(value).expect("a store")
}

fn bucket() -> Store {
    store(json!({"s3": {
        "endpoint": "https://s3.example", "bucket": "backups", "prefix": "prod/main",
        "credentialsSecretRef": {"name": "keys"}, "caSecretRef": {"name": "s3-ca"},
    }}))
}

fn volume() -> Store {
    store(json!({"pvc": {"claimName": "backups", "subPath": "main"}}))
}

fn record(name: &str) -> Record<'_> {
    let owner = cluster(json!({})).owner();
    Record { name: name.to_owned(), cluster: "demo", namespace: "default", owner, image: "agent:v1" }
}

fn all() -> Vec<(&'static str, Job)> {
    let b = cluster(json!({"storageSpec": {"volumeSizeRequest": "1Gi", "walVolume": {"volumeSizeRequest": "1Gi"}}}));
    let at = |store: Store| Location { key: job::key(&store, "nightly", "0a1b2c3d-0"), store };
    let source = Source { from: at(bucket()), sha256: Some("ab".to_owned()), bump: 7 };
    vec![
        ("take", job::take(&b, &record("take"), Ordinal(2), at(bucket()))),
        ("take to a volume", job::take(&b, &record("take"), Ordinal(2), at(volume()))),
        ("discard", job::discard(&record("discard"), at(bucket()))),
        ("fill", job::fill(&b, &record("fill"), Ordinal(0), source)),
        ("save", job::save(&b, &record("save"), Ordinal(1), "saved", true, 60)),
    ]
}

fn pod(job: &Job) -> PodSpec {
    job.spec.clone().expect("a spec").template.spec.expect("a pod")
}

fn containers(job: &Job) -> Vec<Container> {
    let pod = pod(job);
    pod.init_containers.into_iter().flatten().chain(pod.containers).collect()
}

fn task(container: &Container) -> Task {
    let env = container.env.iter().flatten().find(|env| env.name == "KEEPSTONE_TASK").expect("a task");
    serde_json::from_str(env.value.as_ref().expect("text")).expect("a task")
}

/// An agent handles other people's stores: it can't so much as ask the API server who it is.
#[test]
fn no_agent_has_a_token_or_a_right() {
    for (name, job) in all() {
        let pod = pod(&job);
        assert_eq!(pod.automount_service_account_token, Some(false), "{name}");
        let context = pod.security_context.expect("a context");
        assert_eq!(context.run_as_non_root, Some(true), "{name}");
        assert_eq!(context.seccomp_profile.expect("a profile").type_, "RuntimeDefault", "{name}");
        for container in containers(&job) {
            let context = container.security_context.expect("a context");
            assert_eq!(context.allow_privilege_escalation, Some(false), "{name}");
            assert_eq!(context.read_only_root_filesystem, Some(true), "{name}");
            assert_eq!(context.capabilities.expect("capabilities").drop, Some(vec!["ALL".to_owned()]), "{name}");
        }
    }
}

/// The members' Services and budget select by label, and so does the operator when it looks for members.
#[test]
fn no_agent_is_taken_for_a_member() {
    let b = cluster(json!({}));
    for (name, job) in all() {
        let labels = job.spec.expect("a spec").template.metadata.expect("metadata").labels.expect("labels");
        assert!(b.names.selector().iter().any(|(key, value)| labels.get(key) != Some(value)), "{name}");
        assert_eq!(labels.get("keepstone.io/cluster").map(String::as_str), Some("demo"), "the operator finds it");
    }
}

#[test]
fn secrets_reach_only_who_needs_them() {
    let secrets = |job: &Job| -> Vec<String> {
        let volumes = pod(job).volumes.unwrap_or_default().into_iter().filter_map(|volume| volume.secret);
        let mut names: Vec<String> = volumes.filter_map(|secret| secret.secret_name).collect();
        let env = containers(job).into_iter().flat_map(|container| container.env.unwrap_or_default());
        let keys = env.filter_map(|env| env.value_from).filter_map(|from| from.secret_key_ref);
        names.extend(keys.map(|key| format!("{}/{}", key.name, key.key)));
        names.sort();
        names.dedup();
        names
    };
    let s3 = ["keys/accessKeyID", "keys/secretAccessKey", "s3-ca"];
    for (name, job) in all() {
        let expected: Vec<&str> = match name {
            "take" => ["demo-operator-tls"].into_iter().chain(s3).collect(),
            "take to a volume" => vec!["demo-operator-tls"],
            "discard" | "fill" => s3.to_vec(),
            _ => Vec::new(),
        };
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(secrets(&job), expected, "{name}");
    }
}

#[test]
fn agents_are_told_what_they_need() {
    let jobs: std::collections::BTreeMap<_, _> = all().into_iter().collect();
    let Task::Take { endpoint, to, owner } = task(&containers(&jobs["take"])[0]) else { panic!("another task") };
    assert_eq!(endpoint, "https://demo-2.demo-peers.default.svc.cluster.local:2379");
    assert_eq!((to.key.as_str(), owner), ("prod/main/nightly-0a1b2c3d.db", cluster(json!({})).uid));
    let fill = containers(&jobs["fill"]);
    assert!(matches!(task(&fill[0]), Task::Fetch { sha256: Some(hash), .. } if hash == "ab"));
    let args = fill[1].args.clone().expect("arguments");
    for arg in ["restore", "--name=demo-0", "--bump-revision=7", "--mark-compacted"] {
        assert!(args.iter().any(|one| one == arg), "{arg}: {args:?}");
    }
    assert!(args.iter().any(|arg| arg.starts_with("--wal-dir=")));
    let near = pod(&jobs["fill"]).affinity.and_then(|affinity| affinity.pod_affinity);
    assert!(near.is_some(), "a volume is for one node at a time");
    let save = containers(&jobs["save"]);
    let mounts = save[0].volume_mounts.clone().expect("mounts");
    assert!(mounts.iter().filter(|mount| mount.name != "store").all(|mount| mount.read_only == Some(true)));
}

/// A Job's name is a label of its pods, and those are short; a record's name is not.
#[test]
fn a_long_name_is_still_a_jobs() {
    let uid = "0a1b2c3d-0000-4000-8000-000000000000";
    for name in ["a".repeat(250), format!("{}.b", "a".repeat(39)), format!("{}-b", "a".repeat(39))] {
        let job = job::name(&name, "discard", uid);
        assert!(job.len() <= 63 && !job.contains('.') && !job.contains("--"), "{job}");
        assert_ne!(job, job::name(&name, "backup", uid));
    }
    assert_ne!(
        job::key(&volume(), "a", "1-0"),
        job::key(&volume(), "a", "2-0"),
        "a record made anew writes another file"
    );
}
