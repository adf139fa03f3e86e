//! The [`Store`] that a member uses: small rows in sled, large values in files of our own that the rows point into.
//!
//! sled writes a value of 64 KiB 9 to 17 times over (0.34) or never lets go of its memory (1.0 alpha); the figures are in
//! `docs/format-store.md`. What sled is good at, a small ordered map with atomic batches, is what it does here.
//!
//! A large value is appended to a file at once; its row waits in memory for the flush. A flush syncs the files first,
//! then gives sled all waiting rows as one batch, then flushes sled. So no row on disk ever points at bytes that are not
//! there, and a crash falls back to a flush.

use std::{
    collections::BTreeMap,
    io,
    ops::{Bound, ControlFlow, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use keepstone_failpoint::points;
use parking_lot::{Mutex, RwLock};

use crate::{
    Batch, Near, SledOptions, SledStore, Store, StoreError, Visit,
    heap::{Heap, Pointer, Writer},
    sled_store::disk_bytes,
};

/// The first byte of a row in sled: the value follows, or a pointer does.
const INLINE: u8 = 0;
const POINTS: u8 = 1;

/// How a [`DiskStore`] is opened.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    pub sled: SledOptions,
    /// Values of at least this many bytes go to a file.
    pub large_bytes: usize,
    /// A file is full at this many bytes. Space comes back file by file.
    pub file_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { sled: SledOptions::default(), large_bytes: 2 << 10, file_bytes: 64 << 20 }
    }
}

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows in one store, large values in files beside it.
pub struct DiskStore {
    path: PathBuf,
    large_bytes: usize,
    rows: Arc<dyn Store>,
    heap: Heap,
    /// Rows that no flush has carried; `None` removes. Readers look here first.
    waiting: RwLock<Rows>,
    writer: Mutex<Writing>,
}

struct Writing {
    heap: Writer,
    /// Why nothing can be written any more: after a failed sync nobody knows what is on the disk.
    failed: Option<String>,
}

impl DiskStore {
    /// Opens the directory, or founds it: `rows/` is sled's, `heap/` holds the files.
    ///
    /// # Errors
    /// [`StoreError::Open`] when sled or a file can't be opened, [`StoreError::Damaged`] when a row points at nothing.
    pub fn open(path: &Path, options: &DiskOptions) -> Result<Self, StoreError> {
        let rows = SledStore::open(&path.join("rows"), &options.sled)?;
        Self::with_rows(path, Arc::new(rows), options)
    }

    /// The same over any other store for the rows.
    ///
    /// # Errors
    /// As [`DiskStore::open`].
    pub fn with_rows(path: &Path, rows: Arc<dyn Store>, options: &DiskOptions) -> Result<Self, StoreError> {
        let open = |error: io::Error| StoreError::Open { path: path.to_owned(), why: error.to_string() };
        let (heap, mut writer) = Heap::open(&path.join("heap"), options.file_bytes).map_err(open)?;
        let mut wrong = None;
        rows.scan(&[]..&[0xff; 64], &mut |key, row| {
            let found = match row.split_first() {
                Some((&INLINE, _)) => Ok(()),
                Some((&POINTS, at)) => Pointer::decode(at)
                    .ok_or_else(|| "a pointer of wrong length".to_owned())
                    .and_then(|at| writer.found(at)),
                _ => Err("neither a value nor a pointer".to_owned()),
            };
            match found {
                Ok(()) => ControlFlow::Continue(()),
                Err(why) => {
                    wrong = Some(format!("row {}: {why}", key.escape_ascii()));
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(what) = wrong {
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        // Bytes of a crash that no row points at.
        heap.drop_dead(&mut writer).map_err(open)?;
        Ok(Self {
            path: path.to_owned(),
            large_bytes: options.large_bytes,
            rows,
            heap,
            waiting: RwLock::default(),
            writer: Mutex::new(Writing { heap: writer, failed: None }),
        })
    }

    fn io(&self, doing: &'static str) -> impl Fn(io::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |error| StoreError::Io { path: path.clone(), doing, why: error.to_string() }
    }

    fn damaged(&self, key: &[u8], why: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: format!("row {}: {why}", key.escape_ascii()) }
    }

    /// The row as it is now: value or pointer.
    fn row(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(waiting) = self.waiting.read().get(key) {
            return Ok(waiting.as_deref().map(Bytes::copy_from_slice));
        }
        self.rows.get(key)
    }

    fn pointer(&self, key: &[u8], row: &[u8]) -> Result<Option<Pointer>, StoreError> {
        match row.split_first() {
            Some((&INLINE, _)) => Ok(None),
            Some((&POINTS, at)) => {
                Pointer::decode(at).map(Some).ok_or_else(|| self.damaged(key, "a pointer of wrong length"))
            }
            _ => Err(self.damaged(key, "neither a value nor a pointer")),
        }
    }

    /// What a row stands for; `None` when the file it points into has gone meanwhile.
    fn resolve(&self, key: &[u8], row: Bytes) -> Result<Option<Bytes>, StoreError> {
        let Some(at) = self.pointer(key, &row)? else {
            return Ok(Some(row.slice(1..)));
        };
        match self.heap.read(at).map_err(self.io("reading"))? {
            None => Ok(None),
            Some(entry) if entry.key() == key => Ok(Some(entry.value())),
            Some(_) => Err(self.damaged(key, "it points at another key's entry")),
        }
    }

    /// Turns a batch into rows: large values go to a file.
    fn rows_of(&self, writing: &mut Writing, batch: Batch) -> Result<Rows, StoreError> {
        let writes = batch.into_writes();
        let is_large = |value: &Vec<u8>| value.len() >= self.large_bytes;
        let large: Vec<(&[u8], &[u8])> = writes
            .iter()
            .filter_map(|(key, value)| Some((&key[..], &value.as_ref().filter(|v| is_large(v))?[..])))
            .collect();
        let mut pointers = Vec::new().into_iter();
        if !large.is_empty() {
            let appended = self.heap.append(&mut writing.heap, &large);
            pointers = appended.map_err(self.io("appending to a heap file"))?.into_iter();
        }
        let mut rows = Rows::new();
        for (key, value) in writes {
            let row = value.map(|value| {
                if is_large(&value) {
                    let at = pointers.next().expect("one pointer for each large value");
                    row_with(POINTS, &at.encode())
                } else {
                    row_with(INLINE, &value)
                }
            });
            rows.insert(key, row);
        }
        Ok(rows)
    }

    /// Puts rows where readers see them, all at once, and counts what they replace as forgotten.
    fn install(&self, writing: &mut Writing, rows: Rows) -> Result<(), StoreError> {
        for key in rows.keys() {
            if let Some(old) = self.row(key)?
                && let Some(at) = self.pointer(key, &old)?
            {
                writing.heap.forgotten(at);
            }
        }
        self.waiting.write().extend(rows);
        Ok(())
    }

    /// Moves what is alive in the most wasteful file to the active one.
    fn relocate(&self, writing: &mut Writing) -> Result<(), StoreError> {
        let Some(number) = writing.heap.most_wasteful() else {
            return Ok(());
        };
        let mut failed = None;
        let walked = self.heap.entries(number, &mut |at, entry| {
            if let Err(error) = self.move_entry(writing, at, entry.key(), &entry.value()) {
                failed = Some(error);
                return Err(io::Error::other("moving an entry"));
            }
            Ok(())
        });
        writing.heap.relocated(number);
        match failed {
            Some(error) => Err(error),
            None => walked.map_err(self.io("going through a heap file")),
        }
    }

    fn move_entry(&self, writing: &mut Writing, at: Pointer, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let Some(row) = self.row(key)? else {
            return Ok(());
        };
        if self.pointer(key, &row)? != Some(at) {
            return Ok(());
        }
        let moved = self.heap.append(&mut writing.heap, &[(key, value)]).map_err(self.io("moving an entry"))?;
        let row = row_with(POINTS, &moved[0].encode());
        self.install(writing, Rows::from([(key.to_vec(), Some(row))]))
    }

    fn try_flush(&self, writing: &mut Writing) -> Result<(), StoreError> {
        self.relocate(writing)?;
        points::HEAP_BEFORE_SYNC.hit();
        self.heap.sync(&mut writing.heap).map_err(self.io("syncing the heap"))?;
        points::HEAP_AFTER_SYNC.hit();
        let mut batch = Batch::new();
        for (key, row) in &*self.waiting.read() {
            match row {
                Some(row) => batch.put(key.clone(), row.clone()),
                None => batch.remove(key.clone()),
            }
        }
        if !batch.is_empty() {
            self.rows.write(batch)?;
        }
        points::ROWS_BEFORE_SYNC.hit();
        self.rows.flush()?;
        points::ROWS_AFTER_SYNC.hit();
        // The writer's lock is held: these are the rows that were written.
        self.waiting.write().clear();
        self.heap.drop_dead(&mut writing.heap).map_err(self.io("deleting a heap file"))
    }
}

fn row_with(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + rest.len());
    row.push(tag);
    row.extend_from_slice(rest);
    row
}

impl Store for DiskStore {
    fn path(&self) -> &Path {
        &self.path
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        // A file goes only after the row that points elsewhere is in place, so a second look finds that.
        for _ in 0..16 {
            let Some(row) = self.row(key)? else {
                return Ok(None);
            };
            if let Some(value) = self.resolve(key, row)? {
                return Ok(Some(value));
            }
        }
        Err(self.damaged(key, "it points into a file that is not there"))
    }

    /// The row may cost sled a page of its own: rows are small, and as good as always in its cache.
    fn get_near(&self, key: &[u8]) -> Near {
        let row = match self.row(key) {
            Ok(Some(row)) => row,
            Ok(None) => return Near::Here(None),
            Err(_) => return Near::Far,
        };
        match self.pointer(key, &row) {
            Ok(None) => Near::Here(Some(row.slice(1..))),
            Ok(Some(at)) => match self.heap.read_near(at) {
                Ok(Some(entry)) if entry.key() == key => Near::Here(Some(entry.value())),
                _ => Near::Far,
            },
            Err(_) => Near::Far,
        }
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let bounds = (Bound::Included(range.start), Bound::Excluded(range.end));
        let mut keys: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        {
            let waiting = self.waiting.read();
            let rows = waiting.range::<[u8], _>(bounds);
            keys.extend(rows.map(|(key, row)| (key.clone(), row.is_some())));
        }
        let mut waiting = keys.into_iter().peekable();
        let mut failed = None;
        let mut give = |key: &[u8], row: Option<Bytes>| {
            // A row that waits, or whose file has gone meanwhile, is looked up again.
            let known = row.map_or(Ok(None), |row| self.resolve(key, row));
            let value = known.and_then(|known| known.map_or_else(|| self.get(key), |v| Ok(Some(v))));
            match value {
                Ok(Some(value)) => visit(key, &value),
                Ok(None) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let mut flow = ControlFlow::Continue(());
        self.rows.scan(range, &mut |key, row| {
            while let Some((before, there)) = waiting.next_if(|(next, _)| &next[..] <= key) {
                let same = before == key;
                if there {
                    flow = give(&before, None);
                }
                if same || flow.is_break() {
                    return flow;
                }
            }
            flow = give(key, Some(Bytes::copy_from_slice(row)));
            flow
        })?;
        for (key, there) in waiting {
            if flow.is_continue() && there {
                flow = give(&key, None);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writing = self.writer.lock();
        if let Some(why) = &writing.failed {
            return Err(self.io("writing after a failed flush")(io::Error::other(why.clone())));
        }
        let rows = self.rows_of(&mut writing, batch)?;
        self.install(&mut writing, rows)
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut writing = self.writer.lock();
        if let Some(why) = &writing.failed {
            return Err(self.io("flushing after a failed flush")(io::Error::other(why.clone())));
        }
        let flushed = self.try_flush(&mut writing);
        if let Err(error) = &flushed {
            writing.failed = Some(error.to_string());
        }
        flushed
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        disk_bytes(&self.path).map_err(self.io("measuring its size"))
    }
}
