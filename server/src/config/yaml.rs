//! The only module that knows the YAML library: text in, a flat list of keys and plain values out.

use serde_yaml::{Mapping, Value};

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    /// `key:` with nothing behind it.
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<String>),
    /// A nested mapping, or a list of something else than texts.
    Other,
}

/// A key with its section, if it stands in one: `peer-transport-security` / `cert-file`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) section: Option<String>,
    pub(crate) key: String,
    pub(crate) value: Plain,
}

/// Reads a document: a mapping, whose own mappings are sections. Keys are compared without case, as Go does, and come
/// back in lower case. An empty document has no entries.
///
/// # Errors
/// The library's message, with line and column.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, String> {
    let document: Value = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    let mapping = match document {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(mapping) => mapping,
        _ => return Err("a mapping of settings is expected".to_owned()),
    };
    let mut entries = Vec::new();
    for (key, value) in mapping {
        let key = key_text(&key);
        match value {
            Value::Mapping(section) => flatten(&key, section, &mut entries),
            value => entries.push(Entry { section: None, key, value: plain(value) }),
        }
    }
    Ok(entries)
}

fn flatten(section: &str, mapping: Mapping, entries: &mut Vec<Entry>) {
    for (key, value) in mapping {
        entries.push(Entry { section: Some(section.to_owned()), key: key_text(&key), value: plain(value) });
    }
}

fn key_text(key: &Value) -> String {
    match plain(key.clone()) {
        Plain::Text(text) => text.to_ascii_lowercase(),
        Plain::Bool(b) => b.to_string(),
        Plain::Int(n) => n.to_string(),
        _ => "?".to_owned(),
    }
}

fn plain(value: Value) -> Plain {
    match value {
        Value::Null => Plain::Null,
        Value::Bool(b) => Plain::Bool(b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Plain::Int(n.into()),
            (None, Some(n)) => Plain::Int(n.into()),
            (None, None) => Plain::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Plain::Text(text),
        Value::Sequence(items) => {
            let texts: Option<Vec<String>> = items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Some(text),
                    _ => None,
                })
                .collect();
            texts.map_or(Plain::Other, Plain::List)
        }
        Value::Mapping(_) | Value::Tagged(_) => Plain::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_flat_and_lower_case() {
        let entries = read("Name: x\nsocket-options:\n  Reuse-Port: true\nlog-outputs: [a, b]\nx:\n").expect("valid");
        let seen: Vec<_> = entries.iter().map(|e| (e.section.as_deref(), e.key.as_str(), e.value.clone())).collect();
        assert_eq!(
            seen,
            [
                (None, "name", Plain::Text("x".into())),
                (Some("socket-options"), "reuse-port", Plain::Bool(true)),
                (None, "log-outputs", Plain::List(vec!["a".into(), "b".into()])),
                (None, "x", Plain::Null),
            ]
        );
    }

    #[test]
    fn empty_is_fine_and_a_list_is_not() {
        assert_eq!(read(""), Ok(Vec::new()));
        assert_eq!(read("# nothing\n"), Ok(Vec::new()));
        assert!(read("- a\n").is_err());
        assert!(read("a: [\n").expect_err("unclosed").contains("line"));
    }
}
