//! The records that are in memory because their chunk is not written, or not full: a queue in revision order.
//!
//! The front is the open tail chunk, which is written but will be written again; then come the runs that no batch has
//! carried yet. Does no IO.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use keepstone_state::{Record, Revision, TableWrite};

use crate::chunk::SLOT;

/// What a record costs in memory beside its bytes: its place in the queue and the allocation's own head.
pub(crate) const RECORD_OVERHEAD: usize = size_of::<Record>() + 40;
const ROW_OVERHEAD: usize = size_of::<TableWrite>() + 32;

/// Records and rows that one batch must carry whole.
#[derive(Debug)]
struct Run {
    records: usize,
    /// With what holding it costs.
    bytes: usize,
    /// What its records will take in chunks.
    payload: usize,
    tables: Vec<TableWrite>,
    applied: Bytes,
    /// Being written: nothing may join it.
    sealed: bool,
}

/// What the next batch carries.
#[derive(Debug)]
pub(crate) struct Work {
    /// The open tail's records and then the runs' records.
    pub records: Vec<Record>,
    /// How many of the records are the open tail's.
    pub tail: usize,
    pub tables: Vec<TableWrite>,
    pub applied: Bytes,
    pub runs: usize,
}

#[derive(Debug)]
pub(crate) struct Dirty {
    /// Runs are joined up to this many bytes: a batch needs an edge now and then, not one for every entry.
    join_bytes: usize,
    records: VecDeque<Record>,
    /// Records at the front that are written: the open tail chunk's.
    tail: usize,
    runs: VecDeque<Run>,
    bytes: usize,
    payload: usize,
    /// Records after the tail that were reported dead before any chunk could count them.
    dead: BTreeSet<Revision>,
}

fn record_bytes(record: &Record) -> usize {
    record.kv.raw().len() + RECORD_OVERHEAD
}

impl Dirty {
    pub fn new(join_bytes: usize) -> Self {
        Self {
            join_bytes,
            records: VecDeque::new(),
            tail: 0,
            runs: VecDeque::new(),
            bytes: 0,
            payload: 0,
            dead: BTreeSet::new(),
        }
    }

    /// Adds a run. Its records come after all that are here.
    pub fn append(&mut self, records: Vec<Record>, tables: Vec<TableWrite>, applied: Bytes) {
        let rows = tables.iter().map(|row| row.key.len() + row.value.as_ref().map_or(0, Vec::len) + ROW_OVERHEAD);
        let bytes = rows.sum::<usize>() + records.iter().map(record_bytes).sum::<usize>();
        let payload = records.iter().map(|record| record.kv.raw().len() + SLOT).sum();
        self.bytes += bytes;
        self.payload += payload;
        match self.runs.back_mut() {
            Some(run) if !run.sealed && run.bytes + bytes <= self.join_bytes => {
                run.records += records.len();
                run.bytes += bytes;
                run.payload += payload;
                run.tables.extend(tables);
                run.applied = applied;
            }
            _ => self.runs.push_back(Run { records: records.len(), bytes, payload, tables, applied, sealed: false }),
        }
        self.records.extend(records);
    }

    /// The next runs, at least one and at most about `limit` bytes, if there are any. They stay here until
    /// [`Dirty::written`].
    pub fn next_work(&mut self, limit: usize) -> Option<Work> {
        let (mut runs, mut records, mut bytes) = (0, 0, 0);
        let mut tables = Vec::new();
        let mut applied = None;
        for run in &mut self.runs {
            if runs > 0 && bytes + run.bytes > limit {
                break;
            }
            run.sealed = true;
            runs += 1;
            records += run.records;
            bytes += run.bytes;
            tables.extend_from_slice(&run.tables);
            applied = Some(run.applied.clone());
        }
        Some(Work {
            records: self.records.range(..self.tail + records).cloned().collect(),
            tail: self.tail,
            tables,
            applied: applied?,
            runs,
        })
    }

    /// The work is in the store, all but the last `tail` records in chunks that are closed.
    pub fn written(&mut self, work: &Work, tail: usize) {
        for run in self.runs.drain(..work.runs) {
            self.bytes -= run.bytes;
            self.payload -= run.payload;
        }
        self.records.drain(..work.records.len() - tail);
        self.tail = tail;
        self.shrink();
    }

    /// Gives back what a burst has left.
    fn shrink(&mut self) {
        if self.records.capacity() > 4096 && self.records.len() < self.records.capacity() / 8 {
            self.records.shrink_to(self.records.len() * 2);
        }
    }

    pub fn first(&self) -> Option<Revision> {
        self.records.front().map(|record| record.at)
    }

    pub fn last(&self) -> Option<Revision> {
        self.records.back().map(|record| record.at)
    }

    /// The first revision of the open tail chunk.
    pub fn open_tail(&self) -> Option<Revision> {
        self.records.front().filter(|_| self.tail > 0).map(|record| record.at)
    }

    /// Whether the record at `at`, if it exists, is here.
    pub fn covers(&self, at: Revision) -> bool {
        self.first().is_some_and(|first| first <= at)
    }

    pub fn get(&self, at: Revision) -> Option<&Record> {
        let index = self.records.binary_search_by(|record| record.at.cmp(&at)).ok()?;
        self.records.get(index)
    }

    /// Up to `count` records from `from` on.
    pub fn copy(&self, from: Revision, count: usize) -> Vec<Record> {
        let start = self.records.partition_point(|record| record.at < from);
        self.records.range(start..).take(count).cloned().collect()
    }

    /// Notes that a record died which no chunk holds yet.
    pub fn mark_dead(&mut self, at: Revision) {
        if self.get(at).is_some() {
            self.dead.insert(at);
        }
    }

    /// Takes out how many of the records between `first` and `last` were noted dead.
    pub fn take_dead(&mut self, first: Revision, last: Revision) -> u32 {
        let gone: Vec<Revision> = self.dead.range(first..=last).copied().collect();
        for at in &gone {
            self.dead.remove(at);
        }
        u32::try_from(gone.len()).expect("a chunk has under 2^32 records")
    }

    /// Bytes of what no batch has carried yet, with what holding it costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that the records will take in chunks which no batch has carried yet.
    pub fn payload(&self) -> usize {
        self.payload
    }

    pub fn runs(&self) -> usize {
        self.runs.len()
    }
}
