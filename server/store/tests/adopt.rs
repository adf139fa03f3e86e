//! One store's records take the place of another's while both are read.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use keepstone_proto::{KeyValue, KeyValueParts};
use keepstone_state::{Record, Records, Revision, TableWrite};
use keepstone_store::testing::MemStore;
use keepstone_store::{Options, RecordStore, StoreError};

fn record(main: i64) -> Record {
    let key = format!("key-{main}");
    let value = vec![main as u8; 300];
    let parts = KeyValueParts { key: key.as_bytes(), value: &value, mod_revision: main, ..KeyValueParts::default() };
    Record { at: Revision::new(main, 0), tombstone: false, prev: None, kv: KeyValue::new(&parts) }
}

/// A store with the records `revisions`, packed into chunks of `chunk_bytes`.
fn filled(revisions: impl Iterator<Item = i64>, chunk_bytes: usize, mark: &'static [u8]) -> Arc<RecordStore> {
    let options = Options { chunk_bytes, ..Options::default() };
    let (records, _) = RecordStore::open(Arc::new(MemStore::new()), options).expect("an empty store");
    for main in revisions {
        records.append(vec![record(main)], Vec::new(), Bytes::from_static(mark));
    }
    records.checkpoint().expect("written");
    records.flush().expect("flushed");
    records
}

fn revisions(records: &RecordStore, from: i64, until: i64) -> Result<Vec<i64>, StoreError> {
    let mut found = Vec::new();
    records.scan(Revision::new(from, 0), Revision::new(until, i64::MAX), &mut |record| {
        found.push(record.at.main);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

#[test]
fn what_is_adopted_is_all_there_is() {
    let records = filled(2..=50, 4 << 10, b"old");
    records.append(vec![record(51)], Vec::new(), Bytes::from_static(b"dirty"));
    let other = filled(40..=90, 2 << 10, b"new");
    let row = TableWrite { key: b"row".to_vec(), value: Some(b"value".to_vec()) };
    other.append(Vec::new(), vec![row], Bytes::from_static(b"newer"));
    other.checkpoint().expect("written");
    let replaced = records.hold_still().adopt(Arc::into_inner(other).expect("nobody else has it"));
    assert!(replaced.free().try_close());
    assert_eq!(revisions(&records, 0, i64::MAX).expect("a scan"), (40..=90).collect::<Vec<_>>());
    assert!(records.get(Revision::new(51, 0)).is_ok() && records.get(Revision::new(30, 0)).is_err());
    assert_eq!(records.tables(), [(b"row".to_vec(), b"value".to_vec())]);
    assert_eq!(records.dirty_bytes(), 0);
    assert_eq!(records.flush().expect("flushed").as_deref(), Some(&b"newer"[..]));
    // It goes on as if it had always been its own.
    records.append(vec![record(91)], Vec::new(), Bytes::from_static(b"last"));
    records.checkpoint().expect("written");
    assert_eq!(records.get(Revision::new(91, 0)).expect("there"), record(91).kv);
}

#[test]
fn readers_miss_nothing_that_both_have() {
    let records = filled(2..=2000, 4 << 10, b"old");
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (records, stop) = (records.clone(), stop.clone());
            thread::spawn(move || {
                let mut scans = 0;
                while !stop.load(Ordering::Relaxed) || scans == 0 {
                    let found = revisions(&records, 1000, 2000).expect("a scan");
                    assert_eq!(found, (1000..=2000).collect::<Vec<_>>());
                    for main in (1000..=2000).step_by(97) {
                        assert_eq!(records.get(Revision::new(main, 0)).expect("there"), record(main).kv);
                    }
                    scans += 1;
                }
            })
        })
        .collect();
    for round in 1..=20 {
        let other = filled(1000 - round..=2000 + round, 1 << (10 + round % 4), b"new");
        let replaced = records.hold_still().adopt(Arc::into_inner(other).expect("nobody else has it"));
        let mut closing = replaced.free();
        while !closing.try_close() {
            thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("no reader panics");
    }
}
