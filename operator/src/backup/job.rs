//! The Jobs that agents run in. One a task, named after the record it is for, so that it is made once; it goes with that
//! record. It is tried anew a few times, and what its last pod says in its termination message is what came of it.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, KeyToPath, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecretKeySelector,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use keepstone_operator_api::backup::Store;
use keepstone_operator_api::tls::TlsProvider;
use keepstone_operator_plan::ids::Ordinal;
use keepstone_operator_plan::observed::Surface;

use super::store::Mounts;
use super::task::{Location, TASK_VARIABLE, Task};
use crate::Blueprint;
use crate::objects::mounts::{CA_KEY, DATA, DATA_DIR, WAL, WAL_DIR};

/// Tells agents from members.
const COMPONENT: &str = "app.kubernetes.io/component";
const TLS_MOUNT: &str = "/etc/keepstone/tls";
const CA_MOUNT: &str = "/etc/keepstone/ca";
const STORE_CA_MOUNT: &str = "/etc/keepstone/store-ca";
const STORE_MOUNT: &str = "/backups";
const SCRATCH_MOUNT: &str = "/scratch";
const SCRATCH_FILE: &str = "/scratch/snapshot.db";
/// The user that the images are made for.
const USER: i64 = 65532;
/// How often it is tried anew.
const RETRIES: i32 = 3;
/// Seconds until it is given up. Within a day the next backup is due.
const DEADLINE: i64 = 24 * 60 * 60;

/// What the operator knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The operator's own image, tag included: `OPERATOR_IMAGE`.
    pub image: String,
    pub pull_secrets: Vec<String>,
}

/// Who a Job is for: its name is the Job's, and with it the Job goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub name: &'a str,
    pub owner: OwnerReference,
}

/// Where an agent finds what [`take`], [`discard`] and [`restore`] mount.
#[must_use]
pub fn mounts() -> Mounts {
    Mounts { tls: TLS_MOUNT.into(), ca: CA_MOUNT.into(), store_ca: STORE_CA_MOUNT.into(), volume: STORE_MOUNT.into() }
}

/// What a backup's file is called: two records never have one.
#[must_use]
pub fn key(store: &Store, name: &str, uid: &str) -> String {
    let file = format!("{name}-{}.db", uid.split('-').next().unwrap_or(uid));
    match store.s3.as_ref().and_then(|s3| s3.prefix.as_ref()) {
        Some(prefix) => format!("{prefix}/{file}"),
        None => file,
    }
}

/// Takes a backup of that member.
#[must_use]
pub fn take(b: &Blueprint, agent: &Agent, record: &Record<'_>, from: Ordinal, to: Location) -> Job {
    let mut volumes = Volumes::of(&to.store);
    if b.encrypts() {
        volumes.credentials(b);
    }
    let endpoint = b.names.client_url(b.scheme(), from);
    let task = Task::Take { endpoint, to: to.clone(), owner: b.uid.clone() };
    let container = container(agent, "backup", &task, &to.store, volumes.mounts);
    job(b, agent, record, pod(container, volumes.volumes))
}

/// Removes a backup's file.
#[must_use]
pub fn discard(b: &Blueprint, agent: &Agent, record: &Record<'_>, at: Location) -> Job {
    let volumes = Volumes::of(&at.store);
    let container = container(agent, "discard", &Task::Discard { at: at.clone() }, &at.store, volumes.mounts);
    job(b, agent, record, pod(container, volumes.volumes))
}

/// A backup that becomes a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub from: Location,
    /// As its `EtcdBackup` has it; without, the checksum within the file is all there is.
    pub sha256: Option<String>,
    /// The node that the volume is on already, where it is: a volume for one node follows its pod.
    pub node: Option<String>,
}

/// Fills the volume of a place with a data directory made of a backup. Nobody may have opened that directory: the place is
/// fenced until this is done, and then started with leave to go on under a new cluster ID, which raises revisions as well.
#[must_use]
pub fn restore(b: &Blueprint, agent: &Agent, record: &Record<'_>, to: Ordinal, source: Source) -> Job {
    let Source { from, sha256, node } = source;
    let mut volumes = Volumes::of(&from.store);
    volumes.add("scratch", SCRATCH_MOUNT, false, |volume| volume.empty_dir = Some(EmptyDirVolumeSource::default()));
    let task = Task::Fetch { from: from.clone(), sha256, into: SCRATCH_FILE.to_owned() };
    let fetch = container(agent, "fetch", &task, &from.store, volumes.mounts.clone());

    volumes.mounts.retain(|mount| mount.name == "scratch");
    volumes.claim(DATA, parent(DATA_DIR), b.names.claim(to), false);
    if b.spec.storage_spec.wal_volume.is_some() {
        volumes.claim(WAL, parent(WAL_DIR), b.names.wal_claim(to), false);
    }
    let mut fill = bare("restore", b.image(&b.spec.version), volumes.mounts);
    fill.args = Some(arguments(b, to));
    let mut pod = pod(fill, volumes.volumes);
    pod.init_containers = Some(vec![fetch]);
    pod.node_name = node;
    job(b, agent, record, pod)
}

/// `keepstone restore` for one member alone. A member that joins later has a name of its own.
fn arguments(b: &Blueprint, to: Ordinal) -> Vec<String> {
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

fn container(agent: &Agent, name: &str, task: &Task, store: &Store, mounts: Vec<VolumeMount>) -> Container {
    let text = serde_json::to_string(task).expect("strings are JSON");
    let mut env = vec![EnvVar { name: TASK_VARIABLE.to_owned(), value: Some(text), value_from: None }];
    if let Some(secret) = store.s3.as_ref().and_then(|s3| s3.credentials_secret_ref.as_ref()) {
        env.push(from_secret("AWS_ACCESS_KEY_ID", &secret.name, "accessKeyID"));
        env.push(from_secret("AWS_SECRET_ACCESS_KEY", &secret.name, "secretAccessKey"));
    }
    let mut container = bare(name, agent.image.clone(), mounts);
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
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

fn job(b: &Blueprint, agent: &Agent, record: &Record<'_>, mut pod: PodSpec) -> Job {
    let mut labels = b.names.labels();
    labels.insert(COMPONENT.to_owned(), "agent".to_owned());
    pod.service_account_name = Some(b.names.main());
    pod.tolerations = Some(b.spec.pod_template.spec.tolerations.clone()).filter(|all| !all.is_empty());
    pod.node_selector = Some(b.spec.pod_template.spec.node_selector.clone()).filter(|all| !all.is_empty());
    let own = agent.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    pod.image_pull_secrets = Some(b.pull_secrets().into_iter().flatten().chain(own).collect());
    Job {
        metadata: ObjectMeta {
            name: Some(record.name.to_owned()),
            namespace: Some(b.names.namespace.clone()),
            labels: Some(labels.clone()),
            owner_references: Some(vec![record.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(DEADLINE),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}
