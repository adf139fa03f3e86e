//! The objects around the members, as they should be and as they are.

use keepstone_operator_plan::observed::{Objects as Seen, Seen as Maybe, Surface};
use serde_json::Value;

use super::{Objects, at};
use crate::Blueprint;
use crate::controller::api::Api;
use crate::controller::kind::Kind;
use crate::controller::write::{self, current, wanted};
use crate::objects::client_service::Door;
use crate::objects::{
    certificate, client_service, network_policy, peers_service, pod_monitor, prometheus_rule, service_account,
};

/// All but the StatefulSet and the PodDisruptionBudget, which have acts of their own.
#[must_use]
pub fn all(b: &Blueprint, door: Door) -> Vec<(Kind, Value)> {
    let mut all = vec![
        (Kind::ServiceAccount, wanted(&service_account::build(b))),
        (Kind::Service, wanted(&peers_service::build(b))),
        (Kind::Service, wanted(&client_service::build(b, door))),
        (Kind::NetworkPolicy, wanted(&network_policy::build(b))),
    ];
    all.extend(pod_monitor::build(b).map(|object| (Kind::PodMonitor, wanted(&object))));
    all.extend(prometheus_rule::build(b).map(|object| (Kind::PrometheusRule, wanted(&object))));
    let certificates = Surface::ALL.into_iter().filter_map(|surface| certificate::build(b, surface));
    all.extend(certificates.map(|object| (Kind::Certificate, wanted(&object))));
    all
}

/// Those that are not there, or not as they should be.
#[must_use]
pub fn drifted(b: &Blueprint, objects: &Objects) -> Vec<(Kind, Value)> {
    let stale = |(kind, object): &(Kind, Value)| {
        let live = objects.get(*kind, &write::name(object).name);
        live.is_none_or(|live| !current(object, live))
    };
    all(b, door(b, objects)).into_iter().filter(stale).collect()
}

/// As the client Service has it now.
#[must_use]
pub fn door(b: &Blueprint, objects: &Objects) -> Door {
    let service = objects.get(Kind::Service, &b.names.client());
    let selects = service.and_then(|service| service.pointer("/spec/selector")).and_then(Value::as_object);
    if selects.is_some_and(|labels| !labels.is_empty()) { Door::Open } else { Door::Shut }
}

/// Kinds that are there only where somebody installed them: asked for only where they are wanted.
pub async fn extras(api: &impl Api, b: &Blueprint, objects: &mut Objects, kind: Kind) {
    for (_, object) in all(b, Door::Shut).into_iter().filter(|(k, _)| *k == kind) {
        let name = at(b, &write::name(&object).name);
        match api.get(kind, &name).await {
            Ok(Some(live)) => {
                objects.all.insert((kind, name.name), live);
            }
            Ok(None) => {}
            Err(why) => tracing::warn!(%kind, %name, %why, "an object could not be read"),
        }
    }
}

#[must_use]
pub fn judge(b: &Blueprint, objects: &Objects) -> Maybe<Seen> {
    let kinds = [Kind::ServiceAccount, Kind::Service, Kind::NetworkPolicy, Kind::Budget];
    if kinds.iter().any(|kind| objects.unknown.contains(kind)) {
        return Maybe::Unknown;
    }
    let budget = objects.get(Kind::Budget, &b.names.main());
    let min_available = budget.map(|budget| {
        let number = budget.pointer("/spec/minAvailable").and_then(Value::as_u64);
        let number = number.and_then(|number| u32::try_from(number).ok()).unwrap_or(u32::MAX);
        // One that was changed by hand has to be written anew, and counts as none of any number.
        let whole = number <= 9 && current(&wanted(&crate::objects::disruption_budget::build(b, number)), budget);
        if whole { number } else { u32::MAX }
    });
    Maybe::Known(Seen { current: drifted(b, objects).is_empty(), open: door(b, objects) == Door::Open, min_available })
}
