//! Calls over a heart of their own, polled as a connection polls them.

use std::future::poll_fn;
use std::path::Path;
use std::thread::{self, ThreadId};

use keepstone_store::testing::MemStore;
use keepstone_store::{Batch as Writes, Options, Store, StoreError, Visit};
use parking_lot::Mutex;
use prost::Message as _;

use super::*;
use crate::core::testing;
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
