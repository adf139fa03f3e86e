//! The log's settings: level, format, and where the lines go.

use std::path::PathBuf;

use super::error::ConfigError;
use super::settings::Settings;
use super::{LogConfig, LogFormat, LogLevel, LogOutput};

/// Reads the log's settings.
///
/// # Errors
/// An unknown word, or outputs that do not go together; etcd's words.
pub(super) fn log(s: &Settings) -> Result<LogConfig, ConfigError> {
    if s.text("logger") == "capnslog" {
        return invalid("--logger=capnslog is removed in v3.5".to_owned());
    }
    let level = s.text("log-level");
    let level = match level.to_ascii_lowercase().as_str() {
        "debug" => LogLevel::Debug,
        "info" | "" => LogLevel::Info,
        "warn" | "warning" => LogLevel::Warn,
        "error" | "dpanic" | "panic" | "fatal" => LogLevel::Error,
        _ => {
            return invalid(format!(
                "unrecognized --log-level {level:?}, supported values debug, info, warn, error, panic, fatal"
            ));
        }
    };
    let format = match s.text("log-format").as_str() {
        "json" | "" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => {
            return invalid(format!("unknown log format: {other}, supported values json, console"));
        }
    };
    Ok(LogConfig { level, format, outputs: log_outputs(s)? })
}

fn log_outputs(s: &Settings) -> Result<Vec<LogOutput>, ConfigError> {
    let mut names = s.list("log-outputs");
    names.retain(|n| !n.is_empty());
    if names.is_empty() {
        names.push("default".to_owned());
    }
    if names.len() > 1 && names.iter().any(|n| n == "default") {
        return invalid("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    if names.iter().any(|n| n == "systemd/journal") {
        return invalid("--log-outputs \"systemd/journal\" is not supported; under systemd use stderr".to_owned());
    }
    let to_a_file = |n: &&String| !matches!(n.as_str(), "default" | "stderr" | "stdout");
    let files = names.iter().filter(to_a_file).count();
    if s.bool("enable-log-rotation") && (files > 1 || (files == 0 && names.len() == 1)) {
        return invalid(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined".to_owned(),
        );
    }
    // etcd too writes nowhere else then.
    if names.iter().any(|n| n == "/dev/null") {
        names = vec!["/dev/null".to_owned()];
    }
    let mut outputs: Vec<LogOutput> = names
        .into_iter()
        .map(|name| match name.as_str() {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            _ => LogOutput::File(PathBuf::from(name)),
        })
        .collect();
    outputs.dedup();
    Ok(outputs)
}

fn invalid<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid(text))
}
