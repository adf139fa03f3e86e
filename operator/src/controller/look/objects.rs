//! The objects around the members, as they should be and as they are.

use keepstone_operator_plan::observed::{Objects as Seen, Seen as Maybe, Surface};
use serde_json::Value;

use super::{Objects, at};
use crate::Blueprint;
use crate::controller::api::{Api, uid};
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
    let trust = objects.trust.clone().map(|object| (Kind::ConfigMap, object));
    all(b, door(b, objects)).into_iter().chain(trust).filter(stale).collect()
}

/// Kinds that the spec may ask for no longer.
const SWITCHED: [Kind; 2] = [Kind::PodMonitor, Kind::PrometheusRule];

/// Those that were made for this cluster, and that nobody asks for any more.
#[must_use]
pub fn superfluous<'a>(b: &Blueprint, objects: &'a Objects) -> Vec<(Kind, &'a Value)> {
    let wanted = all(b, Door::Shut);
    let asked = |kind| wanted.iter().any(|(k, _)| *k == kind);
    let ours = |object: &Value| {
        let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        owners.into_iter().flatten().any(|owner| owner["uid"] == uid(&objects.cluster))
    };
    let there = SWITCHED.into_iter().filter(|kind| !asked(*kind)).filter_map(|kind| {
        let object = objects.get(kind, &b.names.main())?;
        ours(object).then_some((kind, object))
    });
    there.collect()
}

/// As the client Service has it now.
#[must_use]
pub fn door(b: &Blueprint, objects: &Objects) -> Door {
    let service = objects.get(Kind::Service, &b.names.client());
    let selects = service.and_then(|service| service.pointer("/spec/selector")).and_then(Value::as_object);
    if selects.is_some_and(|labels| !labels.is_empty()) { Door::Open } else { Door::Shut }
}

/// Kinds that are there only where somebody installed them. What is not wanted is looked for too, as it may have been; where
/// the operator has no right to see it, it made none.
pub async fn extras(api: &impl Api, b: &Blueprint, objects: &mut Objects, kind: Kind) {
    let wanted = all(b, Door::Shut).into_iter().filter(|(k, _)| *k == kind);
    let wanted: Vec<_> = wanted.map(|(_, object)| write::name(&object).name).collect();
    let once = (wanted.is_empty() && SWITCHED.contains(&kind)).then(|| b.names.main());
    for name in wanted.iter().chain(&once) {
        let name = at(b, name);
        match api.get(kind, &name).await {
            Ok(Some(live)) => {
                objects.all.insert((kind, name.name), live);
            }
            Ok(None) => {}
            Err(why) if once.is_some() => tracing::debug!(%kind, %name, %why, "what is not wanted could not be read"),
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
    let current = drifted(b, objects).is_empty() && superfluous(b, objects).is_empty();
    Maybe::Known(Seen { current, open: door(b, objects) == Door::Open, min_available })
}
