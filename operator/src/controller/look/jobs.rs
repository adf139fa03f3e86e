//! What has become of the Jobs beside the members: copies of data directories, a backup on its way to a volume, backups.

use std::collections::BTreeMap;

use keepstone_operator_plan::act::PermitKind;
use keepstone_operator_plan::ids::{Nonce, Ordinal, Time};
use keepstone_operator_plan::observed::Phase;
use keepstone_operator_plan::operation::{Intent, Operation};
use serde_json::Value;

use super::Objects;
use crate::Names;
use crate::backup::Report;
use crate::controller::api::{Api, ApiError, Fresh, Which, text};
use crate::controller::kind::{Kind, Name};
use crate::objects::permit::nonce_text;

/// On a Job that fills a volume: the nonce of the permit it is for.
pub const NONCE_ANNOTATION: &str = "keepstone.io/permit";
/// The label with which a Job's controller marks its pods.
const JOB_LABEL: &str = "/metadata/labels/batch.kubernetes.io~1job-name";

/// How far a Job is. It has failed when its controller gave it up, not when one of its pods did.
#[must_use]
pub fn phase(job: &Value) -> Phase {
    if holds(job, "Complete") {
        Phase::Succeeded
    } else if holds(job, "Failed") {
        Phase::Failed
    } else {
        Phase::Running
    }
}

fn holds(job: &Value, kind: &str) -> bool {
    condition(job, kind).is_some_and(|found| found["status"] == "True")
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array)?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Since when a Job is over; none while it is not.
#[must_use]
pub fn over(job: &Value) -> Option<Time> {
    let found = ["Complete", "Failed"].into_iter().find(|kind| holds(job, kind))?;
    let stamp = condition(job, found)?.get("lastTransitionTime")?.clone();
    serde_json::from_value(stamp).ok().map(|stamp| crate::convert::text::time(&stamp))
}

/// Why the Job's controller gave it up, in its words.
#[must_use]
pub fn why(job: &Value) -> String {
    condition(job, "Failed").map_or_else(String::new, |failed| text(failed, "/message").to_owned())
}

/// Jobs of a cluster that is gone, and their pods.
///
/// # Errors
/// As the API server has them.
pub async fn of(api: &impl Api, cluster: &Name) -> Result<Objects, ApiError> {
    let mut objects = Objects::default();
    for kind in [Kind::Job, Kind::Pod] {
        for object in api.list(kind, &cluster.namespace, Which::Of(&cluster.name), Fresh::Now).await? {
            objects.put(kind, object);
        }
    }
    Ok(objects)
}

/// The pods of a Job.
pub fn pods<'a>(objects: &'a Objects, job: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.of(Kind::Pod).filter(move |pod| text(pod, JOB_LABEL) == job)
}

fn mounts(pod: &Value, claim: &str) -> bool {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    volumes.is_some_and(|all| all.iter().any(|one| text(one, "/persistentVolumeClaim/claimName") == claim))
}

/// Pods of Jobs that have ended, and hold a claim for as long as they are there.
pub fn holding<'a>(objects: &'a Objects, claim: &'a str) -> impl Iterator<Item = &'a Value> {
    let ended = |pod: &Value| matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    objects.of(Kind::Pod).filter(move |pod| !text(pod, JOB_LABEL).is_empty() && ended(pod) && mounts(pod, claim))
}

/// Jobs that are not done with a claim.
pub fn at_work<'a>(objects: &'a Objects, claim: &'a str) -> impl Iterator<Item = &'a Value> {
    let unfinished = |job: &Value| !phase(job).finished();
    let template = |job: &'a Value| job.pointer("/spec/template");
    objects.of(Kind::Job).filter(move |job| unfinished(job) && template(job).is_some_and(|pod| mounts(pod, claim)))
}

/// What the Job's agents said last: that it is done, if any said so.
#[must_use]
pub fn report(objects: &Objects, job: &str) -> Option<Report> {
    let mut said: Vec<(&str, Report)> = pods(objects, job).filter_map(word).collect();
    said.sort_by_key(|(ended, report)| (!matches!(report, Report::Failed { .. }), *ended));
    said.pop().map(|(_, report)| report)
}

/// A container that ended, when, and its termination message.
fn word(pod: &Value) -> Option<(&str, Report)> {
    let status = |list: &str| pod.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let all = status("/status/initContainerStatuses").iter().chain(status("/status/containerStatuses"));
    let mut ended = all.filter_map(|container| {
        let report = Report::read(text(container, "/state/terminated/message"))?;
        Some((text(container, "/state/terminated/finishedAt"), report))
    });
    ended.next_back()
}

/// Copies of data directories, for the operation that is under way.
#[must_use]
pub fn saved(names: &Names, objects: &Objects, operation: Option<&Operation>) -> BTreeMap<Ordinal, Phase> {
    let Some(operation) = operation else { return BTreeMap::new() };
    let places: Vec<Ordinal> = match &operation.intent {
        Intent::RecoverQuorum(recover) => recover.claims.keys().chain([&recover.survivor]).copied().collect(),
        Intent::Restore(restore) => restore.claims.keys().copied().collect(),
        _ => Vec::new(),
    };
    let job = |n: &Ordinal| objects.get(Kind::Job, &names.save_job(operation.seq, *n));
    places.into_iter().filter_map(|n| Some((n, phase(job(&n)?)))).collect()
}

/// The backup on its way to the seed's volume, for the permit of the founding that is under way.
#[must_use]
pub fn filled(names: &Names, objects: &Objects, operation: Option<&Operation>) -> Option<Phase> {
    let Intent::Bootstrap(bootstrap) = &operation?.intent else { return None };
    let permit = bootstrap.permit.as_ref().filter(|permit| matches!(permit.kind, PermitKind::FoundFrom(_)))?;
    let job = objects.get(Kind::Job, &names.fill_job(permit.nonce))?;
    is_for(job, permit.nonce).then(|| phase(job))
}

fn is_for(job: &Value, nonce: Nonce) -> bool {
    let annotations = job.pointer("/metadata/annotations");
    annotations.and_then(|all| all.get(NONCE_ANNOTATION)).and_then(Value::as_str) == Some(&nonce_text(nonce))
}

#[cfg(test)]
mod tests {
    use keepstone_operator_api::Reason;
    use serde_json::json;

    use super::*;

    fn objects(all: &[(Kind, Value)]) -> Objects {
        let mut objects = Objects::default();
        for (kind, object) in all {
            objects.put(*kind, object.clone());
        }
        objects
    }

    fn pod(name: &str, message: &str, ended: &str) -> (Kind, Value) {
        let state = json!({"terminated": {"message": message, "finishedAt": ended}});
        let object = json!({
            "metadata": {"name": name, "labels": {"batch.kubernetes.io/job-name": "j"}},
            "status": {"containerStatuses": [{"name": "backup", "state": state}]},
        });
        (Kind::Pod, object)
    }

    #[test]
    fn a_job_is_over_when_its_controller_says_so() {
        let job = |kind: &str, status: &str| {
            json!({"status": {"failed": 1, "conditions": [
            {"type": kind, "status": status, "lastTransitionTime": "2026-11-22T00:00:00Z"}]}})
        };
        assert_eq!(phase(&job("Complete", "True")), Phase::Succeeded);
        assert_eq!(phase(&job("Failed", "True")), Phase::Failed);
        assert_eq!(phase(&job("FailureTarget", "True")), Phase::Running);
        assert_eq!(phase(&job("Complete", "False")), Phase::Running);
        assert_eq!(phase(&json!({})), Phase::Running);
        assert_eq!((over(&job("Failed", "True")), over(&job("Failed", "False"))), (Some(Time(1_795_305_600)), None));
    }

    /// A claim that is deleted stays for as long as a pod has it, ended or not.
    #[test]
    fn only_what_a_job_left_behind_is_taken_off_a_claim() {
        let pod = |name: &str, job: Option<&str>, phase: &str, claim: &str| {
            let labels = job.map_or_else(|| json!({}), |job| json!({"batch.kubernetes.io/job-name": job}));
            let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}, {"name": "other"}]);
            let metadata = json!({"name": name, "labels": labels});
            (Kind::Pod, json!({"metadata": metadata, "spec": {"volumes": volumes}, "status": {"phase": phase}}))
        };
        let all = objects(&[
            pod("main-save-1-0-x", Some("main-save-1-0"), "Succeeded", "data-main-0"),
            pod("main-save-1-0-y", Some("main-save-1-0"), "Failed", "data-main-0"),
            pod("main-save-2-0-x", Some("main-save-2-0"), "Running", "data-main-0"),
            pod("main-save-1-1-x", Some("main-save-1-1"), "Succeeded", "data-main-1"),
            pod("main-0", None, "Succeeded", "data-main-0"),
        ]);
        let names: Vec<_> = holding(&all, "data-main-0").map(|pod| text(pod, "/metadata/name")).collect();
        assert_eq!(names, ["main-save-1-0-x", "main-save-1-0-y"]);
    }

    #[test]
    fn a_job_that_still_fills_a_volume_is_told_from_one_that_is_done() {
        let job = |name: &str, claim: &str, done: bool| {
            let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
            let conditions = if done { json!([{"type": "Complete", "status": "True"}]) } else { json!([]) };
            let spec = json!({"template": {"spec": {"volumes": volumes}}});
            (Kind::Job, json!({"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}))
        };
        let all = objects(&[job("a", "data-main-0", true), job("b", "data-main-0", false), job("c", "other", false)]);
        let names: Vec<_> = at_work(&all, "data-main-0").map(|job| text(job, "/metadata/name")).collect();
        assert_eq!(names, ["b"]);
    }

    /// A pod that was retried has failed before; of several failures the last one counts.
    #[test]
    fn what_was_done_is_told_whoever_failed_before() {
        let failed = |why: &str| Report::failed(Reason::StepFailed, why).write();
        let all = [
            pod("a", &failed("first"), "2026-11-22T00:00:01Z"),
            pod("b", &failed("second"), "2026-11-22T00:00:02Z"),
            pod("c", "killed", "2026-11-22T00:00:03Z"),
        ];
        assert_eq!(report(&objects(&all), "j"), Some(Report::failed(Reason::StepFailed, "second")));
        let done = pod("d", &Report::Done.write(), "2026-11-22T00:00:00Z");
        assert_eq!(report(&objects(&[all[0].clone(), done]), "j"), Some(Report::Done));
        assert_eq!(report(&objects(&all), "k"), None);
    }
}
