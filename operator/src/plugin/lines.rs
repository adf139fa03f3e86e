//! Members, each with what is known of it from four sides: what it says itself, what the operator last wrote, its pod and
//! its volume. Pure.

use std::collections::BTreeMap;

use keepstone_operator_api::EtcdClusterStatus;
use keepstone_operator_api::status::MemberStatus;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use super::found::Found;
use super::told::Told;
use crate::controller::api::text;
use crate::controller::kind::Kind;
use crate::names::Names;

/// A place of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub health: Health,
    /// Whether it was asked itself, and answered. Else the rest is as the operator last saw it.
    pub answered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_in_use_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raft_applied_index: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Role {
    Leader,
    Voter,
    Learner,
    /// There is a pod or a volume, and nobody of the name in the cluster.
    #[default]
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Health {
    Healthy,
    /// It answers, and knows of no leader.
    NoLeader,
    Unhealthy,
    /// Nobody has seen it.
    #[default]
    Unknown,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// One word, as `kubectl get pods` has it.
    pub state: String,
    pub ready: bool,
    pub restarts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why it does not run, or how it ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    pub name: String,
    pub phase: String,
    /// What it has; what it asks for while it has nothing.
    pub size: String,
    pub deleting: bool,
}

/// All places that have a member, a pod or a volume, in their order.
///
/// # Errors
/// The status is none of an `EtcdCluster`.
pub fn members(found: &Found) -> anyhow::Result<Vec<Line>> {
    let status = found.cluster.get("status").cloned().unwrap_or_else(|| serde_json::json!({}));
    let status = EtcdClusterStatus::deserialize(&status)?;
    let names = Names {
        cluster: text(&found.cluster, "/metadata/name").to_owned(),
        namespace: String::new(),
        domain: String::new(),
    };
    let mut places = Places { names, lines: BTreeMap::new() };
    for member in &status.members {
        places.lines.insert(places.key(&member.name), recorded(member));
    }
    for object in found.of(Kind::Pod) {
        if let Some(line) = places.at(text(object, "/metadata/name")) {
            line.pod = Some(pod(object));
        }
    }
    for object in found.of(Kind::Claim) {
        let of = text(object, "/metadata/name").strip_prefix("data-").unwrap_or_default();
        if let Some(line) = places.at(of) {
            line.claim = Some(claim(object));
        }
    }
    for (name, told) in &found.told {
        if let (Some(line), Ok(told)) = (places.at(name), told) {
            hear(line, told);
        }
    }
    Ok(places.lines.into_values().collect())
}

struct Places {
    names: Names,
    lines: BTreeMap<(u32, String), Line>,
}

impl Places {
    /// Those without a place come last.
    fn key(&self, pod: &str) -> (u32, String) {
        (self.names.ordinal(pod).map_or(u32::MAX, |n| n.0), pod.to_owned())
    }

    /// The line of a pod, where it is one of a member.
    fn at(&mut self, pod: &str) -> Option<&mut Line> {
        self.names.ordinal(pod)?;
        let line = self.lines.entry(self.key(pod)).or_default();
        pod.clone_into(&mut line.name);
        Some(line)
    }
}

fn recorded(member: &MemberStatus) -> Line {
    Line {
        name: member.name.clone(),
        id: member.id.clone(),
        role: match (member.is_leader, member.is_learner) {
            (true, _) => Role::Leader,
            (_, true) => Role::Learner,
            _ => Role::Voter,
        },
        version: member.version.clone(),
        health: if member.is_healthy { Health::Healthy } else { Health::Unhealthy },
        db_size_bytes: member.db_size_bytes,
        db_size_in_use_bytes: member.db_size_in_use_bytes,
        raft_applied_index: member.raft_applied_index,
        alarms: member.alarms.iter().map(word).collect(),
        ..Line::default()
    }
}

fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// What a member says now goes before what was written of it. One that is no member yet says nothing of a role.
fn hear(line: &mut Line, told: &Told) {
    let Some(id) = &told.member_id else { return };
    line.answered = true;
    line.id = Some(id.clone());
    line.role = match (told.leads, told.learner) {
        (true, _) => Role::Leader,
        (_, true) => Role::Learner,
        _ => Role::Voter,
    };
    line.health = if told.has_leader { Health::Healthy } else { Health::NoLeader };
    line.version = told.version.clone().or(line.version.take());
    line.db_size_bytes = told.db_size_bytes.or(line.db_size_bytes);
    line.db_size_in_use_bytes = told.db_size_in_use_bytes.or(line.db_size_in_use_bytes);
    line.raft_applied_index = told.raft_applied_index.or(line.raft_applied_index);
}

fn pod(object: &Value) -> Pod {
    let containers = object.pointer("/status/containerStatuses").and_then(Value::as_array);
    let containers = || containers.into_iter().flatten();
    let restarts = containers().filter_map(|one| one["restartCount"].as_i64()).sum();
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let condition =
        |kind: &str| conditions.into_iter().flatten().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    let waiting = containers().find_map(|one| one.pointer("/state/waiting"));
    let ended = containers().find_map(|one| one.pointer("/lastState/terminated").or(one.pointer("/state/terminated")));
    let unscheduled = condition("PodScheduled");
    let phase = Some(text(object, "/status/phase")).filter(|phase| !phase.is_empty()).unwrap_or("Pending");
    let state = if object.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else if let Some(reason) = waiting.map(|it| text(it, "/reason")).filter(|it| !it.is_empty()) {
        reason
    } else if unscheduled["status"] == "False" {
        "Unschedulable"
    } else {
        phase
    };
    let ready = condition("Ready")["status"] == "True";
    Pod {
        state: state.to_owned(),
        ready,
        restarts,
        node: Some(text(object, "/spec/nodeName").to_owned()).filter(|node| !node.is_empty()),
        trouble: if ready { None } else { trouble(&unscheduled, waiting, ended) },
    }
}

fn trouble(unscheduled: &Value, waiting: Option<&Value>, ended: Option<&Value>) -> Option<String> {
    let mut words = Vec::new();
    if unscheduled["status"] == "False" {
        words.push(text(unscheduled, "/message").to_owned());
    }
    words.extend(waiting.map(|it| text(it, "/message").to_owned()));
    words.extend(ended.map(|it| {
        let code = it["exitCode"].as_i64().unwrap_or_default();
        format!("ended with {code} ({}) {}", text(it, "/reason"), text(it, "/message"))
    }));
    let words: Vec<_> = words.iter().map(|one| super::text::line(one)).filter(|one| !one.is_empty()).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn claim(object: &Value) -> Claim {
    let asked = text(object, "/spec/resources/requests/storage");
    let has = text(object, "/status/capacity/storage");
    Claim {
        name: text(object, "/metadata/name").to_owned(),
        phase: text(object, "/status/phase").to_owned(),
        size: if has.is_empty() { asked.to_owned() } else { has.to_owned() },
        deleting: object.pointer("/metadata/deletionTimestamp").is_some(),
    }
}
