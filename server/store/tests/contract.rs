//! What `Store` promises, run over every backend.

#![allow(clippy::unwrap_used)]

use std::{ops::ControlFlow, path::Path, sync::Arc};

use keepstone_store::{
    Batch, DiskOptions, DiskStore, Near, SledOptions, SledStore, Store, StoreError, testing::MemStore,
};

/// Opens a backend in a directory; a second call after the store was dropped sees what the first has flushed.
trait Backend {
    fn open(&self, path: &Path) -> Result<Arc<dyn Store>, StoreError>;
}

impl<F: Fn(&Path) -> Result<Arc<dyn Store>, StoreError>> Backend for F {
    fn open(&self, path: &Path) -> Result<Arc<dyn Store>, StoreError> {
        self(path)
    }
}

fn sled(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SledStore::open(path, &SledOptions::default())?))
}

fn disk(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    let options = DiskOptions { file_bytes: 200 << 10, ..DiskOptions::default() };
    Ok(Arc::new(DiskStore::open(path, &options)?))
}

fn memory(_: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(MemStore::new()))
}

fn rows(store: &dyn Store, from: &[u8], to: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    store
        .scan(from..to, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn key(number: u32) -> Vec<u8> {
    [&b"k"[..], &number.to_be_bytes()].concat()
}

fn value(number: u32, len: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().repeat(len / 4 + 1);
    value.truncate(len);
    value
}

fn reads_what_is_written(store: &dyn Store) {
    assert_eq!(store.get(b"a").unwrap(), None);
    let mut batch = Batch::new();
    batch.put(*b"a", *b"1");
    batch.put(*b"b", Vec::new());
    batch.put(*b"c", *b"3");
    store.write(batch).unwrap();
    assert_eq!(store.get(b"a").unwrap().unwrap(), "1");
    assert_eq!(store.get(b"b").unwrap().unwrap(), "");
    let mut batch = Batch::new();
    batch.remove(*b"a");
    batch.remove(*b"never there");
    batch.put(*b"c", *b"4");
    store.write(batch).unwrap();
    store.write(Batch::new()).unwrap();
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(store.get(b"c").unwrap().unwrap(), "4");
    assert!(store.size_on_disk().is_ok());
}

fn what_is_near_is_what_a_get_says(store: &dyn Store) {
    let mut batch = Batch::new();
    for (number, len) in [(1, 0), (2, 100), (3, 5000), (4, 40_000)] {
        batch.put(key(number), value(number, len));
    }
    store.write(batch).unwrap();
    for number in 0..6 {
        let near = store.get_near(&key(number));
        // How far away it is says nothing about the value.
        assert!(near == Near::Far || near == Near::Here(store.get(&key(number)).unwrap()), "{number}: {near:?}");
    }
}

fn scans_in_order_and_stops(store: &dyn Store) {
    for number in (0..300_u32).rev() {
        let mut batch = Batch::new();
        batch.put(key(number), value(number, 700));
        store.write(batch).unwrap();
    }
    let all = rows(store, b"k", b"l");
    let wanted: Vec<_> = (0..300).map(|n| (key(n), value(n, 700))).collect();
    assert_eq!(all, wanted);
    assert_eq!(rows(store, &key(10), &key(13)), wanted[10..13]);
    assert!(rows(store, b"x", b"y").is_empty());
    let mut seen = 0;
    let mut stop = |_: &[u8], _: &[u8]| {
        seen += 1;
        if seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(b"k"..b"l", &mut stop).unwrap();
    assert_eq!(seen, 5);
}

fn keeps_large_values(store: &dyn Store) {
    for number in 0..40_u32 {
        let mut batch = Batch::new();
        batch.put(key(1000 + number), value(number, 60_000 + number as usize));
        batch.put(*b"mark", number.to_le_bytes());
        store.write(batch).unwrap();
    }
    let mut batch = Batch::new();
    batch.put(*b"huge", value(9, 9 << 20));
    store.write(batch).unwrap();
    store.flush().unwrap();
    for number in 0..40_u32 {
        let found = store.get(&key(1000 + number)).unwrap().unwrap();
        assert_eq!(found, value(number, 60_000 + number as usize));
    }
    assert_eq!(store.get(b"huge").unwrap().unwrap(), value(9, 9 << 20));
}

/// A reader that sees one half of a batch sees the other.
fn batches_are_atomic_for_readers(store: &dyn Store) {
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1..=400_u32 {
                let mut batch = Batch::new();
                batch.put(*b"x1", number.to_le_bytes());
                batch.put(*b"x2", number.to_le_bytes());
                store.write(batch).unwrap();
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let number = |found: Option<bytes::Bytes>| {
                found.map_or(0, |bytes| u32::from_le_bytes(bytes[..].try_into().unwrap()))
            };
            let one = number(store.get(b"x1").unwrap());
            let two = number(store.get(b"x2").unwrap());
            assert!(one <= two && last <= one, "{last} {one} {two}");
            last = two;
        }
    });
}

fn suite(backend: &dyn Backend) {
    let dir = tempfile::tempdir().unwrap();
    let store = backend.open(&dir.path().join("store")).unwrap();
    reads_what_is_written(store.as_ref());
    scans_in_order_and_stops(store.as_ref());
    keeps_large_values(store.as_ref());
    batches_are_atomic_for_readers(store.as_ref());
    what_is_near_is_what_a_get_says(store.as_ref());
}

fn reopening_keeps_what_was_flushed(backend: &dyn Backend) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    for round in 0..4_u32 {
        let store = backend.open(&path).unwrap();
        let kept = rows(store.as_ref(), b"k", b"l");
        assert_eq!(kept.len(), round as usize * 50);
        for number in round * 50..(round + 1) * 50 {
            let mut batch = Batch::new();
            batch.put(key(number), value(number, 3000));
            batch.put(*b"mark", number.to_le_bytes());
            store.write(batch).unwrap();
        }
        store.flush().unwrap();
    }
}

/// A file where the directory should be, and garbage where the files should be: errors that name the path.
fn a_broken_directory_is_an_error(backend: &dyn Backend) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"no directory").unwrap();
    let error = backend.open(&path).map(drop).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn memory_keeps_the_contract() {
    suite(&memory);
}

#[test]
fn sled_keeps_the_contract() {
    suite(&sled);
    reopening_keeps_what_was_flushed(&sled);
    a_broken_directory_is_an_error(&sled);
}

#[test]
fn disk_keeps_the_contract() {
    suite(&disk);
    reopening_keeps_what_was_flushed(&disk);
    a_broken_directory_is_an_error(&disk);
}

#[test]
fn sled_with_a_damaged_config_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    drop(sled(&path).unwrap());
    std::fs::write(path.join("conf"), b"\xff\xfegarbage").unwrap();
    assert!(sled(&path).is_err());
}

#[test]
fn memory_loses_a_suffix_of_batches_in_a_crash() {
    let store = MemStore::new();
    let put = |number: u32| {
        let mut batch = Batch::new();
        batch.put(key(number), value(number, 10));
        store.write(batch).unwrap();
    };
    put(1);
    store.flush().unwrap();
    put(2);
    put(3);
    assert_eq!(store.unflushed(), 2);
    assert_eq!(rows(&store.crash(0), b"k", b"l").len(), 1);
    assert_eq!(rows(&store.crash(1), b"k", b"l").len(), 2);
    assert_eq!(rows(&store.crash(9), b"k", b"l").len(), 3);
}
