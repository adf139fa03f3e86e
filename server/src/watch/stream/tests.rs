//! Calls over a heart of their own, polled as a connection polls them.

use std::future::poll_fn;
use std::path::Path;
use std::thread::{self, ThreadId};

use futures_util::StreamExt as _;
use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use keepstone_proto::keepstonepb::{ClusterInit, Member};
use keepstone_state::Effects;
use keepstone_store::testing::MemStore;
use keepstone_store::{Batch as Writes, Options, Store, StoreError, Visit};
use parking_lot::Mutex;
use prost::Message as _;

use super::*;
use crate::core::testing;
use crate::raft::codec::Applied;
use crate::watch::Hub;

/// Notes on whose threads it was read.
#[derive(Default)]
struct Noting {
    inner: MemStore,
    readers: Mutex<Vec<ThreadId>>,
}

impl Store for Noting {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.readers.lock().push(thread::current().id());
        self.inner.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(range, visit)
    }

    fn write(&self, batch: Writes) -> Result<(), StoreError> {
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.inner.size_on_disk()
    }
}

/// The next responses of a call.
async fn next(feeder: &mut Feeder) -> Vec<WatchResponse> {
    let chunk = poll_fn(|cx| feeder.poll_chunk(cx)).await.expect("responses");
    let (mut rest, mut responses) = (&chunk[..], Vec::new());
    while let Some((message, len)) = encode::first(rest) {
        responses.push(WatchResponse::decode(message).expect("a response"));
        rest = &rest[len..];
    }
    responses
}

#[tokio::test]
async fn an_old_value_on_disk_is_read_on_another_thread() {
    let store = Arc::new(Noting::default());
    let (hub, matchings) = Hub::new(1);
    let options = Options { cache_bytes: 0, chunk_bytes: 64, ..Options::default() };
    let core = testing::core(store.clone(), options, hub);
    for matching in matchings {
        tokio::spawn(matching.run(core.watch.ring.clone()));
    }
    testing::put(&core, "key", "first");
    testing::put(&core, "key", "second");
    // What was written last stays in memory.
    for _ in 0..8 {
        testing::put(&core, "other", vec![b'x'; 64]);
    }
    core.records.checkpoint().expect("written");
    store.readers.lock().clear();
    let create = WatchCreateRequest { key: "k".into(), range_end: "l".into(), prev_kv: true, ..Default::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = futures_util::stream::iter([Ok(create)]);
    let settings = Settings { progress_interval: Duration::from_secs(600), fragment_bytes: 1 << 20 };
    let mut feeder = Feeder::new(core.clone(), core.watch.local(0), settings, Box::pin(requests));
    assert!(next(&mut feeder).await[0].created);
    testing::put(&core, "kin", "new");
    testing::put(&core, "key", "third");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for response in next(&mut feeder).await {
            seen.extend(response.events.into_iter().map(|event| event.prev_kv().map(|kv| kv.value().to_vec())));
        }
    }
    assert_eq!(seen, [None, Some(b"second".to_vec())]);
    let readers = store.readers.lock();
    assert!(!readers.is_empty(), "nothing was read");
    assert!(!readers.contains(&thread::current().id()), "{readers:?}");
}

/// Applies a request that is for two members, of which the heart's own is 8.
fn apply(core: &Core, request: InternalRaftRequest) {
    let mut effects = Effects::default();
    let mut state = core.state.write();
    state.apply(1, 1, &request, &*core.records, &mut effects).expect("the store is there").expect("allowed");
    core.publish(&state, effects, &Applied::default());
}

fn alarm(core: &Core, action: AlarmAction) {
    let alarm = AlarmRequest { action: action as i32, member_id: 8, alarm: AlarmType::Corrupt as i32 };
    apply(core, InternalRaftRequest { alarm: Some(alarm), ..Default::default() });
}

#[tokio::test]
async fn a_watch_ends_when_its_member_is_found_to_differ() {
    let (hub, matchings) = Hub::new(1);
    let core = testing::core(Arc::new(MemStore::default()), Options::default(), hub);
    for matching in matchings {
        tokio::spawn(matching.run(core.watch.ring.clone()));
    }
    let member = |id| Member { id, name: format!("m{id}"), ..Default::default() };
    let init = ClusterInit { cluster_id: 7, members: vec![member(8), member(9)], ..Default::default() };
    apply(&core, InternalRaftRequest { cluster_init: Some(init), ..Default::default() });
    let open = || {
        let create = WatchCreateRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = futures_util::stream::iter([Ok(create)]).chain(futures_util::stream::pending());
        let settings = Settings { progress_interval: Duration::from_secs(600), fragment_bytes: 1 << 20 };
        Feeder::new(core.clone(), core.watch.local(0), settings, Box::pin(requests))
    };
    let (mut idle, mut owed) = (open(), open());
    assert!(next(&mut idle).await[0].created && next(&mut owed).await[0].created);
    // One that waits is woken, one that has something to say does not say it.
    let waits = tokio::spawn(async move { poll_fn(|cx| idle.poll_chunk(cx)).await });
    tokio::task::yield_now().await;
    alarm(&core, AlarmAction::Activate);
    let ended = |end: Result<Bytes, Status>| {
        let status = end.expect_err("an end");
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "etcdserver: corrupt cluster"));
    };
    ended(waits.await.expect("no panic"));
    ended(poll_fn(|cx| owed.poll_chunk(cx)).await);
    // Nor is another one begun, until the member is repaired.
    let mut late = open();
    ended(poll_fn(|cx| late.poll_chunk(cx)).await);
    alarm(&core, AlarmAction::Deactivate);
    assert!(next(&mut open()).await[0].created);
}
