//! Settings become a [`Config`]: units, bounds and the rules between settings, in etcd's order and words.

use std::path::PathBuf;
use std::time::Duration;

use super::duration::GoDuration;
use super::effects;
use super::error::ConfigError;
use super::features::Features;
use super::notice::Notice;
use super::settings::Settings;
use super::url::{self, Address, ListenUrl, UrlError};
use super::{
    Allowed, AutoCompaction, ClusterState, Config, Keepalive, LogConfig, LogFormat, LogLevel,
    LogOutput, MetricsLevel, RuntimeKind, SocketOptions,
};

/// The longest election timeout, in ms.
const MAX_ELECTION_MS: u64 = 50_000;
const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const DEFAULT_NAME: &str = "default";
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";
const MIN_PROGRESS: Duration = Duration::from_millis(100);
const LISTEN: [&str; 4] = [
    "listen-peer-urls",
    "listen-client-urls",
    "listen-client-http-urls",
    "listen-metrics-urls",
];

/// The host of the machine's default route, if it has one.
pub(crate) type DefaultHost<'a> = &'a dyn Fn() -> Option<String>;

/// Builds and checks. `notices` are those there are already.
///
/// # Errors
/// The first rule that is broken.
pub(crate) fn build(
    given: &Settings,
    default_host: DefaultHost<'_>,
    mut notices: Vec<Notice>,
) -> Result<Config, ConfigError> {
    let mut settings = given.clone();
    effects::resolve_aliases(&mut settings, &mut notices)?;
    effects::judge(&settings, &mut notices)?;
    let s = &settings;
    let log = log(s)?;
    check_urls(s)?;
    check_raft(s)?;
    check_tls_versions(s)?;
    let features = features(s, &mut notices)?;
    let mut config = Config {
        name: s.text("name"),
        data_dir: PathBuf::from(s.text("data-dir")),
        wal_dir: Some(s.text("wal-dir"))
            .filter(|d| !d.is_empty())
            .map(PathBuf::from),
        listen_client_urls: s.urls("listen-client-urls"),
        listen_client_http_urls: s.urls("listen-client-http-urls"),
        listen_peer_urls: s.urls("listen-peer-urls"),
        listen_metrics_urls: s.urls("listen-metrics-urls"),
        advertise_client_urls: s.urls("advertise-client-urls"),
        initial_advertise_peer_urls: s.urls("initial-advertise-peer-urls"),
        socket: SocketOptions {
            reuse_port: s.bool("socket-reuse-port"),
            reuse_address: s.bool("socket-reuse-address"),
        },
        initial_cluster: s.text("initial-cluster"),
        initial_cluster_state: match s.text("initial-cluster-state").as_str() {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        initial_cluster_token: s.text("initial-cluster-token"),
        strict_reconfig_check: s.bool("strict-reconfig-check"),
        max_learners: count(s, "max-learners")?,
        heartbeat_interval: Duration::from_millis(s.uint("heartbeat-interval")),
        election_timeout: Duration::from_millis(s.uint("election-timeout")),
        pre_vote: s.bool("pre-vote"),
        snapshot_count: zero_means(s.uint("snapshot-count"), 10_000),
        snapshot_catchup_entries: zero_means(s.uint("snapshot-catchup-entries"), 5_000),
        quota_backend_bytes: match u64::try_from(s.int("quota-backend-bytes")) {
            Ok(0) => Some(DEFAULT_QUOTA_BYTES),
            Ok(bytes) => Some(bytes),
            Err(_) => None,
        },
        auto_compaction: auto_compaction(s)?,
        compaction_batch_limit: zero_means(count(s, "compaction-batch-limit")? as u64, 1_000)
            as usize,
        compaction_sleep_interval: positive(s, "compaction-sleep-interval")?
            .unwrap_or(Duration::from_millis(10)),
        max_txn_ops: size(s, "max-txn-ops")?,
        max_request_bytes: size(s, "max-request-bytes")?,
        max_concurrent_streams: u32::try_from(s.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        keepalive: Keepalive {
            min_time: positive(s, "grpc-keepalive-min-time")?.unwrap_or_default(),
            interval: positive(s, "grpc-keepalive-interval")?,
            timeout: positive(s, "grpc-keepalive-timeout")?,
        },
        watch_progress_notify_interval: progress_interval(s, &mut notices)?,
        warning_apply_duration: positive(s, "warning-apply-duration")?.unwrap_or_default(),
        warning_unary_request_duration: positive(s, "warning-unary-request-duration")?
            .unwrap_or(Duration::from_millis(300)),
        features,
        compact_hash_check_time: positive(s, "compact-hash-check-time")?
            .ok_or_else(|| not_above_zero(s, "compact-hash-check-time"))?,
        corrupt_check_time: positive(s, "corrupt-check-time")?,
        log,
        metrics: metrics(s)?,
        enable_grpc_gateway: s.bool("enable-grpc-gateway"),
        enable_pprof: s.bool("enable-pprof"),
        cors: allowed(s.list("cors")),
        host_whitelist: allowed(s.list("host-whitelist")),
        unsafe_no_fsync: s.bool("unsafe-no-fsync"),
        runtime: match s.text("runtime").as_str() {
            "multi" => RuntimeKind::Multi,
            _ => RuntimeKind::Local,
        },
        value_cache_bytes: s.uint("value-cache-bytes"),
        notices,
    };
    fill_in_defaults(&mut config, default_host);
    Ok(config)
}

fn zero_means(n: u64, default: u64) -> u64 {
    if n == 0 { default } else { n }
}

fn invalid<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid(text))
}

/// A duration; `None` for zero.
fn positive(s: &Settings, name: &str) -> Result<Option<Duration>, ConfigError> {
    let given = s.duration(name);
    match given.positive() {
        Some(Duration::ZERO) => Ok(None),
        Some(d) => Ok(Some(d)),
        // etcd says this of one flag and lets a negative number through elsewhere, where it means nothing.
        None if name == "compact-hash-check-time" => Err(not_above_zero(s, name)),
        None => invalid(format!("--{name} must be >=0 (set to {given})")),
    }
}

fn not_above_zero(s: &Settings, name: &str) -> ConfigError {
    ConfigError::Invalid(format!("--{name} must be >0 (set to {})", s.duration(name)))
}

fn count(s: &Settings, name: &str) -> Result<usize, ConfigError> {
    let given = s.int(name);
    usize::try_from(given).or_else(|_| invalid(format!("--{name} must be >=0 (set to {given})")))
}

fn size(s: &Settings, name: &str) -> Result<usize, ConfigError> {
    let given = s.uint(name);
    usize::try_from(given).or_else(|_| {
        invalid(format!(
            "--{name} is too large for this machine (set to {given})"
        ))
    })
}

fn allowed(list: Vec<String>) -> Allowed {
    if list.is_empty() || list.iter().any(|w| w == "*") {
        Allowed::Everyone
    } else {
        Allowed::Only(list)
    }
}

fn metrics(s: &Settings) -> Result<MetricsLevel, ConfigError> {
    match s.text("metrics").as_str() {
        "basic" | "" => Ok(MetricsLevel::Basic),
        "extensive" => Ok(MetricsLevel::Extensive),
        other => invalid(format!(
            "unknown --metrics {other:?}, supported values basic, extensive"
        )),
    }
}

fn log(s: &Settings) -> Result<LogConfig, ConfigError> {
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
            return invalid(format!(
                "unknown log format: {other}, supported values json, console"
            ));
        }
    };
    Ok(LogConfig {
        level,
        format,
        outputs: log_outputs(s)?,
    })
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
        return invalid(
            "--log-outputs \"systemd/journal\" is not supported; under systemd use stderr"
                .to_owned(),
        );
    }
    let to_a_file = |n: &&String| !matches!(n.as_str(), "default" | "stderr" | "stdout");
    let files = names.iter().filter(to_a_file).count();
    if s.bool("enable-log-rotation") && (files > 1 || (files == 0 && names.len() == 1)) {
        return invalid(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined"
                .to_owned(),
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

fn check_urls(s: &Settings) -> Result<(), ConfigError> {
    for name in LISTEN {
        for url in s.urls(name) {
            url.check_bind().map_err(|e| {
                ConfigError::Invalid(format!("--{name}: {e}; use an IP address or localhost"))
            })?;
        }
    }
    for name in ["initial-advertise-peer-urls", "advertise-client-urls"] {
        let urls = s.urls(name);
        let check: Result<(), UrlError> = urls.iter().try_for_each(ListenUrl::check_advertised);
        check.map_err(|e| {
            ConfigError::Invalid(format!(
                "--{name} {:?} must be \"host:port\" ({e})",
                url::join(&urls)
            ))
        })?;
    }
    // In a file the default stays: only the command line and the environment know what was left out.
    let from_file = |name| {
        s.get(name)
            .is_some_and(|set| matches!(set.source, super::Source::File(_)))
    };
    if s.is_set("listen-client-urls")
        && !s.is_set("advertise-client-urls")
        && !from_file("listen-client-urls")
    {
        return invalid(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                .to_owned(),
        );
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

/// TLS is refused elsewhere; what is written about its versions must still make sense.
fn check_tls_versions(s: &Settings) -> Result<(), ConfigError> {
    for name in ["tls-min-version", "tls-max-version"] {
        let version = s.text(name);
        if !matches!(version.as_str(), "" | "TLS1.2" | "TLS1.3") {
            return invalid(format!(
                "unexpected TLS version {version:?} (--{name}; allowed: TLS1.2, TLS1.3)"
            ));
        }
    }
    let (min, max) = (s.text("tls-min-version"), s.text("tls-max-version"));
    if min == "TLS1.3" && max == "TLS1.2" {
        return invalid(format!(
            "min version ({min}) is greater than max version ({max})"
        ));
    }
    Ok(())
}

fn features(s: &Settings, notices: &mut Vec<Notice>) -> Result<Features, ConfigError> {
    let features = Features::from_gates(&s.gates("feature-gates"));
    if features.lease_checkpoint && !features.lease_checkpoint_persist {
        notices.push(Notice::CheckpointWithoutPersist);
    }
    if features.lease_checkpoint_persist && !features.lease_checkpoint {
        return invalid(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint".to_owned(),
        );
    }
    Ok(features)
}

fn auto_compaction(s: &Settings) -> Result<AutoCompaction, ConfigError> {
    let (mode, retention) = (
        s.text("auto-compaction-mode"),
        s.text("auto-compaction-retention"),
    );
    let periodic = match mode.as_str() {
        "periodic" => true,
        "revision" => false,
        "" => return invalid("undefined auto-compaction-mode".to_owned()),
        _ => {
            return invalid(format!(
                "unknown auto-compaction-mode {mode:?}, supported values periodic, revision"
            ));
        }
    };
    let retention = if retention.is_empty() {
        "0"
    } else {
        &retention
    };
    let too_long = || {
        ConfigError::Invalid(format!(
            "--auto-compaction-retention {retention:?} is too long"
        ))
    };
    match retention.parse::<i64>() {
        Ok(0) => Ok(AutoCompaction::Off),
        Ok(n) if n > 0 && periodic => {
            let nanos = n.checked_mul(3_600_000_000_000).ok_or_else(too_long)?;
            Ok(AutoCompaction::Periodic(
                GoDuration(nanos).positive().unwrap_or_default(),
            ))
        }
        Ok(n) if n > 0 => Ok(AutoCompaction::Revision(n)),
        _ => {
            let given = GoDuration::parse(retention).map_err(|e| {
                ConfigError::Invalid(format!("error parsing CompactionRetention: {e}"))
            })?;
            match given.positive() {
                Some(Duration::ZERO) => Ok(AutoCompaction::Off),
                Some(d) if periodic => Ok(AutoCompaction::Periodic(d)),
                Some(_) => invalid(format!(
                    "--auto-compaction-retention {retention:?} must be a number of revisions with \
                     --auto-compaction-mode=revision"
                )),
                None => invalid(format!(
                    "--auto-compaction-retention {retention:?} must not be negative"
                )),
            }
        }
    }
}

fn progress_interval(s: &Settings, notices: &mut Vec<Notice>) -> Result<Duration, ConfigError> {
    let name = "watch-progress-notify-interval";
    let given = positive(s, name)?.unwrap_or(Duration::from_secs(600));
    if given < MIN_PROGRESS {
        notices.push(Notice::Adjusted {
            flag: name,
            given: s.duration(name).to_string(),
            used: GoDuration::from(MIN_PROGRESS).to_string(),
        });
    }
    Ok(given.max(MIN_PROGRESS))
}

/// What etcd derives where nothing was said: the advertised host, the cluster of one, the directory.
fn fill_in_defaults(config: &mut Config, default_host: DefaultHost<'_>) {
    let peer_port = wildcard_port(&config.listen_peer_urls)
        .filter(|_| url::join(&config.initial_advertise_peer_urls) == DEFAULT_PEER_URL);
    let client_port = wildcard_port(&config.listen_client_urls)
        .filter(|_| url::join(&config.advertise_client_urls) == DEFAULT_CLIENT_URL);
    if (peer_port.is_some() || client_port.is_some())
        && let Some(host) = default_host()
    {
        if let Some(port) = peer_port {
            readdress(&mut config.initial_advertise_peer_urls, &host, port);
        }
        if let Some(port) = client_port {
            readdress(&mut config.advertise_client_urls, &host, port);
        }
        config.notices.push(Notice::DefaultHost(host));
    }
    if config.name != DEFAULT_NAME && config.initial_cluster == DEFAULT_CLUSTER {
        let name = if config.name.is_empty() {
            DEFAULT_NAME
        } else {
            &config.name
        };
        let pairs: Vec<String> = config
            .initial_advertise_peer_urls
            .iter()
            .map(|u| format!("{name}={u}"))
            .collect();
        config.initial_cluster = pairs.join(",");
    }
    if config.listen_client_http_urls.is_empty() {
        config.notices.push(Notice::SinglePort);
    }
    if config.name == DEFAULT_NAME {
        config.notices.push(Notice::DefaultName);
    }
    if config.data_dir.as_os_str().is_empty() {
        let dir = format!("{}.etcd", config.name);
        config.data_dir = PathBuf::from(&dir);
        config.notices.push(Notice::DefaultDataDir(dir));
    }
}

/// The port of a member that listens on every address.
fn wildcard_port(urls: &[ListenUrl]) -> Option<u16> {
    let (host, port) = urls.first()?.host_port()?;
    (host == "0.0.0.0").then_some(port)
}

fn readdress(urls: &mut [ListenUrl], host: &str, port: u16) {
    for url in urls {
        url.address = Address::Tcp {
            host: host.to_owned(),
            port,
        };
    }
}
