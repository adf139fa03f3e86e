//! Why pods don't run, in their kubelets' and their servers' words: for people. The planner decides nothing by it.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use keepstone_operator_api::Reason;
use keepstone_operator_plan::condition::{Condition, ConditionType, Truth};

use super::Objects;
use crate::Blueprint;
use crate::controller::api::typed;
use crate::controller::kind::Kind;
use crate::objects::pod::CONTAINER;

/// So many are told of; the rest is mostly the same again.
const TOLD: usize = 3;
/// Characters of somebody else's words.
const WORDS: usize = 240;
/// What a kubelet calls it. It goes to and fro between them, and a message that does too would be written each time.
const NOT_PULLED: &[&str] = &["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Reason,
    /// With the pod's name.
    pub text: String,
}

/// Of members' pods, by name.
#[must_use]
pub fn all(b: &Blueprint, objects: &Objects) -> Vec<Trouble> {
    let pods = objects.of(Kind::Pod).filter_map(|object| typed::<Pod>(object).ok());
    let mut ours: Vec<_> =
        pods.filter_map(|pod| Some((b.names.ordinal(pod.metadata.name.as_deref()?)?, pod))).collect();
    ours.sort_by_key(|(ordinal, _)| *ordinal);
    ours.into_iter()
        .filter_map(|(ordinal, pod)| {
            let (reason, text) = of(&pod)?;
            Some(Trouble { reason, text: format!("{} {text}", b.names.pod(ordinal)) })
        })
        .collect()
}

/// Adds it to what says that something is under way or amiss, and names the reason more closely.
#[must_use]
pub fn told(conditions: &[Condition], troubles: &[Trouble]) -> Vec<Condition> {
    let words: Vec<_> = troubles.iter().take(TOLD).map(|trouble| trouble.text.as_str()).collect();
    let mut conditions = conditions.to_vec();
    let Some(first) = troubles.first() else { return conditions };
    for one in &mut conditions {
        let amiss =
            matches!(one.kind, ConditionType::Degraded | ConditionType::Progressing) && one.truth == Truth::True;
        if amiss {
            let before = if one.message.is_empty() { String::new() } else { format!("{}; ", one.message) };
            one.message = format!("{before}{}", words.join("; "));
        }
        if one.reason == Reason::MemberUnhealthy {
            one.reason = first.reason;
        }
    }
    conditions
}

fn of(pod: &Pod) -> Option<(Reason, String)> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let scheduled = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    if let Some(why) = scheduled.filter(|it| it.status == "False" && it.reason.as_deref() == Some("Unschedulable")) {
        return Some((Reason::Unschedulable, format!("finds no node: {}", cut(why.message.as_deref().unwrap_or("")))));
    }
    let container = status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER)?;
    if container.ready {
        return None;
    }
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let why = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    match why {
        why if NOT_PULLED.contains(&why) => {
            Some((Reason::ImagePullFailed, format!("can't pull image {}", container.image)))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
            Some((Reason::MemberUnhealthy, format!("can't start: {}", cut(message))))
        }
        _ => last_words(container).map(|words| (Reason::MemberCrashLooping, format!("ended: {words}"))),
    }
}

/// The last line of a server that ended and was not asked to.
fn last_words(container: &ContainerStatus) -> Option<String> {
    let ended = |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let end = ended(&container.state).or_else(|| ended(&container.last_state)).filter(|end| end.exit_code != 0)?;
    let line =
        end.message.as_deref().unwrap_or_default().lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
    Some(cut(&line.or(end.reason).unwrap_or_else(|| format!("exit code {}", end.exit_code))))
}

fn cut(words: &str) -> String {
    words.trim().chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: serde_json::Value) -> Option<(Reason, String)> {
        of(&serde_json::from_value(json!({"metadata": {"name": "main-0"}, "status": status})).expect("a pod"))
    }

    fn container(state: serde_json::Value, last: serde_json::Value) -> serde_json::Value {
        json!({"containerStatuses": [{
            "name": CONTAINER, "image": "registry/keepstone:v9", "imageID": "", "ready": false, "restartCount": 3,
            "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn an_image_that_cannot_be_pulled_reads_the_same_while_the_kubelet_waits_and_tries() {
        let of = |why: &str| pod(container(json!({"waiting": {"reason": why, "message": why}}), json!({})));
        assert_eq!(of("ErrImagePull"), of("ImagePullBackOff"));
        let told = of("ErrImagePull").expect("trouble");
        assert_eq!(told, (Reason::ImagePullFailed, "can't pull image registry/keepstone:v9".to_owned()));
    }

    #[test]
    fn the_last_line_of_a_server_that_fails_is_told() {
        let end = json!({"terminated": {"exitCode": 1, "message": "starting\nerror: --quota is no number\n"}});
        for (state, last) in
            [(json!({"waiting": {"reason": "CrashLoopBackOff"}}), end.clone()), (end.clone(), json!({}))]
        {
            let told = pod(container(state, last)).expect("trouble");
            assert_eq!(told, (Reason::MemberCrashLooping, "ended: error: --quota is no number".to_owned()));
        }
        let asked = json!({"terminated": {"exitCode": 0}});
        assert_eq!(pod(container(json!({"running": {}}), asked)), None);
    }

    #[test]
    fn a_pod_without_a_node_is_told_of_where_something_is_under_way() {
        let why = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"});
        let (reason, text) = pod(json!({"conditions": [why]})).expect("trouble");
        assert_eq!((reason, text.as_str()), (Reason::Unschedulable, "finds no node: 0/3 nodes"));
        let condition = |kind, truth, reason| Condition { kind, truth, reason, message: "waits".to_owned() };
        let told = told(
            &[
                condition(ConditionType::Available, Truth::True, Reason::QuorumAvailable),
                condition(ConditionType::Progressing, Truth::True, Reason::ScalingUp),
                condition(ConditionType::Degraded, Truth::True, Reason::MemberUnhealthy),
            ],
            &[Trouble { reason, text: format!("main-3 {text}") }],
        );
        let texts: Vec<_> = told.iter().map(|it| (it.reason, it.message.as_str())).collect();
        let whole = "waits; main-3 finds no node: 0/3 nodes";
        assert_eq!(
            texts,
            [(Reason::QuorumAvailable, "waits"), (Reason::ScalingUp, whole), (Reason::Unschedulable, whole)]
        );
    }
}
