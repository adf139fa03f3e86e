//! The world's pods, claims and orders as an API server gives them.

use keepstone_operator::Settings;
use keepstone_operator::blueprint::OperatorPods;
use keepstone_operator::controller::kind::Kind;
use keepstone_operator::controller::look::claims::LEFT_ANNOTATION;
use keepstone_operator::convert::desired::rule_of;
use keepstone_operator::convert::order::member_name;
use keepstone_operator::convert::text::{hex, stamp};
use keepstone_operator::names::Names;
use keepstone_operator::objects::pod::{CONFIG_ANNOTATION, CONTAINER, VERSION_ANNOTATION};
use keepstone_operator::objects::stateful_set::OWNER_ANNOTATION;
use keepstone_operator_api::SCHEDULED_ANNOTATION;
use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{Ordinal, Time};
use keepstone_operator_plan::observed::{Claim, Phase, Pod, Request, Verdict};
use keepstone_operator_plan::operation::Verb;
use keepstone_operator_world::kube::Kind as Made;
use keepstone_operator_world::{FULL, Spec, World};
use serde_json::{Value, json};

use crate::flavour::Flavour;

pub const NAMESPACE: &str = "prod";
pub const CLUSTER: &str = "main";
/// As the world has it.
pub const OWNER: &str = "cluster";
/// Bytes of a unit of storage as the world counts it.
const UNIT: u64 = 10 << 30;
/// Where the configuration that the world knows is written in a template.
pub const CONFIG_LABEL: &str = "config";

/// Of every operator here.
#[must_use]
pub fn settings() -> Settings {
    Settings {
        image: "registry.example/keepstone".to_owned(),
        agent: "registry.example/keepstone-operator:v1".to_owned(),
        domain: "cluster.local".to_owned(),
        operator: OperatorPods { namespace: "system".to_owned(), labels: Vec::new() },
    }
}

#[must_use]
pub fn names() -> Names {
    Names { cluster: CLUSTER.to_owned(), namespace: NAMESPACE.to_owned(), domain: "cluster.local".to_owned() }
}

#[must_use]
pub fn time(at: u64) -> Value {
    serde_json::to_value(stamp(Time(at))).expect("a time is JSON")
}

#[must_use]
pub fn version(made: Made) -> String {
    made.version().to_string()
}

/// What a template that was written is of.
#[must_use]
pub fn made(template: &Value) -> Option<Made> {
    let config = template.pointer("/metadata/labels")?.get(CONFIG_LABEL)?.as_str()?.strip_prefix('c')?.parse().ok()?;
    let version = template.pointer("/metadata/annotations")?.get(VERSION_ANNOTATION)?.as_str()?;
    let minor = version.strip_prefix("v1.")?.strip_suffix(".0")?.parse().ok()?;
    Some(Made { config, minor })
}

/// The world's units of so many bytes.
#[must_use]
pub fn units(bytes: u64) -> u64 {
    bytes / UNIT
}

fn size(units: u64) -> String {
    format!("{}Gi", (units * UNIT) >> 30)
}

/// What new claims of a StatefulSet ask for, in units.
#[must_use]
pub fn storage(set: &Value) -> u64 {
    let asked = set.pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage").and_then(Value::as_str);
    let gi: Option<u64> = asked.and_then(|text| text.strip_suffix("Gi")).and_then(|text| text.parse().ok());
    gi.map_or(1, |gi| units(gi << 30))
}

#[must_use]
pub fn cluster_spec(world: &World, tls: bool, flavour: Flavour) -> Value {
    let mut spec = plain_spec(&world.spec);
    if tls {
        spec["tls"] = json!({"provider": "auto", "providerCfg": {"autoCfg": {"validityDuration": "365d"}}});
    }
    if flavour.upkeep {
        spec["quotaBackendBytes"] = json!(FULL.to_string());
        spec["maintenance"] = json!({
            "compact": {"schedule": "*/20 * * * *", "keep": {"revisions": 100}},
            "defragment": {"schedule": "10 * * * *"},
        });
    }
    if world.storage > 1 {
        spec["storageSpec"] = json!({"volumeSizeRequest": size(world.storage)});
    }
    if world.paused {
        spec["paused"] = json!(true);
    }
    if world.garbled {
        spec["maintenance"] = json!({"compact": {"schedule": "now and then", "keep": {"revisions": 1}}});
    }
    if flavour.automatic {
        spec["recovery"] = json!({"quorumLoss": {"mode": "Automatic", "after": "5m"}});
    }
    if flavour.from_backup {
        spec["bootstrap"] = json!({"restore": {"from": stored()}});
    }
    if flavour.backups {
        spec["backup"] = json!({
            "full": {"schedule": "*/15 * * * *"},
            "store": {"pvc": {"claimName": "backups"}},
            "retention": {"keepLast": KEPT},
        });
    }
    spec["deletionPolicy"] = json!(if world.keep_claims { "Retain" } else { "Delete" });
    spec
}

/// Backups of the schedule that are kept.
pub const KEPT: usize = 2;

/// A backup that is there.
fn stored() -> Value {
    json!({"object": {"store": {"pvc": {"claimName": "backups"}}, "key": "before.db"}})
}

fn plain_spec(spec: &Spec) -> Value {
    json!({
        "size": spec.size,
        "version": version(spec.kind),
        "hibernate": spec.hibernate,
        "tls": {"provider": "disabled"},
        "podTemplate": {"metadata": {"labels": {CONFIG_LABEL: format!("c{}", spec.kind.config)}}},
        "updateStrategy": {"pauseBetween": "0s", "allowDowngrade": true},
    })
}

/// `config` is the hash that pods of its kind have; `over` says that its node was shut down.
#[must_use]
pub fn pod(n: Ordinal, pod: &Pod, config: &str, version: &str, over: bool) -> Value {
    let words = match pod.verdict {
        Some(Verdict::DataLost) => "member 5 already started with another data directory",
        Some(Verdict::Removed) => "the member has been permanently removed from the cluster",
        Some(Verdict::Corrupt) => "the log is damaged: log/1 at byte 5",
        None => "",
    };
    let mut conditions = vec![json!({
        "type": "Ready", "status": if pod.ready { "True" } else { "False" },
        "lastTransitionTime": time(pod.ready_changed.0),
    })];
    let names = names();
    let mut metadata = json!({
        "namespace": NAMESPACE,
        "name": names.pod(n),
        "uid": &*pod.uid.0,
        "creationTimestamp": time(pod.created.0),
        "labels": names.selector(),
        "annotations": {CONFIG_ANNOTATION: config, VERSION_ANNOTATION: version},
    });
    if pod.terminating {
        // The kubelet that is there ends it in time.
        metadata["deletionTimestamp"] = time(pod.created.0 + 1_000_000_000);
    }
    if let Some(since) = pod.node_lost {
        metadata["deletionTimestamp"] = time(since.0.saturating_sub(1));
        conditions.push(json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "status": {
            "phase": if over { "Succeeded" } else { "Running" },
            "conditions": conditions,
            "containerStatuses": [{
                "name": CONTAINER, "image": "", "imageID": "",
                "started": pod.started, "ready": pod.ready, "restartCount": pod.restarts,
                "lastState": {"terminated": {"exitCode": 1, "message": words}},
            }],
        },
    })
}

#[must_use]
pub fn claim(n: Ordinal, claim: &Claim) -> Value {
    let names = names();
    let mut annotations = json!({OWNER_ANNOTATION: &*claim.owner.0});
    if let Some(member) = &claim.left {
        annotations[LEFT_ANNOTATION] = json!(member.map_or_else(String::new, |id| id.to_string()));
    }
    let mut metadata = json!({
        "namespace": NAMESPACE,
        "name": names.claim(n),
        "uid": &*claim.uid.0,
        "labels": names.selector(),
        "annotations": annotations,
    });
    if claim.terminating {
        metadata["deletionTimestamp"] = time(1);
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {"resources": {"requests": {"storage": size(claim.request)}}},
        "status": {"capacity": {"storage": size(claim.capacity)}},
    })
}

/// The orders that the simulation gives.
#[must_use]
pub fn order(request: &Request) -> Value {
    let member = |n: &Ordinal| member_name(CLUSTER, *n);
    let mut spec = json!({"clusterRef": {"name": CLUSTER}, "ttlSecondsAfterFinished": 1_000_000_000});
    match &request.verb {
        Verb::MoveLeader { to } => spec["moveLeader"] = json!({"to": to.as_ref().map(member)}),
        Verb::ReplaceMember { ordinal } => spec["replaceMember"] = json!({"member": member(ordinal)}),
        Verb::RestartMembers { members } => {
            spec["restartMembers"] = json!({"members": members.iter().map(member).collect::<Vec<_>>()});
        }
        Verb::Defragment { members, rule } => {
            let members: Vec<_> = members.iter().map(member).collect();
            spec["defragment"] = json!({"members": members, "rule": rule.as_ref().map(rule_of)});
        }
        Verb::Compact { revision } => spec["compact"] = json!({"revision": revision.0}),
        Verb::DisarmAlarm { alarm, .. } => {
            let name = if *alarm == Alarm::Corrupt { "CORRUPT" } else { "NOSPACE" };
            spec["disarmAlarm"] = json!({"alarm": name});
        }
        Verb::RecoverQuorum { survivor, confirm } => {
            let confirm = format!("{CLUSTER}/{}", hex(confirm.0));
            spec["recoverQuorum"] = json!({"survivor": member(survivor), "confirm": confirm});
        }
        Verb::Restore { save, confirm, .. } => {
            let confirm = format!("{CLUSTER}/{}", hex(confirm.0));
            spec["restore"] = json!({"from": stored(), "snapshotCurrentFirst": save, "confirm": confirm});
        }
    }
    let phase = match request.phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    };
    let mut metadata = json!({
        "namespace": NAMESPACE, "name": &*request.name, "uid": &*request.uid.0, "generation": 1,
        "creationTimestamp": time(request.created.0),
    });
    if let Some(scheduled) = request.scheduled {
        metadata["annotations"] = json!({SCHEDULED_ANNOTATION: time(scheduled.0)});
    }
    json!({
        "apiVersion": Kind::Operation.api_version(),
        "kind": "EtcdOperation",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": phase},
    })
}

/// Whether pods of it ever start.
#[must_use]
pub fn starts(made: Made) -> bool {
    made.starts()
}
