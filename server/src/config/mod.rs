//! Flags, `ETCD_*` variables and the YAML file become one validated [`Config`].
//!
//! The rules are etcd 3.6's: with a config file the file alone counts; else a flag and its variable may not both be
//! given; what neither names has its default. One table ([`table`]) says which settings there are and what becomes of
//! them. Nothing here logs, binds, or touches a data directory: what is worth a log line is kept in
//! [`Config::notices`] until there is a log.

mod args;
mod build;
mod checks;
mod cluster;
mod command;
mod derived;
mod duration;
mod effects;
mod env;
mod error;
mod features;
mod file;
mod help;
mod log_settings;
mod notice;
mod security;
mod settings;
pub mod table;
mod url;
mod value;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use cluster::InitialCluster;
pub use command::{Command, RestoreArgs, Surroundings, WalExportArgs};
pub use duration::{DurationError, GoDuration};
pub use env::Environment;
pub use error::{ConfigError, Source};
pub use features::Features;
pub use help::{help, reference};
pub use notice::Notice;
pub use security::{TlsLimits, TlsVersion, Transport};
pub use url::{Address, ListenUrl, Scheme, UrlError, join as join_urls};

/// Everything a member is told at its start. Every value is within its bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    /// Where the log goes if not under `data_dir`.
    pub wal_dir: Option<PathBuf>,

    /// At least one. Each names an IP address, `localhost` or a unix socket.
    pub listen_client_urls: Vec<ListenUrl>,
    /// Not empty: HTTP is served here and no longer on `listen_client_urls`.
    pub listen_client_http_urls: Vec<ListenUrl>,
    /// At least one.
    pub listen_peer_urls: Vec<ListenUrl>,
    pub listen_metrics_urls: Vec<ListenUrl>,
    pub advertise_client_urls: Vec<ListenUrl>,
    pub initial_advertise_peer_urls: Vec<ListenUrl>,
    pub socket: SocketOptions,

    pub client_tls: Transport,
    pub peer_tls: Transport,
    pub tls: TlsLimits,

    /// As given; see [`Config::founding_cluster`] and [`Config::joining_cluster`].
    pub initial_cluster: String,
    pub initial_cluster_state: ClusterState,
    /// Peer URLs of a cluster to join without naming all its members. Empty for none.
    pub join: Vec<ListenUrl>,
    pub initial_cluster_token: String,
    /// Starting is forbidden to whom this names.
    pub fence_file: Option<PathBuf>,
    /// Founding is tied to a permit, which may come to be here.
    pub permit_file: Option<PathBuf>,
    pub permit_holder: String,
    /// Go on alone with the data that is here.
    pub survive: Option<Survive>,
    pub strict_reconfig_check: bool,
    pub max_learners: usize,

    /// At least 1 ms.
    pub heartbeat_interval: Duration,
    /// At least five heartbeats, at most 50 s.
    pub election_timeout: Duration,
    pub pre_vote: bool,
    /// Entries between two raft snapshots, at least 1.
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot, at least 1.
    pub snapshot_catchup_entries: u64,

    /// Bytes of live data before NOSPACE; `None` for no quota.
    pub quota_backend_bytes: Option<u64>,
    pub auto_compaction: AutoCompaction,
    /// Revisions, at least 1.
    pub compaction_batch_limit: usize,
    /// Above zero.
    pub compaction_sleep_interval: Duration,

    pub max_txn_ops: usize,
    /// Bytes.
    pub max_request_bytes: usize,
    /// Streams of one connection.
    pub max_concurrent_streams: u32,
    pub keepalive: Keepalive,
    /// At least 100 ms.
    pub watch_progress_notify_interval: Duration,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,

    pub features: Features,
    /// Above zero.
    pub compact_hash_check_time: Duration,
    /// `None` for never.
    pub corrupt_check_time: Option<Duration>,
    /// Repair members that differ.
    pub corrupt_repair: bool,

    pub log: LogConfig,
    pub metrics: MetricsLevel,
    pub enable_grpc_gateway: bool,
    pub enable_pprof: bool,
    pub cors: Allowed,
    pub host_whitelist: Allowed,

    /// Never sync. Loses acknowledged writes in a crash.
    pub unsafe_no_fsync: bool,
    pub runtime: RuntimeKind,
    /// Bytes of values kept in memory.
    pub value_cache_bytes: u64,

    /// What to log once the log stands.
    pub notices: Vec<Notice>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketOptions {
    pub reuse_port: bool,
    pub reuse_address: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    New,
    Existing,
}

/// What a member goes on as whose cluster is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survive {
    /// The same cluster.
    SameCluster,
    /// A cluster with an ID of its own.
    NewCluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    Off,
    /// How much time of history to keep; above zero.
    Periodic(Duration),
    /// How many revisions to keep; above zero.
    Revision(i64),
}

/// gRPC keepalive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Shortest time between two pings of a client.
    pub min_time: Duration,
    /// Time between the server's pings; `None` for never.
    pub interval: Option<Duration>,
    /// How long a ping may stay unanswered; `None` for ever.
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsLevel {
    Basic,
    Extensive,
}

/// How the member's threads are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// One single-threaded runtime a core.
    Local,
    /// One runtime over all cores.
    Multi,
}

/// Who may call over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    Everyone,
    /// Sorted.
    Only(Vec<String>),
}

impl Allowed {
    /// Whether `who` may call.
    #[must_use]
    pub fn admits(&self, who: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(list) => list.iter().any(|allowed| allowed == who),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
    /// At least one.
    pub outputs: Vec<LogOutput>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    /// etcd's error, panic and fatal: there is nothing above an error here.
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Console,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    /// Appended to.
    File(PathBuf),
}

impl Config {
    /// The defaults, as an empty command line gives them.
    #[must_use]
    pub fn defaults() -> Self {
        build::build(&settings::Settings::default(), &|| None, Vec::new()).expect("the defaults are valid")
    }

    /// Reads a member's settings. `args` are those behind the program's name; `--help` and `--version` are
    /// [`Command::parse`]'s affair and mean nothing here.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(args: &[String], around: &Surroundings) -> Result<Self, ConfigError> {
        match Command::server(args, around)? {
            Command::Server(config) => Ok(*config),
            _ => Ok(Self::defaults()),
        }
    }

    /// The members that found a cluster with this one. For a member without data and state `new`.
    ///
    /// # Errors
    /// `--initial-cluster` does not parse, or does not agree with this member's own name and URLs; etcd's words.
    pub fn founding_cluster(&self) -> Result<InitialCluster, ConfigError> {
        let cluster = InitialCluster::parse(&self.initial_cluster)?;
        cluster.verify_founding(&self.name, &self.initial_advertise_peer_urls)?;
        Ok(cluster)
    }

    /// The members of a cluster that this one joins. For a member without data and state `existing`.
    ///
    /// # Errors
    /// As [`Config::founding_cluster`], except that the advertised URLs need not agree.
    pub fn joining_cluster(&self) -> Result<InitialCluster, ConfigError> {
        let cluster = InitialCluster::parse(&self.initial_cluster)?;
        cluster.verify_joining(&self.name)?;
        Ok(cluster)
    }

    /// How long a request may take: 5 s and two elections.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}
