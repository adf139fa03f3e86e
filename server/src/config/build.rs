//! Settings become a [`Config`]: units, bounds and the rules between settings, in etcd's order and words.

use std::path::PathBuf;
use std::time::Duration;

use super::derived::{self, DefaultHost};
use super::duration::GoDuration;
use super::error::ConfigError;
use super::features::Features;
use super::notice::Notice;
use super::settings::Settings;
use super::{
    Allowed, AutoCompaction, ClusterState, Config, Keepalive, MetricsLevel, RuntimeKind, SocketOptions, Survive,
    TlsLimits, Transport, checks, effects, log_settings, security,
};

const DEFAULT_QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const PROGRESS: &str = "watch-progress-notify-interval";
const MIN_PROGRESS: Duration = Duration::from_millis(100);

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
    let log = log_settings::log(s)?;
    checks::check(s)?;
    let features = features(s, &mut notices)?;
    let mut config = config(s, log, features)?;
    notices.extend(adjusted_progress(s));
    config.notices = notices;
    derived::fill_in_defaults(&mut config, default_host);
    security::check(&mut config)?;
    Ok(config)
}

/// Every field from its setting.
fn config(s: &Settings, log: super::LogConfig, features: Features) -> Result<Config, ConfigError> {
    Ok(Config {
        name: s.text("name"),
        data_dir: PathBuf::from(s.text("data-dir")),
        wal_dir: Some(s.text("wal-dir")).filter(|d| !d.is_empty()).map(PathBuf::from),
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
        client_tls: Transport::of_clients(s),
        peer_tls: Transport::of_peers(s),
        tls: TlsLimits::of(s),
        initial_cluster: s.text("initial-cluster"),
        initial_cluster_state: match s.text("initial-cluster-state").as_str() {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        join: s.urls("join"),
        initial_cluster_token: s.text("initial-cluster-token"),
        fence_file: Some(s.text("fence-file")).filter(|path| !path.is_empty()).map(PathBuf::from),
        permit_file: Some(s.text("permit-file")).filter(|path| !path.is_empty()).map(PathBuf::from),
        permit_holder: s.text("permit-holder"),
        survive: survive(s)?,
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
        compaction_batch_limit: zero_means(count(s, "compaction-batch-limit")? as u64, 1_000) as usize,
        compaction_sleep_interval: positive(s, "compaction-sleep-interval")?.unwrap_or(Duration::from_millis(10)),
        max_txn_ops: size(s, "max-txn-ops")?,
        max_request_bytes: size(s, "max-request-bytes")?,
        max_concurrent_streams: u32::try_from(s.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        keepalive: keepalive(s)?,
        watch_progress_notify_interval: positive(s, PROGRESS)?.unwrap_or(Duration::from_secs(600)).max(MIN_PROGRESS),
        warning_apply_duration: positive(s, "warning-apply-duration")?.unwrap_or_default(),
        warning_unary_request_duration: positive(s, "warning-unary-request-duration")?
            .unwrap_or(Duration::from_millis(300)),
        features,
        compact_hash_check_time: positive(s, "compact-hash-check-time")?
            .ok_or_else(|| not_above_zero(s, "compact-hash-check-time"))?,
        corrupt_check_time: positive(s, "corrupt-check-time")?,
        corrupt_repair: s.bool("corrupt-repair"),
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
        notices: Vec::new(),
    })
}

fn keepalive(s: &Settings) -> Result<Keepalive, ConfigError> {
    Ok(Keepalive {
        min_time: positive(s, "grpc-keepalive-min-time")?.unwrap_or_default(),
        interval: positive(s, "grpc-keepalive-interval")?,
        timeout: positive(s, "grpc-keepalive-timeout")?,
    })
}

fn survive(s: &Settings) -> Result<Option<Survive>, ConfigError> {
    match (s.bool("force-new-cluster"), s.bool("force-new-cluster-id")) {
        (true, true) => {
            invalid("--force-new-cluster keeps the cluster's ID, --force-new-cluster-id does not: give one".to_owned())
        }
        (true, false) => Ok(Some(Survive::SameCluster)),
        (false, true) => Ok(Some(Survive::NewCluster)),
        (false, false) => Ok(None),
    }
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
    usize::try_from(given).or_else(|_| invalid(format!("--{name} is too large for this machine (set to {given})")))
}

fn allowed(list: Vec<String>) -> Allowed {
    if list.is_empty() || list.iter().any(|w| w == "*") { Allowed::Everyone } else { Allowed::Only(list) }
}

fn metrics(s: &Settings) -> Result<MetricsLevel, ConfigError> {
    match s.text("metrics").as_str() {
        "basic" | "" => Ok(MetricsLevel::Basic),
        "extensive" => Ok(MetricsLevel::Extensive),
        other => invalid(format!("unknown --metrics {other:?}, supported values basic, extensive")),
    }
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
    let (mode, retention) = (s.text("auto-compaction-mode"), s.text("auto-compaction-retention"));
    let periodic = match mode.as_str() {
        "periodic" => true,
        "revision" => false,
        "" => return invalid("undefined auto-compaction-mode".to_owned()),
        _ => {
            return invalid(format!("unknown auto-compaction-mode {mode:?}, supported values periodic, revision"));
        }
    };
    let retention = if retention.is_empty() { "0" } else { &retention };
    let too_long = || ConfigError::Invalid(format!("--auto-compaction-retention {retention:?} is too long"));
    match retention.parse::<i64>() {
        Ok(0) => Ok(AutoCompaction::Off),
        Ok(n) if n > 0 && periodic => {
            let nanos = n.checked_mul(3_600_000_000_000).ok_or_else(too_long)?;
            Ok(AutoCompaction::Periodic(GoDuration(nanos).positive().unwrap_or_default()))
        }
        Ok(n) if n > 0 => Ok(AutoCompaction::Revision(n)),
        _ => {
            let given = GoDuration::parse(retention)
                .map_err(|e| ConfigError::Invalid(format!("error parsing CompactionRetention: {e}")))?;
            match given.positive() {
                Some(Duration::ZERO) => Ok(AutoCompaction::Off),
                Some(d) if periodic => Ok(AutoCompaction::Periodic(d)),
                Some(_) => invalid(format!(
                    "--auto-compaction-retention {retention:?} must be a number of revisions with \
                     --auto-compaction-mode=revision"
                )),
                None => invalid(format!("--auto-compaction-retention {retention:?} must not be negative")),
            }
        }
    }
}

/// What to say where the interval was raised to its least.
fn adjusted_progress(s: &Settings) -> Option<Notice> {
    let given = s.duration(PROGRESS);
    let least = GoDuration::from(MIN_PROGRESS);
    (GoDuration(0) < given && given < least).then(|| Notice::Adjusted {
        flag: PROGRESS,
        given: given.to_string(),
        used: least.to_string(),
    })
}
