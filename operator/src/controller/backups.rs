//! `EtcdBackup`s: a Job is made for each that waits, what came of it is written into its status, and with the record goes
//! the file where that was asked for. Nothing a planner decides hangs on any of this, and no member is disturbed.
//!
//! A record outlives its cluster, and so does what is to be done when it is deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use keepstone_operator_api::backup::{Artifact, BackupPhase, EtcdBackupStatus};
use keepstone_operator_api::condition::{self, ConditionState, ConditionType};
use keepstone_operator_api::policy::DeletionPolicy;
use keepstone_operator_api::{EtcdBackup, Reason};
use keepstone_operator_plan::ids::{Seconds, Time};
use keepstone_operator_plan::observed::Phase;
use serde_json::{Value, json};

use super::api::{Api, ApiError, Deletion, text, typed, uid, version};
use super::kind::Kind;
use super::look::{Objects, jobs};
use super::write::{difference, name, wanted};
use crate::backup::job::{self, Record};
use crate::backup::task::{Location, Report};
use crate::convert::text as said;

/// Keeps an `EtcdBackup` until its file is gone.
pub const FINALIZER: &str = "keepstone.io/backup-file";

/// A list of pods may be behind that of Jobs: so long a missing word is waited for.
const WORD: Seconds = Seconds(60);
/// After a file could not be removed.
const AGAIN: Seconds = Seconds(600);
/// Since it was deleted: a store that is gone for good must not hold its records, and their namespace, for ever.
const GIVE_UP: Seconds = Seconds(24 * 3600);

/// What is to be done about a record now.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Nothing,
    /// Something that is not here yet is waited for.
    Wait,
    /// The record is to be kept until its file is gone.
    Hold,
    /// Nothing of ours keeps it any more.
    LetGo,
    /// Take it.
    Take,
    /// Remove its file.
    Discard,
    /// A Job that has had its time.
    Clear(String),
    /// Status is to say so.
    Tell(Box<Said>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub phase: BackupPhase,
    pub reason: Reason,
    pub message: String,
    pub artifact: Option<Artifact>,
}

/// Who owns what is made for a record.
#[must_use]
pub fn owner(record: &Value) -> OwnerReference {
    OwnerReference {
        api_version: Kind::Backup.api_version(),
        kind: Kind::Backup.words().kind.to_owned(),
        name: text(record, "/metadata/name").to_owned(),
        uid: uid(record).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What is to be done about a record, by its Jobs and their pods.
///
/// # Errors
/// It is no `EtcdBackup`.
pub fn step(record: &Value, objects: &Objects, now: Time) -> Result<Step, ApiError> {
    let backup: EtcdBackup = typed(record)?;
    let (object, id) = (text(record, "/metadata/name"), uid(record));
    let (take, discard) = (job::name(object, "backup", id), job::name(object, "discard", id));
    let held = backup.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER);
    let keeps = backup.spec.deletion_policy == DeletionPolicy::Retain;
    if let Some(since) = &backup.metadata.deletion_timestamp {
        let patient = now.since(said::time(since)) < GIVE_UP;
        return Ok(match held {
            false => Step::Nothing,
            true if keeps => Step::LetGo,
            true => leave(objects, &take, &discard, now, patient),
        });
    }
    let job = objects.get(Kind::Job, &take);
    match backup.status.as_ref().and_then(|status| status.phase) {
        Some(BackupPhase::Completed) if job.is_some() => Ok(Step::Clear(take)),
        Some(BackupPhase::Completed | BackupPhase::Failed) => Ok(Step::Nothing),
        _ if !held && !keeps => Ok(Step::Hold),
        phase => Ok(job.map_or(Step::Take, |job| follow(phase, job, objects, &take, now))),
    }
}

/// A file goes when nobody writes it any more.
fn leave(objects: &Objects, take: &str, discard: &str, now: Time, patient: bool) -> Step {
    if objects.get(Kind::Job, take).is_some() {
        return Step::Clear(take.to_owned());
    }
    if jobs::pods(objects, take).next().is_some() {
        return Step::Wait;
    }
    let Some(job) = objects.get(Kind::Job, discard) else { return Step::Discard };
    match jobs::phase(job) {
        Phase::Succeeded => Step::LetGo,
        Phase::Failed if !patient => Step::LetGo,
        Phase::Failed if jobs::over(job).is_none_or(|at| now.since(at) >= AGAIN) => Step::Clear(discard.to_owned()),
        Phase::Failed | Phase::Pending | Phase::Running => Step::Wait,
    }
}

fn follow(phase: Option<BackupPhase>, job: &Value, objects: &Objects, name: &str, now: Time) -> Step {
    let failed = |reason, message: String| {
        Step::Tell(Box::new(Said { phase: BackupPhase::Failed, reason, message, artifact: None }))
    };
    match (jobs::phase(job), jobs::report(objects, name)) {
        (Phase::Pending | Phase::Running, _) if phase == Some(BackupPhase::Running) => Step::Wait,
        (Phase::Pending | Phase::Running, _) => Step::Tell(Box::new(Said {
            phase: BackupPhase::Running,
            reason: Reason::Running,
            message: String::new(),
            artifact: None,
        })),
        (Phase::Succeeded, Some(Report::Taken(artifact))) => Step::Tell(Box::new(Said {
            phase: BackupPhase::Completed,
            reason: Reason::Succeeded,
            message: String::new(),
            artifact: Some(artifact),
        })),
        (Phase::Failed, Some(Report::Failed { reason, why })) => failed(reason, why),
        (Phase::Succeeded | Phase::Failed, _) if jobs::over(job).is_some_and(|at| now.since(at) < WORD) => Step::Wait,
        (Phase::Succeeded, _) => failed(Reason::Interrupted, "what the agent said is lost: its pod is gone".to_owned()),
        (Phase::Failed, _) => failed(Reason::Interrupted, jobs::why(job)),
    }
}

/// Carries out what needs no cluster. [`Step::Take`] is the caller's.
///
/// # Errors
/// As the API server has them.
pub async fn carry_out(
    api: &impl Api,
    record: &Value,
    step: &Step,
    agent: &str,
    objects: &Objects,
    now: Time,
) -> Result<(), ApiError> {
    match step {
        Step::Nothing | Step::Wait | Step::Take => Ok(()),
        Step::Hold => finalizers(api, record, true).await,
        Step::LetGo => finalizers(api, record, false).await,
        Step::Discard => discard(api, record, agent).await,
        Step::Clear(job) => clear(api, job, objects).await,
        Step::Tell(said) => tell(api, record, said, now).await,
    }
}

async fn finalizers(api: &impl Api, record: &Value, held: bool) -> Result<(), ApiError> {
    let all = record.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    let others = all.into_iter().filter(|one| one != FINALIZER);
    let all: Vec<_> = others.chain(held.then(|| json!(FINALIZER))).collect();
    let patch = json!({"metadata": {"uid": uid(record), "resourceVersion": version(record), "finalizers": all}});
    api.merge(Kind::Backup, &name(record), false, &patch).await.map(drop)
}

async fn discard(api: &impl Api, record: &Value, agent: &str) -> Result<(), ApiError> {
    let backup: EtcdBackup = typed(record)?;
    let (object, id) = (text(record, "/metadata/name"), uid(record));
    let at = Location { key: job::key(&backup.spec.store, object, id), store: backup.spec.store };
    let for_it = Record {
        name: job::name(object, "discard", id),
        cluster: &backup.spec.cluster_ref.name,
        namespace: text(record, "/metadata/namespace"),
        owner: owner(record),
        image: agent,
    };
    match api.create(Kind::Job, &wanted(&job::discard(&for_it, at))).await {
        Ok(_) | Err(ApiError::Conflict(_)) => Ok(()),
        // Nothing can be made in a namespace that goes, and it must not wait for that.
        Err(ApiError::Refused(why)) if why.contains("is being terminated") => {
            tracing::warn!(backup = object, "its namespace goes: the file stays");
            finalizers(api, record, false).await
        }
        Err(why) => Err(why),
    }
}

async fn clear(api: &impl Api, job: &str, objects: &Objects) -> Result<(), ApiError> {
    let Some(live) = objects.get(Kind::Job, job) else { return Ok(()) };
    let how = Deletion { uid: Some(uid(live).to_owned()), ..Deletion::default() };
    api.delete(Kind::Job, &name(live), &how).await
}

/// Writes how far a record is.
///
/// # Errors
/// As the API server has them.
pub async fn tell(api: &impl Api, record: &Value, said: &Said, now: Time) -> Result<(), ApiError> {
    let found: EtcdBackup = typed(record)?;
    let old = found.status.clone().unwrap_or_default();
    let generation = found.metadata.generation.unwrap_or_default();
    let done = said.phase == BackupPhase::Completed;
    let mut new = EtcdBackupStatus {
        observed_generation: generation,
        phase: Some(said.phase),
        artifact: said.artifact.clone(),
        started_at: old.started_at.clone().or_else(|| Some(said::stamp(now))),
        completed_at: done.then(|| said::stamp(now)),
        conditions: old.conditions,
    };
    let state = if done { ConditionState::True } else { ConditionState::False };
    let completed = ConditionType::Completed;
    let stamp = said::stamp(now);
    condition::set(&mut new.conditions, completed, state, said.reason, &said.message, generation, &stamp);
    let before = record.get("status").cloned().unwrap_or_else(|| json!({}));
    let patch = json!({
        "metadata": {"uid": uid(record), "resourceVersion": version(record)},
        "status": difference(&before, &serde_json::to_value(&new).unwrap_or_default()),
    });
    api.merge(Kind::Backup, &name(record), true, &patch).await.map(drop)
}

#[cfg(test)]
mod tests;
