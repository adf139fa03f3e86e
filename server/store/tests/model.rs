//! The record store against a model that is a list of runs: under checkpoints, crashes and compaction it must always hold
//! the state of one run, whole, and never what came after.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use keepstone_state::{Record, RecordError, Records, Revision, TableWrite};
use keepstone_store::{Options, RecordStore, testing::MemStore};
use proptest::{collection::vec, prelude::*};
use support::records::record;

const EVERYTHING: Revision = Revision::new(i64::MAX, i64::MAX);

fn options() -> Options {
    Options { cache_bytes: 24 << 10, dirty_limit_bytes: 16 << 10, chunk_bytes: 2 << 10, batch_bytes: 4 << 10 }
}

/// One change of a transaction: a key's number, and the length of its value if it is no delete.
type Change = (u8, Option<u16>);

#[derive(Clone, Debug)]
enum Step {
    /// A run of transactions, and rows of tables.
    Append(Vec<Vec<Change>>, Vec<(u8, Option<u8>)>),
    /// Compacts at the given part of history, in 256ths.
    Compact(u8),
    Checkpoint,
    Flush,
    Rewrite(usize),
    /// A crash that keeps the given part of the unflushed batches, in 256ths.
    Crash(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..12_u8, prop_oneof![1 => Just(None), 5 => (0..700_u16).prop_map(Some)]);
    let transaction = vec(change, 1..5);
    let row = (0..5_u8, proptest::option::of(any::<u8>()));
    prop_oneof![
        8 => (vec(transaction, 0..12), vec(row, 0..3)).prop_map(|(t, r)| Step::Append(t, r)),
        2 => any::<u8>().prop_map(Step::Compact),
        3 => Just(Step::Checkpoint),
        2 => Just(Step::Flush),
        3 => (1..20_000_usize).prop_map(Step::Rewrite),
        1 => any::<u8>().prop_map(Step::Crash),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Default)]
struct Run {
    records: Vec<Record>,
    tables: Vec<TableWrite>,
    floor: i64,
}

/// What the member has applied, run by run.
#[derive(Clone, Default)]
struct Model {
    runs: Vec<Run>,
}

impl Model {
    fn records(&self) -> impl Iterator<Item = &Record> {
        self.runs.iter().flat_map(|run| &run.records)
    }

    fn floor(&self) -> i64 {
        self.runs.last().map_or(0, |run| run.floor)
    }

    fn last_main(&self) -> i64 {
        self.records().last().map_or(1, |record| record.at.main)
    }

    /// Revisions that compaction has made droppable.
    fn dead(&self) -> BTreeSet<Revision> {
        let floor = self.floor();
        let mut newest: BTreeMap<&[u8], &Record> = BTreeMap::new();
        let mut dead = BTreeSet::new();
        for record in self.records().filter(|record| record.at.main <= floor) {
            if let Some(older) = newest.insert(record.kv.key(), record) {
                dead.insert(older.at);
            }
        }
        let gone = newest.values().filter(|record| record.tombstone);
        dead.extend(gone.map(|record| record.at));
        dead
    }

    fn tables(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut tables = BTreeMap::new();
        for row in self.runs.iter().flat_map(|run| &run.tables) {
            match &row.value {
                Some(value) => tables.insert(row.key.clone(), value.clone()),
                None => tables.remove(&row.key),
            };
        }
        tables
    }
}

struct Member {
    disk: Arc<MemStore>,
    store: Arc<RecordStore>,
    model: Model,
    /// How many runs the last flush made durable.
    durable: usize,
}

impl Member {
    fn new() -> Self {
        let disk = Arc::new(MemStore::new());
        let (store, opened) = RecordStore::open(disk.clone(), options()).unwrap();
        assert!(opened.applied.is_none() && opened.tables.is_empty());
        Self { disk, store, model: Model::default(), durable: 0 }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append(transactions, rows) => self.append(&transactions, rows),
            Step::Compact(part) => self.compact(part),
            Step::Checkpoint => {
                self.store.checkpoint().unwrap();
                assert_eq!(self.store.dirty_bytes(), 0);
            }
            Step::Flush => {
                let applied = self.store.flush().unwrap();
                self.durable = self.durable.max(run_number(applied.as_deref()));
                assert_eq!(self.disk.unflushed(), 0);
            }
            Step::Rewrite(budget) => {
                let dead = self.model.dead();
                let is_live = |_: &[u8], at: Revision| !dead.contains(&at);
                self.store.rewrite(&is_live, budget).unwrap();
            }
            Step::Crash(kept) => {
                let kept = self.disk.unflushed() * usize::from(kept) / 255;
                self.open(self.disk.crash(kept));
            }
            Step::Reopen => {
                let all = self.disk.unflushed();
                self.open(self.disk.crash(all));
            }
        }
    }

    fn append(&mut self, transactions: &[Vec<Change>], rows: Vec<(u8, Option<u8>)>) {
        let mut run = Run { floor: self.model.floor(), ..Run::default() };
        let mut main = self.model.last_main();
        for changes in transactions {
            main += 1;
            for (sub, (key, len)) in changes.iter().enumerate() {
                let fill = main.to_le_bytes()[0] ^ key;
                let value = len.map(|len| vec![fill; usize::from(len)]);
                let sub = i64::try_from(sub).unwrap();
                run.records.push(record(main, sub, &[*key], value.as_deref()));
            }
        }
        for (key, value) in rows {
            run.tables.push(TableWrite { key: vec![b't', key], value: value.map(|value| vec![value; 3]) });
        }
        self.push(run);
    }

    fn push(&mut self, run: Run) {
        self.model.runs.push(run.clone());
        let applied = (self.model.runs.len() as u64).to_be_bytes().to_vec();
        self.store.append(run.records, run.tables, applied.into());
    }

    fn compact(&mut self, part: u8) {
        let before = self.model.dead();
        let span = self.model.last_main() - self.model.floor();
        let floor = self.model.floor() + span * i64::from(part) / 255;
        self.push(Run { floor, ..Run::default() });
        let after = self.model.dead();
        let dead: Vec<_> = after.difference(&before).copied().collect();
        self.store.remove(&dead);
    }

    /// Starts again from what a crash has left.
    fn open(&mut self, disk: MemStore) {
        self.disk = Arc::new(disk);
        let (store, opened) = RecordStore::open(self.disk.clone(), options()).unwrap();
        self.store = store;
        let runs = run_number(opened.applied.as_deref());
        assert!(self.durable <= runs && runs <= self.model.runs.len());
        self.model.runs.truncate(runs);
        self.durable = runs;
        let tables: Vec<_> = self.model.tables().into_iter().collect();
        assert_eq!(opened.tables, tables);
        let dead: Vec<_> = self.model.dead().into_iter().collect();
        self.store.remove(&dead);
    }

    fn scan(&self, from: Revision, until: Revision) -> Vec<Record> {
        let mut found = Vec::new();
        self.store
            .scan(from, until, &mut |record| {
                found.push(record.clone());
                ControlFlow::Continue(())
            })
            .unwrap();
        found
    }

    /// What is live is there, what is there was written, and every way to read agrees.
    fn check(&self) {
        let found = self.scan(Revision::default(), EVERYTHING);
        assert!(found.is_sorted_by_key(|record| record.at));
        let dead = self.model.dead();
        let mut left = found.iter().peekable();
        for record in self.model.records() {
            let here = left.next_if(|next| next.at == record.at);
            assert!(here.is_none_or(|here| here == record));
            assert!(here.is_some() || dead.contains(&record.at), "{:?} is lost", record.at);
            match self.store.get(record.at) {
                Ok(kv) => assert!(!record.tombstone && kv == record.kv),
                Err(RecordError::Missing(_)) => assert!(record.tombstone || here.is_none()),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(left.next(), None, "a record that was never applied");
        if let Some(middle) = found.get(found.len() / 2) {
            let until = Revision::new(middle.at.main + 3, 0);
            let wanted = found.iter().filter(|r| r.at >= middle.at && r.at <= until);
            assert!(self.scan(middle.at, until).iter().eq(wanted));
        }
        for (key, value) in self.model.tables() {
            assert_eq!(self.store.table(&key), Some(value));
        }
        let sizes = self.store.sizes().unwrap();
        assert!(sizes.live_bytes <= sizes.total_bytes);
        assert!(self.store.cached_bytes() <= options().cache_bytes);
    }
}

fn run_number(applied: Option<&[u8]>) -> usize {
    let number = applied.map_or(0, |mark| u64::from_be_bytes(mark.try_into().unwrap()));
    usize::try_from(number).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn holds_the_state_of_one_run_whole(steps in vec(step(), 1..60)) {
        let mut member = Member::new();
        for step in steps {
            member.run(step);
            member.check();
        }
    }
}

/// Everything dead goes, but for the open tail.
#[test]
fn compaction_gives_the_space_back() {
    let mut member = Member::new();
    for _ in 0..60 {
        member.append(&vec![vec![(1, Some(100)), (2, Some(50))]; 10], Vec::new());
        member.store.checkpoint().unwrap();
    }
    let before = member.store.sizes().unwrap();
    assert!(member.store.chunks() > 40);
    member.compact(255);
    member.store.checkpoint().unwrap();
    let marked = member.store.sizes().unwrap();
    assert_eq!(marked.total_bytes, before.total_bytes);
    assert!(marked.live_bytes < 4 << 10, "{marked:?}");
    let dead = member.model.dead();
    loop {
        let is_live = |_: &[u8], at: Revision| !dead.contains(&at);
        let did = member.store.rewrite(&is_live, 8 << 10).unwrap();
        member.check();
        if did.done {
            break;
        }
    }
    assert!(member.store.chunks() <= 2, "{}", member.store.chunks());
    assert!(member.store.sizes().unwrap().total_bytes < 4 << 10);
}

/// Small chunks, as restarts and compaction leave them, become large ones.
#[test]
fn small_neighbours_are_merged() {
    let mut member = Member::new();
    for _ in 0..30 {
        member.append(&vec![vec![(1, Some(100))]; 2], Vec::new());
        member.store.checkpoint().unwrap();
        member.run(Step::Reopen);
    }
    assert_eq!(member.store.chunks(), 30);
    while !member.store.rewrite(&|_, _| true, 1 << 20).unwrap().done {}
    assert!(member.store.chunks() < 8, "{}", member.store.chunks());
    member.check();
}

/// A run larger than a batch is still one batch: a crash leaves all of it or nothing.
#[test]
fn a_huge_run_is_one_batch() {
    let mut member = Member::new();
    member.append(&vec![vec![(1, Some(600)); 20]; 10], Vec::new());
    member.store.checkpoint().unwrap();
    assert_eq!(member.disk.unflushed(), 2, "the format row's, and one more");
    let whole = member.disk.crash(2);
    let nothing = member.disk.crash(1);
    member.open(whole);
    assert_eq!(member.model.runs.len(), 1);
    member.check();
    member.durable = 0;
    member.open(nothing);
    assert_eq!(member.model.runs.len(), 0);
    member.check();
}
