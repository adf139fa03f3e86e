//! The permit that lets one pod found the cluster, or go on alone: a ConfigMap that every pod mounts, and that speaks to
//! one. It is deleted as soon as the cluster's ID is written down.
//!
//! A kubelet looks at ConfigMaps about once a minute, and at once when the pod itself changes: [`nudge`] saves the minute.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use keepstone_operator_plan::ids::{Nonce, Ordinal, Uid};
use serde::{Deserialize, Serialize};

use crate::Blueprint;
use crate::names::Names;
use crate::objects::mounts::PERMIT_KEY;

/// On the ConfigMap: the UID of the claim the permit is for, which a server can't know.
const CLAIM_ANNOTATION: &str = "keepstone.io/claim";
/// On a pod: the nonce of the last permit for it.
const PERMIT_ANNOTATION: &str = "keepstone.io/permit";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A cluster of this member alone, in a directory without data.
    Found,
    /// The data that is there, under a new cluster ID and with nobody else.
    ForceNewClusterId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub action: Action,
    pub ordinal: Ordinal,
    /// The pod; none where it will be another by the time it reads this.
    pub pod: Option<Uid>,
    pub claim: Uid,
    /// What the member calls its data directory. With it a permit founds once and not twice, whatever becomes of the disk.
    pub directory: Option<String>,
    pub nonce: Nonce,
}

/// As a member reads it. It takes what it doesn't know for a condition, and refuses.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    action: Action,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    nonce: String,
}

/// Why a ConfigMap is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the permit in ConfigMap {name}: {why}")]
pub struct NoPermit {
    name: String,
    why: String,
}

/// As a member tells the nonce of a permit that it used.
#[must_use]
pub fn nonce_text(nonce: Nonce) -> String {
    format!("{:016x}", nonce.0)
}

/// None where it is no nonce of ours.
#[must_use]
pub fn nonce(text: &str) -> Option<Nonce> {
    u64::from_str_radix(text, 16).ok().map(Nonce).filter(|nonce| nonce_text(*nonce) == text)
}

#[must_use]
pub fn build(b: &Blueprint, permit: &Permit) -> ConfigMap {
    let written = Written {
        action: permit.action,
        name: b.names.pod(permit.ordinal),
        holder: permit.pod.as_ref().map(|uid| uid.0.to_string()),
        directory: permit.directory.clone(),
        nonce: nonce_text(permit.nonce),
    };
    let text = serde_json::to_string(&written).expect("strings are JSON");
    let mut metadata = b.metadata(b.names.permit());
    metadata.annotations = Some([(CLAIM_ANNOTATION.to_owned(), permit.claim.0.to_string())].into());
    ConfigMap { metadata, data: Some([(PERMIT_KEY.to_owned(), text)].into()), ..ConfigMap::default() }
}

/// What an existing ConfigMap permits; none where it is empty.
///
/// # Errors
/// It holds something else: nobody knows then what a member would do with it.
pub fn read(names: &Names, map: &ConfigMap) -> Result<Option<Permit>, NoPermit> {
    let no = |why: &str| NoPermit { name: names.permit(), why: why.to_owned() };
    let Some(text) = map.data.as_ref().and_then(|data| data.get(PERMIT_KEY)).filter(|text| !text.trim().is_empty())
    else {
        return Ok(None);
    };
    let written: Written = serde_json::from_str(text).map_err(|error| no(&error.to_string()))?;
    let claim = map.metadata.annotations.as_ref().and_then(|all| all.get(CLAIM_ANNOTATION));
    Ok(Some(Permit {
        action: written.action,
        ordinal: names.ordinal(&written.name).ok_or_else(|| no("it names no pod of this cluster"))?,
        pod: written.holder.as_deref().map(Uid::from),
        claim: claim.map(|uid| Uid::from(uid.as_str())).ok_or_else(|| no("it names no volume claim"))?,
        directory: written.directory,
        nonce: nonce(&written.nonce).ok_or_else(|| no("its nonce is none of the operator's"))?,
    }))
}

/// What is applied to the pod, so that its kubelet looks at the permit now. With the UID in it it is refused for any
/// other pod of the name.
#[must_use]
pub fn nudge(b: &Blueprint, ordinal: Ordinal, pod: &Uid, nonce: Nonce) -> Pod {
    let annotations: BTreeMap<_, _> = [(PERMIT_ANNOTATION.to_owned(), nonce_text(nonce))].into();
    Pod {
        metadata: ObjectMeta {
            name: Some(b.names.pod(ordinal)),
            namespace: Some(b.names.namespace.clone()),
            uid: Some(pod.0.to_string()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    }
}
