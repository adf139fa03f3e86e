//! The template that every member's pod is made of: one for all, and one that joins.
//!
//! The operator decides when a pod is made anew, by comparing the hash of what it is made of; so the hash has all of the
//! template but the version, which is compared by itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ObjectFieldSelector, PodSecurityContext, PodSpec,
    PodTemplateSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest as _, Sha256};

use crate::Blueprint;
use crate::names::{CLIENT_PORT, METRICS_PORT, PEER_PORT};
use crate::objects::{args, mounts, probes, spread};

/// On a pod: what it is made of but its version.
pub const CONFIG_ANNOTATION: &str = "keepstone.io/config";
/// On a pod: the version it is made for, as the spec had it.
pub const VERSION_ANNOTATION: &str = "keepstone.io/version";
/// On a pod: the annotation of the `EtcdCluster` that asked for a restart.
const RESTART: &str = keepstone_operator_api::RESTART_ANNOTATION;

/// The members' container.
pub const CONTAINER: &str = "keepstone";
/// The user and group that the image is made for; a number, so that a kubelet can tell that it isn't root.
const USER: i64 = 65532;
/// Seconds. A leader hands over within an election timeout, at most 50 s, and requests under way end within seconds.
const GRACE: i64 = 60;

/// Of a version, which need not be the spec's.
#[must_use]
pub fn template(b: &Blueprint, version: &str) -> PodTemplateSpec {
    let mut template = bare(b, &b.image(version));
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.insert(CONFIG_ANNOTATION.to_owned(), config(b));
    annotations.insert(VERSION_ANNOTATION.to_owned(), version.to_owned());
    template
}

/// The hash of all of it but the version, in hex.
#[must_use]
pub fn config(b: &Blueprint) -> String {
    let text = serde_json::to_vec(&bare(b, &b.image(""))).expect("an object is JSON");
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn bare(b: &Blueprint, image: &str) -> PodTemplateSpec {
    PodTemplateSpec { metadata: Some(metadata(b)), spec: Some(spec(b, image)) }
}

fn metadata(b: &Blueprint) -> ObjectMeta {
    let given = &b.spec.pod_template.metadata;
    // Ours come last, and win.
    let labels = [given.labels.clone(), b.names.labels(), b.names.selector()].into_iter().flatten().collect();
    let mut annotations: BTreeMap<String, String> = given.annotations.clone();
    annotations.extend(b.restart.iter().map(|when| (RESTART.to_owned(), when.clone())));
    annotations.insert("kubectl.kubernetes.io/default-container".to_owned(), CONTAINER.to_owned());
    ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() }
}

fn spec(b: &Blueprint, image: &str) -> PodSpec {
    let given = &b.spec.pod_template.spec;
    PodSpec {
        containers: vec![container(b, image)],
        volumes: Some(mounts::volumes(b)),
        affinity: spread::affinity(b),
        topology_spread_constraints: spread::constraints(b),
        node_selector: Some(given.node_selector.clone()).filter(|all| !all.is_empty()),
        tolerations: Some(given.tolerations.clone()).filter(|all| !all.is_empty()),
        priority_class_name: given.priority_class_name.clone(),
        termination_grace_period_seconds: Some(given.termination_grace_period_seconds.unwrap_or(GRACE)),
        image_pull_secrets: b.pull_secrets(),
        service_account_name: Some(b.names.main()),
        automount_service_account_token: Some(false),
        // A Service called `etcd` would put ETCD_PORT into the environment, which a member reads its settings from.
        enable_service_links: Some(false),
        security_context: Some(security()),
        ..PodSpec::default()
    }
}

/// What every pod of ours runs as: nobody, within the restricted rules.
#[must_use]
pub fn security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Going through a large volume at each start takes minutes.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

fn container(b: &Blueprint, image: &str) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        args: Some(args::args(b)),
        env: Some(vec![field("POD_NAME", "metadata.name"), field("POD_UID", "metadata.uid")]),
        ports: Some(vec![port("client", CLIENT_PORT), port("peer", PEER_PORT), port(probes::METRICS, METRICS_PORT)]),
        volume_mounts: Some(mounts::mounts(b)),
        resources: b.spec.pod_template.spec.resources.clone(),
        startup_probe: Some(probes::startup()),
        readiness_probe: Some(probes::readiness()),
        liveness_probe: Some(probes::liveness()),
        // Why a member refused to start is in its last lines, and the operator reads them.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    let selector = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() };
    let source = EnvVarSource { field_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}
