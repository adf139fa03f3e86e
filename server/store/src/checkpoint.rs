//! Checkpoints: dirty runs become batches of chunks and rows, each with the mark of the run it ends with.
//!
//! A batch ends on the edge of a run, so whatever prefix of batches a crash leaves is a state that the member was in.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use bytes::Bytes;
use keepstone_failpoint::points;
use keepstone_proto::KeyValue;
use keepstone_state::{Record, TableWrite};

use crate::{
    Batch, RecordStore, StoreError,
    chunk::{Builder, Packed},
    directory::ChunkInfo,
    dirty::Work,
    keys,
    record_store::{Background, Backing},
};

impl RecordStore {
    /// Writes what was appended before this call to the store. Not durable before [`RecordStore::flush`]. Its records
    /// leave the dirty buffer as their chunks are written.
    ///
    /// # Errors
    /// The store's. What was not written stays dirty and readable.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        points::BEFORE_START_DB_TXN.hit();
        let mut background = self.background.lock();
        points::AFTER_START_DB_TXN.hit();
        self.write_dirty(&mut background)
    }

    /// Makes what was written durable. Returns the mark of the last run in it: the log up to there is no longer needed.
    ///
    /// # Errors
    /// The store's; the store must then not be used on.
    pub fn flush(&self) -> Result<Option<Bytes>, StoreError> {
        let background = self.background.lock();
        let backing = self.backing();
        if let Some(why) = points::BEFORE_COMMIT.told_to_fail() {
            return Err(StoreError::Io { path: backing.store.path().to_owned(), doing: "flushing", why });
        }
        backing.store.flush()?;
        points::AFTER_COMMIT.hit();
        Ok(background.written.clone())
    }

    pub(crate) fn write_dirty(&self, background: &mut Background) -> Result<(), StoreError> {
        let mut left = self.layout.read().dirty.runs();
        while left > 0 {
            let work = self.layout.write().dirty.next_work(self.options.batch_bytes);
            let Some(work) = work else {
                break;
            };
            left = left.saturating_sub(work.runs);
            self.write_work(&work)?;
            background.written = Some(work.applied);
        }
        Ok(())
    }

    fn write_work(&self, work: &Work) -> Result<(), StoreError> {
        // Without new records the open tail is as it was written.
        let (chunks, tail) = if work.records.len() == work.tail {
            (Vec::new(), work.tail)
        } else {
            pack(&work.records, self.options.chunk_bytes)
        };
        let infos: Vec<_> = chunks.iter().map(|chunk| (chunk.first, ChunkInfo::of(chunk))).collect();
        points::COMMIT_BEFORE_PRE_COMMIT_HOOK.hit();
        let batch = batch(chunks, work);
        points::COMMIT_AFTER_PRE_COMMIT_HOOK.hit();
        let backing = self.backing();
        points::BEFORE_WRITEBACK_BUF.hit();
        let structure = self.structure.lock();
        backing.store.write(batch)?;
        let mut layout = self.layout.write();
        for (first, info) in infos {
            let counted = layout.directory.get(first).map_or(0, |open| open.dead);
            let dead = counted + layout.dirty.take_dead(first, info.last);
            layout.directory.put(first, info);
            layout.directory.set_dead(first, dead);
        }
        layout.dirty.written(work, tail);
        self.dirty_bytes.store(layout.dirty.bytes(), Ordering::Relaxed);
        drop((layout, structure));
        points::AFTER_WRITEBACK_BUF.hit();
        backing.keep_recent(&work.records[..work.records.len() - tail])
    }
}

impl Backing {
    /// What was written a moment ago is what is read next: it goes from the dirty buffer to the cache, not to the disk.
    /// As a copy: the dirty buffer's allocations stand between others that go, and those that stayed would keep their
    /// pages.
    fn keep_recent(&self, records: &[Record]) -> Result<(), StoreError> {
        for record in records.iter().filter(|record| !record.tombstone) {
            let copy = KeyValue::from_canonical(Bytes::copy_from_slice(record.kv.raw()));
            let kv = copy.map_err(|error| self.damaged_chunk(record.at, error.to_string()))?;
            self.cache.keep_value(record.at, kv);
        }
        Ok(())
    }
}

/// Packs records in their order. Returns the chunks, and how many records are in the last one if it is to stay open.
pub(crate) fn pack(records: &[Record], limit: usize) -> (Vec<Packed>, usize) {
    let mut chunks = Vec::new();
    let mut builder = Builder::default();
    for record in records {
        if !builder.has_room(record, limit) {
            chunks.push(builder.finish());
        }
        builder.push(record);
    }
    chunks.push(builder.finish());
    let open =
        chunks.last().filter(|last| last.bytes.len() < limit - limit / 8).map_or(0, |last| last.records as usize);
    (chunks, open)
}

fn batch(chunks: Vec<Packed>, work: &Work) -> Batch {
    let mut batch = Batch::new();
    put_chunks(&mut batch, chunks);
    for (key, value) in last_writes(&work.tables) {
        match value {
            Some(value) => batch.put(keys::table_key(key), value),
            None => batch.remove(keys::table_key(key)),
        }
    }
    batch.put(keys::APPLIED_KEY, &work.applied[..]);
    batch
}

/// Puts chunks and their directory rows.
pub(crate) fn put_chunks(batch: &mut Batch, chunks: Vec<Packed>) {
    for chunk in chunks {
        let row = ChunkInfo::of(&chunk).encode(chunk.first);
        batch.put(keys::directory_key(chunk.first), row);
        batch.put(keys::chunk_key(chunk.first), chunk.bytes);
    }
}

/// A batch writes a key once: of several writes of a row the last.
fn last_writes(rows: &[TableWrite]) -> BTreeMap<&[u8], Option<&[u8]>> {
    rows.iter().map(|row| (&row.key[..], row.value.as_deref())).collect()
}
