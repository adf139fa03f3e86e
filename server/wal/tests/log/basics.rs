//! The log on real files and threads: what its owner meets every day.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use keepstone_wal::{Done, Entry, LogPos, Options, RealDisk, Wal, WalError};

fn options() -> Options {
    Options { segment_bytes: 32 * 1024, cache_bytes: 4096, ..Options::default() }
}

fn open(dir: &Path) -> Wal {
    Wal::open(dir, options(), Arc::new(RealDisk)).expect("opens").0
}

/// A callback, and a wait for it.
fn done() -> (Done, impl FnOnce()) {
    let (send, heard) = mpsc::channel();
    let done: Done = Box::new(move |result| send.send(result).expect("somebody waits"));
    (done, move || heard.recv().expect("answered").expect("durable"))
}

fn entry(index: u64, len: usize) -> Entry {
    let data = (0..len).map(|i| (index as usize + i) as u8).collect::<Vec<_>>();
    Entry { index, term: index / 10, data: data.into() }
}

fn begin(wal: &Wal) {
    let (done, wait) = done();
    wal.save_meta(Bytes::from_static(b"member 1"), done).expect("taken");
    wait();
}

#[test]
fn what_was_answered_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = open(dir.path());
    begin(&wal);
    let (vote, vote_done) = done();
    wal.save_vote(Bytes::from_static(b"for 2"), vote).expect("taken");
    for index in 1..=300 {
        wal.append([entry(index, 700)], Box::new(|result| result.expect("durable"))).expect("taken");
        assert_eq!(wal.last().expect("there").index, index);
    }
    wal.save_committed(Bytes::from_static(b"290")).expect("taken");
    let (truncate, truncated) = done();
    wal.truncate_after(Some(295), truncate).expect("taken");
    truncated();
    vote_done();
    let (purge, purged) = done();
    wal.purge(LogPos { term: 10, index: 100 }, purge).expect("taken");
    purged();
    drop(wal);

    let wal = open(dir.path());
    let found = wal.recovered().clone();
    assert_eq!(found.meta.as_deref(), Some(&b"member 1"[..]));
    assert_eq!(found.vote.as_deref(), Some(&b"for 2"[..]));
    assert_eq!(found.committed.as_deref(), Some(&b"290"[..]));
    assert_eq!(found.purged, Some(LogPos { term: 10, index: 100 }));
    assert_eq!((found.first_index, found.last), (Some(101), Some(LogPos { term: 29, index: 295 })));
    assert_eq!(found.cut, None);
    let entries = wal.read(101..1000, usize::MAX).expect("reads");
    assert_eq!(entries, (101..=295).map(|index| entry(index, 700)).collect::<Vec<_>>());
    assert!(matches!(wal.read(100..105, 1), Err(WalError::Purged { index: 100, first: 101 })));
    assert_eq!(wal.read(200..300, 1500).expect("reads").len(), 2);
    assert_eq!(wal.read(200..300, 0).expect("reads").len(), 1, "always one");
    assert_eq!(wal.read(296..300, 10).expect("reads"), []);
    assert_eq!((wal.term(100), wal.term(150), wal.term(99), wal.term(296)), (Some(10), Some(15), None, None));
    assert!(wal.stats().cached_bytes <= 4096);
}

#[test]
fn the_second_opener_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path());
    let second = Wal::open(dir.path(), options(), Arc::new(RealDisk)).err().expect("refused");
    assert!(matches!(second, WalError::Locked { .. }));
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(first);
    open(dir.path());
}

#[test]
fn order_and_gaps_are_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = open(dir.path());
    let ignore = || -> Done { Box::new(|_| {}) };
    assert!(matches!(wal.append([entry(1, 1)], ignore()), Err(WalError::NoIdentity)));
    begin(&wal);
    assert!(matches!(wal.append([entry(2, 1)], ignore()), Err(WalError::Gap { expected: 0, found: 2 })));
    wal.append([entry(1, 1), entry(2, 1)], ignore()).expect("taken");
    assert!(matches!(wal.append([entry(4, 1)], ignore()), Err(WalError::Gap { expected: 3, found: 4 })));
    assert!(matches!(wal.append([entry(3, 1), entry(5, 1)], ignore()), Err(WalError::Gap { expected: 4, found: 5 })));
    let limit = options().max_entry_bytes();
    assert!(matches!(wal.append([entry(3, limit + 1)], ignore()), Err(WalError::TooLarge { .. })));
    wal.append([entry(3, limit)], ignore()).expect("taken");
    wal.purge(LogPos { term: 4, index: 50 }, ignore()).expect("taken");
    assert!(matches!(wal.truncate_after(Some(49), ignore()), Err(WalError::Purged { index: 49, first: 51 })));
    assert!(matches!(wal.append([entry(4, 1)], ignore()), Err(WalError::Gap { expected: 51, found: 4 })));
    wal.append([entry(51, 1)], ignore()).expect("taken");
    wal.close();
    assert!(matches!(wal.append([entry(52, 1)], ignore()), Err(WalError::Closed)));
    drop(wal);
    assert_eq!(open(dir.path()).recovered().first_index, Some(51));
}

#[test]
fn many_threads_of_answers_come_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = open(dir.path());
    begin(&wal);
    let (send, heard) = mpsc::channel();
    for index in 0..2000 {
        let send = send.clone();
        let done: Done = Box::new(move |result| send.send((index, result.is_ok())).expect("somebody waits"));
        wal.append([entry(index, 100)], done).expect("taken");
    }
    for index in 0..2000 {
        assert_eq!(heard.recv().expect("answered"), (index, true));
    }
    assert_eq!(wal.stats().queued_bytes, 0);
}

#[test]
fn purged_segments_are_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = open(dir.path());
    begin(&wal);
    for index in 1..=2000u64 {
        let (append, wait) = done();
        wal.append([entry(index, 200)], append).expect("taken");
        wait();
        if index % 50 == 0 {
            let (purge, wait) = done();
            wal.purge(LogPos { term: index / 10, index }, purge).expect("taken");
            wait();
        }
    }
    wal.close();
    let files = std::fs::read_dir(dir.path()).expect("lists").count();
    assert!(files <= 8, "{files} files for 1 MB through segments of 32 KiB");
    drop(wal);
    assert_eq!(open(dir.path()).last(), Some(LogPos { term: 200, index: 2000 }));
}
