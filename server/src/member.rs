//! A running member: builds the parts, starts them in order, and stops them in the reverse one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use keepstone_state::MemberId;
use keepstone_wal::Wal;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, SnapshotPolicy};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::api::context::{BULK_READS, Context};
use crate::api::range::allowance::Allowance;
use crate::api::{http, observe, services};
use crate::audit::Audit;
use crate::checkpointer::Checkpointer;
use crate::cluster::establish::establish;
use crate::cluster::found::Founders;
use crate::cluster::gate::MemberGate;
use crate::cluster::reception::FrontDesk;
use crate::cluster::{Leadership, fence, handover, reconcile};
use crate::compactor::{Compactor, Pace};
use crate::config::{Config, MetricsLevel, RuntimeKind};
use crate::core::{Core, Identity};
use crate::data::{self, Paths};
use crate::doors::{Listeners, OpenDoor, Opener};
use crate::forward::{Awaiting, Batch, Route};
use crate::metrics::{self, Metrics};
use crate::peer::Transport;
use crate::peer::book::Book;
use crate::peer::grpc::{Connector, GrpcTransport};
use crate::peer::heartbeat;
use crate::peer::inbox::MemberInbox;
use crate::peer::service::{PeerService, Running};
use crate::peer::traffic::Traffic;
use crate::propose::{Batcher, Proposer};
use crate::raft::log_store::LogStore;
use crate::raft::network::Peers;
use crate::raft::read_index::{Asker, Confirmer, ReadIndex};
use crate::raft::snapshot::{self, DiskHome, Receiver};
use crate::raft::state_machine::StateMachine;
use crate::raft::types::Raft;
use crate::runtime::{Layout, Workers};
use crate::tls::{self, PeerConnector, Sides};
use crate::watch::Hub;
use crate::{clocks, huge_pages, purge};

mod origin;

use origin::{Directory, FoundError, Origin, find_cluster};

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

/// How Raft is timed.
///
/// # Errors
/// When the flags ask for what Raft refuses.
pub fn raft_config(config: &Config) -> anyhow::Result<Arc<openraft::Config>> {
    let heartbeat = config.heartbeat_interval.as_millis() as u64;
    let election = config.election_timeout.as_millis() as u64;
    let raft = openraft::Config {
        cluster_name: "keepstone".to_owned(),
        heartbeat_interval: heartbeat,
        // Raft's longest timeout is also the leader's lease, after which a member's own timeout begins: an election comes
        // later than one election timeout and earlier than two. A member that loses elections keeps the timeout it drew,
        // so those that are left tend to be long ones: the range is shorter than etcd's to be no later than it.
        election_timeout_min: heartbeat + 1,
        election_timeout_max: election.saturating_sub(heartbeat),
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        max_payload_entries: 1024,
        snapshot_policy: SnapshotPolicy::Never,
        // `purge` alone decides: it knows what is held for members that lag.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(config.pre_vote),
        // A restored leader would take up its old term; an election costs a lone member one tick and is always safe.
        enable_leader_restore: Some(false),
        ..Default::default()
    };
    Ok(Arc::new(raft.validate().context("the Raft timing that follows from the flags")?))
}

async fn run_here(config: Arc<Config>) -> anyhow::Result<()> {
    let mut signal = crate::signals::Stop::install().context("installing signal handlers")?;
    tokio::select! {
        () = fence::lifted(&config) => {}
        () = signal.received() => return Ok(()),
    }
    let listeners = Listeners::bind(&config)?;
    let tls = Sides::load(&config)?;
    let paths = Paths::new(&config.data_dir, config.wal_dir.as_deref());
    let metrics = Metrics::new(metrics::Options {
        extensive: config.metrics == MetricsLevel::Extensive,
        foreign: false,
        slow_apply: Some(config.warning_apply_duration).filter(|slow| !slow.is_zero()),
    });
    let Directory { log, origin, begun } = tokio::select! {
        opened = Directory::open_when_free(&config, &paths, &metrics) => opened?,
        () = signal.received() => return Ok(()),
    };
    let founders = if let Some(Origin::Founds(founders)) = &origin { Some(founders.clone()) } else { None };

    let layout = if config.runtime == RuntimeKind::Local { Layout::Local } else { Layout::Multi };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (workers, lanes) = Workers::start(layout, cores).context("starting the serving threads")?;
    let workers = Arc::new(Mutex::new(workers));
    let (stop, stop_peers) = (watch::Sender::new(false), watch::Sender::new(false));

    let known = founders.iter().flat_map(|founders| founders.members.keys().copied()).collect();
    let desk = FrontDesk::new(log.wal.clone(), log.passport.clone(), known);
    let (running, peer_http) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let peer_service = PeerService::new(desk.clone(), running.clone());
    let card = http::card_router(&config.name, &desk);
    let early = card.clone().merge(http::repair_router(&desk));
    let peer_doors = services::peer_doors(&metrics, peer_service, early, peer_http.clone(), stop_peers.subscribe());
    let mut to_peers = Opener::new(&config, &tls, &workers, &stop_peers);
    to_peers.members(listeners.peer, &peer_doors);
    let mut listening_to_peers = to_peers.into_listening();
    tokio::spawn(tls::follow(tls.all(), async || tokio::time::sleep(tls::PERIOD).await));

    let connector = Connector { patience: config.election_timeout, dial: PeerConnector::new(tls.peer.clone()) };
    let book = founders.as_ref().map_or_else(Book::default, |founders| {
        Book::new(founders.members.iter().map(|(id, founder)| (*id, founder.peer_urls.clone())))
    });
    let (identity, founders) = tokio::select! {
        found = find_cluster(&config, origin.as_ref(), begun, &desk, &connector, &book) => found?,
        () = signal.received() => return Ok(()),
    };
    huge_pages::allow_for(&paths.store);
    let checkpoint = data::open_checkpoint(&paths, &log, identity, config.value_cache_bytes)?;
    tracing::info!(
        "local-member-id" = format!("{:x}", identity.member_id.0),
        "cluster-id" = format!("{:x}", identity.cluster_id),
        "data-dir" = %config.data_dir.display(),
        founded = log.founded,
        revision = checkpoint.state.revision(),
        "opened the data directory"
    );

    let threads = workers.lock().await.threads();
    let (hub, matchings) = Hub::new(threads);
    for matching in matchings {
        let ring = hub.ring.clone();
        workers.lock().await.spawn(move || Box::pin(matching.run(ring))).await;
    }
    let rebuilt = checkpoint.rebuilt;
    let applied = checkpoint.applied.clone();
    let awaiting = Awaiting::new(lanes.clone());
    let core = Arc::new(Core::new(identity, checkpoint, hub, metrics.clone(), awaiting, book.clone()));
    let mut failures = core.failures();
    // Before the log is replayed: it may be long, and what is applied is not to fill the memory.
    let checkpointer = Arc::new(Checkpointer::start(core.clone()).context("starting the checkpoint thread")?);

    let leadership = Leadership::new(identity.member_id, config.election_timeout);
    let traffic = Traffic::new(identity.member_id, metrics.clone());
    let grpc = GrpcTransport::new(identity, log.passport.incarnation, book, connector, traffic.clone());
    let transport: Arc<dyn Transport> = Arc::new(grpc.clone());
    let log_store = LogStore::new(log.wal.clone()).context("reading the log")?;
    let audit = Audit::from_environment(&config.data_dir, identity)?;
    let machine = StateMachine::new(core.clone(), applied, log_store.synced()).audited(audit);
    let peers = Peers::new(core.clone(), transport.clone(), leadership.clone(), log_store.missed());
    let raft = tokio::select! {
        raft = Raft::new(identity.member_id.0, raft_config(&config)?, peers, log_store, machine) => {
            raft.context("starting Raft")?
        }
        failure = failed(&mut failures) => return close(failure, &checkpointer, &log.wal),
        () = signal.received() => return close(None, &checkpointer, &log.wal),
    };
    if !raft.is_initialized().await? {
        initialize(&raft, &core, founders.as_ref()).await?;
    }
    if founders.is_none() {
        desk.update(|passport| passport.settled = true).context("noting that the member has its cluster")?;
    }
    tokio::spawn(follow_raft(raft.clone(), core.clone(), metrics.clone(), leadership.clone(), config.clone()));

    let timeout = config.request_timeout();
    let (proposer, batcher) =
        Proposer::new(first_request_id(identity), timeout, config.max_request_bytes, leadership.clone());
    let (reads, confirmers) = ReadIndex::new(threads, timeout);
    let asker = Asker {
        me: identity.member_id,
        raft: raft.clone(),
        leadership: leadership.clone(),
        transport: transport.clone(),
    };
    confirm_reads(&workers, &core, confirmers, &asker).await;
    let (returned, returning) = mpsc::unbounded_channel();
    let route = Route {
        me: identity.member_id,
        raft: raft.clone(),
        lanes,
        leadership: leadership.clone(),
        transport: transport.clone(),
        awaiting: core.awaiting.clone(),
        returned,
    };
    propose_batches(&core, batcher, route.clone(), returning);
    let pace = Pace { batch: config.compaction_batch_limit, sleep: config.compaction_sleep_interval };
    let compactor = Compactor::spawn(core.clone(), pace).context("starting the compaction thread")?;
    let ctx = Arc::new(Context {
        config: config.clone(),
        core: core.clone(),
        raft: raft.clone(),
        leadership,
        transport,
        route,
        proposer,
        reads,
        checkpointer: checkpointer.clone(),
        snapshots: Receiver::new(core.clone(), raft.clone(), DiskHome::new(&paths, log.wal.clone())),
        bulk: Arc::new(Semaphore::new(BULK_READS)),
        lists: Allowance::default(),
        paths,
    });
    let gate = Arc::new(MemberGate::new(core.clone(), desk.clone()));
    drop(running.set(Running { gate, inbox: Arc::new(MemberInbox::new(ctx.clone())), traffic }));
    drop(peer_http.set(http::peer_router(&ctx)));
    desk.open(ctx.clone());
    keep_up(&ctx, &grpc, &log.wal);

    let mut opener = Opener::new(&config, &tls, &workers, &stop);
    let started: anyhow::Result<Vec<OpenDoor>> = tokio::select! {
        started = async {
            take_part(&ctx, founders.as_ref(), &desk, rebuilt).await?;
            let mut doors = services::doors(&ctx);
            doors.metrics.http = doors.metrics.http.merge(card);
            Ok(opener.clients(listeners.client, listeners.http, listeners.metrics, doors))
        } => started,
        why = removed(&ctx, &grpc, &desk) => Err(why),
        _ = failed(&mut failures) => Ok(Vec::new()),
        () = signal.received() => Ok(Vec::new()),
    };
    let mut listening = opener.into_listening();
    if failures.borrow().is_none()
        && !signal.was_received()
        && let Ok(open) = &started
    {
        open.iter().for_each(OpenDoor::log);
    }

    let mut failure = match started {
        Err(error) => Some(error.to_string()),
        Ok(_) => tokio::select! {
            () = signal.received() => {
                handover::step_aside(&ctx).await;
                None
            }
            failure = failed(&mut failures) => failure,
            why = removed(&ctx, &grpc, &desk) => Some(why.to_string()),
            why = raft_stopped(raft.clone()) => Some(why),
        },
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
    stop_peers.send_replace(true);
    listening_to_peers.shutdown().await;
    drop(workers);
    close(failure, &checkpointer, &log.wal)
}

/// Has every serving thread ask who leads for the reads that wait there.
async fn confirm_reads(workers: &Mutex<Workers>, core: &Arc<Core>, confirmers: Vec<Confirmer>, asker: &Asker) {
    for confirmer in confirmers {
        let (asker, guard) = (asker.clone(), core.guard("confirming reads"));
        let confirming = async move {
            let _guard = guard;
            confirmer.run(asker).await;
        };
        workers.lock().await.spawn(move || Box::pin(confirming)).await;
    }
}

fn propose_batches(core: &Arc<Core>, batcher: Batcher, route: Route, returning: mpsc::UnboundedReceiver<Batch>) {
    let records = core.records.clone();
    let batching = batcher.run(route, returning, move || records.is_over_dirty_limit());
    let guard = core.guard("proposing");
    tokio::spawn(async move {
        let _guard = guard;
        batching.await;
    });
}

/// Starts what a member does besides serving, as a member of a cluster or on its way into one.
fn keep_up(ctx: &Arc<Context>, grpc: &GrpcTransport, wal: &Arc<Wal>) {
    tokio::spawn(reconcile::run(ctx.clone()));
    tokio::spawn(heartbeat::run(grpc.clone(), others(&ctx.core)));
    let durable = ctx.checkpointer.durable();
    tokio::spawn(purge::run(ctx.core.clone(), ctx.raft.clone(), wal.clone(), ctx.config.clone(), durable));
    let segments = wal.clone();
    tokio::spawn(snapshot::tend(Arc::downgrade(&ctx.core), move || segments.stats().segments));
    show_in_metrics(ctx);
}

/// Waits until the cluster has the member, and does what has to come before a client is served.
async fn take_part(
    ctx: &Arc<Context>,
    founders: Option<&Founders>,
    desk: &FrontDesk,
    rebuilt: bool,
) -> anyhow::Result<()> {
    establish(ctx, founders, &desk.passport()).await?;
    // Not before the founding entry is in the log: a founder that is stopped before that still has to write it.
    desk.update(|passport| passport.settled = true).context("noting that the member has its cluster")?;
    if rebuilt {
        report_corrupt(ctx).await?;
    }
    if ctx.config.features.initial_corrupt_check {
        clocks::corruption::initial(ctx).await?;
    }
    clocks::start(ctx);
    Ok(())
}

/// Gives Raft its first membership: the founders, or whoever a restored state has. A member that joins is told.
async fn initialize(raft: &Raft, core: &Core, founders: Option<&Founders>) -> anyhow::Result<()> {
    let voters: BTreeMap<_, _> = match founders {
        Some(founders) => founders.members.keys().map(|id| (id.0, openraft::EmptyNode {})).collect(),
        None => core.state.read().members().iter().map(|member| (member.id, openraft::EmptyNode {})).collect(),
    };
    if !voters.is_empty() {
        raft.initialize(voters).await.context("founding the cluster")?;
    }
    Ok(())
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

/// Resolves once this member knows that it was removed from its cluster; that is on disk then.
async fn removed(ctx: &Context, grpc: &GrpcTransport, desk: &FrontDesk) -> anyhow::Error {
    let me = ctx.core.identity.member_id;
    let mut members = ctx.core.members_changed();
    let let_go = async {
        loop {
            members.borrow_and_update();
            if ctx.core.state.read().members().is_removed(me) && !ctx.core.in_raft(me) {
                return;
            }
            if members.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = grpc.removed() => {}
        () = let_go => {}
    }
    if let Err(error) = desk.update(|passport| passport.removed = true) {
        tracing::error!(%error, "noting that this member was removed");
    }
    FoundError::Removed.into()
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

/// Keeps what headers and metrics show of Raft, and what is known of the leader.
pub async fn follow_raft(
    raft: Raft,
    core: Arc<Core>,
    metrics: Arc<Metrics>,
    leadership: Leadership,
    config: Arc<Config>,
) {
    let mut changes = raft.metrics();
    let mut leader = None;
    loop {
        {
            let now = changes.borrow_watched();
            core.set_term(now.current_term);
            let alone = now.membership_config.voter_ids().count() == 1;
            let heard = now.last_quorum_acked.as_ref().is_some_and(|at| at.elapsed() <= config.election_timeout);
            leadership.update(now.current_leader.map(MemberId), now.current_term, alone || heard);
        }
        let known = leadership.leader();
        if known != leader {
            if known.is_some() {
                metrics.server.leader_changes.inc();
            }
            core.awaiting.tidy();
            leader = known;
        }
        // Silence changes nothing that Raft would tell of.
        match tokio::time::timeout(config.heartbeat_interval, changes.changed()).await {
            Ok(Err(_)) => return,
            Ok(Ok(())) | Err(_) => core.awaiting.tidy(),
        }
    }
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

/// The members beside this one.
fn others(core: &Arc<Core>) -> impl Fn() -> Vec<MemberId> + Send + 'static {
    let core = Arc::downgrade(core);
    move || {
        let Some(core) = core.upgrade() else { return Vec::new() };
        let state = core.state.read();
        let ids = state.members().iter().map(|member| MemberId(member.id));
        ids.filter(|id| *id != core.identity.member_id).collect()
    }
}

fn show_in_metrics(ctx: &Arc<Context>) {
    let weak = Arc::downgrade(ctx);
    ctx.core.metrics.observe(move |observed| {
        if let Some(ctx) = weak.upgrade() {
            observe::fill(&ctx, observed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_comes_after_one_and_before_two_timeouts() {
        for (heartbeat, election) in [(1, 5), (10, 50), (100, 1000), (500, 50_000)] {
            let mut config = Config::defaults();
            config.heartbeat_interval = Duration::from_millis(heartbeat);
            config.election_timeout = Duration::from_millis(election);
            let raft = raft_config(&config).expect("flags that are allowed");
            let (shortest, longest) = (raft.election_timeout_min, raft.election_timeout_max);
            let lease = longest;
            assert!(lease + shortest > election && lease + longest < 2 * election, "{shortest} to {longest}");
        }
    }
}
