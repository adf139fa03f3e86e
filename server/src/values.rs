//! Values out of the record store, for those who must not wait for a disk: connections' threads, and whoever is about
//! to lock the state.
//!
//! What is in memory is given at once. The rest is read on blocking threads, a few at a time; it never decides what is
//! read, and an error of the store is handed on as it is.

use std::collections::HashMap;
use std::sync::Arc;

use keepstone_proto::KeyValue;
use keepstone_state::{RecordError, Records, Revision};
use keepstone_store::RecordStore;
use tokio::sync::Semaphore;

use crate::host;

/// Reads that may wait for the disk at once, each on a thread of its own. More of them wait their turn.
const COLD_READS: usize = 16;
/// More places than this are looked up on a blocking thread, in memory or not: it takes long.
const PLACES_AT_ONCE: usize = 64;
/// Bytes of values held ahead for one run, and one value more. What is past it is read when it is needed.
const AHEAD_BYTES: usize = 64 << 20;

/// The way to values. Clones share the bound on reads.
#[derive(Clone)]
pub struct Values {
    records: Arc<RecordStore>,
    cold: Arc<Semaphore>,
}

impl Values {
    pub fn new(records: Arc<RecordStore>) -> Self {
        Self { records, cold: Arc::new(Semaphore::new(COLD_READS)) }
    }

    /// The put recorded at `at`.
    ///
    /// # Errors
    /// The record is not there or can't be read.
    pub async fn get(&self, at: Revision) -> Result<KeyValue, RecordError> {
        match self.records.get_near(at) {
            Some(kv) => Ok(kv),
            None => self.blocking(at, move |records| records.get(at)).await,
        }
    }

    /// Brings values into memory and holds them there. A place may be named twice.
    ///
    /// # Errors
    /// A record is not there or can't be read.
    pub async fn ahead(&self, places: Vec<Revision>) -> Result<Ahead, RecordError> {
        let mut ahead = Ahead { values: HashMap::with_capacity(places.len()), bytes: 0, records: self.records.clone() };
        match places.first().copied() {
            Some(first) if places.len() > PLACES_AT_ONCE => {
                let fill = move |records: &RecordStore| {
                    for at in places {
                        if !ahead.hold(at, records.get(at)?) {
                            break;
                        }
                    }
                    Ok(ahead)
                };
                self.blocking(first, fill).await
            }
            _ => {
                for at in places {
                    if !ahead.hold(at, self.get(at).await?) {
                        break;
                    }
                }
                Ok(ahead)
            }
        }
    }

    /// Runs a read that may wait for the disk; `at` is where it begins, for what is said when it can't be run.
    async fn blocking<T: Send + 'static>(
        &self,
        at: Revision,
        read: impl FnOnce(&RecordStore) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, RecordError> {
        let failed = |why: String| RecordError::Failed { at, why };
        let turn = self.cold.clone().acquire_owned().await.map_err(|error| failed(error.to_string()))?;
        let records = self.records.clone();
        let read = host::spawn_blocking(move || {
            // Kept by the read itself: whoever waits for it may go away.
            let _turn = turn;
            read(&records)
        });
        read.await.unwrap_or_else(|error| Err(failed(error.to_string())))
    }
}

/// Values that were brought into memory and stay there as long as this lives. Any other is read from the store.
pub struct Ahead {
    values: HashMap<Revision, KeyValue>,
    bytes: usize,
    records: Arc<RecordStore>,
}

impl Ahead {
    /// Whether there is room for more.
    fn hold(&mut self, at: Revision, kv: KeyValue) -> bool {
        let len = kv.raw().len();
        if self.values.insert(at, kv).is_none() {
            self.bytes += len;
        }
        self.bytes < AHEAD_BYTES
    }
}

impl Records for Ahead {
    fn get(&self, at: Revision) -> Result<KeyValue, RecordError> {
        self.values.get(&at).map_or_else(|| self.records.get(at), |kv| Ok(kv.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use keepstone_proto::KeyValueParts;
    use keepstone_state::Record;
    use keepstone_store::testing::{FaultStore, MemStore};
    use keepstone_store::{Batch, Options, Store, StoreError, Visit};
    use parking_lot::Mutex;

    use super::*;

    /// A disk that answers a read only when it is let.
    struct Slow {
        inner: MemStore,
        slow: Arc<AtomicBool>,
        go: Mutex<std::sync::mpsc::Receiver<()>>,
    }

    impl Store for Slow {
        fn path(&self) -> &Path {
            self.inner.path()
        }

        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            if self.slow.load(Ordering::SeqCst) {
                // Once the test has let go of its end, nothing waits any more.
                let _ = self.go.lock().recv();
            }
            self.inner.get(key)
        }

        fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
            self.inner.scan(range, visit)
        }

        fn write(&self, batch: Batch) -> Result<(), StoreError> {
            self.inner.write(batch)
        }

        fn flush(&self) -> Result<(), StoreError> {
            self.inner.flush()
        }

        fn size_on_disk(&self) -> Result<u64, StoreError> {
            self.inner.size_on_disk()
        }
    }

    fn at(main: i64) -> Revision {
        Revision::new(main, 0)
    }

    /// Records 2 to 9 in chunks of the store, 10 in memory, and nothing cached.
    fn filled(store: Arc<dyn Store>) -> Values {
        let options = Options { cache_bytes: 0, chunk_bytes: 64, ..Options::default() };
        let (records, _) = RecordStore::open(store, options).expect("opens");
        let record = |main| {
            let parts = KeyValueParts { key: b"key", mod_revision: main, value: &[1; 64], ..Default::default() };
            Record { at: at(main), tombstone: false, prev: None, kv: KeyValue::new(&parts) }
        };
        records.append((2..10).map(record).collect(), Vec::new(), Bytes::new());
        records.checkpoint().expect("written");
        records.append(vec![record(10)], Vec::new(), Bytes::new());
        Values::new(records)
    }

    #[tokio::test]
    async fn a_read_that_waits_for_the_disk_holds_up_nobody_else() {
        let (let_go, go) = std::sync::mpsc::channel();
        let slow = Arc::new(AtomicBool::new(false));
        let values = filled(Arc::new(Slow { inner: MemStore::new(), slow: slow.clone(), go: Mutex::new(go) }));
        slow.store(true, Ordering::SeqCst);
        let cold = tokio::spawn({
            let values = values.clone();
            async move { values.get(at(3)).await }
        });
        // The runtime has this one thread: it gets here only if the cold read is elsewhere.
        tokio::task::yield_now().await;
        assert_eq!(values.get(at(10)).await.expect("in memory").mod_revision(), 10);
        assert!(!cold.is_finished());
        drop(let_go);
        assert_eq!(cold.await.expect("no panic").expect("read").mod_revision(), 3);
    }

    #[tokio::test]
    async fn what_was_brought_ahead_needs_no_disk() {
        let (store, faults) = FaultStore::new(Arc::new(MemStore::new()));
        let values = filled(Arc::new(store));
        let few = values.ahead(vec![at(2), at(10), at(2)]).await.expect("read");
        let many = values.ahead((2..11).cycle().take(PLACES_AT_ONCE * 2).map(at).collect()).await.expect("read");
        faults.get.store(true, Ordering::SeqCst);
        assert_eq!(few.get(at(2)).expect("held").mod_revision(), 2);
        for main in 2..11 {
            assert_eq!(many.get(at(main)).expect("held").mod_revision(), main);
        }
        assert!(matches!(few.get(at(5)), Err(RecordError::Failed { .. })));
        assert!(matches!(values.ahead(vec![at(5)]).await, Err(RecordError::Failed { .. })));
    }
}
