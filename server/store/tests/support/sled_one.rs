//! The [`Store`] on sled 1.0's alpha, for comparison with 0.34. Not a part of the crate.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use keepstone_store::{Batch, Store, StoreError, Visit, disk_bytes};
use parking_lot::Mutex;

/// Values a leaf: with chunks of 64 KiB a leaf is at most 512 KiB, which is what one read costs.
const FANOUT: usize = 8;

type Db = sled_1::Db<FANOUT>;

pub struct SledOne {
    path: PathBuf,
    /// A handle can't be shared between threads, and dropping one flushes: they are lent out and given back.
    handles: Mutex<Vec<Db>>,
    first: Mutex<Db>,
}

impl SledOne {
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let config = sled_1::Config::new()
            .path(path)
            .cache_capacity_bytes(cache_bytes)
            .zstd_compression_level(1)
            .flush_every_ms(None);
        let failed = |why| StoreError::Open { path: path.to_owned(), why };
        let db: Db = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(opened) => opened.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed("panicked".to_owned())),
        };
        Ok(Self { path: path.to_owned(), handles: Mutex::default(), first: Mutex::new(db) })
    }

    fn with<T>(&self, doing: &'static str, act: impl FnOnce(&Db) -> std::io::Result<T>) -> Result<T, StoreError> {
        let lent = self.handles.lock().pop();
        let db = lent.unwrap_or_else(|| self.first.lock().clone());
        let failed = |why| StoreError::Io { path: self.path.clone(), doing, why };
        let result = match catch_unwind(AssertUnwindSafe(|| act(&db))) {
            Ok(result) => result.map_err(|error| failed(error.to_string())),
            Err(_) => Err(failed("panicked".to_owned())),
        };
        self.handles.lock().push(db);
        result
    }
}

impl Store for SledOne {
    fn path(&self) -> &Path {
        &self.path
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.with("reading", |db| db.get(key))?;
        Ok(found.map(Bytes::from_owner))
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.with("scanning", |db| {
            for row in db.range(range.start.to_vec()..range.end.to_vec()) {
                let (key, value) = row?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = sled_1::Batch::default();
        for (key, value) in batch.into_writes() {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        self.with("writing a batch", |db| db.apply_batch(writes))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.with("flushing", |db| db.flush().map(drop))
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        disk_bytes(&self.path).map_err(|error| StoreError::Io {
            path: self.path.clone(),
            doing: "measuring its size",
            why: error.to_string(),
        })
    }
}
