//! How whole objects are written, and how drift is found.
//!
//! An object is created where there was none, and else applied on the condition that it is still the one that was seen: two
//! operators never write over each other. What is applied carries the hash of itself, so that a field which is no longer
//! wanted is found missing from the wish, not only a wish missing from the object.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::api::{Api, ApiError, uid, version};
use super::kind::{Kind, Name};
use crate::objects::FIELD_MANAGER;
use crate::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// On every object that is written whole: the hash of what was asked for.
const APPLIED: &str = "keepstone.io/applied";

/// What is asked for, ready to be written.
#[must_use]
pub fn wanted(object: &impl Serialize) -> Value {
    let mut object = serde_json::to_value(object).expect("an object is JSON");
    let hash: String = Sha256::digest(object.to_string()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    object["metadata"]["annotations"][APPLIED] = json!(hash);
    object
}

/// Whether an object is as it is asked for: all that was asked for is in it, and it was asked for nothing else.
#[must_use]
pub fn current(wanted: &Value, live: &Value) -> bool {
    drift(wanted, live).is_none()
}

/// Where an object is not as it is asked for, the first of such places. What the server has filled in besides is no matter.
#[must_use]
pub fn drift(wanted: &Value, live: &Value) -> Option<String> {
    let below = |key: &str, rest: String| Some(format!("/{key}{rest}"));
    match (wanted, live) {
        (Value::Object(wanted), live) => wanted.iter().find_map(|(key, value)| match live.get(key) {
            Some(live) => drift(value, live).and_then(|rest| below(key, rest)),
            None => (!is_nothing(value)).then(|| format!("/{key}")),
        }),
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            let pairs = wanted.iter().zip(live).enumerate();
            let mut pairs = pairs.map(|(n, (wanted, live))| (n.to_string(), drift(wanted, live)));
            pairs.find_map(|(n, rest)| below(&n, rest?))
        }
        (Value::String(wanted), Value::String(live)) if same_amount(wanted, live) => None,
        (wanted, live) => (wanted != live).then(String::new),
    }
}

/// The server leaves out what is empty.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(list) => list.is_empty(),
        Value::Bool(value) => !value,
        _ => false,
    }
}

/// The server writes amounts its own way.
fn same_amount(wanted: &str, live: &str) -> bool {
    let bytes = |text: &str| quantity::bytes(&Quantity(text.to_owned()));
    bytes(wanted).is_some_and(|amount| Some(amount) == bytes(live))
}

/// Makes an object what is asked for, if it is still as it was seen.
///
/// # Errors
/// As the API server has them.
pub async fn put(api: &impl Api, kind: Kind, wanted: &Value, live: Option<&Value>) -> Result<Value, ApiError> {
    let Some(live) = live else { return api.create(kind, wanted).await };
    let adopted = adopt(api, kind, live).await?;
    let live = adopted.as_ref().unwrap_or(live);
    let mut wanted = wanted.clone();
    wanted["metadata"]["uid"] = json!(uid(live));
    wanted["metadata"]["resourceVersion"] = json!(version(live));
    api.apply(kind, &wanted).await
}

/// What was created is owned as if it had been updated: an apply would leave in it what it no longer asks for. So the
/// entry is made one of an apply, as kubectl does.
async fn adopt(api: &impl Api, kind: Kind, live: &Value) -> Result<Option<Value>, ApiError> {
    let Some(entries) = live.pointer("/metadata/managedFields").and_then(Value::as_array) else { return Ok(None) };
    let ours = |entry: &Value| entry["manager"] == FIELD_MANAGER && entry.get("subresource").is_none();
    let made = |entry: &Value| ours(entry) && entry["operation"] == "Update";
    if !entries.iter().any(made) || entries.iter().any(|entry| ours(entry) && entry["operation"] == "Apply") {
        return Ok(None);
    }
    let mut entries = entries.clone();
    entries.iter_mut().filter(|entry| made(entry)).for_each(|entry| entry["operation"] = json!("Apply"));
    let patch = json!({
        "metadata": {"uid": uid(live), "resourceVersion": version(live), "managedFields": entries},
    });
    api.merge(kind, &name(live), false, &patch).await.map(Some)
}

#[must_use]
pub fn name(object: &Value) -> Name {
    Name::new(super::api::text(object, "/metadata/namespace"), super::api::text(object, "/metadata/name"))
}

/// The JSON merge patch that makes `new` of `old`; empty where they are the same.
#[must_use]
pub fn difference(old: &Value, new: &Value) -> Value {
    let mut patch = Map::new();
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() && value.is_object() => {
                patch.insert(key.clone(), difference(before, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_fills_in_is_no_drift() {
        let wanted = json!({"spec": {"ports": [{"port": 1}], "selector": null, "size": "1024Mi", "off": false}});
        let live = json!({"spec": {"ports": [{"port": 1, "protocol": "TCP"}], "size": "1Gi", "clusterIP": "10.0.0.1"}});
        assert!(current(&wanted, &live));
        for (field, other) in [("ports", json!([{"port": 2}])), ("ports", json!([])), ("size", json!("2Gi"))] {
            let mut changed = live.clone();
            changed["spec"][field] = other;
            assert!(!current(&wanted, &changed), "{field}");
        }
    }

    #[test]
    fn what_is_no_longer_asked_for_is_drift() {
        let before = wanted(&json!({"metadata": {}, "spec": {"a": 1, "b": 2}}));
        let after = wanted(&json!({"metadata": {}, "spec": {"a": 1}}));
        assert!(current(&before, &before) && !current(&after, &before));
    }

    #[test]
    fn a_difference_takes_away_what_is_gone() {
        let old = json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 1});
        let new = json!({"a": {"b": 1, "f": 3}, "d": [2], "e": 1});
        assert_eq!(difference(&old, &new), json!({"a": {"c": null, "f": 3}, "d": [2]}));
        assert_eq!(difference(&new, &new), json!({}));
    }
}
