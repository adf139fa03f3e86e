//! Members' pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as Live, PodCondition};
use keepstone_operator_api::UNRECOVERABLE_ANNOTATION;
use keepstone_operator_plan::ids::{Ordinal, Seconds, Template, Time, Version};
use keepstone_operator_plan::observed::{Pod, Verdict};

use super::Objects;
use crate::Blueprint;
use crate::controller::api::{ApiError, typed};
use crate::controller::kind::Kind;
use crate::convert::text::{time, version};
use crate::objects::pod::{CONFIG_ANNOTATION, CONTAINER, VERSION_ANNOTATION};

/// Seconds past its grace that a pod may still be there before its node is taken for gone.
const OVERDUE: Seconds = Seconds(120);

/// What a server says that refuses its directory, by the words that all versions of that message have.
const VERDICTS: &[(&str, Verdict)] = &[
    ("has been permanently removed from the cluster", Verdict::Removed),
    ("already started with another data directory", Verdict::DataLost),
    ("the log is damaged", Verdict::Corrupt),
    ("the state in ", Verdict::Corrupt),
    ("INSTALLED is damaged", Verdict::Corrupt),
    ("the end of the log is lost", Verdict::Corrupt),
    ("what lies between is lost", Verdict::Corrupt),
    ("but the directory was made from a backup", Verdict::Corrupt),
    ("are of different data directories of this member", Verdict::Corrupt),
    ("is --wal-dir the one this member had?", Verdict::Corrupt),
];

/// # Errors
/// One of them is no pod.
pub fn read(b: &Blueprint, objects: &Objects, now: Time) -> Result<BTreeMap<Ordinal, Pod>, ApiError> {
    let mut pods = BTreeMap::new();
    for object in objects.of(Kind::Pod) {
        let pod: Live = typed(object)?;
        let place = pod.metadata.name.as_deref().and_then(|name| b.names.ordinal(name));
        if let Some(ordinal) = place {
            pods.insert(ordinal, one(&pod, now));
        }
    }
    Ok(pods)
}

fn one(pod: &Live, now: Time) -> Pod {
    let (meta, status) = (&pod.metadata, pod.status.clone().unwrap_or_default());
    let container = status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER);
    let ready = condition(&status.conditions, "Ready");
    let created = meta.creation_timestamp.as_ref().map_or(Time(0), time);
    let annotations = meta.annotations.clone().unwrap_or_default();
    let given_up = annotations.contains_key(UNRECOVERABLE_ANNOTATION).then_some(Verdict::DataLost);
    Pod {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        created,
        template: template(&annotations),
        started: container.is_some_and(|container| container.started == Some(true)),
        ready: ready.is_some_and(|ready| ready.status == "True"),
        ready_changed: ready.and_then(|ready| ready.last_transition_time.as_ref()).map_or(created, time),
        terminating: meta.deletion_timestamp.is_some(),
        restarts: container.map_or(0, restarts),
        node_lost: node_lost(pod, now),
        verdict: given_up.or_else(|| container.and_then(verdict)),
    }
}

/// What it is made of, by its annotations; nothing that anybody asks for where they are missing.
#[must_use]
pub fn template(annotations: &BTreeMap<String, String>) -> Template {
    let config = annotations.get(CONFIG_ANNOTATION).map_or("", String::as_str);
    let read = annotations.get(VERSION_ANNOTATION).and_then(|text| version(VERSION_ANNOTATION, text).ok());
    Template { config: config.into(), version: read.unwrap_or(Version { major: 0, minor: 0, patch: 0 }) }
}

fn condition<'a>(all: &'a Option<Vec<PodCondition>>, kind: &str) -> Option<&'a PodCondition> {
    all.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Those for want of memory say nothing about its data.
fn restarts(container: &ContainerStatus) -> u32 {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if last.is_some_and(|last| last.reason.as_deref() == Some("OOMKilled")) {
        return 0;
    }
    u32::try_from(container.restart_count).unwrap_or(0)
}

/// The last words of its server, of now or of before it was started again. While it runs well none of them count.
fn verdict(container: &ContainerStatus) -> Option<Verdict> {
    if container.ready {
        return None;
    }
    let ended = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.as_ref()).and_then(|ended| ended.message.clone())
    };
    let words = ended(&container.state).or_else(|| ended(&container.last_state))?;
    VERDICTS.iter().find(|(said, _)| words.contains(said)).map(|(_, verdict)| *verdict)
}

/// A kubelet that is there ends a pod within its grace. Who deletes pods of nodes that are gone says so in a condition.
fn node_lost(pod: &Live, now: Time) -> Option<Time> {
    let status = pod.status.as_ref();
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(time)?;
    let evicted = status.and_then(|status| condition(&status.conditions, "DisruptionTarget"));
    let by_taint = evicted.is_some_and(|evicted| evicted.reason.as_deref() == Some("DeletionByTaintManager"));
    let said = status.is_some_and(|status| status.reason.as_deref() == Some("NodeLost"));
    let overdue = now.since(deleted) >= OVERDUE;
    (overdue || (said || by_taint) && now > deleted).then_some(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: serde_json::Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "main-0", "uid": "u", "creationTimestamp": "2026-11-21T10:00:00Z"},
            "status": status,
        });
        one(&serde_json::from_value(pod).expect("a pod"), Time(2_000_000_000))
    }

    fn ended(message: &str, ready: bool) -> serde_json::Value {
        let end = json!({"terminated": {"exitCode": 1, "message": message}});
        json!({"containerStatuses": [{
            "name": CONTAINER, "image": "", "imageID": "", "ready": ready, "restartCount": 3, "started": ready,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end,
        }]})
    }

    #[test]
    fn the_last_words_of_a_server_are_its_verdict_while_it_is_down() {
        let removed = "error: the member has been permanently removed from the cluster";
        assert_eq!(pod(ended(removed, false)).verdict, Some(Verdict::Removed));
        assert_eq!(pod(ended(removed, true)).verdict, None);
        assert_eq!(pod(ended("open /etc/tls.crt: no such file", false)).verdict, None);
        assert_eq!(pod(ended("the log is damaged: log/1 at byte 5", false)).verdict, Some(Verdict::Corrupt));
    }

    #[test]
    fn a_pod_that_is_only_ending_has_a_node() {
        let of = |deleted: &str, reason: Option<&str>| {
            let conditions: Vec<_> = reason
                .map(|reason| json!({"type": "DisruptionTarget", "status": "True", "reason": reason}))
                .into_iter()
                .collect();
            let pod = json!({"metadata": {"deletionTimestamp": deleted}, "status": {"conditions": conditions}});
            let pod: Live = serde_json::from_value(pod).expect("a pod");
            node_lost(&pod, version_time("2026-11-21T10:01:00Z"))
        };
        assert!(of("2026-11-21T10:00:30Z", None).is_none());
        assert!(of("2026-11-21T10:00:30Z", Some("DeletionByTaintManager")).is_some());
        assert!(of("2026-11-21T09:58:00Z", None).is_some());
    }

    fn version_time(text: &str) -> Time {
        time(&serde_json::from_value(json!(text)).expect("a time"))
    }
}
