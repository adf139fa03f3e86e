//! Every rule has examples, which tests/kube gives to a real API server, and stands in the CRD once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use keepstone_operator_api::{crd, rules::RULES};
use serde_json::Value;

fn examples() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules.yaml");
    let file: Value = serde_yaml::from_str(&fs::read_to_string(path).expect("the examples")).expect("YAML");
    file["rules"].as_array().expect("a list").clone()
}

#[test]
fn every_rule_has_examples_of_both_kinds() {
    let examples = examples();
    assert_eq!(examples.len(), RULES.len());
    for (example, rule) in examples.iter().zip(RULES) {
        assert_eq!(example["rule"], rule.name, "the order is that of the table");
        assert_eq!(example["kind"], rule.kind, "{}", rule.name);
        assert_eq!(example["message"], rule.message, "{}", rule.name);
        for list in ["refused", "accepted"] {
            assert!(example[list].as_array().is_some_and(|list| !list.is_empty()), "{} {list}", rule.name);
        }
        let about_changes = rule.rule.contains("oldSelf");
        assert_eq!(
            example.get("before").is_some(),
            about_changes,
            "{}: `before` is for rules about changes",
            rule.name
        );
    }
}

#[test]
fn names_are_unique_and_messages_one_line() {
    let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
    for rule in RULES {
        assert!(!rule.message.is_empty() && !rule.message.contains('\n') && !rule.rule.contains('\n'), "{}", rule.name);
    }
}

/// Counts what is below a node.
fn validations(node: &Value) -> usize {
    match node {
        Value::Object(object) => object
            .iter()
            .map(|(key, child)| {
                if key == "x-kubernetes-validations" {
                    child.as_array().map_or(0, Vec::len)
                } else {
                    validations(child)
                }
            })
            .sum(),
        Value::Array(list) => list.iter().map(validations).sum(),
        _ => 0,
    }
}

#[test]
fn every_rule_stands_in_its_crd() {
    for crd in crd::all() {
        let wanted = RULES.iter().filter(|rule| crd["spec"]["names"]["kind"] == rule.kind).count();
        assert_eq!(validations(&crd), wanted, "{}", crd["spec"]["names"]["kind"]);
    }
}

/// `null` is then the default, and a field nobody sets is not there: `has()` in a rule means what it says.
#[test]
fn no_field_may_be_null() {
    for crd in crd::all() {
        assert!(!serde_json::to_string(&crd).expect("JSON").contains("nullable"));
    }
}

/// `kubectl apply` without --server-side keeps the whole object in an annotation of at most 256 KiB.
#[test]
fn crds_can_be_applied_from_the_client_side() {
    for crd in crd::all() {
        let size = serde_json::to_string(&crd).expect("JSON").len();
        assert!(size < 200 * 1024, "{size}");
    }
}
