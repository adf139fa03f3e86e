//! The [`Store`] on redb, for comparison: what the design names as the way out. Not a part of the crate.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use keepstone_store::{Batch, Store, StoreError, Visit, disk_bytes};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

pub struct RedbOne {
    path: PathBuf,
    db: Database,
}

impl RedbOne {
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Open { path: path.to_owned(), why };
        std::fs::create_dir_all(path).map_err(|error| failed(error.to_string()))?;
        let db = Database::builder()
            .set_cache_size(cache_bytes)
            .create(path.join("redb"))
            .map_err(|error| failed(error.to_string()))?;
        let store = Self { path: path.to_owned(), db };
        store.commit(Batch::new(), Durability::Immediate)?;
        Ok(store)
    }

    fn io<E: std::fmt::Display>(&self, doing: &'static str) -> impl Fn(E) -> StoreError + use<E> {
        let path = self.path.clone();
        move |error| StoreError::Io { path: path.clone(), doing, why: error.to_string() }
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let mut write = self.db.begin_write().map_err(self.io("writing"))?;
        write.set_durability(durability).map_err(self.io("writing"))?;
        {
            let mut table = write.open_table(TABLE).map_err(self.io("writing"))?;
            for (key, value) in batch.into_writes() {
                match value {
                    Some(value) => table.insert(&key[..], &value[..]).map(drop),
                    None => table.remove(&key[..]).map(drop),
                }
                .map_err(self.io("writing"))?;
            }
        }
        write.commit().map_err(self.io("committing"))
    }
}

impl Store for RedbOne {
    fn path(&self) -> &Path {
        &self.path
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let read = self.db.begin_read().map_err(self.io("reading"))?;
        let table = read.open_table(TABLE).map_err(self.io("reading"))?;
        let found = table.get(key).map_err(self.io("reading"))?;
        Ok(found.map(|guard| Bytes::copy_from_slice(guard.value())))
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let read = self.db.begin_read().map_err(self.io("scanning"))?;
        let table = read.open_table(TABLE).map_err(self.io("scanning"))?;
        for row in table.range::<&[u8]>(range).map_err(self.io("scanning"))? {
            let (key, value) = row.map_err(self.io("scanning"))?;
            if visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit(batch, Durability::None)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.commit(Batch::new(), Durability::Immediate)
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        disk_bytes(&self.path).map_err(self.io("measuring its size"))
    }
}
