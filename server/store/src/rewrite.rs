//! Giving back the space of dead records: chunks that are mostly dead, or small beside small ones, are packed anew.
//!
//! A record may be dropped only when the store itself holds the state in which it is dead. If a chunk lost a record
//! before the record that replaced it was in the store, a crash between the two would leave a member without the key.
//! So a rewrite first asks what is live, then writes everything dirty, and only then the chunks: a crash keeps a prefix.

use std::ops::ControlFlow;

use keepstone_state::{Record, Revision};

use crate::{
    Batch, RecordStore, StoreError,
    checkpoint::{pack, put_chunks},
    directory::ChunkInfo,
    keys,
};

/// Chunks are rewritten in batches of about this many bytes.
const GROUP_BYTES: u64 = 1 << 20;
/// Directory rows that are looked at under the lock at a time.
const STEP: usize = 1024;

/// What a call of [`RecordStore::rewrite`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    pub chunks_read: usize,
    pub chunks_written: usize,
    /// Bytes that the chunks lost.
    pub bytes_freed: u64,
    /// Whether the end of the records was reached: the next call starts at their beginning.
    pub done: bool,
}

/// Neighbouring chunks that become fewer or smaller ones.
type Group = Vec<(Revision, ChunkInfo)>;

/// A group and those of its records that are to stay.
struct Survivors {
    group: Group,
    records: Vec<Record>,
    /// Whether all of the group's records are among them.
    all: bool,
}

impl RecordStore {
    /// Looks through the chunks from where the last call stopped. Those that are half dead, or half empty beside another
    /// such, are read, and what `is_live` confirms is packed anew; wholly dead chunks vanish. Stops after about
    /// `budget` bytes of chunks, which are in memory at once. `is_live` is asked with a record's key and revision, and
    /// only about what was appended before. It may take locks that an appender holds.
    ///
    /// # Errors
    /// The store's, or a damaged chunk.
    pub fn rewrite(&self, is_live: &dyn Fn(&[u8], Revision) -> bool, budget: usize) -> Result<Rewritten, StoreError> {
        let mut background = self.background.lock();
        let (groups, next) = self.pick(background.cursor, budget as u64);
        background.cursor = next.unwrap_or_default();
        let mut report = Rewritten { done: next.is_none(), ..Rewritten::default() };
        let mut work = Vec::with_capacity(groups.len());
        for group in groups {
            report.chunks_read += group.len();
            let survivors = self.survivors(group, &work, is_live)?;
            work.push(survivors);
        }
        if !work.is_empty() {
            self.write_dirty(&mut background)?;
        }
        for survivors in work {
            self.replace(&survivors, &mut report)?;
        }
        Ok(report)
    }

    /// Groups worth rewriting from `cursor` on, and where to go on if that is not the end.
    fn pick(&self, cursor: Revision, budget: u64) -> (Vec<Group>, Option<Revision>) {
        let mut picker = Picker::new(self.options.chunk_bytes as u64, budget);
        let mut next = cursor;
        loop {
            let layout = self.layout.read();
            let open = layout.dirty.open_tail();
            let mut looked = 0;
            for (first, info) in layout.directory.from(next).take(STEP) {
                if open == Some(first) {
                    break;
                }
                looked += 1;
                if picker.offer(first, info).is_break() {
                    return (picker.finish(), Some(first));
                }
                next = Revision::new(first.main, first.sub + 1);
            }
            if looked < STEP {
                return (picker.finish(), None);
            }
        }
    }

    /// What stays of a group; `before` are the groups that are replaced before it.
    ///
    /// A dead tombstone stays while an older chunk has anything dead in it: that may be a put which the tombstone alone
    /// keeps dead. Were it dropped first, a restart would find the key alive again.
    fn survivors(
        &self,
        group: Group,
        before: &[Survivors],
        is_live: &dyn Fn(&[u8], Revision) -> bool,
    ) -> Result<Survivors, StoreError> {
        let backing = self.backing();
        let mut records = Vec::new();
        let mut all = true;
        let older_dead = group.first().is_some_and(|(first, _)| self.has_dead_before(*first, before));
        for (first, _) in &group {
            let chunk = backing
                .load(*first)?
                .ok_or_else(|| backing.damaged_chunk(*first, "it has a directory row but is not there"))?;
            for index in 0..chunk.records() {
                let record = chunk.record(index).map_err(|why| backing.damaged_chunk(*first, why))?;
                if is_live(record.kv.key(), record.at) || (record.tombstone && older_dead) {
                    records.push(record);
                } else {
                    all = false;
                }
            }
        }
        Ok(Survivors { group, records, all })
    }

    /// Whether a chunk before `first` has anything dead that `cleaned` does not take out.
    fn has_dead_before(&self, first: Revision, cleaned: &[Survivors]) -> bool {
        let is_cleaned = |chunk: Revision| cleaned.iter().any(|work| work.group.iter().any(|(at, _)| *at == chunk));
        let layout = self.layout.read();
        let mut older = layout.directory.from(Revision::default()).take_while(|(at, _)| *at < first);
        older.any(|(at, info)| info.dead > 0 && !is_cleaned(at))
    }

    /// Replaces a group's chunks by chunks of its survivors, unless that gains nothing.
    fn replace(&self, work: &Survivors, report: &mut Rewritten) -> Result<(), StoreError> {
        let chunks = if work.records.is_empty() { Vec::new() } else { pack(&work.records, self.options.chunk_bytes).0 };
        let before: u64 = work.group.iter().map(|(_, info)| u64::from(info.bytes)).sum();
        let after: u64 = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        if work.all && after >= before {
            // Nothing here can go: without this the next round would read it all again.
            let mut layout = self.layout.write();
            for (first, _) in &work.group {
                layout.directory.set_dead(*first, 0);
            }
            return Ok(());
        }
        let infos: Vec<_> = chunks.iter().map(|chunk| (chunk.first, ChunkInfo::of(chunk))).collect();
        let mut batch = Batch::new();
        for (first, _) in &work.group {
            if !infos.iter().any(|(kept, _)| kept == first) {
                batch.remove(keys::chunk_key(*first));
                batch.remove(keys::directory_key(*first));
            }
        }
        put_chunks(&mut batch, chunks);
        report.chunks_written += infos.len();
        report.bytes_freed += before.saturating_sub(after);
        let _structure = self.structure.lock();
        self.backing().store.write(batch)?;
        self.swap_in(&work.group, &infos);
        Ok(())
    }

    fn swap_in(&self, group: &Group, infos: &[(Revision, ChunkInfo)]) {
        let mut layout = self.layout.write();
        // Deaths that were reported since the group was picked.
        let mut late = 0;
        for (first, picked) in group {
            let now = layout.directory.remove(*first).map_or(0, |info| info.dead);
            late += now.saturating_sub(picked.dead);
            layout.backing.cache.forget_chunk(*first);
        }
        for (first, info) in infos {
            layout.directory.put(*first, *info);
            layout.directory.set_dead(*first, late);
            late = late.saturating_sub(info.records);
        }
    }
}

/// Gathers neighbours that waste space into groups.
struct Picker {
    limit: u64,
    budget: u64,
    taken: u64,
    open: Group,
    open_bytes: u64,
    groups: Vec<Group>,
}

impl Picker {
    fn new(limit: u64, budget: u64) -> Self {
        Self { limit, budget, taken: 0, open: Group::new(), open_bytes: 0, groups: Vec::new() }
    }

    /// Takes the next chunk; breaks, without taking it, when the budget is spent.
    fn offer(&mut self, first: Revision, info: ChunkInfo) -> ControlFlow<()> {
        if self.taken >= self.budget {
            return ControlFlow::Break(());
        }
        if !self.is_wasteful(&info) {
            self.close();
            return ControlFlow::Continue(());
        }
        self.open.push((first, info));
        self.open_bytes += u64::from(info.bytes);
        if self.open_bytes >= GROUP_BYTES.min(self.budget) {
            self.close();
        }
        ControlFlow::Continue(())
    }

    fn is_wasteful(&self, info: &ChunkInfo) -> bool {
        let bytes = u64::from(info.bytes);
        let live = bytes - info.dead_bytes();
        live * 2 <= bytes || live * 2 <= self.limit
    }

    /// A group is worth it if something in it is half dead, or its live bytes fit into fewer chunks.
    fn close(&mut self) {
        let group = std::mem::take(&mut self.open);
        let bytes = std::mem::take(&mut self.open_bytes);
        let half_dead = |info: &ChunkInfo| u64::from(info.dead) * 2 >= u64::from(info.records);
        let live: u64 = group.iter().map(|(_, info)| u64::from(info.bytes) - info.dead_bytes()).sum();
        if group.iter().any(|(_, info)| half_dead(info)) || live.div_ceil(self.limit) < group.len() as u64 {
            self.taken += bytes;
            self.groups.push(group);
        }
    }

    fn finish(mut self) -> Vec<Group> {
        self.close();
        self.groups
    }
}
