//! A member, put together from its real parts on a simulated machine.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keepstone::api::context::{BULK_READS, Context};
use keepstone::api::range::allowance::Allowance;
use keepstone::checkpointer::{self, Checkpointer};
use keepstone::clocks;
use keepstone::cluster::found::{Founder, Founders};
use keepstone::cluster::passport::Survival;
use keepstone::cluster::reception::FrontDesk;
use keepstone::cluster::{Leadership, Passport, establish, reconcile};
use keepstone::compactor::{self, Compactor, Pace as CompactionPace};
use keepstone::config::Config;
use keepstone::core::{Core, Identity};
use keepstone::data::{Checkpoint, Paths};
use keepstone::forward::{Awaiting, Route};
use keepstone::lanes::Lanes;
use keepstone::metrics::{self, Metrics};
use keepstone::peer::Transport;
use keepstone::peer::book::Book;
use keepstone::propose::Proposer;
use keepstone::raft::codec::{self, Applied};
use keepstone::raft::log_store::LogStore;
use keepstone::raft::network::Peers;
use keepstone::raft::read_index::{Asker, ReadIndex};
use keepstone::raft::snapshot::{self, Receiver};
use keepstone::raft::state_machine::StateMachine;
use keepstone::raft::synced::Synced;
use keepstone::raft::types::Raft;
use keepstone::watch::Hub;
use keepstone::{host, member, purge};
use keepstone_state::{MemberId, Restore, Revision, State};
use keepstone_store::{Opened, Options as StoreOptions, RecordStore};
use keepstone_wal::{Disk, Options as LogOptions, Wal};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::error::{InitializeError, RaftError};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::churn;
use crate::cluster::{Cluster, Standing};
use crate::dice::Dice;
use crate::disks::{Disks, LOG_DIR, Pace};
use crate::faulty::FaultyLog;
use crate::home::{Installed, Places, SimHome};
use crate::lazy::LazyDisk;
use crate::machine::Machine;
use crate::oracle::OpenLog;
use crate::plan::{Fault, Plan};
use crate::transport::SimTransport;

const CLUSTER: u64 = 0xc1;

/// A member that runs.
pub struct Member {
    pub machine: Arc<Machine>,
    pub ctx: Arc<Context>,
    pub raft: Raft,
    pub wal: Arc<Wal>,
    pub pace: Arc<Pace>,
    pub desk: Arc<FrontDesk>,
    pub installed: Installed,
}

/// What a member is told.
fn config(id: u64, plan: &Plan) -> Config {
    Config {
        name: format!("m{id}"),
        heartbeat_interval: Duration::from_millis(100),
        election_timeout: Duration::from_millis(1000),
        snapshot_count: 50,
        snapshot_catchup_entries: plan.catchup,
        strict_reconfig_check: plan.strict,
        compaction_batch_limit: 10,
        watch_progress_notify_interval: Duration::from_secs(2),
        ..Config::defaults()
    }
}

fn founders(members: u64, me: u64) -> Founders {
    let founder = |id: u64| {
        let founder = Founder { name: format!("m{id}"), peer_urls: vec![churn::url(id)] };
        (MemberId(id), founder)
    };
    Founders { identity: identity(me), members: (1..=members).map(founder).collect() }
}

fn identity(id: u64) -> Identity {
    Identity { cluster_id: CLUSTER, member_id: MemberId(id) }
}

/// As if the founders had met: that is tried with real processes.
fn passport(cluster: &Cluster, me: u64) -> Passport {
    let directory = |id: u64| (MemberId(id), churn::incarnation(id));
    let founders = if cluster.standing(me) == Standing::Founder { cluster.plan.members } else { 0 };
    Passport {
        identity: Some(identity(me)),
        incarnation: directory(me).1,
        founders: (1..=founders).filter(|id| *id != me).map(directory).collect(),
        settled: true,
        removed: false,
        survival: Survival::None,
        former_clusters: Vec::new(),
        permit: bytes::Bytes::new(),
    }
}

impl Member {
    /// Starts what is on `disks`; founds the member if that is nothing. Runs on the machine.
    ///
    /// # Errors
    /// What kept it from starting: after a crash nothing may.
    pub async fn start(cluster: Arc<Cluster>, machine: Arc<Machine>, disks: Disks, mut dice: Dice) -> Result<Self> {
        let (id, members) = (machine.id, cluster.plan.members);
        let founds = cluster.standing(id) == Standing::Founder;
        if cluster.standing(id) == Standing::Added {
            churn::join(&cluster, id, dice.fork()).await;
            cluster.joined(id);
        }
        let me = MemberId(id);
        let config = Arc::new(config(id, &cluster.plan));
        let pace = Arc::new(Pace::new(dice.fork()));
        let wal = open_log(&cluster, &disks, &pace, &mut dice)?;
        let log = OpenLog::new(wal.clone(), LogStore::new(wal.clone())?);
        cluster.opened(id, log.clone());
        let metrics = Metrics::new(metrics::Options::default());
        let (core, applied) = open_core(id, &disks.stores, &wal, &metrics)?;
        let (checkpointer, worker) = Checkpointer::inline(core.clone());
        host::spawn(checkpoint(core.clone(), worker, dice.fork()));

        let leadership = Leadership::new(me, config.election_timeout);
        let transport: Arc<dyn Transport> = Arc::new(SimTransport::new(id, &cluster));
        let peers = Peers::new(core.clone(), transport.clone(), leadership.clone(), log.store.missed());
        let fault = cluster.plan.fault;
        let synced = if fault == Some(Fault::ApplyBeforeSync) { Synced::all() } else { log.synced.clone() };
        let state = StateMachine::new(core.clone(), applied, synced);
        let timing = member::raft_config(&config)?;
        let raft = match fault {
            Some(fault) => Raft::new(id, timing, peers, FaultyLog::new(&log, fault, id), state).await?,
            None => Raft::new(id, timing, peers, log.store.clone(), state).await?,
        };
        if founds && !raft.is_initialized().await? {
            initialize(&raft, members).await?;
        }
        let following = (raft.clone(), core.clone(), metrics.clone(), leadership.clone(), config.clone());
        host::spawn(member::follow_raft(following.0, following.1, following.2, following.3, following.4));
        host::spawn(follow(id, cluster.clone(), raft.clone(), log));

        let (proposer, batcher) =
            Proposer::new(dice.bits(), config.request_timeout(), config.max_request_bytes, leadership.clone());
        let (reads, confirmers) = ReadIndex::new(1, config.request_timeout());
        let asker = Asker { me, raft: raft.clone(), leadership: leadership.clone(), transport: transport.clone() };
        for confirmer in confirmers {
            host::spawn(confirmer.run(asker.clone()));
        }
        let (returned, returning) = mpsc::unbounded_channel();
        let route = Route {
            me,
            raft: raft.clone(),
            lanes: Lanes::default(),
            leadership: leadership.clone(),
            transport: transport.clone(),
            awaiting: core.awaiting.clone(),
            returned,
        };
        let records = core.records.clone();
        host::spawn(batcher.run(route.clone(), returning, move || records.is_over_dirty_limit()));
        let compaction = CompactionPace { batch: config.compaction_batch_limit, sleep: Duration::ZERO };
        host::spawn(compact(core.clone(), Compactor::inline(core.clone(), compaction), dice.fork()));
        host::spawn(purge::run(core.clone(), raft.clone(), wal.clone(), config.clone(), checkpointer.durable()));
        let installed = Installed::default();
        let home = SimHome::new(disks.stores.clone(), wal.clone(), installed.clone(), dice.fork());
        let snapshots = Receiver::new(core.clone(), raft.clone(), home);
        let ctx = Arc::new(Context {
            config,
            core,
            raft: raft.clone(),
            leadership,
            transport,
            route,
            proposer,
            reads,
            checkpointer: Arc::new(checkpointer),
            snapshots,
            bulk: Arc::new(Semaphore::new(BULK_READS)),
            lists: Allowance::default(),
            paths: Paths::new(Path::new("/nowhere"), None),
        });
        let segments = wal.clone();
        host::spawn(snapshot::tend(Arc::downgrade(&ctx.core), move || segments.stats().segments));
        let desk = FrontDesk::new(wal.clone(), passport(&cluster, id), Vec::new());
        desk.open(ctx.clone());
        host::spawn(reconcile::run(ctx.clone()));
        host::spawn(publish(cluster.clone(), ctx.clone()));
        Ok(Self { machine, ctx, raft, wal, pace, desk, installed })
    }

    /// Why the member has stopped by itself, if it has.
    pub fn failure(&self) -> Option<String> {
        let fatal = self.raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        fatal.or_else(|| self.ctx.core.failures().borrow().clone())
    }
}

fn open_log(cluster: &Cluster, disks: &Disks, pace: &Arc<Pace>, dice: &mut Dice) -> Result<Arc<Wal>> {
    let queued = Arc::new(Notify::new());
    let wake = queued.clone();
    let options = LogOptions {
        segment_bytes: cluster.plan.segment_bytes,
        cache_bytes: 32 << 10,
        on_queued: Some(Arc::new(move || wake.notify_one())),
        ..LogOptions::default()
    };
    let disk: Arc<dyn Disk> = if cluster.plan.fault == Some(Fault::AckBeforeSync) {
        let lazy = LazyDisk::new(disks.log.clone());
        host::spawn(lazy.clone().write_back(dice.fork()));
        Arc::new(lazy)
    } else {
        Arc::new(disks.log.clone())
    };
    let (wal, recovered) = Wal::open_inline(Path::new(LOG_DIR), options, disk)?;
    let wal = Arc::new(wal);
    if recovered.meta.is_none() {
        wal.save_meta(
            bytes::Bytes::from_static(b"a simulated member"),
            Box::new(|saved| saved.expect("an empty disk")),
        )?;
        while wal.step()? {}
    }
    host::spawn(write_log(wal.clone(), queued, pace.clone()));
    Ok(wal)
}

/// What the log's thread does elsewhere.
async fn write_log(wal: Arc<Wal>, queued: Arc<Notify>, pace: Arc<Pace>) {
    loop {
        queued.notified().await;
        loop {
            tokio::time::sleep(pace.next()).await;
            match wal.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
    }
}

fn open_core(id: u64, stores: &Places, wal: &Wal, metrics: &Arc<Metrics>) -> Result<(Arc<Core>, Applied)> {
    let options =
        StoreOptions { cache_bytes: 16 << 10, dirty_limit_bytes: 1 << 20, chunk_bytes: 2 << 10, batch_bytes: 8 << 10 };
    let (records, opened) = RecordStore::open(stores.settle(wal)?, options)?;
    let applied = opened.applied.as_deref().map(codec::decode_applied).transpose()?.unwrap_or_default();
    let reached = applied.log_id.as_ref().map_or(0, |id| id.index());
    let purged = wal.purged().map_or(0, |purged| purged.index);
    ensure!(purged <= reached, "member {id}: the log begins behind {purged}, the store ends at {reached}");
    let last = wal.last().map_or(0, |last| last.index);
    ensure!(last >= reached, "member {id}: the log ends at {last}, the store at {reached}");
    let state = restore(&records, &opened)?;
    let (hub, matchings) = Hub::new(1);
    for matching in matchings {
        host::spawn(matching.run(hub.ring.clone()));
    }
    let checkpoint = Checkpoint { records, state, applied: applied.clone(), rebuilt: false };
    let awaiting = Awaiting::new(Lanes::default());
    let core = Core::new(identity(id), checkpoint, hub, metrics.clone(), awaiting, Book::default());
    Ok((Arc::new(core), applied))
}

async fn initialize(raft: &Raft, members: u64) -> Result<()> {
    let founders: BTreeMap<u64, _> = (1..=members).map(|member| (member, openraft::EmptyNode {})).collect();
    match raft.initialize(founders).await {
        // Another founder was faster.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(error).context("founding"),
    }
}

/// What a member does before it opens its doors, beside them: clients here need not wait.
async fn publish(cluster: Arc<Cluster>, ctx: Arc<Context>) {
    let (members, me) = (cluster.plan.members, ctx.core.identity.member_id.0);
    let founders = (cluster.standing(me) == Standing::Founder).then(|| founders(members, me));
    match establish::establish(&ctx, founders.as_ref(), &passport(&cluster, me)).await {
        Ok(()) => clocks::start(&ctx),
        Err(error) => crate::note!("m{me} is not published: {error}"),
    }
}

fn restore(records: &RecordStore, opened: &Opened) -> Result<State> {
    let mut restore = Restore::new(opened.tables.iter().map(|(key, value)| (key, value)))?;
    let mut refused = None;
    records.scan(
        Revision::default(),
        Revision::new(i64::MAX, i64::MAX),
        &mut |record| match restore.record(record) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                refused = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    match refused {
        Some(error) => Err(error.into()),
        None => Ok(restore.finish()?),
    }
}

/// What the checkpoint's thread does elsewhere, at moments of its own.
async fn checkpoint(core: Arc<Core>, mut worker: checkpointer::Worker, mut dice: Dice) {
    let began = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(dice.millis(50..2500)).await;
        let done = if dice.chance(40) {
            core.records.checkpoint().map_err(|error| error.to_string())
        } else {
            worker.step(began.elapsed(), dice.chance(70)).map_err(|error| error.to_string())
        };
        if let Err(error) = done {
            drop(core.fail(&error));
            return;
        }
    }
}

async fn compact(core: Arc<Core>, worker: compactor::Worker, mut dice: Dice) {
    loop {
        tokio::time::sleep(dice.millis(10..400)).await;
        if let Err(error) = worker.step() {
            drop(core.fail(&error.to_string()));
            return;
        }
    }
}

/// Notes who leads, and has the oracle judge it.
async fn follow(id: u64, cluster: Arc<Cluster>, raft: Raft, log: OpenLog) {
    let mut changes = raft.metrics();
    let mut shown = (0, None);
    loop {
        {
            let now = changes.borrow_watched();
            if shown != (now.current_term, now.current_leader) {
                shown = (now.current_term, now.current_leader);
                crate::note!("m{id} term {} leader {:?}", now.current_term, now.current_leader);
            }
            if now.state.is_leader() {
                cluster.judge(cluster.oracle.leads(id, now.current_term));
            }
            if let Some(last) = &now.last_applied {
                cluster.judge(cluster.oracle.applied(id, last, &log));
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
