//! The [`Store`] on sled 0.34: one tree, and no flusher of its own, so that a flush happens when the owner says so.

use std::{
    fs, io,
    ops::Range,
    os::unix::fs::MetadataExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{Batch, Store, StoreError, Visit};

/// How a sled directory is opened.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// Bytes of sled's own page cache. Not a bound on memory: pages being written come on top.
    pub cache_bytes: u64,
    /// Bytes of one log segment. A power of two between 256 KiB and 16 MiB; a directory keeps what it was founded with.
    /// sled holds several buffers of this size.
    pub segment_bytes: usize,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, segment_bytes: 512 << 10 }
    }
}

/// How long opening waits for a lock that a handle of this process may still hold.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A sled directory.
pub struct SledStore {
    path: PathBuf,
    db: sled::Db,
}

impl SledStore {
    /// Opens the directory, or founds it.
    ///
    /// # Errors
    /// [`StoreError::Open`] when sled can't open it, by an error or by a panic, or another process has it open.
    pub fn open(path: &Path, options: &SledOptions) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(options.cache_bytes)
            .segment_size(founded_with(path).unwrap_or(options.segment_bytes))
            .flush_every_ms(None);
        let failed = |why| StoreError::Open { path: path.to_owned(), why };
        let began = Instant::now();
        let db = loop {
            match no_panic(|| config.open()) {
                // A handle that was just dropped lets go of the file when sled's own threads have noticed.
                Err(why) if why.contains("could not acquire lock") && began.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                opened => break opened,
            }
        }
        .map_err(failed)?;
        // A killed process may have left writes that no sync has covered. sled takes them for stable and would not sync
        // them again, so a later flush would promise what a power loss takes back.
        sync_all(path).map_err(|error| failed(error.to_string()))?;
        Ok(Self { path: path.to_owned(), db })
    }

    fn guard<T>(&self, doing: &'static str, act: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        no_panic(act).map_err(|why| StoreError::Io { path: self.path.clone(), doing, why })
    }
}

impl Store for SledStore {
    fn path(&self) -> &Path {
        &self.path
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.guard("reading", || self.db.get(key))?;
        Ok(found.map(Bytes::from_owner))
    }

    fn scan(&self, range: Range<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut rows = self.db.range(range);
        while let Some((key, value)) = self.guard("scanning", || rows.next().transpose())? {
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch.into_writes() {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        self.guard("writing a batch", || self.db.apply_batch(writes))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.guard("flushing", || self.db.flush())?;
        // sled asks for sync_file_range alone, which neither waits for the disk's own cache nor covers the file's size.
        let wrap =
            |error: io::Error| StoreError::Io { path: self.path.clone(), doing: "syncing", why: error.to_string() };
        sync_all(&self.path).map_err(wrap)
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        disk_bytes(&self.path).map_err(|error| StoreError::Io {
            path: self.path.clone(),
            doing: "measuring its size",
            why: error.to_string(),
        })
    }
}

/// Runs `act`; a panic becomes an error text. sled answers some damage to its files with a panic.
pub(crate) fn no_panic<T, E: std::fmt::Display>(act: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panicked: {}", panic_text(panic.as_ref()))),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// The size of a segment that a directory was founded with: sled refuses to open it with another.
fn founded_with(path: &Path) -> Option<usize> {
    let settings = fs::read(path.join("conf")).ok()?;
    let mut lines = settings.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.find_map(|line| line.strip_prefix("segment_size: "))?.parse().ok()
}

/// Syncs every file and directory below `path`.
fn sync_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(path)?.sync_all()
}

/// Bytes that the files below `path` occupy. A file that vanishes meanwhile counts as nothing.
///
/// # Errors
/// When a directory can't be read.
pub fn disk_bytes(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(found) if found.is_dir() => sum += disk_bytes(&entry.path())?,
            Ok(found) => sum += found.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}
