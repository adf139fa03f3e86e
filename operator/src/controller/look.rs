//! Reads everything a pass decides on: objects from the API server, members from themselves. What could not be read is
//! unknown, and the pass goes on with the rest; only without the `EtcdCluster` there is nothing to go on with.

pub mod certificates;
pub mod claims;
pub mod jobs;
pub mod members;
pub mod objects;
pub mod orders;
pub mod pods;
pub mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;
use keepstone_operator_api::status::{Marks as ApiMarks, MemberStatus};
use keepstone_operator_api::{EtcdCluster, EtcdClusterStatus};
use keepstone_operator_plan::act::{Permit, PermitKind};
use keepstone_operator_plan::desired::Desired;
use keepstone_operator_plan::ids::{ClusterId, Nonce, Ordinal, Template, Time, Uid, Version};
use keepstone_operator_plan::observed::{Cluster, Echo, Marks, Observed, Seen, Workload};
use keepstone_operator_plan::operation::{Intent, Operation};
use serde_json::Value;

use super::api::{Api, ApiError, Fresh, Which, text, typed, uid};
use super::kind::{Kind, Name};
use super::members::{Members, Target};
use crate::convert::{self, Unclear};
use crate::objects::permit::{self, Action};
use crate::objects::{fence, pod, stateful_set};
use crate::pki::Authority;
use crate::{Blueprint, Names, Settings, Unreadable};

/// Why nothing can be planned for a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blind {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The object says what can't be read: for its owner to mend.
    #[error("{0}")]
    Spec(String),
}

impl From<Unreadable> for Blind {
    fn from(why: Unreadable) -> Self {
        Self::Spec(why.to_string())
    }
}

impl From<Unclear> for Blind {
    fn from(why: Unclear) -> Self {
        Self::Spec(why.to_string())
    }
}

/// What one pass saw, in the planner's words and as it is.
#[derive(Debug, Clone)]
pub struct Look {
    pub observed: Observed,
    pub desired: Desired,
    pub cluster: Arc<EtcdCluster>,
    pub blueprint: Blueprint,
    pub objects: Objects,
    pub authority: Authority,
    /// The versions that members say they are; a pod's is that of its image.
    pub releases: BTreeMap<Ordinal, Version>,
    /// Whom to call at which place: those whose pods are there.
    pub targets: BTreeMap<Ordinal, Target>,
    /// Orders that can't be carried out whatever becomes of the cluster, and why.
    pub rejected: Vec<orders::Rejection>,
}

/// Objects as the API server gave them.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    pub cluster: Value,
    all: BTreeMap<(Kind, String), Value>,
    /// Kinds that could not be listed.
    unknown: BTreeSet<Kind>,
    /// The ConfigMap of CAs as it should be; none where that is not known, or is for an act on certificates to say.
    trust: Option<Value>,
}

impl Objects {
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.all.get(&(kind, name.to_owned()))
    }

    /// Adds an object that was read, under its own name.
    pub fn put(&mut self, kind: Kind, object: Value) {
        self.all.insert((kind, text(&object, "/metadata/name").to_owned()), object);
    }

    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.all.iter().filter(move |((k, _), _)| *k == kind).map(|(_, object)| object)
    }

    fn seen<T>(&self, kind: Kind, read: impl FnOnce() -> Result<T, ApiError>) -> Seen<T> {
        if self.unknown.contains(&kind) {
            return Seen::Unknown;
        }
        match read() {
            Ok(value) => Seen::Known(value),
            Err(why) => {
                tracing::warn!(%why, "an object can't be read");
                Seen::Unknown
            }
        }
    }
}

/// What a pass brings along.
pub struct Given<'a> {
    pub settings: &'a Settings,
    pub now: Time,
    pub nonce: Nonce,
    pub echo: Vec<Echo>,
    pub keep: &'a super::memory::Revisions,
}

const LISTED: [Kind; 9] = [
    Kind::StatefulSet,
    Kind::Pod,
    Kind::Claim,
    Kind::Service,
    Kind::ServiceAccount,
    Kind::ConfigMap,
    Kind::Budget,
    Kind::NetworkPolicy,
    Kind::Job,
];

/// Looks at a cluster that was just read.
///
/// # Errors
/// Its spec can't be read.
pub async fn look(
    api: &impl Api,
    members: &impl Members,
    object: Value,
    fresh: Fresh,
    given: &Given<'_>,
) -> Result<Look, Blind> {
    let cluster: EtcdCluster = typed(&object)?;
    let (blueprint, desired) = read(&cluster, given)?;
    let names = &blueprint.names;
    let mut objects = Objects { cluster: object, ..Objects::default() };
    for kind in LISTED {
        // Acts on those name a UID and a version. Nothing of the kind guards what a permit that is not seen would allow.
        let cached = matches!(kind, Kind::StatefulSet | Kind::Pod | Kind::Claim);
        let fresh = if cached { fresh } else { Fresh::Now };
        gather(api, &mut objects, kind, &names.namespace, Which::Of(&names.cluster), fresh).await;
    }
    for kind in [Kind::Operation, Kind::Backup] {
        gather(api, &mut objects, kind, &names.namespace, Which::About(&names.cluster), Fresh::Now).await;
    }
    for kind in [Kind::Certificate, Kind::PodMonitor, Kind::PrometheusRule] {
        objects::extras(api, &blueprint, &mut objects, kind).await;
    }
    let (certificates, authority, credentials) = certificates::look(api, &blueprint, &mut objects).await;
    let pods = objects.seen(Kind::Pod, || pods::read(&blueprint, &objects, given.now));
    let targets = members::targets(&blueprint, pods.known(), credentials.as_ref());
    let id = cluster_id(&cluster)?;
    let told = members::ask(members, &blueprint, id, pods.known(), &targets).await;
    let (mut requests, mut rejected) = {
        let revisions = orders::Kept { noted: given.keep, newest: told.answers.values().map(|it| it.revision).max() };
        orders::read(&objects, &names.cluster, &revisions, given.now)
    };
    let (workload, claims) = (
        objects.seen(Kind::StatefulSet, || workload(&blueprint, &objects)),
        objects.seen(Kind::Claim, || claims::read(&blueprint, &objects)),
    );
    let about = about(names, &cluster, id)?;
    let operation = about.operation.clone();
    let begun = operation.as_ref().and_then(|operation| operation.request.as_ref());
    orders::sources(api, names, &objects, begun, &mut requests, &mut rejected).await;
    let source = orders::source(api, names, operation.as_ref()).await;
    let backups = objects.seen(Kind::Backup, || orders::backups(&objects, &about.uid.0, about.created));
    let observed = Observed {
        cluster: about,
        objects: objects::judge(&blueprint, &objects),
        workload,
        pods,
        claims,
        permit: objects.seen(Kind::ConfigMap, || permit(&blueprint, &objects, operation.as_ref())),
        table: told.table,
        answers: told.answers,
        alarms: told.alarms,
        certificates,
        requests,
        backups,
        saved: objects.seen(Kind::Job, || Ok(jobs::saved(names, &objects, operation.as_ref()))),
        filled: objects.seen(Kind::Job, || Ok(jobs::filled(names, &objects, operation.as_ref()))),
        source,
        fenced: objects.seen(Kind::ConfigMap, || fenced(names, &objects)),
        keep_from: keep_from(&cluster, given),
        nonce: given.nonce,
        echo: given.echo.clone(),
    };
    let cluster = Arc::new(cluster);
    let releases = told.releases;
    Ok(Look { observed, desired, cluster, blueprint, objects, authority, releases, targets, rejected })
}

async fn gather(api: &impl Api, objects: &mut Objects, kind: Kind, namespace: &str, which: Which<'_>, fresh: Fresh) {
    match api.list(kind, namespace, which, fresh).await {
        Ok(list) => {
            for mut object in list {
                // The objects of a list don't say what they are.
                object["apiVersion"] = kind.api_version().into();
                object["kind"] = kind.words().kind.into();
                objects.put(kind, object);
            }
        }
        Err(why) => {
            tracing::warn!(%kind, namespace, %why, "a list could not be read");
            objects.unknown.insert(kind);
        }
    }
}

/// Of a cluster that is being deleted only what its deletion needs has to be readable.
fn read(cluster: &EtcdCluster, given: &Given<'_>) -> Result<(Blueprint, Desired), Blind> {
    let whole = || -> Result<(Blueprint, Desired), Blind> {
        let blueprint = Blueprint::read(cluster, given.settings)?;
        let version = convert::text::version("spec.version", &blueprint.spec.version)?;
        let template = Template { config: pod::config(&blueprint).into(), version };
        let desired = convert::desired::read(&blueprint, template, given.now)?;
        Ok((blueprint, desired))
    };
    match whole() {
        Err(Blind::Spec(_)) if cluster.metadata.deletion_timestamp.is_some() => {
            let mut bare = cluster.clone();
            let spec: keepstone_operator_api::EtcdClusterSpec =
                serde_json::from_value(serde_json::json!({"version": "v0.0.0"})).expect("all else has a default");
            bare.spec = keepstone_operator_api::EtcdClusterSpec {
                deletion_policy: cluster.spec.deletion_policy,
                tls: keepstone_operator_api::tls::Tls {
                    provider: keepstone_operator_api::tls::TlsProvider::Disabled,
                    ..spec.tls.clone()
                },
                ..spec
            };
            let blueprint = Blueprint::read(&bare, given.settings)?;
            let version = convert::text::version("spec.version", &blueprint.spec.version)?;
            let template = Template { config: pod::config(&blueprint).into(), version };
            let desired = convert::desired::read(&blueprint, template, given.now)?;
            Ok((blueprint, desired))
        }
        read => read,
    }
}

fn cluster_id(cluster: &EtcdCluster) -> Result<Option<ClusterId>, Blind> {
    let id = cluster.status.as_ref().and_then(|status| status.cluster_id.as_deref());
    Ok(id.map(|id| convert::text::number("status.clusterID", id).map(ClusterId)).transpose()?)
}

fn about(names: &Names, cluster: &EtcdCluster, cluster_id: Option<ClusterId>) -> Result<Cluster, Blind> {
    let (meta, status) = (&cluster.metadata, cluster.status.clone().unwrap_or_default());
    let operation = status.operation.as_ref().map(convert::record::read).transpose()?;
    Ok(Cluster {
        name: meta.name.clone().unwrap_or_default().into(),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        created: meta.creation_timestamp.as_ref().map_or(Time(0), convert::text::time),
        generation: meta.generation.unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        cluster_id,
        seq: status.operation_seq.max(operation.as_ref().map_or(0, |operation| operation.seq)),
        operation,
        marks: marks(&status.marks),
        volumes: volumes(names, &status.members),
        ran: ran(&status),
    })
}

fn ran(status: &EtcdClusterStatus) -> Option<Version> {
    convert::text::version("status.currentVersion", status.current_version.as_deref()?).ok()
}

fn volumes(names: &Names, members: &[MemberStatus]) -> BTreeMap<Ordinal, Uid> {
    let voters = members.iter().filter(|member| !member.is_learner);
    voters.filter_map(|member| Some((names.ordinal(&member.name)?, member.pvc_uid.as_deref()?.into()))).collect()
}

#[must_use]
pub fn marks(of: &ApiMarks) -> Marks {
    let time = |stamp: &Option<_>| stamp.as_ref().map(convert::text::time);
    Marks {
        compact: time(&of.compact),
        defragment: time(&of.defragment),
        backup: time(&of.backup),
        room: time(&of.room),
        quorum_lost: time(&of.quorum_lost),
    }
}

/// What a template that was changed by hand is called: none is made of it, so that the StatefulSet is put right.
const DRIFTED: &str = "changed by hand";

fn workload(b: &Blueprint, objects: &Objects) -> Result<Option<Workload>, ApiError> {
    let Some(object) = objects.get(Kind::StatefulSet, &b.names.main()) else { return Ok(None) };
    let set: StatefulSet = typed(object)?;
    let spec = set.spec.clone().unwrap_or_default();
    let annotations = spec.template.metadata.as_ref().and_then(|meta| meta.annotations.clone()).unwrap_or_default();
    let mut template = pods::template(&annotations);
    let replicas = u32::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if *template.config == *pod::config(b) {
        // The text of its version is in it: with the same config it has to be the same, to the letter.
        let version = annotations.get(pod::VERSION_ANNOTATION).map_or("", String::as_str);
        let workload = stateful_set::Workload { replicas, version, existing: Some(&set) };
        let wanted = serde_json::to_value(stateful_set::build(b, workload)).unwrap_or_default();
        if !super::write::current(&wanted["spec"], &object["spec"]) {
            template = Template { config: DRIFTED.into(), ..template };
        }
    }
    let claims = spec.volume_claim_templates.unwrap_or_default();
    let data = claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(crate::objects::mounts::DATA));
    let storage = data.and_then(|claim| claims::request(claim.spec.as_ref())).unwrap_or(0);
    let seen = set.status.as_ref().and_then(|status| status.observed_generation);
    Ok(Some(Workload {
        uid: uid(object).into(),
        replicas,
        template,
        storage,
        settled: seen.is_some() && seen == set.metadata.generation,
    }))
}

/// Places that a fence names. One that makes no sense is not known: it may hold anybody.
fn fenced(names: &Names, objects: &Objects) -> Result<BTreeSet<Ordinal>, ApiError> {
    let Some(object) = objects.get(Kind::ConfigMap, &names.fence()) else { return Ok(BTreeSet::new()) };
    let map: ConfigMap = typed(object)?;
    fence::read(names, &map).map_err(|why| ApiError::Refused(why.to_string()))
}

/// A permit to found from a backup is, for the member, one to go on alone with what is on its volume.
fn kind(action: Action, nonce: Nonce, operation: Option<&Operation>) -> PermitKind {
    let meant = operation.and_then(|operation| match &operation.intent {
        Intent::Bootstrap(bootstrap) => bootstrap.permit.as_ref(),
        _ => None,
    });
    match action {
        Action::Found => PermitKind::Found,
        Action::ForceNewClusterId => {
            let meant = meant.filter(|meant| meant.nonce == nonce).map(|meant| meant.kind.clone());
            meant.filter(|kind| matches!(kind, PermitKind::FoundFrom(_))).unwrap_or(PermitKind::ForceNew)
        }
    }
}

fn permit(b: &Blueprint, objects: &Objects, operation: Option<&Operation>) -> Result<Option<Permit>, ApiError> {
    let Some(object) = objects.get(Kind::ConfigMap, &b.names.permit()) else { return Ok(None) };
    let map: ConfigMap = typed(object)?;
    let read = permit::read(&b.names, &map).map_err(|why| ApiError::Refused(why.to_string()))?;
    Ok(read.map(|it| Permit {
        kind: kind(it.action, it.nonce, operation),
        ordinal: it.ordinal,
        pod: it.pod,
        claim: it.claim,
        nonce: it.nonce,
    }))
}

fn keep_from(cluster: &EtcdCluster, given: &Given<'_>) -> Option<keepstone_operator_plan::ids::Revision> {
    let keep = &cluster.spec.maintenance.compact.as_ref()?.keep;
    given.keep.before(keep.duration.as_ref()?.duration()?, given.now)
}

/// Where an object of a cluster is.
#[must_use]
pub fn at(b: &Blueprint, name: &str) -> Name {
    Name::new(&b.names.namespace, name)
}
