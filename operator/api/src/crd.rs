//! The CRDs as they are applied: what the types say, made fit for an API server, with the rules put in.
//!
//! No field may be null: the API server then drops a null before it fills in defaults, so that `tls:` with nothing after
//! it means the default.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use crate::rules::{RULES, Rule};
use crate::{EtcdBackup, EtcdCluster, EtcdOperation};

/// What a quantity looks like, such as `10Gi` or `0.5`.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Longer descriptions are those of Kubernetes' own types; they would make up most of the file.
const FOREIGN: &[&str] = &[
    "/spec/properties/podTemplate/properties/spec/properties/affinity",
    "/spec/properties/podTemplate/properties/spec/properties/tolerations",
    "/spec/properties/podTemplate/properties/spec/properties/topologySpreadConstraints",
    "/spec/properties/podTemplate/properties/spec/properties/resources",
];

/// All CRDs, in the order they are applied.
///
/// # Panics
/// When a rule stands where the types have nothing; a test tries.
#[must_use]
pub fn all() -> Vec<Value> {
    [EtcdCluster::crd(), EtcdBackup::crd(), EtcdOperation::crd()].iter().map(finished).collect()
}

/// A file's name and contents, for each CRD.
///
/// # Errors
/// When it can't be written as YAML.
pub fn files() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    all().iter().map(|crd| Ok((file_name(crd), yaml(crd)?))).collect()
}

fn file_name(crd: &Value) -> String {
    format!("{}.yaml", crd["metadata"]["name"].as_str().unwrap_or_default())
}

fn yaml(crd: &Value) -> Result<String, serde_yaml::Error> {
    Ok(format!("# Written by `cargo xtask crds` from operator/api. Do not edit.\n{}", serde_yaml::to_string(crd)?))
}

fn finished(crd: &CustomResourceDefinition) -> Value {
    let mut crd = serde_json::to_value(crd).expect("a CRD is JSON");
    let kind = crd["spec"]["names"]["kind"].as_str().expect("a kind").to_owned();
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").expect("a schema");
    fit(schema);
    let properties = schema["properties"].as_object_mut().expect("properties");
    for path in FOREIGN {
        let mut nodes = properties.get_mut("spec");
        for part in path.split('/').skip(2) {
            nodes = nodes.and_then(|node| node.get_mut(part));
        }
        if let Some(node) = nodes {
            undescribe(node, true);
        }
    }
    conditions_by_type(properties);
    // A record takes the place of the one before whole: no part of that may stay.
    if let Some(operation) = properties.get_mut("status").and_then(|status| status["properties"].get_mut("operation")) {
        operation["x-kubernetes-map-type"] = json!("atomic");
    }
    for rule in RULES.iter().filter(|rule| rule.kind == kind) {
        put(schema, rule);
    }
    crd
}

/// Takes away what an API server does not want, at every level.
fn fit(node: &mut Value) {
    let Some(object) = node.as_object_mut() else { return };
    object.remove("nullable");
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        object.remove("format");
    }
    for key in ["minimum", "maximum"] {
        // The types give every bound as a float.
        if let Some(bound) = object.get(key).and_then(Value::as_f64).filter(|bound| bound.fract() == 0.0) {
            object.insert(key.to_owned(), json!(bound as i64));
        }
    }
    if object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        object.insert("pattern".to_owned(), json!(QUANTITY));
        object.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
    }
    if let Some(text) = object.get("description").and_then(Value::as_str) {
        // What Kubernetes says of its own types says nothing of the field.
        let foreign = text.starts_with("Time is a wrapper") || text.starts_with("Quantity is a fixed-point");
        let text = if foreign { "" } else { text };
        let joined = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        if joined.is_empty() {
            object.remove("description");
        } else {
            object.insert("description".to_owned(), Value::String(joined));
        }
    }
    for key in ["properties", "patternProperties"] {
        if let Some(children) = object.get_mut(key).and_then(Value::as_object_mut) {
            children.values_mut().for_each(fit);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            fit(child);
        }
    }
}

/// Takes away descriptions below a node, and not the node's own.
fn undescribe(node: &mut Value, top: bool) {
    let Some(object) = node.as_object_mut() else { return };
    if !top {
        object.remove("description");
    }
    if let Some(children) = object.get_mut("properties").and_then(Value::as_object_mut) {
        children.values_mut().for_each(|child| undescribe(child, false));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            undescribe(child, false);
        }
    }
}

/// Two writers may each own a condition, as they may own a member's entry.
fn conditions_by_type(properties: &mut Map<String, Value>) {
    for (list, key) in [("conditions", "type"), ("members", "name")] {
        let list = properties.get_mut("status").and_then(|status| status["properties"].get_mut(list));
        let Some(list) = list.and_then(Value::as_object_mut) else { continue };
        list.insert("x-kubernetes-list-type".to_owned(), json!("map"));
        list.insert("x-kubernetes-list-map-keys".to_owned(), json!([key]));
        let Some(items) = list.get_mut("items") else { continue };
        let required = items.as_object_mut().map(|items| items.entry("required").or_insert_with(|| json!([])));
        if let Some(required) = required.and_then(Value::as_array_mut)
            && !required.contains(&json!(key))
        {
            required.push(json!(key));
        }
        // A key has no default: it must be given.
        if let Some(field) = items["properties"].get_mut(key).and_then(Value::as_object_mut) {
            field.remove("default");
        }
        if let Some(children) = items.get_mut("properties").and_then(Value::as_object_mut)
            && list_is_foreign(children)
        {
            children.values_mut().for_each(undescribe_self);
        }
    }
}

/// Whether these are the fields of Kubernetes' own Condition.
fn list_is_foreign(fields: &Map<String, Value>) -> bool {
    fields.contains_key("lastTransitionTime") && fields.contains_key("observedGeneration")
}

fn undescribe_self(node: &mut Value) {
    if let Some(object) = node.as_object_mut() {
        object.remove("description");
    }
}

/// Puts a rule where it stands.
fn put(schema: &mut Value, rule: &Rule) {
    let mut node = schema;
    for part in rule.path.split('.').filter(|part| !part.is_empty()) {
        node = node["properties"]
            .get_mut(part)
            .unwrap_or_else(|| panic!("rule {}: {} has no {part}", rule.name, rule.path));
    }
    let object = node.as_object_mut().expect("a schema is an object");
    let rules = object.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    let entry = json!({"rule": rule.rule, "message": rule.message});
    rules.as_array_mut().expect("a list of rules").push(entry);
}
