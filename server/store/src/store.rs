//! The small contract that a checkpoint needs from an ordered key-value store.

use std::{
    ops::{ControlFlow, Range},
    path::Path,
};

use bytes::Bytes;

use crate::StoreError;

/// Writes that become visible together and survive together.
///
/// A key is written at most once in a batch: stores disagree about which of two writes wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), Some(value.into())));
    }

    /// Removing a key that is not there is no error.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), None));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The writes in the order of their making; `None` removes.
    #[must_use]
    pub fn into_writes(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.writes
    }
}

/// What can be had of a store without waiting for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Near {
    /// The value, or that there is none.
    Here(Option<Bytes>),
    /// [`Store::get`] has to be asked.
    Far,
}

/// What a scan calls with each key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map of bytes on disk.
///
/// What every implementation keeps (`tests/contract.rs` runs the same suite over all of them):
///
/// 1. A batch is atomic: a reader, and a reopen after a crash, sees all of it or nothing.
/// 2. After a crash the store holds the batches of a prefix: if a batch is there, so is every batch whose `write` returned
///    before it was begun.
/// 3. What was written before a `flush` that returned `Ok` survives a crash and a power loss.
/// 4. A written batch is readable at once, flushed or not.
/// 5. Errors are errors: no panic of a backend leaves it.
pub trait Store: Send + Sync {
    /// Where the store is, for error messages.
    fn path(&self) -> &Path;

    /// The value of `key`. The bytes may keep a whole page of the backend's cache alive: copy what is kept for long.
    ///
    /// # Errors
    /// The backend's, when the value can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// As [`Store::get`], but never waits for the disk to bring a value. Whatever is amiss is `Far`, and for `get` to say.
    fn get_near(&self, _key: &[u8]) -> Near {
        Near::Far
    }

    /// Visits the keys of `range` in byte order until `visit` breaks. Batches written meanwhile may or may not be seen.
    ///
    /// # Errors
    /// The backend's, when a value can't be read.
    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// Writes `batch` atomically. It is durable only after the next [`Store::flush`].
    ///
    /// # Errors
    /// The backend's. Whether the batch was written is then unknown.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;

    /// Makes everything written so far durable. Slow: never on a thread that serves.
    ///
    /// # Errors
    /// The backend's. A failed flush is final: the store must not be used on.
    fn flush(&self) -> Result<(), StoreError>;

    /// Bytes that the store takes on its disk.
    ///
    /// # Errors
    /// When the directory can't be read.
    fn size_on_disk(&self) -> Result<u64, StoreError>;
}
