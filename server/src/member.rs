//! A running member: builds the parts, starts them in order, and stops them in the reverse one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use keepstone_proto::keepstonepb::{ClusterInit, Member};
use keepstone_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use keepstone_wal::Wal;
use openraft::SnapshotPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;

use crate::api::context::{BULK_READS, Context};
use crate::api::{observe, services};
use crate::checkpointer::Checkpointer;
use crate::clocks::LeaseClock;
use crate::compactor::{Compactor, Pace};
use crate::config::{Config, ConfigError, ListenUrl, MetricsLevel, RuntimeKind};
use crate::core::{Core, Identity};
use crate::data::{self, DataError, Paths};
use crate::doors::{Listeners, OpenDoor, Opener};
use crate::metrics::{self, Metrics};
use crate::propose::Proposer;
use crate::raft::log_store::LogStore;
use crate::raft::network::Peers;
use crate::raft::read_index::ReadIndex;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::Raft;
use crate::runtime::{Layout, Workers};
use crate::tls::{self, Sides};
use crate::watch::Hub;
use crate::{clocks, purge, version};

/// Why a member did not come up as the founder of its cluster.
#[derive(Debug, thiserror::Error)]
enum FoundError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--initial-cluster names {0} members: this version runs clusters of one member")]
    SeveralMembers(usize),
    #[error("--initial-cluster-state existing: this version founds clusters and does not join them")]
    Joining,
    #[error("no randomness from the system: {0}")]
    Random(std::io::Error),
}

/// Runs a member until it is told to stop or something it stands on fails.
///
/// # Errors
/// What kept it from starting, or the failure that ended it.
pub fn run(config: Config) -> anyhow::Result<()> {
    // What a panic says goes to the log like everything else; what it ends is up to who watches the thread.
    std::panic::set_hook(Box::new(|panic| tracing::error!(what = %panic, "a thread panicked")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(run_here(Arc::new(config)))
}

fn raft_config(config: &Config) -> anyhow::Result<Arc<openraft::Config>> {
    let heartbeat = config.heartbeat_interval.as_millis() as u64;
    let election = config.election_timeout.as_millis() as u64;
    let raft = openraft::Config {
        cluster_name: "keepstone".to_owned(),
        heartbeat_interval: heartbeat,
        election_timeout_min: heartbeat + 1,
        election_timeout_max: election,
        max_payload_entries: 1024,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: config.snapshot_catchup_entries,
        purge_batch_size: 256,
        enable_pre_vote: Some(config.pre_vote),
        // A restored leader would take up its old term; an election costs a lone member one tick and is always safe.
        enable_leader_restore: Some(false),
        ..Default::default()
    };
    Ok(Arc::new(raft.validate().context("the Raft timing that follows from the flags")?))
}

/// The founder's identity and its directory's incarnation.
fn found(config: &Config) -> Result<(Identity, [u8; 16]), FoundError> {
    if config.initial_cluster_state == crate::config::ClusterState::Existing {
        return Err(FoundError::Joining);
    }
    let cluster = config.founding_cluster()?;
    if cluster.len() != 1 {
        return Err(FoundError::SeveralMembers(cluster.len()));
    }
    let urls: Vec<String> = cluster.get(&config.name).unwrap_or_default().iter().map(ListenUrl::to_string).collect();
    let member_id = data::member_id(&urls, &config.initial_cluster_token);
    let identity = Identity { cluster_id: data::cluster_id(&[member_id]), member_id };
    let mut incarnation = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").map_err(FoundError::Random)?, &mut incarnation)
        .map_err(FoundError::Random)?;
    Ok((identity, incarnation))
}

async fn run_here(config: Arc<Config>) -> anyhow::Result<()> {
    let mut signal = crate::signals::Stop::install().context("installing signal handlers")?;
    let listeners = Listeners::bind(&config)?;
    let tls = Sides::load(&config)?;
    let paths = Paths::new(&config.data_dir, config.wal_dir.as_deref());
    let metrics =
        Metrics::new(metrics::Options { extensive: config.metrics == MetricsLevel::Extensive, foreign: false });
    let mut log_options = data::log_options(&config);
    let disk = metrics.clone();
    log_options.on_sync = Some(Arc::new(move |report: keepstone_wal::SyncReport| {
        disk.disk.wal_write.observe(report.write.as_secs_f64());
        disk.disk.wal_fsync.observe(report.sync.as_secs_f64());
        disk.disk.wal_write_bytes.add(report.bytes as i64);
    }));
    let log = data::open_log(&paths, log_options, || found(&config)).map_err(|e: FoundError| e)?;
    let checkpoint = data::open_checkpoint(&paths, &log, config.value_cache_bytes)?;
    let identity = log.identity;
    tracing::info!(
        "local-member-id" = format!("{:x}", identity.member_id.0),
        "cluster-id" = format!("{:x}", identity.cluster_id),
        "data-dir" = %config.data_dir.display(),
        founded = log.founded,
        revision = checkpoint.state.revision(),
        "opened the data directory"
    );

    let layout = if config.runtime == RuntimeKind::Local { Layout::Local } else { Layout::Multi };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (mut workers, lanes) = Workers::start(layout, cores).context("starting the serving threads")?;
    let (hub, matchings) = Hub::new(workers.threads());
    for matching in matchings {
        let ring = hub.ring.clone();
        workers.spawn(move || Box::pin(matching.run(ring))).await;
    }
    let rebuilt = checkpoint.rebuilt;
    let applied = checkpoint.applied.clone();
    let core = Arc::new(Core::new(
        identity,
        checkpoint.state,
        checkpoint.records,
        hub,
        LeaseClock::new(metrics.clone()),
        metrics.clone(),
        checkpoint.applied,
    ));
    let mut failures = core.failures();
    // Before the log is replayed: it may be long, and what is applied is not to fill the memory.
    let checkpointer = Arc::new(Checkpointer::start(core.clone()).context("starting the checkpoint thread")?);

    let log_store = LogStore::new(log.wal.clone()).context("reading the log")?;
    let machine = StateMachine::new(core.clone(), applied);
    let raft = tokio::select! {
        raft = Raft::new(identity.member_id.0, raft_config(&config)?, Peers, log_store, machine) => {
            raft.context("starting Raft")?
        }
        failure = failed(&mut failures) => return close(failure, &checkpointer, &log.wal),
        () = signal.received() => return close(None, &checkpointer, &log.wal),
    };
    if !raft.is_initialized().await? {
        let founders = BTreeMap::from([(identity.member_id.0, openraft::EmptyNode {})]);
        raft.initialize(founders).await.context("founding the cluster")?;
    }

    let timeout = config.request_timeout();
    let (proposer, batcher) = Proposer::new(first_request_id(identity), timeout, config.max_request_bytes);
    let (reads, confirmers) = ReadIndex::new(workers.threads(), timeout);
    for confirmer in confirmers {
        let (raft, guard) = (raft.clone(), core.guard("confirming reads"));
        let confirming = async move {
            let _guard = guard;
            confirmer.run(raft).await;
        };
        workers.spawn(move || Box::pin(confirming)).await;
    }
    let records = core.records.clone();
    let batching = batcher.run(raft.clone(), lanes, move || records.is_over_dirty_limit());
    let guard = core.guard("proposing");
    tokio::spawn(async move {
        let _guard = guard;
        batching.await;
    });
    let pace = Pace { batch: config.compaction_batch_limit, sleep: config.compaction_sleep_interval };
    let compactor = Compactor::spawn(core.clone(), pace).context("starting the compaction thread")?;
    let ctx = Arc::new(Context {
        config: config.clone(),
        core: core.clone(),
        raft: raft.clone(),
        proposer,
        reads,
        checkpointer: checkpointer.clone(),
        bulk: Arc::new(Semaphore::new(BULK_READS)),
        paths,
    });
    tokio::spawn(follow_raft(raft.clone(), core.clone(), metrics.clone()));
    tokio::spawn(purge::run(raft.clone(), log.wal.clone(), config.clone(), checkpointer.durable()));
    show_in_metrics(&ctx);

    let stop = watch::Sender::new(false);
    let workers = Arc::new(Mutex::new(workers));
    let mut opener = Opener::new(&config, &tls, &workers, &stop);
    let started: anyhow::Result<Vec<OpenDoor>> = tokio::select! {
        started = async {
            establish(&ctx, &log).await?;
            if rebuilt {
                report_corrupt(&ctx).await?;
            }
            clocks::start(&ctx);
            let doors = services::doors(&ctx);
            opener.members(listeners.peer, &doors.peer);
            Ok(opener.clients(listeners.client, listeners.http, listeners.metrics, doors))
        } => started,
        _ = failed(&mut failures) => Ok(Vec::new()),
        () = signal.received() => Ok(Vec::new()),
    };
    let open = started?;
    let mut listening = opener.into_listening();
    if failures.borrow().is_none() && !signal.was_received() {
        open.iter().for_each(OpenDoor::log);
    }
    tokio::spawn(tls::follow(tls.all(), async || tokio::time::sleep(tls::PERIOD).await));

    let mut failure = tokio::select! {
        () = signal.received() => None,
        failure = failed(&mut failures) => failure,
        why = raft_stopped(raft.clone()) => Some(why),
    };
    core.stop();
    stop.send_replace(true);
    if failure.is_none() {
        failure = tokio::select! {
            () = drain(&mut listening, &stop, timeout) => None,
            failure = failed(&mut failures) => failure,
        };
    }
    listening.shutdown().await;
    drop(compactor);
    drop(raft.shutdown().await);
    drop(workers);
    close(failure, &checkpointer, &log.wal)
}

/// Resolves with the reason once something that the member stands on has failed.
async fn failed(failures: &mut watch::Receiver<Option<String>>) -> Option<String> {
    failures.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone())
}

/// Waits until nobody accepts connections any more and every open one has answered what was under way: for as long as
/// etcd waits, which is what a request may take.
async fn drain(listening: &mut JoinSet<()>, stop: &watch::Sender<bool>, patience: Duration) {
    let all = async {
        while listening.join_next().await.is_some() {}
        stop.closed().await;
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(connections = stop.receiver_count(), "connections are cut: they still had requests under way");
    }
}

/// The last step of every end: what was applied is written, unless something has failed.
fn close(failure: Option<String>, checkpointer: &Checkpointer, wal: &Wal) -> anyhow::Result<()> {
    if failure.is_none() {
        checkpointer.flush();
    }
    wal.close();
    match failure {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}

/// Resolves with the reason once Raft has stopped by itself.
async fn raft_stopped(raft: Raft) -> String {
    let mut metrics = raft.metrics();
    loop {
        if let Err(fatal) = &metrics.borrow_watched().running_state {
            return format!("Raft has stopped: {fatal}");
        }
        if metrics.changed().await.is_err() {
            return "Raft has stopped".to_owned();
        }
    }
}

/// IDs of requests: the member's in the top bytes, then the start time, then a counter, so that none is used twice.
fn first_request_id(identity: Identity) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
    (identity.member_id.0 << 48) | ((now & 0xff_ffff_ffff) << 8)
}

/// Keeps what headers and metrics show of Raft.
async fn follow_raft(raft: Raft, core: Arc<Core>, metrics: Arc<Metrics>) {
    let mut changes = raft.metrics();
    let mut leader = None;
    loop {
        {
            let now = changes.borrow_watched();
            core.set_term(now.current_term);
            if now.current_leader != leader {
                if now.current_leader.is_some() {
                    metrics.server.leader_changes.inc();
                }
                leader = now.current_leader;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What makes this member visible: the founding entry, its name and client URLs, the cluster version.
async fn establish(ctx: &Context, log: &data::Log) -> anyhow::Result<()> {
    // What is not known to be committed is replayed now, which may take longer than a request is given.
    while let Err(error) = ctx.reads.wait().await {
        if !matches!(error, keepstone_state::Error::Timeout) {
            anyhow::bail!("waiting for a leader: {error}");
        }
        tracing::info!("still waiting for a leader, and for its log to be applied");
    }
    let identity = ctx.core.identity;
    let config = &ctx.config;
    let urls = |urls: &[ListenUrl]| urls.iter().map(ListenUrl::to_string).collect::<Vec<_>>();
    if ctx.core.state.read().members().cluster_id().is_none() {
        let peer_urls = urls(&config.initial_advertise_peer_urls);
        let member = Member {
            id: identity.member_id.0,
            name: String::new(),
            peer_urls,
            client_urls: Vec::new(),
            is_learner: false,
        };
        let init = ClusterInit {
            cluster_id: identity.cluster_id,
            token: config.initial_cluster_token.clone(),
            members: vec![member],
        };
        propose(ctx, InternalRaftRequest { cluster_init: Some(init), ..Default::default() }).await?;
    }
    if ctx.core.state.read().members().incarnation(identity.member_id).is_none() {
        let bind = keepstone_proto::keepstonepb::MemberBind {
            member_id: identity.member_id.0,
            incarnation: log.incarnation.to_vec().into(),
            permit_nonce: Default::default(),
        };
        propose(ctx, InternalRaftRequest { member_bind: Some(bind), ..Default::default() }).await?;
    }
    let known = ctx.core.state.read().members().get(identity.member_id).cloned();
    let client_urls: Vec<String> = urls(&config.advertise_client_urls);
    if known.is_none_or(|member| member.name != config.name || member.client_urls != client_urls) {
        let member_attributes = Some(Attributes { name: config.name.clone(), client_urls });
        let set = ClusterMemberAttrSetRequest { member_id: identity.member_id.0, member_attributes };
        propose(ctx, InternalRaftRequest { cluster_member_attr_set: Some(set), ..Default::default() }).await?;
    }
    if ctx.core.state.read().members().version() != Some(version::ETCD_CLUSTER) {
        let set = ClusterVersionSetRequest { ver: version::ETCD_CLUSTER.to_owned() };
        propose(ctx, InternalRaftRequest { cluster_version_set: Some(set), ..Default::default() }).await?;
    }
    Ok(())
}

/// The store had to be rebuilt: the cluster is told, and refuses writes until somebody has looked.
async fn report_corrupt(ctx: &Context) -> anyhow::Result<()> {
    let alarm = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: ctx.core.identity.member_id.0,
        alarm: AlarmType::Corrupt as i32,
    };
    propose(ctx, InternalRaftRequest { alarm: Some(alarm), ..Default::default() }).await
}

async fn propose(ctx: &Context, request: InternalRaftRequest) -> anyhow::Result<()> {
    ctx.proposer.propose(request).await.context("publishing this member")?;
    Ok(())
}

fn show_in_metrics(ctx: &Arc<Context>) {
    let weak = Arc::downgrade(ctx);
    ctx.core.metrics.observe(move |observed| {
        if let Some(ctx) = weak.upgrade() {
            observe::fill(&ctx, observed);
        }
    });
}
