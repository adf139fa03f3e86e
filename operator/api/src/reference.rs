//! docs/api.md: every field, its type, its default and what it means, read from the CRDs.

use std::fmt::Write as _;

use serde_json::Value;

use crate::crd;
use crate::rules::RULES;

/// Kubernetes' own types, whose fields its own reference has.
const FOREIGN: &[&str] =
    &["affinity", "tolerations", "topologySpreadConstraints", "resources", "imagePullSecrets", "conditions"];

/// The whole page.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for crd in crd::all() {
        kind(&mut page, &crd);
    }
    page
}

const HEAD: &str = "<!-- Written by `cargo xtask crds` from operator/api. Do not edit. -->

# The operator's API

Group `keepstone.io`, version `v1alpha1`; all kinds are namespaced, and refer to objects of their own namespace. `kubectl explain etcdcluster.spec`
says the same. A field without a default may be left out unless it is *required*. `null` is as if the field were not there.

Lengths of time are numbers with `d`, `h`, `m` or `s` (`90d`, `1h30m`), sizes are Kubernetes' quantities (`10Gi`).
";

fn kind(page: &mut String, crd: &Value) {
    let names = &crd["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default();
    let short = names["shortNames"][0].as_str().unwrap_or_default();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    line(page, &format!("\n## {kind}\n"));
    line(page, &format!("{} Short: `{short}`.", schema["description"].as_str().unwrap_or_default()));
    for part in ["spec", "status"] {
        line(page, &format!("\n### {kind}: `{part}`\n\n| field | type | default | |\n|---|---|---|---|"));
        fields(page, &schema["properties"][part], "");
    }
    line(page, &format!("\n### {kind}: rules\n\nRefused, with these words:\n"));
    for rule in RULES.iter().filter(|rule| rule.kind == kind) {
        let place = if rule.path.is_empty() { "(all)" } else { rule.path };
        line(page, &format!("- `{place}`: {}", rule.message));
    }
}

fn fields(page: &mut String, node: &Value, at: &str) {
    let Some(properties) = node["properties"].as_object() else { return };
    let required = |name: &str| node["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, field) in properties {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let default = match &field["default"] {
            Value::Null if required(name) => "*required*".to_owned(),
            // Said field by field below.
            Value::Null | Value::Object(_) => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let about = field["description"].as_str().unwrap_or_default().replace('|', "\\|");
        line(page, &format!("| `{path}` | {} | {default} | {about} |", type_of(field)));
        if FOREIGN.contains(&name.as_str()) {
            continue;
        }
        fields(page, field, &path);
        fields(page, &field["items"], &format!("{path}[]"));
    }
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "size".to_owned();
    }
    if let Some(words) = field["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    }
    match field["type"].as_str().unwrap_or_default() {
        "array" => format!("list of {}", type_of(&field["items"])),
        "object" if field.get("additionalProperties").is_some() => "map of string".to_owned(),
        "string" if field["format"] == "date-time" => "time".to_owned(),
        other => other.to_owned(),
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a string takes all");
}
