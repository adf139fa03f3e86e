//! docs/operations.md has a paragraph for every reason that a condition may give, and for no other; and the
//! chart asks for metrics that there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keepstone_operator_api::{ConditionType, Reason, crd, metrics};
use serde_json::Value;

fn operations() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    fs::read_to_string(path).expect("docs/operations.md")
}

/// Paragraphs that begin with `**Word.**`, by that word.
fn paragraphs(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        if let Some((word, rest)) = paragraph.strip_prefix("**").and_then(|rest| rest.split_once(".** ")) {
            found.entry(word).or_default().push(rest);
        }
    }
    found
}

#[test]
fn every_reason_has_one_paragraph() {
    let text = operations();
    let found = paragraphs(&text);
    for reason in Reason::ALL {
        let paragraphs = found.get(reason.as_str()).unwrap_or_else(|| panic!("{reason} has none"));
        assert_eq!(paragraphs.len(), 1, "{reason}");
        assert!(paragraphs[0].len() > 30, "{reason}");
    }
    for word in found.keys() {
        assert!(Reason::ALL.iter().any(|reason| reason.as_str() == *word), "{word} is no reason");
    }
}

#[test]
fn every_condition_is_in_the_table() {
    let text = operations();
    for kind in ConditionType::ALL {
        assert!(text.contains(&format!("\n| `{}` | ", kind.as_str())), "{}", kind.as_str());
    }
}

/// Words that begin with a prefix, wherever they stand.
fn words<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| word.starts_with(prefix)).collect()
}

/// An alert on a metric that nobody has never fires.
#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let families = fs::read_to_string(root.join("server/src/metrics/etcd-families.txt")).expect("a member's metrics");
    let members = words(&families, "etcd_");
    let mut asked = Vec::new();
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = fs::read_to_string(root.join("charts/keepstone-operator/files").join(file)).expect(file);
        for name in words(&text, "keepstone_") {
            assert!(metrics::ALL.contains(&name), "{file}: {name}");
            asked.push(name.to_owned());
        }
        for name in words(&text, "etcd_") {
            assert!(members.contains(&name.trim_end_matches("_bucket")), "{file}: {name}");
        }
    }
    assert!(asked.len() > 15, "{asked:?}");
}

/// Fields without a word of their own, but those of Kubernetes' types.
fn undescribed(node: &Value, at: &str, found: &mut Vec<String>) {
    let foreign = ["affinity", "tolerations", "topologySpreadConstraints", "resources", "imagePullSecrets"];
    for (name, field) in node["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            found.push(path.clone());
        }
        if !foreign.contains(&name.as_str()) {
            undescribed(field, &path, found);
            undescribed(&field["items"], &path, found);
        }
    }
}

#[test]
fn every_field_of_a_spec_says_what_it_is() {
    for crd in crd::all() {
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        undescribed(&schema["properties"]["spec"], "spec", &mut found);
        assert!(found.is_empty(), "{}: {found:?}", crd["spec"]["names"]["kind"]);
    }
}
