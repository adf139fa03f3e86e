//! The fence: a ConfigMap that every pod mounts, with the names of members that must not start. It is there only while
//! there are any.
//!
//! A kubelet reads it anew for every pod that it starts. A member that runs is not held by it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;
use keepstone_operator_plan::ids::Ordinal;

use crate::Blueprint;
use crate::names::Names;
use crate::objects::mounts::FENCE_KEY;

/// A ConfigMap that names something else than this cluster's places. It may mean anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the fence names {0:?}, which is no member of this cluster")]
pub struct NoFence(pub String);

/// None where nobody is fenced: then there is to be none.
#[must_use]
pub fn build(b: &Blueprint, fenced: &BTreeSet<Ordinal>) -> Option<ConfigMap> {
    let names: String = fenced.iter().map(|place| b.names.pod(*place) + "\n").collect();
    (!fenced.is_empty()).then(|| ConfigMap {
        metadata: b.metadata(b.names.fence()),
        data: Some([(FENCE_KEY.to_owned(), names)].into()),
        ..ConfigMap::default()
    })
}

/// The places that a ConfigMap fences.
///
/// # Errors
/// A name that is no place of this cluster.
pub fn read(names: &Names, map: &ConfigMap) -> Result<BTreeSet<Ordinal>, NoFence> {
    let text = map.data.as_ref().and_then(|data| data.get(FENCE_KEY)).map_or("", String::as_str);
    let named = text.lines().map(str::trim).filter(|line| !line.is_empty());
    named.map(|line| names.ordinal(line).ok_or_else(|| NoFence(line.to_owned()))).collect()
}
