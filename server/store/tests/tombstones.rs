//! A tombstone outlives every put that it alone keeps dead.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use keepstone_state::Revision;
use keepstone_store::{Options, RecordStore, testing::MemStore};
use support::records::record;

const VALUE: [u8; 100] = [7; 100];

/// What the store holds of a key, oldest first: the revision and whether it is a delete.
fn held(store: &RecordStore, key: &[u8]) -> Vec<(i64, bool)> {
    let mut held = Vec::new();
    let all = (Revision::default(), Revision::new(i64::MAX, i64::MAX));
    store
        .scan(all.0, all.1, &mut |found| {
            if found.kv.key() == key {
                held.push((found.at.main, found.tombstone));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    held
}

#[test]
fn a_deleted_key_does_not_come_back_because_its_tombstone_was_dropped_first() {
    let options = Options { chunk_bytes: 2 << 10, ..Options::default() };
    let (store, _) = RecordStore::open(Arc::new(MemStore::default()), options).unwrap();
    // The put lies among records that stay, the tombstone among such that go: only its chunk is worth rewriting.
    let put = |main: i64, key: &str| record(main, 0, key.as_bytes(), Some(&VALUE));
    let mut records = vec![put(2, "gone")];
    records.extend((3..40).map(|main| put(main, &format!("stays-{main}"))));
    records.extend((40..80).map(|main| put(main, "again")));
    records.push(record(80, 0, b"gone", None));
    records.extend((81..120).map(|main| put(main, "again")));
    records.extend((120..160).map(|main| put(main, &format!("stays-{main}"))));
    store.append(records, Vec::new(), Bytes::from_static(b"mark"));
    store.checkpoint().unwrap();
    store.flush().unwrap();
    let dead = |at: i64| at == 2 || (40..119).contains(&at);
    let revisions: Vec<Revision> = (2..120).filter(|at| dead(*at)).map(|at| Revision::new(at, 0)).collect();
    store.remove(&revisions);
    let is_live = |_: &[u8], at: Revision| !dead(at.main);
    while !store.rewrite(&is_live, 1 << 20).unwrap().done {}
    assert!(store.chunks() < 8, "nothing was rewritten: {} chunks", store.chunks());
    let held = held(&store, b"gone");
    assert!(held.is_empty() || held.last() == Some(&(80, true)), "the key is back: {held:?}");
}
