//! Damage and failing disks: always an error that names the place, never wrong data, never a panic.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use keepstone_state::{Record, RecordError, Records, Revision, TableWrite};
use keepstone_store::{
    Batch, Options, RecordStore, Store, StoreError,
    testing::{FaultStore, Faults, MemStore},
};
use std::sync::atomic::Ordering;
use support::records::record;

const EVERYTHING: Revision = Revision::new(i64::MAX, i64::MAX);

fn options() -> Options {
    Options { cache_bytes: 0, dirty_limit_bytes: 10_000, chunk_bytes: 1 << 10, batch_bytes: 4 << 10 }
}

fn records(from: i64, to: i64) -> Vec<Record> {
    (from..to).map(|main| record(main, 0, b"key", Some(&main.to_be_bytes().repeat(20)))).collect()
}

fn row() -> Vec<TableWrite> {
    vec![TableWrite { key: b"lease".to_vec(), value: Some(b"7".to_vec()) }]
}

fn filled() -> MemStore {
    let disk = Arc::new(MemStore::new());
    let (store, _) = RecordStore::open(disk.clone(), options()).unwrap();
    store.append(records(2, 80), row(), Bytes::from_static(b"78"));
    store.checkpoint().unwrap();
    store.flush().unwrap();
    disk.crash(0)
}

fn faulty() -> (Arc<RecordStore>, Arc<Faults>) {
    let (store, faults) = FaultStore::new(Arc::new(MemStore::new()));
    let (store, _) = RecordStore::open(Arc::new(store), options()).unwrap();
    (store, faults)
}

fn scan(store: &RecordStore) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    store.scan(Revision::default(), EVERYTHING, &mut |record| {
        found.push(record.clone());
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// One flipped bit anywhere: opening or reading says so, and whatever is answered is right.
#[test]
fn a_flipped_bit_is_never_an_answer() {
    let disk = filled();
    let wanted = records(2, 80);
    let mut noticed = 0;
    let rows = disk.rows();
    for (key, value) in &rows {
        for byte in (0..value.len()).step_by(1 + value.len() / 40) {
            let mut bad = value.to_vec();
            bad[byte] ^= 1 << (byte % 8);
            let damaged = Arc::new(disk.crash(0));
            let mut batch = Batch::new();
            batch.put(key.clone(), bad);
            damaged.write(batch).unwrap();
            let opened = RecordStore::open(damaged, options());
            let Ok((store, _)) = opened else {
                noticed += 1;
                continue;
            };
            let in_chunk = key[0] == 0x10;
            match scan(&store) {
                Ok(found) => assert!(!in_chunk && found == wanted),
                Err(error) => {
                    assert!(matches!(error, StoreError::DamagedChunk { .. }), "{error}");
                    noticed += 1;
                }
            }
            for record in &wanted {
                match store.get(record.at) {
                    Ok(kv) => assert_eq!(kv, record.kv),
                    Err(error) => assert!(matches!(error, RecordError::Failed { .. }), "{error}"),
                }
            }
            if in_chunk {
                let dead: Vec<_> = wanted.iter().map(|record| record.at).collect();
                store.remove(&dead);
                assert!(store.rewrite(&|_, _| false, 1 << 20).is_err());
            }
        }
    }
    assert!(noticed > 300, "{noticed}");
}

/// A chunk, or a directory row, that is gone.
#[test]
fn a_lost_chunk_is_noticed() {
    let disk = filled();
    for key in disk.rows().into_keys().filter(|key| key[0] == 0x10) {
        let damaged = Arc::new(disk.crash(0));
        let mut batch = Batch::new();
        batch.remove(key);
        damaged.write(batch).unwrap();
        let (store, _) = RecordStore::open(damaged, options()).unwrap();
        assert!(matches!(scan(&store), Err(StoreError::DamagedChunk { .. })));
    }
}

#[test]
fn another_format_is_refused() {
    let disk = Arc::new(filled());
    let mut batch = Batch::new();
    batch.put([0x30, b'f'], 9_u32.to_le_bytes());
    disk.write(batch).unwrap();
    let error = RecordStore::open(disk, options()).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Format { found: 9, .. }), "{error}");

    let foreign = Arc::new(MemStore::new());
    let mut batch = Batch::new();
    batch.put(*b"somebody", *b"else's");
    foreign.write(batch).unwrap();
    let error = RecordStore::open(foreign, options()).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn what_could_not_be_written_stays_dirty_and_readable() {
    let (store, faults) = faulty();
    faults.write.store(true, Ordering::SeqCst);
    store.append(records(2, 80), row(), Bytes::from_static(b"1"));
    assert!(store.is_over_dirty_limit());
    assert!(store.checkpoint().is_err());
    assert!(store.is_over_dirty_limit());
    assert_eq!(scan(&store).unwrap(), records(2, 80));
    assert_eq!(store.table(b"lease").unwrap(), b"7");
    faults.write.store(false, Ordering::SeqCst);
    store.append(records(80, 90), Vec::new(), Bytes::from_static(b"2"));
    store.checkpoint().unwrap();
    assert_eq!(store.dirty_bytes(), 0);
    assert_eq!(store.flush().unwrap().unwrap(), "2");
    assert_eq!(scan(&store).unwrap(), records(2, 90));
}

#[test]
fn a_failing_flush_says_nothing_is_durable() {
    let (store, faults) = faulty();
    assert_eq!(store.flush().unwrap(), None);
    store.append(records(2, 9), row(), Bytes::from_static(b"1"));
    store.checkpoint().unwrap();
    faults.flush.store(true, Ordering::SeqCst);
    assert!(store.flush().is_err());
}

#[test]
fn a_failing_read_is_an_error_and_not_a_missing_record() {
    let (store, faults) = faulty();
    store.append(records(2, 80), Vec::new(), Bytes::from_static(b"1"));
    store.checkpoint().unwrap();
    faults.get.store(true, Ordering::SeqCst);
    let error = store.get(Revision::new(5, 0)).unwrap_err();
    assert!(matches!(error, RecordError::Failed { .. }), "{error}");
    assert!(scan(&store).is_err());
    faults.get.store(false, Ordering::SeqCst);
    assert!(store.get(Revision::new(5, 0)).is_ok());
    let error = store.get(Revision::new(5, 1)).unwrap_err();
    assert!(matches!(error, RecordError::Missing(_)), "{error}");
}

#[test]
#[should_panic(expected = "is appended after")]
fn a_run_is_never_applied_twice() {
    let (store, _) = RecordStore::open(Arc::new(filled()), options()).unwrap();
    store.append(records(79, 81), Vec::new(), Bytes::new());
}
