//! One state takes the place of another, whole: a snapshot was installed.
//!
//! Readers see the old records or the new, never a mixture of chunks and directory. Whoever was reading from the old
//! place finds that it is not the current one any more, and looks again. Nothing on disk is touched here.

use std::sync::{Arc, atomic::Ordering};

use parking_lot::MutexGuard;

use crate::{
    RecordStore,
    cache::ValueCache,
    record_store::{Background, Backing, Layout},
};

/// A store in which no checkpoint, flush or rewrite is under way, nor begins. Appending and reading go on.
pub struct Still<'a> {
    records: &'a RecordStore,
    background: MutexGuard<'a, Background>,
}

/// What was there before. Freeing it may take long: not under a lock.
pub struct Replaced {
    layout: Layout,
    backing: Arc<Backing>,
}

impl RecordStore {
    /// Waits for the background's step. Take it before any lock that appenders hold: a rewrite takes those too.
    pub fn hold_still(&self) -> Still<'_> {
        Still { records: self, background: self.background.lock() }
    }
}

impl Still<'_> {
    /// Takes over all that `other` holds, under the bounds of this one. What was dirty here and not written is gone with the rest.
    pub fn adopt(mut self, other: RecordStore) -> Replaced {
        let records = self.records;
        let _structure = records.structure.lock();
        let mut layout = records.layout.write();
        *self.background = other.background.into_inner();
        let mut new = other.layout.into_inner();
        let cache = ValueCache::new(records.options.cache_bytes);
        new.backing = Arc::new(Backing { store: new.backing.store.clone(), cache });
        let old = std::mem::replace(&mut *layout, new);
        records.dirty_bytes.store(layout.dirty.bytes(), Ordering::Relaxed);
        let backing = old.backing.clone();
        Replaced { layout: old, backing }
    }
}

impl Replaced {
    /// Frees the memory. The store itself closes when the last reader that was under way has let go of it.
    #[must_use]
    pub fn free(self) -> Closing {
        let Self { layout, backing } = self;
        drop(layout);
        Closing { backing: Some(backing) }
    }
}

/// A store that nobody can reach any more but those who were reading it.
pub struct Closing {
    backing: Option<Arc<Backing>>,
}

impl Closing {
    /// Closes the store if nobody reads it; false if somebody does.
    pub fn try_close(&mut self) -> bool {
        match self.backing.take().map(Arc::try_unwrap) {
            Some(Err(backing)) => {
                self.backing = Some(backing);
                false
            }
            Some(Ok(_)) | None => true,
        }
    }
}
