//! The PodDisruptionBudget: how many members have to stay when nodes are drained. A number, never a share: a share is
//! counted anew as members leave, and a drain takes one after the other.
//!
//! It selects all members, yet only voters count: a learner is never ready.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Blueprint;

/// `min_available` is a quorum of the voters there are, or will be, whichever is more.
#[must_use]
pub fn build(b: &Blueprint, min_available: u32) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: b.metadata(b.names.main()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(min_available).expect("nine at most"))),
            selector: Some(LabelSelector { match_labels: Some(b.names.selector()), ..LabelSelector::default() }),
            // A pod that is not ready is not counted as there: it need not hold up a drain either.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
