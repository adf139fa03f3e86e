//! A disk that says no: the first failure is final, and nothing answered before it is lost.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use keepstone_wal::testing::{Crash, SimDisk};
use keepstone_wal::{Disk, Done, Entry, File, Options, Wal, WalError};
use parking_lot::{Condvar, Mutex};

use crate::beside::{dir, options};

fn open(disk: &SimDisk) -> Wal {
    let (wal, _) = Wal::open_inline(dir(), options(), Arc::new(disk.clone())).expect("opens");
    wal
}

fn begin(wal: &Wal) {
    wal.save_meta(Bytes::from_static(b"me"), ok()).expect("taken");
    wal.step().expect("writes");
}

fn ok() -> Done {
    Box::new(|result| result.expect("durable"))
}

fn entry(index: u64, len: usize) -> Entry {
    Entry { index, term: 1, data: vec![7; len].into() }
}

/// Every way in answers the failure.
fn has_ended(wal: &Wal, why: &str) {
    let silent = || -> Done { Box::new(|_| {}) };
    let answers = [
        wal.append([entry(wal.last().map_or(1, |last| last.index + 1), 1)], silent()),
        wal.save_vote(Bytes::new(), silent()),
        wal.save_meta(Bytes::new(), silent()),
        wal.save_committed(Bytes::new()),
        wal.truncate_after(None, silent()),
        wal.purge(keepstone_wal::LogPos { term: 9, index: 99 }, silent()),
        wal.sync(silent()),
        wal.step().map(|_| ()),
        wal.read(1..2, 1).map(|_| ()),
    ];
    for answer in answers {
        let error = answer.expect_err("refused");
        assert!(matches!(error, WalError::Failed(_)) && error.to_string().contains(why), "{error}");
    }
    assert!(wal.failure().is_some_and(|failure| failure.to_string().contains(why)));
}

fn fails(break_it: impl Fn(&SimDisk), why: &str) {
    let disk = SimDisk::new();
    let wal = open(&disk);
    begin(&wal);
    wal.append([entry(1, 100), entry(2, 100)], ok()).expect("taken");
    wal.step().expect("writes");
    break_it(&disk);
    let (send, heard) = mpsc::channel();
    for index in 3..10 {
        let send = send.clone();
        let done: Done = Box::new(move |result| send.send((index, result)).expect("somebody waits"));
        wal.append([entry(index, 900)], done).expect("taken");
    }
    while wal.step().is_ok() {}
    let syncs = disk.counts().fdatasyncs;
    has_ended(&wal, why);
    assert_eq!(disk.counts().fdatasyncs, syncs, "nothing is tried again");
    let heard: Vec<(u64, io::Result<()>)> = heard.try_iter().collect();
    assert_eq!(heard.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (3..10).collect::<Vec<_>>());
    assert!(heard.iter().all(|(_, result)| result.as_ref().is_err_and(|e| e.to_string().contains(why))));
    drop(wal);
    for seed in 0..50 {
        let wal = open(&disk.crash(Crash::Random(seed)));
        assert_eq!(wal.read(1..3, 1000).expect("reads"), [entry(1, 100), entry(2, 100)]);
    }
}

#[test]
fn a_failed_fdatasync_is_final() {
    fails(|disk| disk.fail_fdatasync(1), "injected fdatasync failure");
}

#[test]
fn a_failed_write_is_final() {
    fails(|disk| disk.fail_pwrite(1), "injected write failure");
}

#[test]
fn what_is_found_after_a_failed_sync_survives_the_next_loss_of_power() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    begin(&wal);
    wal.append([entry(1, 5000)], Box::new(|_| {})).expect("taken");
    disk.fail_fdatasync(1);
    wal.step().expect_err("fails");
    drop(wal);
    // The process restarts; the pages still read well, count as clean, and are not on the disk.
    let restarted = disk.crash(Crash::Process);
    let last = |disk: &SimDisk| open(disk).recovered().last;
    assert_eq!(last(&restarted.crash(Crash::LoseAll)), None, "it is not on the disk");
    let found = last(&restarted);
    assert!(found.is_some());
    assert_eq!(last(&restarted.crash(Crash::LoseAll)), found, "opening put it there");
}

#[test]
fn a_full_disk_ends_the_log_and_loses_nothing() {
    let disk = SimDisk::new();
    let wal = open(&disk);
    begin(&wal);
    disk.set_capacity(40 * 1024);
    let answered = Arc::new(AtomicUsize::new(0));
    let mut index = 0;
    loop {
        index += 1;
        let answered = Arc::clone(&answered);
        let done: Done = Box::new(move |result| {
            if result.is_ok() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        wal.append([entry(index, 900)], done).expect("taken");
        if wal.step().is_err() {
            break;
        }
    }
    let answered = answered.load(Ordering::Relaxed) as u64;
    assert_eq!(answered, index - 1);
    has_ended(&wal, "No space left on device");
    drop(wal);
    let after = disk.crash(Crash::LoseAll);
    assert!(after.paths().iter().all(|path| !path.to_string_lossy().contains("filling")), "cleaned up");
    let wal = open(&after);
    assert_eq!(wal.read(1..u64::MAX, usize::MAX).expect("reads").len() as u64, answered);
    wal.append([entry(index, 900)], ok()).expect("taken");
    wal.step().expect("there is room now");
}

#[test]
fn inline_the_queue_refuses_past_its_bound() {
    let wal = open(&SimDisk::new());
    begin(&wal);
    let mut index = 1;
    let refused = loop {
        match wal.append([entry(index, 5000)], ok()) {
            Ok(()) => index += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WalError::QueueFull { limit: 30_000, .. }), "{refused}");
    assert_eq!(index, 6);
    while wal.step().expect("writes") {}
    wal.append([entry(index, 5000)], ok()).expect("there is room");
}

/// A disk whose syncs wait until the gate is opened.
struct GatedDisk {
    disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

struct GatedFile(Arc<dyn File>, Arc<Gate>);

impl Gate {
    fn set(&self, open: bool) {
        *self.open.lock() = open;
        self.opened.notify_all();
    }
}

impl File for GatedFile {
    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.pwrite(buf, offset)
    }
    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.pread(buf, offset)
    }
    fn fdatasync(&self) -> io::Result<()> {
        let mut open = self.1.open.lock();
        while !*open {
            self.1.opened.wait(&mut open);
        }
        self.0.fdatasync()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl Disk for GatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.disk.create(path)?, Arc::clone(&self.gate))))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.disk.open(path)?, Arc::clone(&self.gate))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
}

#[test]
fn behind_a_slow_disk_appends_wait_within_the_bound_and_share_a_sync() {
    let (disk, gate) = (SimDisk::new(), Arc::new(Gate::default()));
    gate.set(true);
    let limit = 20_000;
    let gated = GatedDisk { disk: disk.clone(), gate: Arc::clone(&gate) };
    let options = Options { queue_bytes: limit, group_bytes: limit, segment_bytes: 1 << 20, ..options() };
    let (wal, _) = Wal::open(dir(), options, Arc::new(gated)).expect("opens");
    let (send, heard) = mpsc::channel();
    let meta = send.clone();
    wal.save_meta(Bytes::new(), Box::new(move |result| meta.send(result).expect("somebody waits"))).expect("taken");
    heard.recv().expect("answered").expect("durable");
    gate.set(false);
    let before = disk.counts().fdatasyncs;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 1..=100 {
                let send = send.clone();
                let done: Done = Box::new(move |result| send.send(result).expect("somebody waits"));
                wal.append([entry(index, 1000)], done).expect("taken");
                assert!(wal.stats().queued_bytes <= limit);
            }
        });
        while wal.stats().queued_bytes < limit - 1100 {
            std::thread::yield_now();
        }
        assert!(wal.last().is_some_and(|last| last.index < 20), "the rest waits");
        assert!(heard.try_recv().is_err(), "nothing is answered before its sync");
        gate.set(true);
        for _ in 0..100 {
            heard.recv().expect("answered").expect("durable");
        }
    });
    let syncs = disk.counts().fdatasyncs - before;
    assert!(syncs < 60, "{syncs} syncs for 100 entries");
}
