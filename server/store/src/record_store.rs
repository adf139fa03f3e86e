//! The packed records: what is dirty in memory, what is cached, and the chunks in the store, behind one way to read.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use keepstone_proto::KeyValue;
use keepstone_state::{Record, RecordError, Records, Revision, TableWrite};
use parking_lot::{Mutex, RwLock};

use crate::{
    Batch, Near, Store, StoreError,
    cache::ValueCache,
    chunk::Chunk,
    directory::{ChunkInfo, Directory},
    dirty::Dirty,
    keys,
};

/// Bounds of a [`RecordStore`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that values read from the store may take in memory. The backend's own cache comes on top.
    pub cache_bytes: u64,
    /// Bytes of records that no checkpoint has written; past it [`RecordStore::is_over_dirty_limit`] says so.
    pub dirty_limit_bytes: usize,
    /// A chunk takes no further record that would make it larger than this. Only a record that is larger by itself makes
    /// a larger chunk.
    pub chunk_bytes: usize,
    /// A batch of a checkpoint ends at the first run edge past this.
    pub batch_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, dirty_limit_bytes: 128 << 20, chunk_bytes: 32 << 10, batch_bytes: 512 << 10 }
    }
}

/// What an opened store held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The mark of the last run whose records and rows are in the store; `None` when it is empty.
    pub applied: Option<Bytes>,
    /// All rows of the small tables, in key order.
    pub tables: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all records, packed, and of the tables' rows. The size that a client sees.
    pub total_bytes: u64,
    /// The part of them that no compaction has made droppable. An estimate: a chunk's records count as equally large.
    pub live_bytes: u64,
    /// Bytes that the store takes on its disk.
    pub disk_bytes: u64,
}

/// The record store.
///
/// [`append`](Self::append), [`get`](Records::get), [`scan`](Self::scan), [`table`](Self::table) and
/// [`remove`](Self::remove) are for any thread. [`checkpoint`](Self::checkpoint), [`flush`](Self::flush) and
/// [`rewrite`](Self::rewrite) do the store's writing: they belong on one background thread, and wait for one another.
pub struct RecordStore {
    pub(crate) options: Options,
    pub(crate) layout: RwLock<Layout>,
    /// Held from before chunks change in the store until `layout` says so. A reader that finds less than the directory
    /// promised takes it and looks again.
    pub(crate) structure: Mutex<()>,
    pub(crate) background: Mutex<Background>,
    /// Follows `layout.dirty.bytes()`, so that a proposal asks without a lock.
    pub(crate) dirty_bytes: AtomicUsize,
}

/// What readers look things up in. A record is in `dirty` until the same critical section puts its chunk into
/// `directory`.
pub(crate) struct Layout {
    pub backing: Arc<Backing>,
    pub dirty: Dirty,
    pub directory: Directory,
    pub tables: BTreeMap<Vec<u8>, Vec<u8>>,
    pub table_bytes: u64,
}

/// Where the chunks that a directory names are, and what was read of them. Another takes its place when the whole state
/// is replaced; a reader that holds the old one then looks again.
pub(crate) struct Backing {
    pub store: Arc<dyn Store>,
    pub cache: ValueCache,
}

/// The background thread's own notes.
#[derive(Default)]
pub(crate) struct Background {
    /// The mark of the last batch that was written.
    pub written: Option<Bytes>,
    /// Where the next rewrite goes on.
    pub cursor: Revision,
}

impl Layout {
    fn write_row(&mut self, row: &TableWrite) {
        let old = match &row.value {
            Some(value) => {
                self.table_bytes += (row.key.len() + value.len()) as u64;
                self.tables.insert(row.key.clone(), value.clone())
            }
            None => self.tables.remove(&row.key),
        };
        if let Some(old) = old {
            self.table_bytes -= (row.key.len() + old.len()) as u64;
        }
    }

    fn last_revision(&self) -> Option<Revision> {
        let in_chunks = || self.directory.last().map(|(_, info)| info.last);
        self.dirty.last().or_else(in_chunks)
    }
}

impl RecordStore {
    /// Opens what `store` holds: reads its tables and one small row a chunk, no records.
    ///
    /// # Errors
    /// When the store can't be read, has another format, or its rows make no sense together.
    pub fn open(store: Arc<dyn Store>, options: Options) -> Result<(Arc<Self>, Opened), StoreError> {
        check_format(store.as_ref())?;
        let applied = store.get(keys::APPLIED_KEY)?.map(|mark| Bytes::copy_from_slice(&mark));
        let backing = Backing { store: store.clone(), cache: ValueCache::new(options.cache_bytes) };
        let mut layout = Layout {
            backing: Arc::new(backing),
            dirty: Dirty::new(options.batch_bytes / 8),
            directory: read_directory(store.as_ref())?,
            tables: BTreeMap::new(),
            table_bytes: 0,
        };
        store.scan(keys::TABLE_RANGE, &mut |key, value| {
            layout.write_row(&TableWrite { key: key[1..].to_vec(), value: Some(value.to_vec()) });
            ControlFlow::Continue(())
        })?;
        let tables = &layout.tables;
        let opened = Opened {
            applied: applied.clone(),
            tables: tables.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        let records = Self {
            options,
            layout: RwLock::new(layout),
            structure: Mutex::default(),
            background: Mutex::new(Background { written: applied, ..Background::default() }),
            dirty_bytes: AtomicUsize::new(0),
        };
        Ok((Arc::new(records), opened))
    }

    /// Takes what applying a run of entries changed. Memory only; readable at once. `applied` is the caller's mark of the
    /// run: a later open gives back the mark of the last run that the store holds whole.
    ///
    /// # Panics
    /// When the records do not come after all that the store has: then a run was applied twice.
    pub fn append(&self, records: Vec<Record>, tables: Vec<TableWrite>, applied: Bytes) {
        let mut layout = self.layout.write();
        let mut last = layout.last_revision();
        for record in &records {
            assert!(last.is_none_or(|last| last < record.at), "record {:?} is appended after {last:?}", record.at);
            last = Some(record.at);
        }
        for row in &tables {
            layout.write_row(row);
        }
        layout.dirty.append(records, tables, applied);
        self.dirty_bytes.store(layout.dirty.bytes(), Ordering::Relaxed);
    }

    /// The bounds it was opened with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// All rows of the small tables as the last append left them, in key order.
    #[must_use]
    pub fn tables(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.layout.read().tables.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The row of a small table as the last append left it.
    #[must_use]
    pub fn table(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.layout.read().tables.get(key).cloned()
    }

    /// Notes records that compaction has made droppable. Each may be named once; the next [`RecordStore::rewrite`] goes
    /// to the chunks that have many. After a restart the notes are gone and are given again.
    pub fn remove(&self, dead: &[Revision]) {
        // In slices, so that readers get between.
        for slice in dead.chunks(256) {
            let mut layout = self.layout.write();
            for at in slice {
                if !layout.directory.mark_dead(*at) {
                    layout.dirty.mark_dead(*at);
                }
            }
            let backing = layout.backing.clone();
            drop(layout);
            for at in slice {
                backing.cache.forget_value(*at);
            }
        }
    }

    /// Bytes of records and rows that no checkpoint has written, with what holding them costs.
    #[must_use]
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    /// Whether writers should wait for a checkpoint.
    #[must_use]
    pub fn is_over_dirty_limit(&self) -> bool {
        self.dirty_bytes() > self.options.dirty_limit_bytes
    }

    /// Bytes that cached values take, never more than [`Options::cache_bytes`].
    #[must_use]
    pub fn cached_bytes(&self) -> u64 {
        self.layout.read().backing.cache.weight()
    }

    /// How many chunks the records are in.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.layout.read().directory.len()
    }

    /// [`Sizes::total_bytes`], without asking the file system.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let layout = self.layout.read();
        layout.directory.bytes() + layout.table_bytes + layout.dirty.payload() as u64
    }

    /// [`Sizes::live_bytes`], without asking the file system.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        let layout = self.layout.read();
        let total = layout.directory.bytes() + layout.table_bytes + layout.dirty.payload() as u64;
        total - layout.directory.dead_bytes()
    }

    /// What the records and tables take. `disk_bytes` asks the file system.
    ///
    /// # Errors
    /// When the store's directory can't be read.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let disk_bytes = self.backing().store.size_on_disk()?;
        let layout = self.layout.read();
        let unwritten = layout.dirty.payload() as u64;
        let total_bytes = layout.directory.bytes() + layout.table_bytes + unwritten;
        Ok(Sizes { total_bytes, live_bytes: total_bytes - layout.directory.dead_bytes(), disk_bytes })
    }

    /// What the layout stands on now.
    pub(crate) fn backing(&self) -> Arc<Backing> {
        self.layout.read().backing.clone()
    }

    /// Whether nothing has taken the place of `backing` since it was looked up.
    pub(crate) fn stands_on(&self, backing: &Arc<Backing>) -> bool {
        Arc::ptr_eq(&self.layout.read().backing, backing)
    }

    /// The put recorded at `at`, if it can be had without waiting for a disk; else [`Records::get`] has to be asked, which
    /// also says what is amiss.
    #[must_use]
    pub fn get_near(&self, at: Revision) -> Option<KeyValue> {
        if let Ok(found) = self.find_in_memory(at) {
            return found;
        }
        self.find_in_chunks(at, Backing::load_near).ok().flatten()
    }

    /// The put at `at` if it is dirty or cached. `Ok(None)` if there is no such put, `Err` if it is not known.
    fn find_in_memory(&self, at: Revision) -> Result<Option<KeyValue>, Elsewhere> {
        let layout = self.layout.read();
        if layout.dirty.covers(at) {
            let record = layout.dirty.get(at).filter(|record| !record.tombstone);
            return Ok(record.map(|record| record.kv.clone()));
        }
        layout.backing.cache.value(at).map(Some).ok_or(Elsewhere)
    }

    /// Looks for a put among the chunks, which `load` gets from the store; `None` when the chunk that should have it does
    /// not.
    fn find_in_chunks(
        &self,
        at: Revision,
        load: impl Fn(&Backing, Revision) -> Result<Option<Chunk>, StoreError>,
    ) -> Result<Option<KeyValue>, StoreError> {
        loop {
            let (backing, place) = {
                let layout = self.layout.read();
                (layout.backing.clone(), layout.directory.spanning(at))
            };
            let found = place.map_or(Ok(None), |(first, _)| backing.find(first, at, &load));
            if matches!(found, Ok(Some(_))) || self.stands_on(&backing) {
                return found;
            }
        }
    }
}

impl Backing {
    /// The chunk stored under `first`, checked; `None` if there is none.
    pub fn load(&self, first: Revision) -> Result<Option<Chunk>, StoreError> {
        let Some(bytes) = self.store.get(&keys::chunk_key(first))? else {
            return Ok(None);
        };
        Chunk::check(first, bytes).map(Some).map_err(|why| self.damaged_chunk(first, why))
    }

    /// The same if it takes no disk; else as if there were none.
    fn load_near(&self, first: Revision) -> Result<Option<Chunk>, StoreError> {
        match self.store.get_near(&keys::chunk_key(first)) {
            Near::Here(Some(bytes)) => Ok(Chunk::check(first, bytes).ok()),
            Near::Here(None) | Near::Far => Ok(None),
        }
    }

    pub fn damaged_chunk(&self, first: Revision, why: impl Into<String>) -> StoreError {
        StoreError::DamagedChunk { path: self.store.path().to_owned(), first, why: why.into() }
    }

    /// The put at `at`, if the chunk under `first` has it.
    fn find(
        &self,
        first: Revision,
        at: Revision,
        load: impl Fn(&Self, Revision) -> Result<Option<Chunk>, StoreError>,
    ) -> Result<Option<KeyValue>, StoreError> {
        let cached = self.cache.chunk(first).filter(|chunk| chunk.find(at).is_some());
        let chunk = match cached {
            Some(chunk) => chunk,
            None => {
                let Some(chunk) = load(self, first)? else {
                    return Ok(None);
                };
                self.cache.keep_chunk(first, chunk.clone());
                chunk
            }
        };
        let Some(entry) = chunk.find(at).filter(|entry| !entry.tombstone) else {
            return Ok(None);
        };
        // A copy of its own, or the cache would keep 64 KiB for a value of 256 bytes.
        let kv = KeyValue::from_canonical(Bytes::copy_from_slice(entry.kv))
            .map_err(|error| self.damaged_chunk(first, error.to_string()))?;
        self.cache.keep_value(at, kv.clone());
        Ok(Some(kv))
    }
}

/// Not in memory.
struct Elsewhere;

impl Records for RecordStore {
    fn get(&self, at: Revision) -> Result<KeyValue, RecordError> {
        if let Ok(found) = self.find_in_memory(at) {
            return found.ok_or(RecordError::Missing(at));
        }
        let found = self.find_in_chunks(at, Backing::load).and_then(|found| {
            if found.is_some() {
                return Ok(found);
            }
            // Its chunk may have been rewritten under another name between the look-up and the read.
            let _settled = self.structure.lock();
            self.find_in_chunks(at, Backing::load)
        });
        match found {
            Ok(Some(kv)) => Ok(kv),
            Ok(None) => Err(RecordError::Missing(at)),
            Err(error) => Err(RecordError::Failed { at, why: error.to_string() }),
        }
    }
}

/// Reads the format row, or writes it into an empty store.
fn check_format(store: &dyn Store) -> Result<(), StoreError> {
    let damaged = |what: &str| StoreError::Damaged { path: store.path().to_owned(), what: what.to_owned() };
    if let Some(row) = store.get(keys::FORMAT_KEY)? {
        let found = row[..].try_into().map_err(|_| damaged("its format row is no number"))?;
        return match u32::from_le_bytes(found) {
            keys::FORMAT => Ok(()),
            found => Err(StoreError::Format { path: store.path().to_owned(), found, known: keys::FORMAT }),
        };
    }
    let mut empty = true;
    store.scan(&[]..&[0xff], &mut |_, _| {
        empty = false;
        ControlFlow::Break(())
    })?;
    if !empty {
        return Err(damaged("it has rows, but none that names its format"));
    }
    let mut batch = Batch::new();
    batch.put(keys::FORMAT_KEY, keys::FORMAT.to_le_bytes());
    store.write(batch)
}

fn read_directory(store: &dyn Store) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    let mut wrong = None;
    store.scan(keys::DIRECTORY_RANGE, &mut |key, row| {
        let parsed = keys::parse_revision(&key[1..]).and_then(|first| Some((first, ChunkInfo::decode(first, row)?)));
        let Some((first, info)) = parsed else {
            wrong = Some(format!("directory row {} can't be read", key.escape_ascii()));
            return ControlFlow::Break(());
        };
        if let Some((before, earlier)) = directory.last().filter(|(_, info)| info.last >= first) {
            wrong = Some(format!("the chunk from {before:?} to {:?} overlaps the one from {first:?}", earlier.last));
            return ControlFlow::Break(());
        }
        directory.put(first, info);
        ControlFlow::Continue(())
    })?;
    match wrong {
        None => Ok(directory),
        Some(what) => Err(StoreError::Damaged { path: store.path().to_owned(), what }),
    }
}
