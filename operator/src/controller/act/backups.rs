//! Backups that a schedule asks for, and what goes from a backup, or a data directory, to another place: all of it done by
//! Jobs, named after what they are for, so that each is made once.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use keepstone_operator_api::backup::{PvcStore, Store};
use keepstone_operator_api::operation::Restore;
use keepstone_operator_api::policy::DeletionPolicy;
use keepstone_operator_api::{BEFORE_ANNOTATION, CLUSTER_UID_ANNOTATION, EtcdBackup, SCHEDULED_ANNOTATION};
use keepstone_operator_plan::act::{Permit, PermitKind, Purpose};
use keepstone_operator_plan::ids::{Ordinal, Uid};
use serde_json::{Value, json};

use super::orders::stamp_text;
use super::{ActError, Done, Hands};
use crate::backup::job::{self, Record, Source};
use crate::backup::task::Location;
use crate::controller::api::{Api, ApiError, Deletion, text, typed, uid};
use crate::controller::backups;
use crate::controller::kind::Kind;
use crate::controller::look::jobs::NONCE_ANNOTATION;
use crate::controller::look::{at, claims};
use crate::controller::members::Members;
use crate::controller::write::wanted;
use crate::convert::desired::source_of;
use crate::objects::fence;
use crate::objects::permit::nonce_text;

/// What going on under a new cluster ID skips by itself.
const SKIPPED: i64 = 1_000_000_000;
/// Seconds that a copy may take whose volume is on a node that nobody hears of: it may never begin.
const UNHEARD: i64 = 300;

impl<A: Api, M: Members> Hands<'_, A, M> {
    pub(super) async fn start_backup(&self, from: Ordinal, purpose: &Purpose) -> Done {
        let b = &self.look.blueprint;
        let policy = b.spec.backup.as_ref().ok_or(ActError::Gone("spec.backup"))?;
        let cluster = &b.names.cluster;
        let (name, annotation, value) = match purpose {
            Purpose::Scheduled(at) => (format!("{cluster}-{}", at.0), SCHEDULED_ANNOTATION, stamp_text(*at)),
            Purpose::Before { version, generation } => {
                let before = version.to_string();
                // Generations begin again where the cluster is made anew.
                let whose: String = b.uid.chars().take(8).collect();
                let name = format!("{cluster}-before-{}-{generation}-{whose}", before.replace('.', "-"));
                (name, BEFORE_ANNOTATION, format!("{before}/{generation}"))
            }
        };
        let object = json!({
            "apiVersion": Kind::Backup.api_version(),
            "kind": Kind::Backup.words().kind,
            // It is no part of the cluster, and outlives it.
            "metadata": {
                "name": name, "namespace": b.names.namespace, "labels": b.names.labels(),
                "annotations": {annotation: value, CLUSTER_UID_ANNOTATION: b.uid},
            },
            "spec": {
                "clusterRef": {"name": cluster}, "type": "Full", "store": policy.store,
                "deletionPolicy": DeletionPolicy::Delete,
            },
        });
        match self.api.create(Kind::Backup, &object).await {
            // A pass that sees it goes on with it, from whomever is well by then.
            Err(ApiError::Conflict(_)) => Ok(()),
            made => self.take(&made?, from).await,
        }
    }

    /// Has a backup taken whose record is there.
    pub(in crate::controller) async fn take(&self, record: &Value, from: Ordinal) -> Done {
        let backup: EtcdBackup = typed(record)?;
        let (name, id) = (text(record, "/metadata/name"), uid(record));
        let to = Location { key: job::key(&backup.spec.store, name, id), store: backup.spec.store };
        let record = self.record(job::name(name, "backup", id), backups::owner(record));
        self.begin(&wanted(&job::take(&self.look.blueprint, &record, from, to))).await
    }

    pub(super) async fn delete_backup(&self, id: &Uid) -> Done {
        let found = self.look.objects.of(Kind::Backup).find(|backup| uid(backup) == &*id.0);
        let name = text(found.ok_or(ActError::Gone("the EtcdBackup"))?, "/metadata/name").to_owned();
        self.delete(Kind::Backup, &name, &id.0, Deletion::default()).await
    }

    pub(super) async fn set_fence(&self, places: &BTreeSet<Ordinal>) -> Done {
        let b = &self.look.blueprint;
        let name = b.names.fence();
        match (fence::build(b, places), self.live(Kind::ConfigMap, &name)) {
            (Some(map), _) => self.put(Kind::ConfigMap, &name, &wanted(&map)).await,
            (None, Some(live)) => self.delete(Kind::ConfigMap, &name, uid(live), Deletion::default()).await,
            (None, None) => Ok(()),
        }
    }

    /// Puts a backup onto the volume that a permit names.
    pub(super) async fn fill(&self, permit: &Permit) -> Done {
        let b = &self.look.blueprint;
        let PermitKind::FoundFrom(asked) = &permit.kind else { return Err(ActError::Gone("the backup")) };
        self.same(Kind::Claim, &b.names.claim(permit.ordinal), &permit.claim.0)?;
        let source = self.source(asked).await?;
        let record = self.record(b.names.fill_job(permit.nonce), b.owner());
        let mut job = job::fill(b, &record, permit.ordinal, source);
        job.metadata.annotations = Some([(NONCE_ANNOTATION.to_owned(), nonce_text(permit.nonce))].into());
        self.begin(&wanted(&job)).await
    }

    /// Where the backup lies that somebody asks for.
    async fn source(&self, asked: &str) -> Result<Source, ActError> {
        let unclear = |why: String| ActError::Api(ApiError::Refused(why));
        let Restore { from, bump_revision, .. } = source_of(asked).map_err(|why| unclear(why.to_string()))?;
        let bump = u64::try_from(bump_revision.saturating_sub(SKIPPED)).unwrap_or(0);
        if let Some(object) = from.object {
            let from = Location { store: object.store, key: object.key };
            return Ok(Source { from, sha256: None, bump });
        }
        let name = from.backup_ref.ok_or(ActError::Gone("the backup's name"))?.name;
        let found = self.api.get(Kind::Backup, &at(&self.look.blueprint, &name)).await?;
        let found = found.ok_or(ActError::Gone("the EtcdBackup"))?;
        let backup: EtcdBackup = typed(&found)?;
        let artifact = backup.status.and_then(|status| status.artifact);
        let artifact = artifact.ok_or_else(|| unclear(format!("the EtcdBackup {name} is not complete")))?;
        let key = job::key(&backup.spec.store, &name, uid(&found));
        Ok(Source { from: Location { key, store: backup.spec.store }, sha256: Some(artifact.sha256), bump })
    }

    /// Copies what a place has to a volume that is made for it: as a snapshot while its server answers, and else as it lies
    /// on the disk. Nobody removes that volume but who asked for the operation.
    pub(super) async fn save(&self, seq: u64, ordinal: Ordinal, claim: &Uid) -> Done {
        let (b, observed) = (&self.look.blueprint, &self.look.observed);
        let names = &b.names;
        let data = self.same(Kind::Claim, &names.claim(ordinal), &claim.0)?;
        let into = names.saved(seq, ordinal);
        let log = self.live(Kind::Claim, &names.wal_claim(ordinal));
        match self.api.create(Kind::Claim, &wanted(&self.spare(&into, data, log)?)).await {
            Ok(_) | Err(ApiError::Conflict(_)) => {}
            Err(why) => return Err(why.into()),
        }
        let record = self.record(names.save_job(seq, ordinal), b.owner());
        let pod = observed.pods.known().and_then(|pods| pods.get(&ordinal));
        let job = if observed.answers.contains_key(&ordinal) {
            let store = Store { s3: None, pvc: Some(PvcStore { claim_name: into, sub_path: None }) };
            job::take(b, &record, ordinal, Location { store, key: "snapshot.db".to_owned() })
        } else {
            let unheard = pod.is_some_and(|pod| pod.node_lost.is_some());
            let deadline = if unheard { UNHEARD } else { job::DEADLINE };
            job::save(b, &record, ordinal, &into, pod.is_some(), deadline)
        };
        self.begin(&wanted(&job)).await
    }

    /// A claim with room for the data of a place and its log. It has no owner: what was saved outlives the cluster.
    fn spare(&self, name: &str, data: &Value, log: Option<&Value>) -> Result<PersistentVolumeClaim, ActError> {
        let b = &self.look.blueprint;
        let live: PersistentVolumeClaim = typed(data)?;
        let spec = live.spec.unwrap_or_default();
        let bytes = |claim: &Value| -> Result<u64, ActError> {
            let claim: PersistentVolumeClaim = typed(claim)?;
            Ok(claims::request(claim.spec.as_ref()).unwrap_or(0))
        };
        let room = bytes(data)? + log.map_or(Ok(0), bytes)?;
        let mut metadata = b.metadata(name.to_owned());
        metadata.owner_references = None;
        let storage = Quantity(room.to_string());
        Ok(PersistentVolumeClaim {
            metadata,
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: spec.access_modes,
                storage_class_name: spec.storage_class_name,
                volume_mode: spec.volume_mode,
                resources: Some(VolumeResourceRequirements {
                    requests: Some([("storage".to_owned(), storage)].into()),
                    limits: None,
                }),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        })
    }

    fn record(&self, name: String, owner: OwnerReference) -> Record<'_> {
        let b = &self.look.blueprint;
        Record { name, cluster: &b.names.cluster, namespace: &b.names.namespace, owner, image: &b.settings.agent }
    }

    /// That there is such a Job already is success.
    async fn begin(&self, job: &Value) -> Done {
        match self.api.create(Kind::Job, job).await {
            Ok(_) | Err(ApiError::Conflict(_)) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}
