//! The shell by itself: a core without Raft, entries as openraft hands them in.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use keepstone_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keepstone_proto::etcdserverpb::request_op::Request as Op;
use keepstone_proto::etcdserverpb::{Compare, InternalRaftRequest, PutRequest, RequestOp, TxnRequest};
use keepstone_state::{MemberId, State};
use keepstone_store::testing::MemStore;
use keepstone_store::{Batch, Options, RecordStore, Store, StoreError, Visit};

use super::*;
use crate::core::Identity;
use crate::data::Checkpoint;
use crate::forward::Awaiting;
use crate::metrics::{self, Metrics};
use crate::peer::book::Book;
use crate::raft::synced::Syncing;
use crate::raft::types::{Entry, Proposal, Request};
use crate::watch::Hub;

/// A store that must not be read while the state is locked for writing.
#[derive(Default)]
struct Watched {
    inner: MemStore,
    core: OnceLock<Arc<Core>>,
    reads: AtomicUsize,
}

impl Store for Watched {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(core) = self.core.get() {
            assert!(core.state.try_read().is_some(), "a read of the disk under the state's lock");
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(range, visit)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.inner.size_on_disk()
    }
}

fn machine(store: Arc<dyn Store>) -> (StateMachine, Arc<Core>) {
    let options = Options { cache_bytes: 0, chunk_bytes: 64, ..Options::default() };
    let (records, _) = RecordStore::open(store, options).expect("opens");
    let metrics = Metrics::new(metrics::Options::default());
    let identity = Identity { cluster_id: 1, member_id: MemberId(1) };
    let checkpoint = Checkpoint { records, state: State::new(), applied: Applied::default(), rebuilt: false };
    let core = Core::new(identity, checkpoint, Hub::new(1).0, metrics, Awaiting::default(), Book::default());
    let core = Arc::new(core);
    (StateMachine::new(core.clone(), Applied::default(), Synced::all()), core)
}

fn entry(index: u64, requests: Vec<InternalRaftRequest>) -> Item {
    let requests = requests.into_iter().map(Request::new).collect();
    let payload = Payload::Normal(Proposal { requests });
    (Entry { log_id: codec::log_id(1, index), payload }, None)
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn write(put: PutRequest) -> InternalRaftRequest {
    InternalRaftRequest { put: Some(put), ..Default::default() }
}

fn value(core: &Core, key: &str) -> Bytes {
    let at = core.find(key.as_bytes(), core.revision()).expect("the key is there");
    core.records.get(at).expect("a value").value_bytes()
}

#[tokio::test]
async fn what_a_run_reads_is_fetched_before_the_state_is_locked() {
    let store = Arc::new(Watched::default());
    let (mut machine, core) = machine(store.clone());
    let fill = ["a", "b", "c", "d"].map(|key| write(put(key, "first")));
    machine.apply(stream::iter([Ok(entry(1, fill.into()))])).await.expect("applied");
    core.records.checkpoint().expect("written");
    // The open tail stays in memory: these make the chunks of the others closed ones.
    let more = ["e", "f", "g"].map(|key| write(put(key, "a value that is longer than a chunk may be, all in all")));
    machine.apply(stream::iter([Ok(entry(2, more.into()))])).await.expect("applied");
    core.records.checkpoint().expect("written");
    assert!(store.core.set(core.clone()).is_ok());

    // Whether "a" is still what it was decides what becomes of "b" and "c", both of which are needed for it.
    let keep = |key| PutRequest { ignore_value: true, prev_kv: true, ..put(key, "") };
    let op = |put| RequestOp { request: Some(Op::RequestPut(put)) };
    let compare = |value: &'static str| Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Value as i32,
        key: "a".into(),
        target_union: Some(TargetUnion::Value(value.into())),
        ..Default::default()
    };
    let txn = TxnRequest {
        compare: vec![compare("first")],
        success: vec![op(keep("b"))],
        failure: vec![op(put("b", "wrong"))],
    };
    let run = vec![InternalRaftRequest { txn: Some(txn), ..Default::default() }, write(keep("c"))];
    let run = [Ok(entry(3, run)), Ok(entry(4, vec![write(put("a", "second")), write(keep("a"))]))];
    machine.apply(stream::iter(run)).await.expect("applied");
    assert!(store.reads.load(Ordering::SeqCst) > 0, "nothing had to be read");
    assert_eq!(["a", "b", "c"].map(|key| value(&core, key)), ["second", "first", "first"]);
    assert!(!core.has_failed());
}

#[tokio::test]
async fn a_value_that_cannot_be_fetched_stops_the_member_and_is_no_answer() {
    let (store, faults) = keepstone_store::testing::FaultStore::new(Arc::new(MemStore::new()));
    let (mut machine, core) = machine(Arc::new(store));
    let long = "a value that is longer than a chunk may be, all in all, whatever comes after it";
    let fill = vec![write(put("a", long)), write(put("b", long))];
    machine.apply(stream::iter([Ok(entry(1, fill))])).await.expect("applied");
    core.records.checkpoint().expect("written");
    let before = core.state.read().clone();
    faults.get.store(true, Ordering::SeqCst);
    let run = vec![write(put("c", "")), write(PutRequest { prev_kv: true, ..put("a", "new") })];
    machine.apply(stream::iter([Ok(entry(2, run))])).await.expect_err("the store fails");
    assert!(core.has_failed());
    assert!(*core.state.read() == before, "nothing of the run was applied");
}

#[tokio::test]
async fn a_long_replay_gives_other_tasks_of_its_thread_a_turn() {
    let (mut machine, _) = machine(Arc::new(MemStore::new()));
    let heard = Arc::new(AtomicBool::new(false));
    let signal = tokio::spawn({
        let heard = heard.clone();
        async move { heard.store(true, Ordering::SeqCst) }
    });
    // As long as it takes for the other task to run; without a turn for it, for ever. So the log does end some day.
    let unheard = move |index: &u64| !heard.load(Ordering::SeqCst) && *index <= 100_000;
    let log = (1..).take_while(unheard).map(|index| Ok(entry(index, vec![write(put("a", "1"))])));
    machine.apply(stream::iter(log)).await.expect("applied");
    assert!(signal.is_finished(), "the replay went on to its end before anything else could run");
}

#[tokio::test]
async fn nothing_is_applied_before_it_is_on_this_members_own_disk() {
    let (machine, core) = machine(Arc::new(MemStore::new()));
    let syncing = Syncing::new(2);
    let mut machine = StateMachine { synced: syncing.synced(), ..machine };
    // A quorum has both of them.
    let log = [1, 2].map(|index| Ok(entry(index, vec![write(put("a", "1"))])));
    let mut applying = Box::pin(machine.apply(stream::iter(log)));
    assert!(applying.as_mut().now_or_never().is_none());
    assert_eq!(core.revision(), 1);
    syncing.appending(3).ended(true);
    applying.await.expect("applied");
    assert_eq!(core.revision(), 3);

    syncing.appending(4).ended(false);
    machine.apply(stream::iter([Ok(entry(3, vec![write(put("a", "1"))]))])).await.expect_err("the log has stopped");
    assert_eq!(core.revision(), 3);
}
