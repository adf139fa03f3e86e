//! Members' volume claims: those for the data. Those for the log, where there are any, go the same way at the same place.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use keepstone_operator_plan::ids::{MemberId, Ordinal};
use keepstone_operator_plan::observed::Claim;

use super::Objects;
use crate::Blueprint;
use crate::controller::api::{ApiError, typed};
use crate::controller::kind::Kind;
use crate::convert::text::number;
use crate::objects::mounts::DATA;
use crate::objects::stateful_set::OWNER_ANNOTATION;
use crate::quantity;

/// On a claim that is only kept: which member's data it holds, in hex; empty where nobody knows.
pub const LEFT_ANNOTATION: &str = "keepstone.io/left";

/// # Errors
/// One of them is no claim.
pub fn read(b: &Blueprint, objects: &Objects) -> Result<BTreeMap<Ordinal, Claim>, ApiError> {
    let mut claims = BTreeMap::new();
    for object in objects.of(Kind::Claim) {
        let claim: PersistentVolumeClaim = typed(object)?;
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let pod = name.strip_prefix(DATA).and_then(|rest| rest.strip_prefix('-'));
        if let Some(ordinal) = pod.and_then(|pod| b.names.ordinal(pod)) {
            claims.insert(ordinal, one(&claim));
        }
    }
    Ok(claims)
}

fn one(claim: &PersistentVolumeClaim) -> Claim {
    let (meta, status) = (&claim.metadata, claim.status.clone().unwrap_or_default());
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
    let capacity = status.capacity.as_ref().and_then(|all| all.get("storage")).and_then(quantity::bytes);
    let resizing = status.allocated_resource_statuses.as_ref().and_then(|all| all.get("storage"));
    Claim {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        owner: annotation(OWNER_ANNOTATION).map_or("", String::as_str).into(),
        terminating: meta.deletion_timestamp.is_some(),
        left: annotation(LEFT_ANNOTATION).map(|id| number(LEFT_ANNOTATION, id).ok().map(MemberId)),
        request: request(claim.spec.as_ref()).unwrap_or(0),
        capacity: capacity.unwrap_or(0),
        resize_rejected: resizing.is_some_and(|state| state.ends_with("Infeasible")),
    }
}

/// Bytes that it asks for.
#[must_use]
pub fn request(spec: Option<&PersistentVolumeClaimSpec>) -> Option<u64> {
    spec?.resources.as_ref()?.requests.as_ref()?.get("storage").and_then(quantity::bytes)
}
