//! What was given, by name, with its source; the table's defaults for the rest. Typed look-ups, no judgement.

use std::collections::BTreeMap;

use super::duration::GoDuration;
use super::error::{ConfigError, Source};
use super::table::{self, Flag, Kind};
use super::url::ListenUrl;
use super::value::{self, Value};

#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) flag: &'static Flag,
    pub(crate) value: Value,
    /// As it was written.
    pub(crate) text: String,
    pub(crate) source: Source,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    given: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Takes a text from the command line or the environment. The last one counts; feature gates add up.
    ///
    /// # Errors
    /// [`ConfigError::BadValue`].
    pub(crate) fn set_text(&mut self, flag: &'static Flag, text: &str, source: Source) -> Result<(), ConfigError> {
        let value = Value::parse(flag.kind, text).map_err(|reason| ConfigError::BadValue {
            flag: flag.name,
            given: text.to_owned(),
            reason,
            allowed: value::allowed(flag.kind),
            source_of_value: source.clone(),
        })?;
        self.set(Setting { flag, value, text: text.to_owned(), source });
        Ok(())
    }

    pub(crate) fn set(&mut self, mut new: Setting) {
        if let Some(old) = self.given.get(new.flag.name) {
            match (&mut new.value, &old.value) {
                (Value::Gates(new), Value::Gates(old)) => {
                    new.splice(..0, old.iter().cloned());
                }
                // An empty list of URLs leaves what was there, as in etcd.
                (Value::Urls(new), Value::Urls(old)) if new.is_empty() => new.clone_from(old),
                _ => {}
            }
        }
        self.given.insert(new.flag.name, new);
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.given.get(name)
    }

    /// Everything given, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.given.values()
    }

    pub(crate) fn value(&self, name: &str) -> Value {
        if let Some(setting) = self.given.get(name)
            && !matches!(&setting.value, Value::Urls(urls) if urls.is_empty())
        {
            return setting.value.clone();
        }
        let flag = table::find(name).expect("the setting is in the table");
        default_value(flag)
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(b) => b,
            other => wrong_kind(name, &other),
        }
    }

    pub(crate) fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(n) => n,
            other => wrong_kind(name, &other),
        }
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(n) => n,
            other => wrong_kind(name, &other),
        }
    }

    pub(crate) fn duration(&self, name: &str) -> GoDuration {
        match self.value(name) {
            Value::Duration(d) => d,
            other => wrong_kind(name, &other),
        }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(t) => t,
            other => wrong_kind(name, &other),
        }
    }

    pub(crate) fn urls(&self, name: &str) -> Vec<ListenUrl> {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => wrong_kind(name, &other),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(list) => list,
            other => wrong_kind(name, &other),
        }
    }

    pub(crate) fn gates(&self, name: &str) -> Vec<(String, bool)> {
        match self.value(name) {
            Value::Gates(gates) => gates,
            other => wrong_kind(name, &other),
        }
    }
}

/// The table's default as a value.
pub(crate) fn default_value(flag: &Flag) -> Value {
    if flag.kind == Kind::Origins && flag.default.is_empty() {
        return Value::List(Vec::new());
    }
    Value::parse(flag.kind, flag.default).expect("the table's defaults parse")
}

/// Only a wrong row in the table or a wrong look-up leads here; a test looks every row up.
fn wrong_kind(name: &str, value: &Value) -> ! {
    panic!("--{name} is not of the kind it was asked for: {value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_parses() {
        for flag in table::all() {
            default_value(flag);
        }
    }

    #[test]
    fn gates_add_up_and_the_rest_is_replaced() {
        let mut s = Settings::default();
        let mut set = |name, text| {
            let flag = table::find(name).expect(name);
            s.set_text(flag, text, Source::Flag).expect(text);
        };
        set("name", "a");
        set("name", "b");
        set("feature-gates", "LeaseCheckpoint=true");
        set("feature-gates", "CompactHashCheck=true");
        set("listen-peer-urls", "http://127.0.0.1:1");
        set("listen-peer-urls", "");
        assert_eq!(s.text("name"), "b");
        assert_eq!(s.gates("feature-gates").len(), 2);
        assert_eq!(super::super::url::join(&s.urls("listen-peer-urls")), "http://127.0.0.1:1");
    }
}
