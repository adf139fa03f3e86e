//! What can be wrong with a configuration, and how it is said: one line that names the flag, the value that was
//! given and what is allowed. Never prints secrets and never ends the process itself.

use std::fmt;

/// A configuration that Keepstone will not start with. `Display` is one line for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A flag that is in no table.
    #[error("flag provided but not defined: -{name}{hint}")]
    UnknownFlag { name: String, hint: String },
    /// An argument such as `---x` or `-=x`.
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    /// The last argument is a flag that wants a value.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(String),
    /// A word where only flags are expected.
    #[error("{0:?} is not a valid flag")]
    NotAFlag(String),
    /// A value that does not parse.
    #[error("{}", bad_value(.source_of_value, .flag, .given, .reason, .allowed))]
    BadValue { flag: &'static str, given: String, reason: String, allowed: &'static str, source_of_value: Source },
    /// The same setting on the command line and in the environment. etcd refuses this rather than choosing.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag \
         (either unset environment variable or disable flag): {variable} and --{flag}"
    )]
    Conflict { variable: String, flag: &'static str },
    /// The configuration file cannot be read or understood.
    #[error("config file {path}: {reason}")]
    File { path: String, reason: String },
    /// Known, but nothing in this version stands behind it, and ignoring it would be unsafe.
    #[error("--{flag}{given}: {topic}")]
    Refused {
        flag: String,
        /// ` "value"`, or empty where the value is a secret.
        given: String,
        topic: &'static str,
    },
    /// A rule between settings is broken. The text is etcd's where etcd has the rule.
    #[error("{0}")]
    Invalid(String),
    /// A sub-command was called the wrong way.
    #[error("{0}")]
    Command(String),
}

impl ConfigError {
    /// The process's exit code: 2 where the command line itself is malformed, else 1, as etcd's.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownFlag { .. }
            | Self::BadSyntax(_)
            | Self::NeedsArgument(_)
            | Self::Command(_)
            | Self::BadValue { source_of_value: Source::Flag, .. } => 2,
            _ => 1,
        }
    }
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Flag,
    /// The variable's name.
    Env(String),
    /// The file's path.
    File(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the command line"),
            Self::Env(name) => write!(f, "the environment ({name})"),
            Self::File(path) => write!(f, "the config file {path}"),
        }
    }
}

/// etcd's words up to the reason; what is allowed is ours.
fn bad_value(source: &Source, flag: &str, given: &str, reason: &str, allowed: &str) -> String {
    let given = format!("{given:?}");
    match source {
        Source::Flag if allowed == super::value::BOOL_ALLOWED => {
            format!("invalid boolean value {given} for -{flag}: {reason} (allowed: {allowed})")
        }
        Source::Flag => {
            format!("invalid value {given} for flag -{flag}: {reason} (allowed: {allowed})")
        }
        Source::Env(name) => {
            format!("invalid value {given} for {name}: {reason} (allowed: {allowed})")
        }
        Source::File(path) => {
            format!("invalid value {given} for {flag} in {path}: {reason} (allowed: {allowed})")
        }
    }
}
