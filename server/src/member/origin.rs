//! A member's directory at a start, and how a member without a cluster comes by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::Passport;
use crate::cluster::found::{self, Founders};
use crate::cluster::join::{self, Way};
use crate::cluster::permit::{self, Found};
use crate::cluster::reception::FrontDesk;
use crate::cluster::survive::{self, SurviveError};
use crate::config::{ClusterState, Config, ConfigError};
use crate::core::Identity;
use crate::data::{self, DataError, Log, Paths};
use crate::metrics::Metrics;
use crate::peer::book::Book;
use crate::peer::grpc::Connector;

/// How long another process on the directory is waited for: a few times what one takes to end that is told to end now.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why a member did not find its cluster.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("no randomness from the system: {0}")]
    Random(std::io::Error),
    #[error("{}", crate::peer::service::REMOVED)]
    Removed,
    #[error(transparent)]
    Surviving(#[from] SurviveError),
    #[error("founding the cluster: {0}")]
    Founding(String),
    #[error("joining the cluster: {0}")]
    Joining(String),
}

/// How a member without data comes by its cluster.
pub enum Origin {
    Founds(Founders),
    Joins(Way),
    /// It founds with a permit, or joins.
    Waits(Way),
}

impl Origin {
    fn of(config: &Config) -> Result<Self, ConfigError> {
        if config.permit_file.is_some() {
            permit::way(config).map(Self::Waits)
        } else if config.initial_cluster_state == ClusterState::Existing || !config.join.is_empty() {
            Way::from_config(config).map(Self::Joins)
        } else {
            Founders::from_config(config).map(Self::Founds)
        }
    }
}

/// A member's directory, and how far it had got.
pub struct Directory {
    pub log: Log,
    /// How it comes by its cluster, unless it has one.
    pub origin: Option<Origin>,
    /// Raft has a membership: whatever comes before that is done.
    pub begun: bool,
}

impl Directory {
    /// As [`Self::open`]; but a directory that is in use is waited for. Who is started anew at once, as a container is whose
    /// pod was deleted by force, finds the process before it still on its way out.
    ///
    /// # Errors
    /// What keeps the member from starting on it.
    pub async fn open_when_free(config: &Config, paths: &Paths, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut told = false;
        loop {
            match Self::open(config, paths, metrics) {
                Err(error) if is_locked(&error) && began.elapsed() < LOCK_PATIENCE => {
                    if !told {
                        tracing::warn!(why = %error, "waiting for the data directory");
                        told = true;
                    }
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    /// Opens the log, and makes it if there is none.
    ///
    /// # Errors
    /// What keeps the member from starting on it.
    pub fn open(config: &Config, paths: &Paths, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let mut origin = None;
        let mut log = data::open_log(paths, log_options(config, metrics), || {
            if config.survive.is_some() {
                return Err(FoundError::Surviving(SurviveError::NoData));
            }
            let found = Origin::of(config)?;
            let identity = if let Origin::Founds(founders) = &found { Some(founders.identity) } else { None };
            origin = Some(found);
            Passport::new(identity).map_err(FoundError::Random)
        })?;
        if log.passport.removed {
            anyhow::bail!(FoundError::Removed);
        }
        survive::carry_out(config, &mut log)?;
        // A start that was cut off before the cluster was there goes on where it stopped.
        if origin.is_none() && !log.passport.settled {
            origin = Some(Origin::of(config)?);
        }
        let begun = log.wal.last().is_some();
        Ok(Self { log, origin, begun })
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(FoundError::Data(DataError::Log(keepstone_wal::WalError::Locked { .. }))))
}

fn log_options(config: &Config, metrics: &Arc<Metrics>) -> keepstone_wal::Options {
    let mut options = data::log_options(config);
    let disk = metrics.clone();
    options.on_sync = Some(Arc::new(move |report: keepstone_wal::SyncReport| {
        disk.disk.wal_write.observe(report.write.as_secs_f64());
        disk.disk.wal_fsync.observe(report.sync.as_secs_f64());
        disk.disk.wal_write_bytes.add(report.bytes as i64);
    }));
    options
}

/// Meets the founders or is let in by members, if this member's directory has no cluster yet. Returns who it is, and
/// with whom it founds.
pub async fn find_cluster(
    config: &Config,
    origin: Option<&Origin>,
    begun: bool,
    desk: &Arc<FrontDesk>,
    connector: &Connector,
    book: &Book,
) -> Result<(Identity, Option<Founders>), FoundError> {
    let founds = |founders: Founders| (founders.identity, Some(founders));
    match origin {
        Some(Origin::Founds(founders)) => {
            if !begun {
                found::meet(founders, desk, connector).await.map_err(FoundError::Founding)?;
            }
            Ok(founds(founders.clone()))
        }
        Some(Origin::Joins(way)) => {
            let (identity, members) = join::claim(way, desk, connector).await.map_err(FoundError::Joining)?;
            book.update(&members);
            Ok((identity, None))
        }
        Some(Origin::Waits(way)) => {
            if let Some(founders) = permit::under_way(config, &desk.passport()).filter(|_| begun) {
                return Ok(founds(founders));
            }
            let found = permit::found_or_join(config, way, desk, connector).await.map_err(FoundError::Joining)?;
            match found {
                Found::Founds(founders) => Ok(founds(founders)),
                Found::Joined(identity, members) => {
                    book.update(&members);
                    Ok((identity, None))
                }
            }
        }
        None => {
            let unclaimed = || FoundError::Joining("the data directory belongs to no member yet".to_owned());
            desk.passport().identity.map(|identity| (identity, None)).ok_or_else(unclaimed)
        }
    }
}
