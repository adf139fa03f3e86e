//! The disk store alone: what a crash, a power loss and damage leave of rows that point into files.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use keepstone_store::{
    Batch, DiskOptions, DiskStore, SledOptions, SledStore, Store, StoreError,
    testing::{FaultStore, Faults, MemStore},
};
use proptest::{collection::vec, prelude::*};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> DiskOptions {
    DiskOptions { large_bytes: 100, file_bytes: 3000, ..DiskOptions::default() }
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys, and lengths of values if they are no removals.
    Write(Vec<(u8, Option<u16>)>),
    Flush,
    /// The process is killed: files keep what was written to them.
    Kill,
    /// Power is lost: of what no sync has covered, this part in 256ths is there, and its last bytes are wrong.
    PowerLoss(u8),
    /// The flush of the rows fails; then the process is killed, and the rows' batch is there or is not.
    KillInFlush(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..15_u8, proptest::option::weighted(0.8, 0..800_u16));
    prop_oneof![
        8 => vec(write, 1..6).prop_map(Step::Write),
        3 => Just(Step::Flush),
        1 => Just(Step::Kill),
        1 => any::<u8>().prop_map(Step::PowerLoss),
        1 => any::<bool>().prop_map(Step::KillInFlush),
    ]
}

struct Machine {
    dir: tempfile::TempDir,
    rows: Arc<MemStore>,
    faults: Arc<Faults>,
    store: Option<DiskStore>,
    now: Rows,
    durable: Rows,
    /// Lengths of the files when they were last synced.
    synced: BTreeMap<PathBuf, u64>,
    fill: u8,
}

fn open(path: &Path, rows: &Arc<MemStore>) -> (DiskStore, Arc<Faults>) {
    let (faulty, faults) = FaultStore::new(rows.clone());
    let store = DiskStore::with_rows(path, Arc::new(faulty), &options()).unwrap();
    (store, faults)
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows = Arc::new(MemStore::new());
        let (store, faults) = open(dir.path(), &rows);
        Self {
            dir,
            rows,
            faults,
            store: Some(store),
            now: Rows::new(),
            durable: Rows::new(),
            synced: BTreeMap::new(),
            fill: 0,
        }
    }

    fn store(&self) -> &DiskStore {
        self.store.as_ref().unwrap()
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Write(writes) => self.write(writes),
            Step::Flush => {
                self.store().flush().unwrap();
                self.flushed();
            }
            Step::Kill => self.crash(0),
            Step::PowerLoss(part) => {
                self.lose_power(part);
                self.crash(0);
            }
            Step::KillInFlush(kept) => {
                self.faults.flush.store(true, Ordering::SeqCst);
                assert!(self.store().flush().is_err());
                assert!(self.store().flush().is_err(), "a failed flush is final");
                assert!(self.store().write(Batch::new()).is_err());
                if kept {
                    self.flushed();
                }
                self.crash(usize::from(kept));
            }
        }
    }

    fn write(&mut self, writes: Vec<(u8, Option<u16>)>) {
        let mut batch = Batch::new();
        let writes: BTreeMap<_, _> = writes.into_iter().collect();
        for (key, len) in writes {
            self.fill = self.fill.wrapping_add(1);
            let key = vec![b'k', key];
            match len {
                Some(len) => {
                    let value = vec![self.fill; usize::from(len)];
                    batch.put(key.clone(), value.clone());
                    self.now.insert(key, value);
                }
                None => {
                    batch.remove(key.clone());
                    self.now.remove(&key);
                }
            }
        }
        self.store().write(batch).unwrap();
    }

    fn files(&self) -> BTreeMap<PathBuf, u64> {
        let files = fs::read_dir(self.dir.path().join("heap")).unwrap();
        files.map(|file| file.unwrap()).map(|file| (file.path(), file.metadata().unwrap().len())).collect()
    }

    fn flushed(&mut self) {
        self.durable = self.now.clone();
        self.synced = self.files();
    }

    fn lose_power(&self, part: u8) {
        for (path, len) in self.files() {
            let synced = self.synced.get(&path).copied().unwrap_or(0);
            let kept = synced + (len - synced) * u64::from(part) / 255;
            if part == 0 && !self.synced.contains_key(&path) {
                fs::remove_file(&path).unwrap();
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            bytes.truncate(usize::try_from(kept).unwrap());
            let torn = usize::try_from(synced + (kept - synced) / 2).unwrap();
            for byte in &mut bytes[torn..] {
                *byte ^= 0x55;
            }
            fs::write(&path, bytes).unwrap();
        }
    }

    fn crash(&mut self, kept: usize) {
        // What the file system still has in memory at a kill, a later sync of anybody writes out.
        self.store = None;
        self.rows = Arc::new(self.rows.crash(kept));
        let (store, faults) = open(self.dir.path(), &self.rows);
        self.store = Some(store);
        self.faults = faults;
        self.now = self.durable.clone();
        self.synced = self.files();
    }

    fn check(&self) {
        let mut found = Rows::new();
        self.store()
            .scan(b"a"..b"z", &mut |key, value| {
                found.insert(key.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(found, self.now);
        for key in (0..15).map(|key| vec![b'k', key]) {
            let got = self.store().get(&key).unwrap();
            assert_eq!(got.as_deref(), self.now.get(&key).map(Vec::as_slice));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_falls_back_to_a_flush(steps in vec(step(), 1..50)) {
        let mut machine = Machine::new();
        for step in steps {
            machine.run(step);
            machine.check();
        }
    }
}

fn put(store: &DiskStore, key: u8, len: usize) {
    let mut batch = Batch::new();
    batch.put(vec![b'k', key], vec![key; len]);
    store.write(batch).unwrap();
}

/// Values that are written over and over leave no more than the files that are half alive.
#[test]
fn space_comes_back_while_serving() {
    let machine = Machine::new();
    for round in 0..200 {
        // One key in each file that is never written again would hold the file, but for relocation.
        put(machine.store(), 100 + u8::try_from(round / 20).unwrap(), 200);
        for key in 0..5 {
            put(machine.store(), key, 500);
        }
        machine.store().flush().unwrap();
    }
    let bytes: u64 = machine.files().values().sum();
    let live = 5 * 500 + 10 * 200;
    assert!(bytes < 2 * live + 4 * 3000, "{bytes}");
}

#[test]
fn a_missing_file_is_noticed_at_opening() {
    let mut machine = Machine::new();
    put(machine.store(), 1, 500);
    machine.store().flush().unwrap();
    machine.store = None;
    let file = machine.files().into_keys().next().unwrap();
    for damage in [&b"short"[..], &[]] {
        if damage.is_empty() {
            fs::remove_file(&file).unwrap();
        } else {
            fs::write(&file, damage).unwrap();
        }
        let opened = DiskStore::with_rows(machine.dir.path(), machine.rows.clone(), &options());
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("heap file 00000000"), "{error}");
    }
}

#[test]
fn a_flipped_bit_in_a_file_is_an_error() {
    let mut machine = Machine::new();
    put(machine.store(), 1, 300);
    machine.store().flush().unwrap();
    machine.store = None;
    let file = machine.files().into_keys().next().unwrap();
    let good = fs::read(&file).unwrap();
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1 << (byte % 8);
        fs::write(&file, bad).unwrap();
        let (store, _) = open(machine.dir.path(), &machine.rows);
        let error = store.get(&[b'k', 1]).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_directory_keeps_the_segments_it_was_founded_with() {
    let dir = tempfile::tempdir().unwrap();
    let open = |segment_bytes| {
        let options = SledOptions { segment_bytes, ..SledOptions::default() };
        SledStore::open(dir.path(), &options)
    };
    let founded = open(8 << 20).unwrap();
    let mut batch = Batch::new();
    batch.put(b"key", b"value");
    founded.write(batch).unwrap();
    founded.flush().unwrap();
    drop(founded);
    assert_eq!(open(512 << 10).unwrap().get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
}
