//! Values and chunks that were read from the store not long ago, within one budget of bytes.

use keepstone_proto::KeyValue;
use keepstone_state::Revision;
use quick_cache::{Weighter, sync::Cache};

use crate::chunk::Chunk;

/// What an entry costs beside its bytes: key, handle, the allocation's own head, and the cache's links and table.
const ENTRY_OVERHEAD: u64 = 160;
/// What a record is taken to weigh when the tables are sized.
const USUAL_WEIGHT: u64 = 512;

#[derive(Clone)]
struct Weigh;

impl Weighter<Revision, KeyValue> for Weigh {
    fn weight(&self, _: &Revision, kv: &KeyValue) -> u64 {
        kv.raw().len() as u64 + ENTRY_OVERHEAD
    }
}

impl Weighter<Revision, Chunk> for Weigh {
    fn weight(&self, _: &Revision, chunk: &Chunk) -> u64 {
        chunk.len() as u64 + ENTRY_OVERHEAD
    }
}

/// Seven eighths of the budget hold single values, one eighth whole chunks: a list reads neighbours.
pub(crate) struct ValueCache {
    values: Cache<Revision, KeyValue, Weigh>,
    chunks: Cache<Revision, Chunk, Weigh>,
}

impl ValueCache {
    pub fn new(budget: u64) -> Self {
        let for_chunks = budget / 8;
        let for_values = budget - for_chunks;
        let items = |weight: u64, usual: u64| usize::try_from(weight / usual).unwrap_or(0).max(8);
        Self {
            values: Cache::with_weighter(items(for_values, USUAL_WEIGHT), for_values, Weigh),
            chunks: Cache::with_weighter(items(for_chunks, 32 << 10), for_chunks, Weigh),
        }
    }

    pub fn value(&self, at: Revision) -> Option<KeyValue> {
        self.values.get(&at)
    }

    /// The bytes of `kv` must be an allocation of their own: a part of something bigger would keep all of it.
    pub fn keep_value(&self, at: Revision, kv: KeyValue) {
        self.values.insert(at, kv);
    }

    pub fn forget_value(&self, at: Revision) {
        self.values.remove(&at);
    }

    /// The chunk that was stored under `first` when it was last read. It may have been rewritten since.
    pub fn chunk(&self, first: Revision) -> Option<Chunk> {
        self.chunks.get(&first)
    }

    pub fn keep_chunk(&self, first: Revision, chunk: Chunk) {
        self.chunks.insert(first, chunk);
    }

    pub fn forget_chunk(&self, first: Revision) {
        self.chunks.remove(&first);
    }

    /// Bytes that the cache counts; never more than its budget.
    pub fn weight(&self) -> u64 {
        self.values.weight() + self.chunks.weight()
    }
}
