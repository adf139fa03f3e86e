//! Readers beside checkpoints and compaction: what is live is found at any moment, whole and in order.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
};

use bytes::Bytes;
use keepstone_state::{Records, Revision};
use keepstone_store::{DiskOptions, DiskStore, Options, RecordStore, SledOptions, SledStore, Store, testing::MemStore};
use support::records::record;

const KEYS: i64 = 50;
const LAST: i64 = 12_000;

/// The key of a revision: each is written again `KEYS` revisions later.
fn key(main: i64) -> [u8; 8] {
    (main % KEYS).to_be_bytes()
}

fn value(main: i64) -> Vec<u8> {
    main.to_le_bytes().repeat(1 + usize::try_from(main % 13).unwrap())
}

struct Shared {
    store: Arc<RecordStore>,
    applied: AtomicI64,
    floor: AtomicI64,
    stop: AtomicBool,
}

impl Shared {
    fn is_live(&self, main: i64) -> bool {
        main + KEYS > self.floor.load(Ordering::SeqCst)
    }
}

fn write(shared: &Shared) {
    for run in 0..LAST / 40 {
        let first = 2 + run * 40;
        let records = (first..first + 40).map(|main| record(main, 0, &key(main), Some(&value(main))));
        shared.store.append(records.collect(), Vec::new(), Bytes::new());
        shared.applied.store(first + 39, Ordering::SeqCst);
        if run % 5 == 4 {
            let before = shared.floor.load(Ordering::SeqCst);
            let floor = first - 300;
            shared.floor.store(floor.max(before), Ordering::SeqCst);
            let dead: Vec<_> = ((before - KEYS).max(1) + 1..=floor - KEYS).map(|main| Revision::new(main, 0)).collect();
            shared.store.remove(&dead);
        }
        thread::yield_now();
    }
    shared.stop.store(true, Ordering::SeqCst);
}

fn background(shared: &Shared) {
    let is_live = |_: &[u8], at: Revision| shared.is_live(at.main);
    let mut round = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        shared.store.checkpoint().unwrap();
        shared.store.rewrite(&is_live, 16 << 10).unwrap();
        round += 1;
        if round % 8 == 0 {
            shared.store.flush().unwrap();
        }
    }
}

/// Gets records that were live before and are live after.
fn gets(shared: &Shared) {
    let mut step = 1;
    while !shared.stop.load(Ordering::SeqCst) {
        let last = shared.applied.load(Ordering::SeqCst);
        step = step * 31 % 1009;
        let main = last - step % 400;
        if main < 2 {
            continue;
        }
        let found = shared.store.get(Revision::new(main, 0));
        if shared.is_live(main) {
            assert_eq!(found.unwrap().value(), value(main));
        }
    }
}

fn scans(shared: &Shared) {
    while !shared.stop.load(Ordering::SeqCst) {
        let last = shared.applied.load(Ordering::SeqCst);
        let mut next = (last - 350).max(2);
        shared
            .store
            .scan(Revision::new(next, 0), Revision::new(last, 0), &mut |found| {
                let main = found.at.main;
                for skipped in next..main {
                    assert!(!shared.is_live(skipped), "{skipped} is lost");
                }
                assert_eq!(found.kv.value(), value(main));
                next = main + 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        for skipped in next..=last {
            assert!(!shared.is_live(skipped), "{skipped} is lost");
        }
    }
}

fn race(store: Arc<dyn Store>) {
    let options =
        Options { cache_bytes: 20_000, dirty_limit_bytes: 100_000, chunk_bytes: 2 << 10, batch_bytes: 8 << 10 };
    let (store, _) = RecordStore::open(store, options).unwrap();
    let shared = Shared { store, applied: AtomicI64::new(1), floor: AtomicI64::new(0), stop: AtomicBool::new(false) };
    thread::scope(|scope| {
        for part in [write, background, gets, scans] {
            let shared = &shared;
            scope.spawn(move || {
                // A part that fails stops the others.
                struct Stop<'a>(&'a AtomicBool);
                impl Drop for Stop<'_> {
                    fn drop(&mut self) {
                        if thread::panicking() {
                            self.0.store(true, Ordering::SeqCst);
                        }
                    }
                }
                let _stop = Stop(&shared.stop);
                part(shared);
            });
        }
    });
    // How far the background came before the writer was done is the scheduler's; a last full round gets to the end.
    let is_live = |_: &[u8], at: Revision| shared.is_live(at.main);
    shared.store.checkpoint().unwrap();
    while !shared.store.rewrite(&is_live, 16 << 10).unwrap().done {}
    while !shared.store.rewrite(&is_live, 16 << 10).unwrap().done {}
    assert!(shared.store.chunks() < 200, "{}", shared.store.chunks());
}

fn disk(path: &Path) -> DiskStore {
    let options = DiskOptions { large_bytes: 200, file_bytes: 30_000, ..DiskOptions::default() };
    DiskStore::open(path, &options).unwrap()
}

#[test]
fn readers_beside_compaction_in_memory() {
    race(Arc::new(MemStore::new()));
}

#[test]
fn readers_beside_compaction_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    race(Arc::new(disk(&dir.path().join("store"))));
}

#[test]
fn readers_beside_compaction_on_sled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    race(Arc::new(SledStore::open(&path, &SledOptions::default()).unwrap()));
}
