//! The Jobs that agents run in. One a task, named after the record it is for, so that it is made once; it goes with that
//! record. It is tried anew a few times, and what its last pod says in its termination message is what came of it.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec, SecretKeySelector,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use keepstone_operator_api::backup::Store;
use keepstone_operator_api::tls::TlsProvider;
use keepstone_operator_plan::ids::Ordinal;
use keepstone_operator_plan::observed::Surface;

use super::store::Mounts;
use super::task::{Location, TASK_VARIABLE, Task};
use crate::Blueprint;
use crate::names::Names;
use crate::objects::mounts::{CA_KEY, DATA, DATA_DIR, WAL, WAL_DIR};
use crate::objects::pod::security;

/// Tells agents from members.
const COMPONENT: &str = "app.kubernetes.io/component";
const TLS_MOUNT: &str = "/etc/keepstone/tls";
const CA_MOUNT: &str = "/etc/keepstone/ca";
const STORE_CA_MOUNT: &str = "/etc/keepstone/store-ca";
const STORE_MOUNT: &str = "/backups";
const SCRATCH_MOUNT: &str = "/scratch";
const SCRATCH_FILE: &str = "/scratch/snapshot.db";
/// How often it is tried anew.
const RETRIES: i32 = 3;
/// Seconds until it is given up.
pub const DEADLINE: i64 = 6 * 60 * 60;
/// Seconds that it stays once it is over, for whoever looks after it: longer than what it is for.
const KEPT: i32 = 7 * 24 * 60 * 60;
/// Characters of the object in a Job's name.
const MAX_BEGIN: usize = 40;
/// A pod of a StatefulSet has its name as a label.
const POD_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const HOST_LABEL: &str = "kubernetes.io/hostname";

/// Whom a Job is for: it goes with that object, and is labelled as the cluster's.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// The Job's own name.
    pub name: String,
    pub cluster: &'a str,
    pub namespace: &'a str,
    pub owner: OwnerReference,
    /// The operator's own image.
    pub image: &'a str,
}

/// Where an agent finds what the Jobs here mount.
#[must_use]
pub fn mounts() -> Mounts {
    Mounts { tls: TLS_MOUNT.into(), ca: CA_MOUNT.into(), store_ca: STORE_CA_MOUNT.into(), volume: STORE_MOUNT.into() }
}

/// What a backup's file is called: two records never have one.
#[must_use]
pub fn key(store: &Store, name: &str, uid: &str) -> String {
    let file = format!("{name}-{}.db", short(uid));
    match store.s3.as_ref().and_then(|s3| s3.prefix.as_ref()) {
        Some(prefix) => format!("{prefix}/{file}"),
        None => file,
    }
}

/// A Job's name for what is done with an object. It is a label's value too, and those are short.
#[must_use]
pub fn name(object: &str, what: &str, uid: &str) -> String {
    let begin: String = object.chars().map(|c| if c == '.' { '-' } else { c }).take(MAX_BEGIN).collect();
    format!("{}-{what}-{}", begin.trim_end_matches('-'), short(uid))
}

fn short(uid: &str) -> &str {
    uid.split('-').next().unwrap_or(uid)
}

/// Takes a backup of that member.
#[must_use]
pub fn take(b: &Blueprint, record: &Record<'_>, from: Ordinal, to: Location) -> Job {
    let mut volumes = Volumes::of(&to.store);
    if b.encrypts() {
        volumes.credentials(b);
    }
    let endpoint = b.names.client_url(b.scheme(), from);
    let task = Task::Take { endpoint, to: to.clone(), owner: b.uid.clone() };
    let container = container(record, "backup", &task, &to.store, volumes.mounts);
    job(record, Some(b), pod(container, volumes.volumes), DEADLINE)
}

/// Removes a backup's file. Its cluster may be gone by then.
#[must_use]
pub fn discard(record: &Record<'_>, at: Location) -> Job {
    let volumes = Volumes::of(&at.store);
    let container = container(record, "discard", &Task::Discard { at: at.clone() }, &at.store, volumes.mounts);
    job(record, None, pod(container, volumes.volumes), DEADLINE)
}

/// A backup that becomes a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub from: Location,
    /// As its `EtcdBackup` has it; without, the checksum within the file is all there is.
    pub sha256: Option<String>,
    /// Revisions to be skipped besides those that going on under a new cluster ID skips.
    pub bump: u64,
}

/// Fills the volume of a place with a data directory made of a backup. Nobody may have opened that directory: the place is
/// fenced until this is done, and then started with leave to go on under a new cluster ID, which raises revisions as well.
#[must_use]
pub fn fill(b: &Blueprint, record: &Record<'_>, to: Ordinal, source: Source) -> Job {
    let Source { from, sha256, bump } = source;
    let mut volumes = Volumes::of(&from.store);
    volumes.add("scratch", SCRATCH_MOUNT, false, |volume| volume.empty_dir = Some(EmptyDirVolumeSource::default()));
    let task = Task::Fetch { from: from.clone(), sha256, into: SCRATCH_FILE.to_owned() };
    let fetch = container(record, "fetch", &task, &from.store, volumes.mounts.clone());

    volumes.mounts.retain(|mount| mount.name == "scratch");
    volumes.members(b, to, false);
    let mut fill = bare("restore", b.image(&b.spec.version), volumes.mounts);
    fill.args = Some(arguments(b, to, bump));
    let mut pod = pod(fill, volumes.volumes);
    pod.init_containers = Some(vec![fetch]);
    pod.affinity = Some(beside(&b.names.pod(to)));
    job(record, Some(b), pod, DEADLINE)
}

/// Copies the data directory of a place, whose server does not run, into another volume. `beside`: a pod has the volume already.
#[must_use]
pub fn save(b: &Blueprint, record: &Record<'_>, of: Ordinal, into: &str, beside_pod: bool, deadline: i64) -> Job {
    let mut volumes = Volumes::default();
    volumes.members(b, of, true);
    volumes.claim("store", STORE_MOUNT, into.to_owned(), false);
    let task = Task::Copy { from: vec![DATA_DIR.to_owned(), WAL_DIR.to_owned()], into: STORE_MOUNT.to_owned() };
    let container = container(record, "save", &task, &Store::default(), volumes.mounts);
    let mut pod = pod(container, volumes.volumes);
    pod.affinity = beside_pod.then(|| beside(&b.names.pod(of)));
    job(record, Some(b), pod, deadline)
}

/// A volume may be for one node at a time: the node that a pod of ours has it on. The scheduler knows which.
fn beside(pod: &str) -> Affinity {
    let label = [(POD_LABEL.to_owned(), pod.to_owned())].into();
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector { match_labels: Some(label), ..LabelSelector::default() }),
        topology_key: HOST_LABEL.to_owned(),
        ..PodAffinityTerm::default()
    };
    let required = Some(vec![term]);
    let near = PodAffinity { required_during_scheduling_ignored_during_execution: required, ..PodAffinity::default() };
    Affinity { pod_affinity: Some(near), ..Affinity::default() }
}

/// `keepstone restore` for one member alone. A member that joins later has a name of its own.
fn arguments(b: &Blueprint, to: Ordinal, bump: u64) -> Vec<String> {
    let (name, url) = (b.names.pod(to), b.names.peer_url(b.scheme(), to));
    let mut args = vec!["restore".to_owned(), SCRATCH_FILE.to_owned(), format!("--data-dir={DATA_DIR}")];
    if b.spec.storage_spec.wal_volume.is_some() {
        args.push(format!("--wal-dir={WAL_DIR}"));
    }
    args.extend([
        format!("--name={name}"),
        format!("--initial-cluster={name}={url}"),
        format!("--initial-cluster-token={}", b.token()),
        format!("--initial-advertise-peer-urls={url}"),
    ]);
    if bump > 0 {
        args.extend([format!("--bump-revision={bump}"), "--mark-compacted".to_owned()]);
    }
    args
}

fn parent(dir: &str) -> &str {
    dir.rsplit_once('/').map_or("/", |(parent, _)| parent)
}

#[derive(Default)]
struct Volumes {
    volumes: Vec<Volume>,
    mounts: Vec<VolumeMount>,
}

impl Volumes {
    /// What it takes to reach the store.
    fn of(store: &Store) -> Self {
        let mut all = Self::default();
        if let Some(pvc) = &store.pvc {
            all.claim("store", STORE_MOUNT, pvc.claim_name.clone(), false);
            if let Some(mount) = all.mounts.last_mut() {
                mount.sub_path = pvc.sub_path.clone();
            }
        }
        if let Some(ca) = store.s3.as_ref().and_then(|s3| s3.ca_secret_ref.as_ref()) {
            all.secret("store-ca", STORE_CA_MOUNT, &ca.name, &[CA_KEY]);
        }
        all
    }

    /// The volumes of a place.
    fn members(&mut self, b: &Blueprint, of: Ordinal, read_only: bool) {
        self.claim(DATA, parent(DATA_DIR), b.names.claim(of), read_only);
        if b.spec.storage_spec.wal_volume.is_some() {
            self.claim(WAL, parent(WAL_DIR), b.names.wal_claim(of), read_only);
        }
    }

    /// What members are shown, and trusted by: as the operator itself has it.
    fn credentials(&mut self, b: &Blueprint) {
        let given = b.spec.tls.provider_cfg.secret_cfg.as_ref();
        let given = given.filter(|_| b.spec.tls.provider == TlsProvider::Secret);
        let own = b.names.leaf(Surface::Operator);
        let (shown, trusted) =
            given.map_or((&own, &own), |given| (&given.operator_secret_ref.name, &given.server_secret_ref.name));
        self.secret("tls", TLS_MOUNT, shown, &["tls.crt", "tls.key"]);
        self.secret("ca", CA_MOUNT, trusted, &[CA_KEY]);
    }

    fn add(&mut self, name: &str, path: &str, read_only: bool, source: impl FnOnce(&mut Volume)) {
        let mut volume = Volume { name: name.to_owned(), ..Volume::default() };
        source(&mut volume);
        self.volumes.push(volume);
        self.mounts.push(VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        });
    }

    fn claim(&mut self, name: &str, path: &str, claim_name: String, read_only: bool) {
        self.add(name, path, read_only, |volume| {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource { claim_name, read_only: None });
        });
    }

    fn secret(&mut self, name: &str, path: &str, secret: &str, keys: &[&str]) {
        let item = |key: &&str| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None };
        self.add(name, path, true, |volume| {
            volume.secret = Some(SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                items: Some(keys.iter().map(item).collect()),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            });
        });
    }
}

fn container(record: &Record<'_>, name: &str, task: &Task, store: &Store, mounts: Vec<VolumeMount>) -> Container {
    let text = serde_json::to_string(task).expect("strings are JSON");
    let mut env = vec![EnvVar { name: TASK_VARIABLE.to_owned(), value: Some(text), value_from: None }];
    if let Some(secret) = store.s3.as_ref().and_then(|s3| s3.credentials_secret_ref.as_ref()) {
        env.push(from_secret("AWS_ACCESS_KEY_ID", &secret.name, "accessKeyID"));
        env.push(from_secret("AWS_SECRET_ACCESS_KEY", &secret.name, "secretAccessKey"));
    }
    let mut container = bare(name, record.image.to_owned(), mounts);
    container.args = Some(vec!["agent".to_owned()]);
    container.env = Some(env);
    container
}

fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let selector = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None };
    let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn bare(name: &str, image: String, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(image),
        volume_mounts: Some(mounts),
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

fn pod(container: Container, volumes: Vec<Volume>) -> PodSpec {
    PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(security()),
        ..PodSpec::default()
    }
}

fn job(record: &Record<'_>, b: Option<&Blueprint>, mut pod: PodSpec, deadline: i64) -> Job {
    let names =
        Names { cluster: record.cluster.to_owned(), namespace: record.namespace.to_owned(), domain: String::new() };
    let mut labels = names.labels();
    labels.insert(COMPONENT.to_owned(), "agent".to_owned());
    if let Some(b) = b {
        let template = &b.spec.pod_template.spec;
        pod.service_account_name = Some(b.names.main());
        pod.tolerations = Some(template.tolerations.clone()).filter(|all| !all.is_empty());
        pod.node_selector = Some(template.node_selector.clone()).filter(|all| !all.is_empty());
        pod.image_pull_secrets = b.pull_secrets();
    }
    Job {
        metadata: ObjectMeta {
            name: Some(record.name.clone()),
            namespace: Some(names.namespace),
            labels: Some(labels.clone()),
            owner_references: Some(vec![record.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(deadline),
            ttl_seconds_after_finished: Some(KEPT),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}
