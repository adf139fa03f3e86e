//! docs/operations.md has a paragraph for every reason that a condition may give, and for no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keepstone_operator_api::{ConditionType, Reason};

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
