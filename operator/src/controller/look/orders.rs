//! `EtcdOperation`s and `EtcdBackup`s.

use keepstone_operator_api::backup::BackupPhase;
use keepstone_operator_api::operation::OperationPhase;
use keepstone_operator_api::policy::Keep;
use keepstone_operator_api::{
    BEFORE_ANNOTATION, CLUSTER_UID_ANNOTATION, EtcdBackup, EtcdOperation, KEEP_ANNOTATION, SCHEDULED_ANNOTATION,
};
use keepstone_operator_plan::ids::{Revision, Time, Uid, Version};
use keepstone_operator_plan::observed::{Backup, Phase, Request, Seen};
use keepstone_operator_plan::operation::{Intent, Operation, Verb};

use super::Objects;
use crate::Names;
use crate::controller::api::{Api, ApiError, typed, uid};
use crate::controller::kind::{Kind, Name};
use crate::controller::memory::Revisions;
use crate::convert::desired::source_of;
use crate::convert::order::{self, Rejected};
use crate::convert::text;

/// An order that is not for the planner.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    pub order: EtcdOperation,
    pub why: Rejected,
}

/// What is known of revisions: of those before, and of now.
pub struct Kept<'a> {
    pub noted: &'a Revisions,
    /// None while nobody answers.
    pub newest: Option<Revision>,
}

impl Kept<'_> {
    /// Up to where to compact so that this is kept; none while that can't be known.
    fn revision(&self, keep: &Keep, now: Time) -> Option<Revision> {
        if let Some(kept) = keep.revisions {
            // There is no revision 0 to forget: the first compaction is that of the first revision.
            return self.newest.map(|newest| Revision(newest.0.saturating_sub(kept).max(1)));
        }
        self.noted.before(keep.duration.as_ref()?.duration()?, now)
    }
}

/// Those that can be read, oldest first, and those that can't be carried out.
#[must_use]
pub fn read(objects: &Objects, cluster: &str, kept: &Kept<'_>, now: Time) -> (Seen<Vec<Request>>, Vec<Rejection>) {
    let mut rejected = Vec::new();
    let seen = objects.seen(Kind::Operation, || {
        let mut requests = Vec::new();
        for object in objects.of(Kind::Operation) {
            let order: EtcdOperation = typed(object)?;
            if order.spec.cluster_ref.name != cluster || order.metadata.deletion_timestamp.is_some() {
                continue;
            }
            match order::read(&order.spec, |keep| kept.revision(keep, now)) {
                Ok(verb) => requests.push(request(&order, verb)),
                Err(Rejected::RevisionUnknown) => {}
                Err(why) if !phase(&order).finished() => rejected.push(Rejection { order, why }),
                Err(_) => {}
            }
        }
        requests.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(requests)
    });
    (seen, rejected)
}

/// A restore gives up what there is: not for a backup that can't take its place. Where that can't be told now, it waits.
pub async fn sources(
    api: &impl Api,
    names: &Names,
    objects: &Objects,
    begun: Option<&Uid>,
    requests: &mut Seen<Vec<Request>>,
    rejected: &mut Vec<Rejection>,
) {
    let Seen::Known(requests) = requests else { return };
    for request in std::mem::take(requests) {
        let name = named(&request).filter(|_| begun != Some(&request.uid));
        let there = match &name {
            Some(name) => complete(api, names, name).await,
            None => Ok(true),
        };
        match there {
            Ok(true) => requests.push(request),
            Ok(false) => {
                let order = order_of(objects, &request);
                rejected.extend(order.zip(name).map(|(order, name)| Rejection { order, why: Rejected::Backup(name) }));
            }
            Err(why) => tracing::warn!(order = %request.name, %why, "whether its backup is there can't be read"),
        }
    }
}

/// Whether the `EtcdBackup` is there that the restore under way is to be made of.
pub async fn source(api: &impl Api, names: &Names, operation: Option<&Operation>) -> Seen<bool> {
    let Some(Intent::Restore(restore)) = operation.map(|operation| &operation.intent) else { return Seen::Known(true) };
    let Some(name) = backup_of(&restore.source) else { return Seen::Known(true) };
    match complete(api, names, &name).await {
        Ok(there) => Seen::Known(there),
        Err(why) => {
            tracing::warn!(backup = name, %why, "whether it is there can't be read");
            Seen::Unknown
        }
    }
}

/// The `EtcdBackup` that a restore which has not begun names.
fn named(request: &Request) -> Option<String> {
    let Verb::Restore { source, .. } = &request.verb else { return None };
    backup_of(source).filter(|_| request.phase == Phase::Pending)
}

fn backup_of(source: &str) -> Option<String> {
    source_of(source).ok()?.from.backup_ref.map(|backup| backup.name)
}

async fn complete(api: &impl Api, names: &Names, name: &str) -> Result<bool, ApiError> {
    let found = api.get(Kind::Backup, &Name::new(&names.namespace, name)).await?;
    let backup = found.as_ref().map(typed::<EtcdBackup>).transpose()?;
    let stays = backup.filter(|backup| backup.metadata.deletion_timestamp.is_none());
    Ok(stays.and_then(|backup| backup.status).is_some_and(|status| status.artifact.is_some()))
}

fn order_of(objects: &Objects, request: &Request) -> Option<EtcdOperation> {
    let found = objects.of(Kind::Operation).find(|object| uid(object) == &*request.uid.0)?;
    typed(found).ok()
}

fn request(order: &EtcdOperation, verb: Verb) -> Request {
    let meta = &order.metadata;
    Request {
        name: meta.name.as_deref().unwrap_or_default().into(),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        created: meta.creation_timestamp.as_ref().map_or(Time(0), text::time),
        scheduled: scheduled(meta.annotations.as_ref()),
        verb,
        phase: phase(order),
    }
}

fn phase(order: &EtcdOperation) -> Phase {
    match order.status.as_ref().and_then(|status| status.phase) {
        None | Some(OperationPhase::Pending) => Phase::Pending,
        Some(OperationPhase::Running) => Phase::Running,
        Some(OperationPhase::Succeeded) => Phase::Succeeded,
        Some(OperationPhase::Failed | OperationPhase::Rejected) => Phase::Failed,
    }
}

type Annotations = std::collections::BTreeMap<String, String>;

fn scheduled(annotations: Option<&Annotations>) -> Option<Time> {
    let text = annotations?.get(SCHEDULED_ANNOTATION)?;
    serde_json::from_value(serde_json::Value::String(text.clone())).ok().map(|stamp| text::time(&stamp))
}

/// Those of this very cluster. One of the same name that was there before has others: its data is not this one's, and only
/// people know what they are still good for.
///
/// # Errors
/// One of them is no backup.
pub fn backups(objects: &Objects, cluster: &str, since: Time) -> Result<Vec<Backup>, ApiError> {
    let mut backups = Vec::new();
    for object in objects.of(Kind::Backup) {
        let backup: EtcdBackup = typed(object)?;
        // It is on its way out: whatever is decided is decided without it.
        if backup.metadata.deletion_timestamp.is_some() || !is_of(&backup, cluster, since) {
            continue;
        }
        let (meta, status) = (&backup.metadata, backup.status.clone().unwrap_or_default());
        let annotations = meta.annotations.as_ref();
        backups.push(Backup {
            name: meta.name.as_deref().unwrap_or_default().into(),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            created: meta.creation_timestamp.as_ref().map_or(Time(0), text::time),
            scheduled: scheduled(annotations),
            before: annotations.and_then(|all| all.get(BEFORE_ANNOTATION)).and_then(|text| before(text)),
            phase: match status.phase {
                None | Some(BackupPhase::Pending) => Phase::Pending,
                Some(BackupPhase::Running) => Phase::Running,
                Some(BackupPhase::Completed) => Phase::Succeeded,
                Some(BackupPhase::Failed) => Phase::Failed,
            },
            completed: status.completed_at.as_ref().map(text::time),
            keep: annotations.is_some_and(|all| all.contains_key(KEEP_ANNOTATION)),
        });
    }
    backups.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(backups)
}

/// Whether it is of the cluster with that UID, created at that time. One that somebody made by hand does not say whose it is.
pub fn is_of(backup: &EtcdBackup, cluster: &str, since: Time) -> bool {
    let annotations = backup.metadata.annotations.as_ref();
    match annotations.and_then(|all| all.get(CLUSTER_UID_ANNOTATION)) {
        Some(id) => id == cluster,
        None => backup.metadata.creation_timestamp.as_ref().is_none_or(|at| text::time(at) >= since),
    }
}

fn before(text: &str) -> Option<(Version, i64)> {
    let (version, generation) = text.split_once('/')?;
    Some((text::version(BEFORE_ANNOTATION, version).ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such an order used to wait for ever.
    #[test]
    fn so_many_revisions_are_kept_of_what_there_is_now() {
        let noted = Revisions::default();
        let of = |newest, revisions| {
            let keep = Keep { revisions: Some(revisions), duration: None };
            Kept { noted: &noted, newest }.revision(&keep, Time(1))
        };
        assert_eq!(of(Some(Revision(1000)), 100), Some(Revision(900)));
        assert_eq!(of(Some(Revision(50)), 100), Some(Revision(1)));
        assert_eq!(of(None, 100), None);
    }

    /// Its records outlive a cluster: what was made anew under its name removed them, or passed them off as its own.
    #[test]
    fn backups_of_an_earlier_cluster_of_the_same_name_are_not_this_ones() {
        let record = |name: &str, created: &str, of: Option<&str>| {
            let annotations = of.map(|id| serde_json::json!({CLUSTER_UID_ANNOTATION: id}));
            serde_json::json!({
                "metadata": {"name": name, "uid": name, "creationTimestamp": created, "annotations": annotations},
                "spec": {"clusterRef": {"name": "main"}, "store": {"pvc": {"claimName": "b"}}},
            })
        };
        let mut objects = Objects::default();
        let (before, after) = ("2026-11-21T00:00:00Z", "2026-11-22T00:00:01Z");
        objects.put(Kind::Backup, record("another-s", after, Some("old")));
        objects.put(Kind::Backup, record("by-hand-before", before, None));
        objects.put(Kind::Backup, record("by-hand", after, None));
        objects.put(Kind::Backup, record("ours", after, Some("new")));
        let found = backups(&objects, "new", Time(1_795_305_600)).expect("they are backups");
        assert_eq!(found.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["by-hand", "ours"]);
    }
}
