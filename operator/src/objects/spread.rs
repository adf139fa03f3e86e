//! Where pods may run: never two members on one node, and in as many zones as can be. Who says otherwise is not overruled.

use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm, PodAntiAffinity, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::Blueprint;

const NODE: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The user's, where there are any, if only an empty list. One that doesn't say what is spread is about members.
#[must_use]
pub fn constraints(b: &Blueprint) -> Option<Vec<TopologySpreadConstraint>> {
    match &b.spec.pod_template.spec.topology_spread_constraints {
        Some(given) => {
            let mut given = given.clone();
            for one in &mut given {
                one.label_selector.get_or_insert_with(|| members(b));
            }
            Some(given).filter(|all| !all.is_empty())
        }
        None => Some(vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: ZONE.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(members(b)),
            ..TopologySpreadConstraint::default()
        }]),
    }
}

/// A spread constraint would let a second member onto a node as soon as each has one; this doesn't.
#[must_use]
pub fn affinity(b: &Blueprint) -> Option<Affinity> {
    let given = &b.spec.pod_template.spec;
    if given.topology_spread_constraints.is_some() {
        return given.affinity.clone();
    }
    let mut affinity = given.affinity.clone().unwrap_or_default();
    let apart = affinity.pod_anti_affinity.get_or_insert_with(PodAntiAffinity::default);
    let term = PodAffinityTerm {
        label_selector: Some(members(b)),
        topology_key: NODE.to_owned(),
        ..PodAffinityTerm::default()
    };
    apart.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(term);
    Some(affinity)
}

fn members(b: &Blueprint) -> LabelSelector {
    LabelSelector { match_labels: Some(b.names.selector()), ..LabelSelector::default() }
}
