//! The one table of settings. Flags, environment variables, the config file, `--help` and the documentation are all
//! read from it; a setting that is not here does not exist. It holds no values, only what may be said.

mod clustering;
mod member;
mod monitoring;
mod own;
mod retired;
mod security;
mod tuning;

/// What a setting's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// A whole number from 0 to 2^64-1.
    Uint,
    /// A whole number from 0 to 2^32-1.
    Uint32,
    /// A whole number from -2^63 to 2^63-1.
    Int,
    /// Go's form, such as `1m30s`; whole nanoseconds in the config file.
    Duration,
    Text,
    /// Comma-separated URLs; an empty text leaves the value alone.
    Urls,
    /// `*` or comma-separated URLs.
    Origins,
    /// Comma-separated words, a list in the config file.
    List,
    /// Comma-separated words, a text in the config file.
    Words,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `Name=true,Other=false`; several add up.
    Gates,
    /// Takes and needs no value; what is given is thrown away.
    Nothing,
}

/// What Keepstone does with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Does what etcd's does.
    Honoured,
    /// Accepted, with a warning where it differs from the default. Says why nothing is lost.
    NoEffect(&'static str),
    /// Any value but the default stops the start. Says why.
    Refused(&'static str),
    /// An old name of another flag.
    Alias(&'static str),
    /// An old boolean flag of a feature gate.
    GateAlias(&'static str),
    /// Acts before there is a configuration (`--config-file`, `--version`); only on the command line, or, where
    /// `true`, also in the environment.
    Early(bool),
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be given on the command line; empty means unset.
    pub default: &'static str,
    pub effect: Effect,
    pub help: &'static str,
    /// Keepstone's own, not etcd's.
    pub own: bool,
}

/// A heading of `--help` with its rows.
pub struct Section {
    pub title: &'static str,
    pub flags: &'static [Flag],
}

/// Every setting, in the order of `--help`.
pub static SECTIONS: &[Section] = &[
    Section { title: "Member", flags: member::FLAGS },
    Section { title: "Clustering", flags: clustering::FLAGS },
    Section { title: "Security", flags: security::FLAGS },
    Section { title: "Profiling, monitoring and logging", flags: monitoring::FLAGS },
    Section { title: "Tuning", flags: tuning::FLAGS },
    Section { title: "Keepstone's own", flags: own::FLAGS },
    Section { title: "Old names", flags: retired::ALIASES },
    Section { title: "Long gone from etcd, ignored with a warning", flags: retired::IGNORED },
];

/// Every row.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|s| s.flags)
}

/// The row of a name without its dashes.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|f| f.name == name)
}

impl Flag {
    /// The environment variable: `ETCD_DATA_DIR`; Keepstone's own begin with `KEEPSTONE_`.
    #[must_use]
    pub fn env(&self) -> String {
        let prefix = if self.own { "KEEPSTONE" } else { "ETCD" };
        format!("{prefix}_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// True where `--flag` alone means `--flag=true`.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Nothing)
    }

    const fn new(name: &'static str, kind: Kind, default: &'static str, effect: Effect, help: &'static str) -> Self {
        Self { name, kind, default, effect, help, own: false }
    }
}

const fn on(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag::new(name, kind, default, Effect::Honoured, help)
}

const fn inert(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag::new(name, kind, default, Effect::NoEffect(why), "")
}

const fn refused(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag::new(name, kind, default, Effect::Refused(why), "")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for flag in all() {
            assert!(seen.insert(flag.name), "{} is twice in the table", flag.name);
        }
    }

    #[test]
    fn aliases_lead_to_a_flag_of_their_kind() {
        for flag in all() {
            if let Effect::Alias(of) = flag.effect {
                let target = find(of).expect(of);
                assert_eq!(target.kind, flag.kind, "{}", flag.name);
                assert!(!matches!(target.effect, Effect::Alias(_)), "{}", flag.name);
            }
        }
    }

    #[test]
    fn environment_names() {
        assert_eq!(find("data-dir").expect("known").env(), "ETCD_DATA_DIR");
        assert_eq!(find("runtime").expect("known").env(), "KEEPSTONE_RUNTIME");
    }
}
