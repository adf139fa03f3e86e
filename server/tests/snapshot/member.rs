//! Members in one process: the real log, store, Raft and snapshot code, joined by a network that a test breaks at will.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use keepstone::checkpointer::Checkpointer;
use keepstone::cluster::Passport;
use keepstone::compactor::{Compactor, CompactorThread, Pace};
use keepstone::config::Config;
use keepstone::core::{Core, Identity};
use keepstone::data::{self, DataError, Paths};
use keepstone::forward::Awaiting;
use keepstone::lanes::Lanes;
use keepstone::metrics::{self, Metrics};
use keepstone::peer::book::Book;
use keepstone::peer::{Answers, PeerError, Transport, wire};
use keepstone::raft::log_store::LogStore;
use keepstone::raft::snapshot::{self, DiskHome, Receiver};
use keepstone::raft::state_machine::{SnapshotHandle, StateMachine};
use keepstone::raft::types::{Callback, Proposal, Raft, Request, TypeConfig, Vote};
use keepstone::{purge, watch};
use keepstone_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest,
};
use keepstone_proto::keepstonepb::{ClusterInit, Member as Listed, SnapshotProgressAnswer, peer_answer, peer_message};
use keepstone_state::{MemberId, Record, Revision};
use keepstone_wal::Wal;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::error::{ClientWriteError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, ClientWriteResult, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode};
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub const CLUSTER: u64 = 0xc1;
/// What a test waits for takes far less, but for a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a test does to transfers on their way to one member.
#[derive(Default)]
pub struct Road {
    /// Pieces that pass before the line breaks, once.
    pub breaks_after: Mutex<Option<usize>>,
    /// A bit of the next piece is flipped, once.
    pub damages: AtomicBool,
    pub pieces: AtomicUsize,
    /// Questions what the receiver has, answered or not.
    pub questions: AtomicUsize,
    /// Headers that passed.
    pub headers: Mutex<Vec<Bytes>>,
    /// Waited for before each piece, while it is held.
    pub gate: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub struct Net {
    nodes: Mutex<HashMap<u64, (Raft, Arc<Receiver>)>>,
    cut_off: Mutex<HashSet<u64>>,
    roads: Mutex<HashMap<u64, Arc<Road>>>,
}

impl Net {
    pub fn cut_off(&self, id: u64) {
        self.cut_off.lock().insert(id);
    }

    pub fn heal(&self, id: u64) {
        self.cut_off.lock().remove(&id);
    }

    pub fn road(&self, id: u64) -> Arc<Road> {
        self.roads.lock().entry(id).or_default().clone()
    }

    fn find(&self, from: u64, to: u64) -> Option<(Raft, Arc<Receiver>)> {
        let cut = self.cut_off.lock();
        let reached = !cut.contains(&from) && !cut.contains(&to);
        reached.then(|| self.nodes.lock().get(&to).cloned()).flatten()
    }
}

#[derive(Clone)]
pub struct Factory {
    pub net: Arc<Net>,
    pub from: u64,
    pub core: Arc<Core>,
}

pub struct Peer {
    factory: Factory,
    to: u64,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Peer;

    async fn new_client(&mut self, to: u64, _node: &EmptyNode) -> Peer {
        Peer { factory: self.clone(), to }
    }
}

type Answer<T> = Result<T, RPCError<TypeConfig>>;

fn unreachable() -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error("cut off"))
}

impl Peer {
    fn raft(&self) -> Answer<Raft> {
        let found = self.factory.net.find(self.factory.from, self.to);
        found.map(|(raft, _)| raft).ok_or_else(|| RPCError::Unreachable(unreachable()))
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<AppendEntriesResponse<TypeConfig>> {
        self.raft()?.append_entries(rpc).await.map_err(|_| RPCError::Unreachable(unreachable()))
    }

    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, _option: RPCOption) -> Answer<VoteResponse<TypeConfig>> {
        self.raft()?.vote(rpc).await.map_err(|_| RPCError::Unreachable(unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotHandle::Ticket(ticket) = snapshot.snapshot else { panic!("what is sent is a ticket") };
        let line = TestLine { net: self.factory.net.clone(), from: self.factory.from };
        snapshot::send(&self.factory.core, &line, MemberId(self.to), vote, ticket, cancel).await
    }
}

/// Carries a transfer as the road has it.
struct TestLine {
    net: Arc<Net>,
    from: u64,
}

fn cut_off(to: MemberId) -> PeerError {
    PeerError::Unreachable { to, why: "cut off".to_owned() }
}

impl Transport for TestLine {
    fn call(&self, to: MemberId, message: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let found = self.net.find(self.from, to.0);
        self.net.road(to.0).questions.fetch_add(1, Ordering::Relaxed);
        async move {
            let (_, receiver) = found.ok_or_else(|| cut_off(to))?;
            let failed = |why: String| PeerError::Failed { to, why };
            let peer_message::Kind::SnapshotProgress(asked) = wire::read_message(message).expect("a message") else {
                panic!("only a snapshot's progress is asked for")
            };
            let state = receiver.progress(&asked.id).await.map_err(|error| failed(error.to_string()))?;
            Ok(wire::answer(peer_answer::Kind::SnapshotProgress(SnapshotProgressAnswer { state })))
        }
        .boxed()
    }

    fn replicate(
        &self,
        to: MemberId,
        _messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Answers, PeerError>> {
        std::future::ready(Err(cut_off(to))).boxed()
    }

    fn snapshot(
        &self,
        to: MemberId,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (net, from) = (self.net.clone(), self.from);
        let road = net.road(to.0);
        async move {
            let (_, receiver) = net.find(from, to.0).ok_or_else(|| cut_off(to))?;
            road.headers.lock().push(header.clone());
            let passing = pieces.then(move |piece| {
                let (net, road) = (net.clone(), road.clone());
                async move { road.pass(net.find(from, to.0).is_some(), piece).await }
            });
            let pieces = passing.take_while(|piece| std::future::ready(piece.is_some())).filter_map(std::future::ready);
            let received = receiver.receive(header, pieces.boxed()).await;
            received.map_err(|error| PeerError::Failed { to, why: error.to_string() })
        }
        .boxed()
    }
}

impl Road {
    /// What becomes of a piece; none if the line breaks.
    async fn pass(&self, open: bool, piece: Bytes) -> Option<Bytes> {
        drop(self.gate.lock().await);
        let mut left = self.breaks_after.lock();
        if !open || *left == Some(0) {
            *left = None;
            return None;
        }
        *left = left.map(|left| left - 1);
        self.pieces.fetch_add(1, Ordering::Relaxed);
        if !self.damages.swap(false, Ordering::Relaxed) {
            return Some(piece);
        }
        let mut damaged = piece.to_vec();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 4;
        Some(damaged.into())
    }
}

/// A running member.
pub struct Member {
    pub id: u64,
    pub core: Arc<Core>,
    pub raft: Raft,
    pub wal: Arc<Wal>,
    pub receiver: Arc<Receiver>,
    pub home: Arc<DiskHome>,
    pub checkpointer: Checkpointer,
    pub hub_thread: Arc<watch::Local>,
    net: Arc<Net>,
    _compactor: CompactorThread,
}

fn raft_config(id: u64) -> Arc<openraft::Config> {
    let config = openraft::Config {
        heartbeat_interval: 100,
        election_timeout_min: 2000,
        election_timeout_max: 4000,
        // The first member leads, whatever happens.
        enable_elect: id == 1,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        // `purge` alone decides: it knows what is held for members that lag.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Default::default()
    };
    Arc::new(config.validate().expect("a config"))
}

pub fn config() -> Config {
    Config { snapshot_count: 1, snapshot_catchup_entries: 5, ..Config::defaults() }
}

pub fn paths(root: &Path, id: u64) -> Paths {
    Paths::new(&root.join(format!("m{id}")), None)
}

pub fn open(root: &Path, id: u64) -> Result<(Paths, data::Log, data::Checkpoint), DataError> {
    let paths = paths(root, id);
    let identity = Identity { cluster_id: CLUSTER, member_id: MemberId(id) };
    let found = || Ok::<_, DataError>(Passport::new(Some(identity)).expect("randomness"));
    let began = std::time::Instant::now();
    let log = loop {
        match data::open_log(&paths, keepstone_wal::Options::default(), found) {
            // The member before is on its way out.
            Err(error) if error.to_string().contains("in use by") && began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => break opened?,
        }
    };
    let checkpoint = data::open_checkpoint(&paths, &log, identity, 8 << 20)?;
    Ok((paths, log, checkpoint))
}

impl Member {
    pub async fn start(root: &Path, id: u64, net: &Arc<Net>) -> Self {
        let (paths, log, checkpoint) = open(root, id).expect("the directory opens");
        let metrics = Metrics::new(metrics::Options::default());
        let (hub, matchings) = watch::Hub::new(1);
        for matching in matchings {
            tokio::spawn(matching.run(hub.ring.clone()));
        }
        let hub_thread = hub.local(0).clone();
        let applied = checkpoint.applied.clone();
        let identity = Identity { cluster_id: CLUSTER, member_id: MemberId(id) };
        let core = Core::new(identity, checkpoint, hub, metrics, Awaiting::new(Lanes::default()), Book::default());
        let core = Arc::new(core);
        let log_store = LogStore::new(log.wal.clone()).expect("the log");
        let machine = StateMachine::new(core.clone(), applied, log_store.synced());
        let factory = Factory { net: net.clone(), from: id, core: core.clone() };
        let raft = Raft::new(id, raft_config(id), factory, log_store, machine).await.expect("Raft starts");
        let home = DiskHome::new(&paths, log.wal.clone());
        let receiver = Receiver::new(core.clone(), raft.clone(), home.clone());
        net.nodes.lock().insert(id, (raft.clone(), receiver.clone()));
        let checkpointer = Checkpointer::start(core.clone()).expect("a thread");
        let pace = Pace { batch: 1000, sleep: Duration::from_millis(1) };
        let compactor = Compactor::spawn(core.clone(), pace).expect("a thread");
        let wal = log.wal.clone();
        tokio::spawn(purge::run(core.clone(), raft.clone(), wal.clone(), Arc::new(config()), checkpointer.durable()));
        Self { id, core, raft, wal, receiver, home, checkpointer, hub_thread, net: net.clone(), _compactor: compactor }
    }

    /// Stops it, and returns once its directories can be opened again.
    pub async fn stop(self) {
        self.net.nodes.lock().remove(&self.id);
        self.raft.shutdown().await.expect("Raft stops");
        let Self { core, receiver, checkpointer, wal, home, _compactor, .. } = self;
        drop((checkpointer, _compactor, receiver, home));
        wal.close();
        drop(wal);
        let weak = Arc::downgrade(&core);
        drop(core);
        until("the member is gone", || weak.strong_count() == 0).await;
    }

    pub async fn propose(&self, request: InternalRaftRequest) {
        let proposal = Proposal { requests: vec![Request::new(request)].into() };
        let answer = loop {
            let (tx, rx) = oneshot::channel();
            let done = Callback::new(move |result: ClientWriteResult<TypeConfig>| drop(tx.send(result)));
            self.raft.client_write_ff(proposal.clone(), Some(done)).await.expect("Raft runs");
            match tokio::time::timeout(PATIENCE, rx).await.expect("an answer in time").expect("an answer") {
                // Not taken: the machine is slow, and the leader's lease ran out.
                Err(ClientWriteError::ForwardToLeader(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => break answer.expect("committed"),
            }
        };
        for reply in answer.data.0 {
            reply.expect("applied");
        }
    }

    pub async fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        let put = PutRequest { key: key.as_bytes().to_vec().into(), value: value.into().into(), ..Default::default() };
        self.propose(InternalRaftRequest { put: Some(put), ..Default::default() }).await;
    }

    pub async fn put_leased(&self, key: &str, lease: i64) {
        let put = PutRequest { key: key.as_bytes().to_vec().into(), lease, ..Default::default() };
        self.propose(InternalRaftRequest { put: Some(put), ..Default::default() }).await;
    }

    pub async fn delete(&self, key: &str) {
        let delete_range = Some(DeleteRangeRequest { key: key.as_bytes().to_vec().into(), ..Default::default() });
        self.propose(InternalRaftRequest { delete_range, ..Default::default() }).await;
    }

    pub async fn grant(&self, id: i64, ttl: i64) {
        let lease_grant = Some(LeaseGrantRequest { id, ttl });
        self.propose(InternalRaftRequest { lease_grant, ..Default::default() }).await;
    }

    pub async fn compact(&self, revision: i64) {
        let compaction = Some(CompactionRequest { revision, physical: false });
        self.propose(InternalRaftRequest { compaction, ..Default::default() }).await;
    }

    /// Has the log end after the last applied entry but a few.
    pub async fn purge(&self) {
        let applied = self.core.applied_index();
        self.checkpointer.flush();
        let purged = || self.wal.purged().is_some_and(|purged| purged.index + 10 >= applied);
        until("the log is purged", purged).await;
    }

    pub async fn reaches(&self, index: u64) {
        until(&format!("member {} applies {index}", self.id), || self.core.applied_index() >= index).await;
    }

    /// Everything that clients can see of the state.
    pub fn visible(&self) -> Visible {
        Visible::of(&self.core)
    }
}

/// What two members must agree on.
#[derive(Debug, PartialEq)]
pub struct Visible {
    revision: i64,
    floor: i64,
    records: Vec<Record>,
    leases: Vec<(i64, i64, Vec<Vec<u8>>)>,
    members: Vec<Listed>,
}

impl Visible {
    fn of(core: &Core) -> Self {
        let state = core.state.read();
        let floor = state.compact_revision();
        let mut records = Vec::new();
        let all = (Revision::default(), Revision::new(i64::MAX, i64::MAX));
        let scanned = core.records.scan(all.0, all.1, &mut |record| {
            let live = || !record.tombstone && state.keeps(record.kv.key(), record.at, floor);
            if record.at.main >= floor || live() {
                records.push(Record { prev: None, ..record.clone() });
            }
            std::ops::ControlFlow::Continue(())
        });
        scanned.expect("the records can be read");
        let keys = |lease: &keepstone_state::Lease| lease.keys().map(<[u8]>::to_vec).collect();
        let leases = state.leases().iter().map(|(id, lease)| (id.0, lease.ttl, keys(lease))).collect();
        let members = state.members().iter().cloned().collect();
        Self { revision: state.revision(), floor, records, leases, members }
    }
}

/// Waits for `what`.
pub async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Three members of which the first leads.
pub struct Cluster {
    pub net: Arc<Net>,
    pub members: Vec<Member>,
}

impl Cluster {
    pub async fn start(root: &Path) -> Self {
        if let Ok(directives) = std::env::var("KEEPSTONE_LOG") {
            // Another test of the process has done it.
            let _ = tracing_subscriber::fmt().with_env_filter(directives).with_test_writer().try_init();
        }
        let net = Arc::new(Net::default());
        let mut members = Vec::new();
        for id in 1..=3 {
            members.push(Member::start(root, id, &net).await);
        }
        let founders: BTreeMap<u64, EmptyNode> = (1..=3).map(|id| (id, EmptyNode {})).collect();
        members[0].raft.initialize(founders).await.expect("founded");
        let raft = members[0].raft.clone();
        until("a leader", || raft.metrics().borrow_watched().current_leader == Some(1)).await;
        let listed = |id| Listed { id, name: format!("m{id}"), ..Listed::default() };
        let founders = (1..=3).map(listed).collect();
        let init = ClusterInit { cluster_id: CLUSTER, members: founders, ..Default::default() };
        members[0].propose(InternalRaftRequest { cluster_init: Some(init), ..Default::default() }).await;
        let this = Self { net, members };
        this.settled().await;
        this
    }

    pub fn leader(&self) -> &Member {
        &self.members[0]
    }

    /// The member that lags in these tests.
    pub fn last(&self) -> &Member {
        &self.members[2]
    }

    /// Returns once every member has applied what the leader has.
    pub async fn settled(&self) {
        let index = self.leader().core.applied_index();
        for member in &self.members {
            member.reaches(index).await;
        }
    }
}
