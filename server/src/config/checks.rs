//! The rules between settings, in etcd's order and words. Looks, changes nothing.

use super::Source;
use super::error::ConfigError;
use super::settings::Settings;
use super::url::{self, ListenUrl, UrlError};

/// The longest election timeout, in ms.
const MAX_ELECTION_MS: u64 = 50_000;
const LISTEN: [&str; 4] = ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"];

/// Every rule.
///
/// # Errors
/// The first that is broken.
pub(super) fn check(s: &Settings) -> Result<(), ConfigError> {
    check_urls(s)?;
    check_raft(s)?;
    check_tls_versions(s)
}

fn invalid(text: String) -> Result<(), ConfigError> {
    Err(ConfigError::Invalid(text))
}

fn check_urls(s: &Settings) -> Result<(), ConfigError> {
    for name in LISTEN {
        for url in s.urls(name) {
            url.check_bind()
                .map_err(|e| ConfigError::Invalid(format!("--{name}: {e}; use an IP address or localhost")))?;
        }
    }
    for name in ["initial-advertise-peer-urls", "advertise-client-urls"] {
        let urls = s.urls(name);
        let check: Result<(), UrlError> = urls.iter().try_for_each(ListenUrl::check_advertised);
        check.map_err(|e| {
            ConfigError::Invalid(format!("--{name} {:?} must be \"host:port\" ({e})", url::join(&urls)))
        })?;
    }
    // In a file the default stays: only the command line and the environment know what was left out.
    let from_file = |name| s.get(name).is_some_and(|set| matches!(set.source, Source::File(_)));
    if s.is_set("listen-client-urls") && !s.is_set("advertise-client-urls") && !from_file("listen-client-urls") {
        return invalid("--advertise-client-urls is required when --listen-client-urls is set explicitly".to_owned());
    }
    Ok(())
}

fn check_raft(s: &Settings) -> Result<(), ConfigError> {
    let (heartbeat, election) = (s.uint("heartbeat-interval"), s.uint("election-timeout"));
    if heartbeat == 0 {
        return invalid("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election == 0 {
        return invalid("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat.saturating_mul(5) > election {
        return invalid(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > MAX_ELECTION_MS {
        return invalid(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
        ));
    }
    Ok(())
}

/// A URL of `--listen-client-http-urls` that `--listen-client-urls` has too.
pub(super) fn shared_with_http<'a>(client: &[ListenUrl], http: &'a [ListenUrl]) -> Option<&'a ListenUrl> {
    http.iter().find(|url| client.iter().any(|other| other.authority() == url.authority()))
}

fn check_tls_versions(s: &Settings) -> Result<(), ConfigError> {
    for name in ["tls-min-version", "tls-max-version"] {
        let version = s.text(name);
        if !matches!(version.as_str(), "" | "TLS1.2" | "TLS1.3") {
            return invalid(format!("unexpected TLS version {version:?} (must be one of: TLS1.2, TLS1.3) (--{name})"));
        }
    }
    let (min, max) = (s.text("tls-min-version"), s.text("tls-max-version"));
    if min == "TLS1.3" && max == "TLS1.2" {
        return invalid(format!("min version ({min}) is greater than max version ({max})"));
    }
    let suites = s.list("cipher-suites");
    if min == "TLS1.3" && !suites.is_empty() {
        return invalid("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    match suites.iter().find(|name| crate::tls::suites::find(name).is_none()) {
        Some(unknown) => invalid(format!("unexpected TLS cipher suite {unknown:?}")),
        None => Ok(()),
    }
}
