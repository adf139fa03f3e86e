//! What the process is asked to be: a member, or one of the offline tools. Only reads arguments.

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;

use clap::Parser;

use super::args::{self, Line};
use super::cluster::InitialCluster;
use super::env::{self, Environment};
use super::error::ConfigError;
use super::notice::Notice;
use super::url::ListenUrl;
use super::{Config, build, file};

/// What the process should do.
#[derive(Debug)]
pub enum Command {
    /// Be a member.
    Server(Box<Config>),
    /// `restore FILE`: make a data directory from a backup.
    Restore(RestoreArgs),
    /// `wal export DIR`: write the log in etcd's format.
    WalExport(WalExportArgs),
    /// `--version`
    Version,
    /// `--help`; for a sub-command its own text.
    Help(String),
}

/// What the process finds around it. Handed in, so that tests have their own.
pub struct Surroundings {
    pub env: Vec<(String, String)>,
    /// The address of the default route, asked for only where a member listens on 0.0.0.0 and advertises nothing.
    pub default_host: fn() -> Option<String>,
}

impl Surroundings {
    /// Those of this process. Variables that are no Unicode are left out: no setting can be read from them.
    #[must_use]
    pub fn real() -> Self {
        Self {
            env: std::env::vars_os()
                .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            default_host: default_route_host,
        }
    }

    /// No variables, no network.
    #[must_use]
    pub fn none() -> Self {
        Self { env: Vec::new(), default_host: || None }
    }
}

/// Connecting a datagram socket sends nothing; it only makes the kernel choose the address it would send from.
fn default_route_host() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // 192.0.2.0/24 is reserved for documentation and lies behind the default route.
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_unspecified() && !ip.is_loopback() => Some(ip.to_string()),
        _ => None,
    }
}

/// `keepstone restore`, with the flags of `etcdutl snapshot restore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreArgs {
    /// The backup: a bbolt file.
    pub snapshot: PathBuf,
    /// Must not hold a member yet.
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub name: String,
    /// The members of the cluster founded from the backup; holds `name`.
    pub initial_cluster: InitialCluster,
    pub initial_cluster_token: String,
    pub initial_advertise_peer_urls: Vec<ListenUrl>,
    /// Take a file without its checksum, copied from a data directory.
    pub skip_hash_check: bool,
    /// By how much the revision is raised; above zero only together with `mark_compacted`.
    pub bump_revision: u64,
    /// The highest revision counts as compacted.
    pub mark_compacted: bool,
}

/// `keepstone wal export`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalExportArgs {
    /// Where `member/wal` and `member/snap` are written.
    pub target: PathBuf,
    /// The stopped member's directory.
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
}

#[derive(Parser)]
#[command(name = "keepstone", disable_version_flag = true)]
enum Tool {
    /// Make a data directory from a backup.
    Restore(RestoreLine),
    /// Work on the log of a stopped member.
    #[command(subcommand)]
    Wal(WalTool),
}

#[derive(Parser)]
enum WalTool {
    /// Write the log as etcd's member/wal and member/snap.
    Export(ExportLine),
}

#[derive(Parser)]
struct RestoreLine {
    /// The backup, as `etcdctl snapshot save` writes it.
    file: PathBuf,
    /// The directory to make; ${name}.etcd by default.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// A directory of its own for the log.
    #[arg(long)]
    wal_dir: Option<PathBuf>,
    /// Human-readable name of this member.
    #[arg(long, default_value = "default")]
    name: String,
    /// name=url of every founding member; this member alone by default.
    #[arg(long)]
    initial_cluster: Option<String>,
    /// A word that tells clusters of equal members apart.
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// This member's peer URLs.
    #[arg(long, default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// Do not ask for the checksum, for a file copied from a data directory.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    skip_hash_check: bool,
    /// How much to raise the revision after the restore.
    #[arg(long, default_value_t = 0)]
    bump_revision: u64,
    /// Mark the highest revision as compacted; goes with --bump-revision.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    mark_compacted: bool,
    /// Accepted for etcdutl's sake; nothing is mapped into memory.
    #[arg(long, hide = true)]
    #[allow(dead_code)]
    initial_memory_map_size: Option<u64>,
}

#[derive(Parser)]
struct ExportLine {
    /// The directory to write to.
    dir: PathBuf,
    /// The data directory of the stopped member.
    #[arg(long)]
    data_dir: PathBuf,
    /// Its log directory, if it has one of its own.
    #[arg(long)]
    wal_dir: Option<PathBuf>,
}

impl Command {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// [`ConfigError`]; its exit code says whether the line or its meaning is wrong.
    pub fn parse(args: &[String], around: &Surroundings) -> Result<Self, ConfigError> {
        match args.first().map(String::as_str) {
            Some(name @ ("gateway" | "grpc-proxy")) => Err(ConfigError::Invalid(format!(
                "{name:?} is not in keepstone; etcd's own `etcd {name}` works in front of it"
            ))),
            Some("restore" | "wal") => Self::tool(args),
            _ => Self::server(args, around),
        }
    }

    /// As [`Command::parse`], without sub-commands.
    pub(super) fn server(args: &[String], around: &Surroundings) -> Result<Self, ConfigError> {
        let (mut settings, rest) = match args::read(args)? {
            Line::Help => return Ok(Self::Help(super::help())),
            Line::Given { settings, rest } => (settings, rest),
        };
        if let Some(word) = rest {
            return Err(ConfigError::NotAFlag(word));
        }
        if settings.bool("version") {
            return Ok(Self::Version);
        }
        let mut notices = Vec::new();
        let path = match settings.text("config-file") {
            path if path.is_empty() => env_file(&around.env),
            path => Some(path),
        };
        if let Some(path) = path {
            let ignored = settings
                .iter()
                .filter(|s| s.flag.name != "config-file")
                .map(|s| format!("--{}", s.flag.name))
                .collect();
            settings = file::read(&path, &mut notices)?;
            notices.push(Notice::FileLoaded { path, ignored });
        } else {
            env::fill_in(&mut settings, &around.env, &mut notices)?;
        }
        let config = build::build(&settings, &around.default_host, notices)?;
        Ok(Self::Server(Box::new(config)))
    }

    fn tool(args: &[String]) -> Result<Self, ConfigError> {
        let line = std::iter::once("keepstone").chain(args.iter().map(String::as_str));
        match Tool::try_parse_from(line) {
            Ok(Tool::Restore(line)) => restore(line).map(Self::Restore),
            Ok(Tool::Wal(WalTool::Export(line))) => {
                Ok(Self::WalExport(WalExportArgs { target: line.dir, data_dir: line.data_dir, wal_dir: line.wal_dir }))
            }
            Err(e) if e.use_stderr() => {
                let text = e.to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                Err(ConfigError::Command(text.trim_end().to_owned()))
            }
            Err(e) => Ok(Self::Help(e.to_string())),
        }
    }
}

fn env_file(env: &Environment) -> Option<String> {
    env::lookup(env, "ETCD_CONFIG_FILE").map(str::to_owned)
}

fn restore(line: RestoreLine) -> Result<RestoreArgs, ConfigError> {
    let wrong = |text: String| Err(ConfigError::Invalid(text));
    let urls = ListenUrl::parse_list(&line.initial_advertise_peer_urls)
        .map_err(|e| ConfigError::Invalid(format!("--initial-advertise-peer-urls: {e}")))?;
    let cluster = match line.initial_cluster {
        Some(text) => text,
        None => urls.iter().map(|u| format!("{}={u}", line.name)).collect::<Vec<_>>().join(","),
    };
    let cluster = InitialCluster::parse(&cluster)?;
    cluster.verify_founding(&line.name, &urls)?;
    if line.mark_compacted != (line.bump_revision > 0) {
        return wrong("--mark-compacted and --bump-revision (above 0) go together".to_owned());
    }
    Ok(RestoreArgs {
        snapshot: line.file,
        data_dir: line.data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.etcd", line.name))),
        wal_dir: line.wal_dir,
        name: line.name,
        initial_cluster: cluster,
        initial_cluster_token: line.initial_cluster_token,
        initial_advertise_peer_urls: urls,
        skip_hash_check: line.skip_hash_check,
        bump_revision: line.bump_revision,
        mark_compacted: line.mark_compacted,
    })
}
