//! The config file: its keys are the table's names, but for the sections etcd nests. Types are as strict as etcd's.

use std::path::Path;

use super::duration::GoDuration;
use super::error::{ConfigError, Source};
use super::notice::Notice;
use super::settings::{Setting, Settings};
use super::table::{self, Effect, Flag, Kind};
use super::value::{self, Value};
use super::yaml::{self, Entry, Plain};

/// Reads the file at `path`.
///
/// # Errors
/// [`ConfigError::File`] where it cannot be read or is no YAML, [`ConfigError::BadValue`] for a value.
pub(crate) fn read(path: &str, notices: &mut Vec<Notice>) -> Result<Settings, ConfigError> {
    let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(Path::new(path)).map_err(|e| failed(e.to_string()))?;
    let entries = yaml::read(&text).map_err(failed)?;
    let mut settings = Settings::default();
    for entry in entries {
        if entry.value == Plain::Null {
            continue;
        }
        if entry.section.as_deref() == Some("discovery-config") && !is_empty(&entry.value) {
            return Err(refused_discovery());
        }
        let Some(flag) = flag_of(&entry) else {
            notices.push(Notice::UnknownKey { path: path.to_owned(), key: full_key(&entry) });
            continue;
        };
        if empty_means_unset(flag, &entry.value) {
            continue;
        }
        let (text, value) = convert(flag, &entry.value).map_err(|(given, reason, allowed)| ConfigError::BadValue {
            flag: flag.name,
            given,
            reason,
            allowed,
            source_of_value: Source::File(path.to_owned()),
        })?;
        settings.set(Setting { flag, value, text, source: Source::File(path.to_owned()) });
    }
    Ok(settings)
}

fn full_key(entry: &Entry) -> String {
    match &entry.section {
        Some(section) => format!("{section}.{}", entry.key),
        None => entry.key.clone(),
    }
}

fn refused_discovery() -> ConfigError {
    let flag = table::find("discovery-endpoints").expect("in the table");
    let Effect::Refused(topic) = flag.effect else { unreachable!("discovery is refused") };
    ConfigError::Refused { flag: "discovery-config".to_owned(), given: String::new(), topic }
}

/// etcd reads these from the command line only, and its sample file has one of them with a value it would refuse there.
const ONLY_FLAGS: &[&str] = &["discovery-fallback"];

/// The row that a key stands for.
fn flag_of(entry: &Entry) -> Option<&'static Flag> {
    let key = entry.key.as_str();
    let name = match entry.section.as_deref() {
        // The file spells this one differently.
        None if key == "experimental-snapshot-catch-up-entries" => "experimental-snapshot-catchup-entries".to_owned(),
        None => key.to_owned(),
        Some("socket-options") => format!("socket-{key}"),
        Some("client-transport-security") => match key {
            "allowed-hostname" => "client-cert-allowed-hostname".to_owned(),
            // etcd has no flag for it, and none for skip-client-san-verification: Keepstone has one of its own.
            "allowed-cn" => "client-cert-allowed-cn".to_owned(),
            key => key.to_owned(),
        },
        Some("peer-transport-security") => match key {
            "allowed-hostname" => "peer-cert-allowed-hostname".to_owned(),
            "allowed-cn" => "peer-cert-allowed-cn".to_owned(),
            key => format!("peer-{key}"),
        },
        Some(_) => return None,
    };
    let in_a_file =
        |f: &&Flag| !matches!(f.effect, Effect::Early(_)) && f.kind != Kind::Nothing && !ONLY_FLAGS.contains(&f.name);
    table::find(&name).filter(in_a_file)
}

fn is_empty(value: &Plain) -> bool {
    match value {
        Plain::Null => true,
        Plain::Text(text) => text.is_empty(),
        Plain::List(list) => list.is_empty(),
        _ => false,
    }
}

/// etcd skips empty texts of settings that it parses further.
fn empty_means_unset(flag: &Flag, value: &Plain) -> bool {
    let parsed_further = matches!(flag.kind, Kind::Urls | Kind::Origins | Kind::Words | Kind::OneOf(_) | Kind::Gates);
    parsed_further && is_empty(value)
}

type Wrong = (String, String, &'static str);

/// A value of the file as the row's kind, and as it would be written on the command line.
fn convert(flag: &Flag, value: &Plain) -> Result<(String, Value), Wrong> {
    match (flag.kind, value) {
        (Kind::Bool, Plain::Bool(b)) => Ok((b.to_string(), Value::Bool(*b))),
        // YAML 1.1 has more words for a switch than the library, which knows 1.2.
        (Kind::Bool, Plain::Text(t)) if yes_or_no(t).is_some() => {
            Ok((t.clone(), Value::Bool(yes_or_no(t) == Some(true))))
        }
        (Kind::Uint | Kind::Uint32 | Kind::Int, Plain::Int(_) | Plain::Float(_)) => number(flag, value),
        (Kind::Duration, Plain::Int(_) | Plain::Float(_)) => match whole(value).and_then(|n| i64::try_from(n).ok()) {
            Some(nanos) => Ok((GoDuration(nanos).to_string(), Value::Duration(GoDuration(nanos)))),
            None => Err(wrong_type(flag, value)),
        },
        (Kind::List, Plain::List(list)) => Ok((list.join(","), Value::List(sorted(list)))),
        (Kind::Text | Kind::Urls | Kind::Origins | Kind::Words | Kind::OneOf(_) | Kind::Gates, Plain::Text(text)) => {
            match Value::parse(flag.kind, text) {
                Ok(value) => Ok((text.clone(), value)),
                Err(reason) => Err((text.clone(), reason, value::allowed(flag.kind))),
            }
        }
        _ => Err(wrong_type(flag, value)),
    }
}

fn number(flag: &Flag, value: &Plain) -> Result<(String, Value), Wrong> {
    let n = whole(value).ok_or_else(|| wrong_type(flag, value))?;
    let fits = match flag.kind {
        Kind::Uint => u64::try_from(n).ok().map(Value::Uint),
        Kind::Uint32 => u32::try_from(n).ok().map(|n| Value::Uint(n.into())),
        _ => i64::try_from(n).ok().map(Value::Int),
    };
    match fits {
        Some(value) => Ok((n.to_string(), value)),
        None => Err((n.to_string(), "value out of range".to_owned(), value::allowed(flag.kind))),
    }
}

/// `1e9` is a whole number to etcd, `1.5` is not.
fn whole(value: &Plain) -> Option<i128> {
    match value {
        Plain::Int(n) => Some(*n),
        Plain::Float(f) if f.fract() == 0.0 && f.abs() < 9.0e18 => Some(*f as i128),
        _ => None,
    }
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn sorted(list: &[String]) -> Vec<String> {
    let mut list = list.to_vec();
    list.sort();
    list.dedup();
    list
}

fn wrong_type(flag: &Flag, value: &Plain) -> Wrong {
    let given = match value {
        Plain::Null => "null".to_owned(),
        Plain::Bool(b) => b.to_string(),
        Plain::Int(n) => n.to_string(),
        Plain::Float(f) => f.to_string(),
        Plain::Text(text) => text.clone(),
        Plain::List(list) => list.join(","),
        Plain::Other => "a nested value".to_owned(),
    };
    let allowed = match flag.kind {
        Kind::Duration => "whole nanoseconds, such as 5000000000 for 5s",
        Kind::List => "a list of texts, such as [stderr]",
        Kind::Text => "a text, in quotes where it looks like a number",
        Kind::Gates => "a text of Name=true|false pairs, comma-separated",
        kind => value::allowed(kind),
    };
    (given, "wrong type".to_owned(), allowed)
}
