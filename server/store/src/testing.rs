//! Stores for tests and for the simulator: one in memory that crashes as sled does, and one that fails on demand.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Batch, Near, Store, StoreError, Visit};

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// A store in memory. Dropping it loses nothing by itself: a test that wants a crash asks for one.
#[derive(Debug, Default)]
pub struct MemStore {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: Rows,
    durable: Rows,
    unflushed: Vec<Batch>,
}

impl MemStore {
    #[must_use]
    pub fn new() -> Self {
        Self { path: PathBuf::from("(memory)"), inner: Mutex::default() }
    }

    /// Batches that were written since the last flush.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.inner.lock().unflushed.len()
    }

    /// What a crash leaves: all that was flushed, and the first `kept` of the batches since.
    #[must_use]
    pub fn crash(&self, kept: usize) -> Self {
        let inner = self.inner.lock();
        let mut rows = inner.durable.clone();
        for batch in inner.unflushed.iter().take(kept) {
            apply(&mut rows, batch.clone());
        }
        Self {
            path: self.path.clone(),
            inner: Mutex::new(Inner { durable: rows.clone(), rows, unflushed: Vec::new() }),
        }
    }

    /// All rows, for a test that compares or damages them.
    #[must_use]
    pub fn rows(&self) -> BTreeMap<Vec<u8>, Bytes> {
        self.inner.lock().rows.clone()
    }
}

fn apply(rows: &mut Rows, batch: Batch) {
    for (key, value) in batch.into_writes() {
        match value {
            Some(value) => rows.insert(key, value.into()),
            None => rows.remove(&key),
        };
    }
}

impl Store for MemStore {
    fn path(&self) -> &Path {
        &self.path
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner.lock().rows.get(key).cloned())
    }

    fn get_near(&self, key: &[u8]) -> Near {
        Near::Here(self.inner.lock().rows.get(key).cloned())
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let found: Vec<_> = {
            let inner = self.inner.lock();
            let rows = inner
                .rows
                .range::<[u8], _>((std::ops::Bound::Included(range.start), std::ops::Bound::Excluded(range.end)));
            rows.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        for (key, value) in found {
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        apply(&mut inner.rows, batch.clone());
        inner.unflushed.push(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        let Inner { durable, unflushed, .. } = &mut *inner;
        for batch in unflushed.drain(..) {
            apply(durable, batch);
        }
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        let inner = self.inner.lock();
        let sizes = inner.rows.iter().map(|(key, value)| key.len() + value.len());
        Ok(sizes.sum::<usize>() as u64)
    }
}

/// Which calls of a [`FaultStore`] fail from now on.
#[derive(Debug, Default)]
pub struct Faults {
    pub get: AtomicBool,
    pub write: AtomicBool,
    pub flush: AtomicBool,
}

/// A store whose calls fail when a test says so. A call that fails does nothing.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

impl FaultStore {
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let store = Self { inner, faults: Arc::clone(&faults) };
        (store, faults)
    }

    fn pass(&self, fault: &AtomicBool, doing: &'static str) -> Result<(), StoreError> {
        if fault.load(Ordering::SeqCst) {
            return Err(StoreError::Io { path: self.inner.path().to_owned(), doing, why: "injected fault".to_owned() });
        }
        Ok(())
    }
}

impl Store for FaultStore {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.pass(&self.faults.get, "reading")?;
        self.inner.get(key)
    }

    /// Everything is far away, so that a test can hold up or fail whatever is read.
    fn get_near(&self, _key: &[u8]) -> Near {
        Near::Far
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.pass(&self.faults.get, "scanning")?;
        self.inner.scan(range, visit)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.pass(&self.faults.write, "writing a batch")?;
        self.inner.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.pass(&self.faults.flush, "flushing")?;
        self.inner.flush()
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.inner.size_on_disk()
    }
}
