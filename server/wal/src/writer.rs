//! The one that writes: takes batches of records, lays them into groups, writes and syncs each, begins new segments and
//! lets old ones go. Driven by its own thread or, in the simulator, by `step`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keepstone_failpoint::points;

use crate::disk::File;
use crate::error::{Failure, WalError};
use crate::group::Builder;
use crate::index::Slot;
use crate::options::SyncReport;
use crate::record::{LogPos, Record};
use crate::sector::SECTOR;
use crate::segment::{self, Spares};
use crate::shared::{Op, Shared};

/// What every segment repeats at its head, so that older segments can go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restated {
    pub(crate) meta: Option<Bytes>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    pub(crate) purged: Option<LogPos>,
}

impl Restated {
    pub(crate) fn note(&mut self, record: &Record) {
        match record {
            Record::Meta(meta) => self.meta = Some(meta.clone()),
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Committed(committed) => self.committed = Some(committed.clone()),
            Record::Purge(pos) => self.purged = self.purged.max_by_index(*pos),
            Record::Entry(_) | Record::Truncate(_) => {}
        }
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let blobs = [
            self.meta.clone().map(Record::Meta),
            self.vote.clone().map(Record::Vote),
            self.committed.clone().map(Record::Committed),
            self.purged.map(Record::Purge),
        ];
        blobs.into_iter().flatten()
    }
}

trait MaxByIndex {
    fn max_by_index(self, pos: LogPos) -> Option<LogPos>;
}

impl MaxByIndex for Option<LogPos> {
    fn max_by_index(self, pos: LogPos) -> Option<LogPos> {
        Some(self.filter(|old| old.index >= pos.index).unwrap_or(pos))
    }
}

/// A segment in use.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) sectors: u32,
    /// The highest index of the entries ever written to it.
    pub(crate) max_index: Option<u64>,
}

/// Where the stream ends.
pub(crate) struct Tail {
    /// All segments in use, the last being written.
    pub(crate) segments: VecDeque<Segment>,
    /// The next sector of the last segment.
    pub(crate) position: u32,
    /// The last group's sequence number.
    pub(crate) seq: u64,
    /// The checksum over every sector checksum so far.
    pub(crate) chain: u32,
    pub(crate) restated: Restated,
}

/// An entry that is on disk now.
pub(crate) struct Settled {
    index: u64,
    ticket: u32,
    slot: Slot,
}

/// Slow chores that must not delay a group.
pub(crate) enum Chore {
    /// Fill a spare segment.
    Prepare,
    /// Let these segments go, oldest first.
    Retire(Vec<(u64, Arc<dyn File>)>),
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    dir: PathBuf,
    spares: Arc<Spares>,
    tail: Tail,
    buf: Vec<u8>,
    batch: Vec<Op>,
    settled: Vec<Settled>,
    /// `None` in inline mode: chores are done at once.
    chores: Option<Sender<Chore>>,
    asked_for_spare: bool,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        dir: &Path,
        spares: Arc<Spares>,
        tail: Tail,
        chores: Option<Sender<Chore>>,
    ) -> Self {
        Self {
            shared,
            dir: dir.to_owned(),
            spares,
            tail,
            buf: Vec::new(),
            batch: Vec::new(),
            settled: Vec::new(),
            chores,
            asked_for_spare: false,
        }
    }

    /// Writes and syncs what is queued, up to a group's bound, then answers it. `false` if nothing was queued.
    pub(crate) fn step(&mut self) -> Result<bool, WalError> {
        let mut batch = std::mem::take(&mut self.batch);
        self.shared.take(&mut batch)?;
        let some = !batch.is_empty();
        match self.write(&batch) {
            Ok(()) => self.answer(&mut batch),
            Err(failure) => return Err(WalError::Failed(self.shared.fail(failure, &mut batch))),
        }
        self.batch = batch;
        self.chores_after()?;
        Ok(some)
    }

    fn write(&mut self, batch: &[Op]) -> Result<(), Failure> {
        let last_committed = batch.iter().rposition(|op| matches!(op.record, Some(Record::Committed(_))));
        let mut at = 0;
        while at < batch.len() {
            if self.tail.segments.back().is_none_or(|segment| self.tail.position >= segment.sectors) {
                self.roll()?;
            }
            let mut group = self.begin();
            let restated = !group.is_empty();
            let from = at;
            while let Some(op) = batch.get(at) {
                match &op.record {
                    Some(Record::Committed(_)) if last_committed.is_some_and(|last| at < last) => {}
                    Some(record) if !group.fits(record) => break,
                    Some(record) => self.push(&mut group, record, op.ticket),
                    None => {}
                }
                at += 1;
            }
            if at == from {
                assert!(!restated && self.tail.position > 0, "a record larger than a segment was accepted");
                self.buf = group.abandon();
                self.roll()?;
            } else if group.is_empty() || (restated && self.only_waits(&batch[from..at])) {
                self.buf = group.abandon();
            } else {
                self.flush(group)?;
            }
        }
        Ok(())
    }

    fn only_waits(&self, ops: &[Op]) -> bool {
        ops.iter().all(|op| op.record.is_none())
    }

    /// A group at the end of the stream, with the state restated if it is a segment's first.
    fn begin(&mut self) -> Builder {
        let segment = self.tail.segments.back().expect("there is a segment to write to");
        let buf = std::mem::take(&mut self.buf);
        let mut group = Builder::new(buf, self.tail.position, segment.sectors, segment.number);
        if self.tail.position == 0 {
            for record in self.tail.restated.records() {
                group.push(&record);
            }
        }
        group
    }

    fn push(&mut self, group: &mut Builder, record: &Record, ticket: u32) {
        let offset = group.push(record);
        self.tail.restated.note(record);
        if let Record::Entry(entry) = record {
            let segment = self.tail.segments.back_mut().expect("a group has a segment");
            segment.max_index = segment.max_index.max(Some(entry.index));
            let slot = Slot { segment: segment.number as u32, offset, len: entry.data.len() as u32 };
            self.settled.push(Settled { index: entry.index, ticket, slot });
        }
    }

    fn flush(&mut self, group: Builder) -> Result<(), Failure> {
        let (buf, chain) = group.finish(self.tail.seq + 1, self.tail.chain);
        let segment = self.tail.segments.back().expect("a group has a segment");
        let failed = |what| {
            let path = segment::path(&self.dir, segment.number);
            move |e| Failure::new(what, &path, e)
        };
        let clock = Clock::new(self.chores.is_some());
        let offset = u64::from(self.tail.position) * SECTOR as u64;
        points::RAFT_BEFORE_SAVE.hit();
        segment.file.pwrite(&buf, offset).map_err(failed("write"))?;
        let write = clock.elapsed();
        if let Some(why) = points::WAL_BEFORE_SYNC.told_to_fail() {
            return Err(failed("fdatasync")(io::Error::other(why)));
        }
        if self.shared.options.fsync {
            segment.file.fdatasync().map_err(failed("fdatasync"))?;
        }
        points::WAL_AFTER_SYNC.hit();
        if let Some(report) = &self.shared.options.on_sync {
            report(SyncReport { bytes: buf.len(), write, sync: clock.elapsed() - write });
        }
        self.tail.position += (buf.len() / SECTOR) as u32;
        self.tail.seq += 1;
        self.tail.chain = chain;
        self.buf = buf;
        points::RAFT_AFTER_SAVE.hit();
        Ok(())
    }

    /// Begins the next segment. Its header goes with its first group.
    pub(crate) fn roll(&mut self) -> Result<(), Failure> {
        let number = self.tail.segments.back().map_or(1, |segment| segment.number + 1);
        points::WAL_BEFORE_ROLL.hit();
        let file = self.spares.take(number)?;
        points::WAL_AFTER_ROLL.hit();
        let sectors = (self.shared.options.segment_bytes / SECTOR as u64) as u32;
        self.shared.state().files.insert(number as u32, Arc::clone(&file));
        self.tail.segments.push_back(Segment { number, file, sectors, max_index: None });
        self.tail.position = 0;
        self.asked_for_spare = false;
        Ok(())
    }

    /// Tells the index where the entries lie, makes room, and answers in order.
    fn answer(&mut self, batch: &mut Vec<Op>) {
        let mut state = self.shared.state();
        for Settled { index, ticket, slot } in self.settled.drain(..) {
            state.index.settle(index, ticket, slot);
        }
        state.index.evict();
        for op in &*batch {
            state.queued_bytes -= op.bytes();
            state.unanswered -= usize::from(!op.is_lazy());
        }
        drop(state);
        self.shared.notify_room();
        for done in batch.drain(..).filter_map(|op| op.done) {
            done(Ok(()));
        }
    }

    fn chores_after(&mut self) -> Result<(), WalError> {
        let gone = self.take_purged();
        if !gone.is_empty() {
            self.chore(Chore::Retire(gone))?;
        }
        let half_full = self.tail.segments.back().is_some_and(|segment| self.tail.position > segment.sectors / 2);
        if half_full && !self.asked_for_spare && self.chores.is_some() && self.spares.is_empty() {
            self.asked_for_spare = true;
            self.chore(Chore::Prepare)?;
        }
        Ok(())
    }

    /// Takes out the oldest segments whose entries are all below the synced purge. What else they hold is restated in
    /// the segment being written, whose first group is synced.
    fn take_purged(&mut self) -> Vec<(u64, Arc<dyn File>)> {
        let mut gone = Vec::new();
        let purged = self.tail.restated.purged.map(|pos| pos.index);
        while self.tail.segments.len() > 1 && self.tail.position > 0 {
            let oldest = self.tail.segments.front().expect("more than one");
            if oldest.max_index.is_some_and(|max| purged.is_none_or(|purged| max > purged)) {
                break;
            }
            let segment = self.tail.segments.pop_front().expect("more than one");
            self.shared.state().files.remove(&(segment.number as u32));
            gone.push((segment.number, segment.file));
        }
        gone
    }

    fn chore(&self, chore: Chore) -> Result<(), WalError> {
        match &self.chores {
            // The other end is gone only after a failure, which the next step answers.
            Some(chores) => drop(chores.send(chore)),
            None => do_chore(&self.shared, &self.spares, chore)?,
        }
        Ok(())
    }
}

/// Does a chore. A spare that does not fit the disk yet is only warned of: the writer tries again when it needs it.
pub(crate) fn do_chore(shared: &Shared, spares: &Spares, chore: Chore) -> Result<(), WalError> {
    match chore {
        Chore::Prepare => {
            if let Err(error) = spares.prepare() {
                tracing::warn!(%error, "could not prepare the next log segment");
            }
        }
        Chore::Retire(segments) => {
            points::WAL_BEFORE_RELEASE.hit();
            for (number, file) in segments {
                // One that stayed while a newer one went would be a hole: the log ends here.
                spares
                    .retire(number, file)
                    .map_err(|failure| WalError::Failed(shared.fail(failure, &mut Vec::new())))?;
            }
            points::RAFT_AFTER_WAL_RELEASE.hit();
        }
    }
    Ok(())
}

/// Time passed, or always zero where nobody may look at a clock.
struct Clock(Option<Instant>);

impl Clock {
    fn new(ticks: bool) -> Self {
        Self(ticks.then(Instant::now))
    }

    fn elapsed(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |began| began.elapsed())
    }
}
