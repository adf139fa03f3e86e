//! A disk for tests and the simulator: it fails when told to, and forgets or tears what was not synced.
//!
//! Its model of a real disk: a write is kept or lost by whole 512-byte sectors, each on its own, until fdatasync; a
//! created, renamed or removed name is kept or lost on its own until the directory's sync; a failed fdatasync loses what
//! it should have written, and the next one succeeds as if nothing had happened (as Linux does).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, File};

const SECTOR: usize = 512;

/// A small deterministic generator (SplitMix64), so that a seed names a run.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The run named `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not zero.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a crash does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies, the machine stays: everything written reads back, and what was not synced still is not.
    Process,
    /// Power is lost: nothing unsynced is there.
    LoseAll,
    /// Power is lost: each unsynced sector and name is there or not, by the seed.
    Random(u64),
}

/// The disk. A clone is the same disk; [`SimDisk::crash`] makes the one found after a crash.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
    files: Vec<FileState>,
    locks: BTreeSet<PathBuf>,
    faults: Faults,
    counts: Counts,
}

#[derive(Clone, Default)]
struct FileState {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Debug, Clone, Default)]
struct Faults {
    /// Calls that change something until the process is dead.
    dies_after: Option<u64>,
    fail_fdatasync: Option<u64>,
    fail_pwrite: Option<u64>,
    capacity: Option<usize>,
}

/// How often the disk was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes.
    pub pwrites: u64,
    /// Reads.
    pub preads: u64,
    /// Syncs of a file.
    pub fdatasyncs: u64,
}

struct SimFile {
    disk: SimDisk,
    id: usize,
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl SimDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// After `n` more calls that change something, the next and every later one fails: the process is dead. A write that
    /// dies has not happened.
    pub fn die_after(&self, n: u64) {
        self.inner.lock().faults.dies_after = Some(n);
    }

    /// The `n`th fdatasync from now fails, once; the first is 1.
    pub fn fail_fdatasync(&self, n: u64) {
        self.inner.lock().faults.fail_fdatasync = Some(n);
    }

    /// The `n`th write from now fails, once, with half of its bytes written; the first is 1.
    pub fn fail_pwrite(&self, n: u64) {
        self.inner.lock().faults.fail_pwrite = Some(n);
    }

    /// Files may hold this many bytes together; a write past it stops half way with ENOSPC.
    pub fn set_capacity(&self, bytes: usize) {
        self.inner.lock().faults.capacity = Some(bytes);
    }

    /// How often the disk was asked so far.
    pub fn counts(&self) -> Counts {
        self.inner.lock().counts
    }

    /// The disk as it is found after a crash now. This one stays as it is.
    pub fn crash(&self, how: Crash) -> Self {
        let inner = self.inner.lock();
        let mut rng = match how {
            Crash::Process => {
                let after = Inner {
                    names: inner.names.clone(),
                    durable_names: inner.durable_names.clone(),
                    unsynced_names: inner.unsynced_names.clone(),
                    files: inner.files.clone(),
                    ..Inner::default()
                };
                return Self { inner: Arc::new(Mutex::new(after)) };
            }
            Crash::Random(seed) => Some(Rng::new(seed)),
            Crash::LoseAll => None,
        };
        let mut keep = |percent| rng.as_mut().is_some_and(|rng| rng.chance(percent));
        let percent = [5, 50, 95][if keep(33) { 0 } else { 1 + usize::from(keep(50)) }];
        let files = inner.files.iter().map(|file| file.after_crash(&mut || keep(percent))).collect();
        let mut names = inner.durable_names.clone();
        for change in &inner.unsynced_names {
            if keep(50) {
                change.apply(&mut names);
            }
        }
        let after = Inner { durable_names: names.clone(), names, files, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(after)) }
    }

    /// The names of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.inner.lock().names.keys().cloned().collect()
    }

    /// A file's bytes as a reader sees them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner.lock();
        inner.names.get(path).map(|id| inner.files[*id].live.clone())
    }

    /// Replaces a file's bytes behind everybody's back.
    pub fn set_bytes(&self, path: &Path, bytes: Vec<u8>) {
        let mut inner = self.inner.lock();
        if let Some(id) = inner.names.get(path).copied() {
            inner.files[id] = FileState { durable: bytes.clone(), live: bytes, dirty: BTreeSet::new() };
        }
    }

    /// Removes a file behind everybody's back.
    pub fn delete(&self, path: &Path) {
        let mut inner = self.inner.lock();
        inner.names.remove(path);
        inner.durable_names.remove(path);
    }
}

impl Inner {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.faults.dies_after {
            Some(0) => Err(io::Error::other("the process is dead")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        self.change()?;
        if !change.apply(&mut self.names) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.unsynced_names.push(change);
        Ok(())
    }

    fn used(&self) -> usize {
        self.names.values().map(|id| self.files[*id].live.len()).sum()
    }
}

/// Counts a fault down; true when its turn has come.
fn due(fault: &mut Option<u64>) -> bool {
    match fault {
        Some(1) => {
            *fault = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) -> bool {
        match self {
            Self::Create(path, id) => {
                names.insert(path.clone(), *id);
                true
            }
            Self::Rename(from, to) => match names.remove(from) {
                Some(id) => {
                    names.insert(to.clone(), id);
                    true
                }
                None => false,
            },
            Self::Remove(path) => names.remove(path).is_some(),
        }
    }
}

impl FileState {
    fn write(&mut self, buf: &[u8], offset: usize) {
        let end = offset + buf.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(buf);
        if !buf.is_empty() {
            self.dirty.extend(offset / SECTOR..=(end - 1) / SECTOR);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector * SECTOR..self.live.len().min((sector + 1) * SECTOR);
            self.durable[range.clone()].copy_from_slice(&self.live[range]);
        }
    }

    fn after_crash(&self, keep: &mut impl FnMut() -> bool) -> Self {
        let mut bytes = self.durable.clone();
        for sector in &self.dirty {
            if keep() {
                let range = sector * SECTOR..self.live.len().min((sector + 1) * SECTOR);
                if bytes.len() < range.end {
                    bytes.resize(range.end, 0);
                }
                bytes[range.clone()].copy_from_slice(&self.live[range]);
            }
        }
        Self { live: bytes.clone(), durable: bytes, dirty: BTreeSet::new() }
    }
}

impl File for SimFile {
    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.change()?;
        inner.counts.pwrites += 1;
        let offset = offset as usize;
        let grows = (offset + buf.len()).saturating_sub(inner.files[self.id].live.len());
        let full = inner.faults.capacity.is_some_and(|capacity| grows > 0 && inner.used() + grows > capacity);
        let broken = due(&mut inner.faults.fail_pwrite);
        if full || broken {
            inner.files[self.id].write(&buf[..buf.len() / 2], offset);
            let os = rustix::io::Errno::NOSPC;
            return Err(if full { os.into() } else { io::Error::other("injected write failure") });
        }
        inner.files[self.id].write(buf, offset);
        Ok(())
    }

    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.inner.lock();
        inner.counts.preads += 1;
        let live = &inner.files[self.id].live;
        let from = live.get((offset as usize).min(live.len())..).expect("within the file");
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn fdatasync(&self) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.change()?;
        inner.counts.fdatasyncs += 1;
        if due(&mut inner.faults.fail_fdatasync) {
            inner.files[self.id].dirty.clear();
            return Err(io::Error::other("injected fdatasync failure"));
        }
        inner.files[self.id].sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner.lock().files[self.id].live.len() as u64)
    }
}

impl SimDisk {
    fn file(&self, id: usize) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.clone(), id })
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut inner = self.inner.lock();
        if inner.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = inner.files.len();
        inner.files.push(FileState::default());
        inner.change_name(NameChange::Create(path.to_owned(), id))?;
        drop(inner);
        Ok(self.file(id))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let id = self.inner.lock().names.get(path).copied();
        id.map(|id| self.file(id)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.lock().change_name(NameChange::Remove(path.to_owned()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner.lock();
        let here = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.change()?;
        let unsynced = std::mem::take(&mut inner.unsynced_names);
        let (here, elsewhere): (Vec<_>, Vec<_>) = unsynced.into_iter().partition(|change| change.is_in(dir));
        for change in here {
            change.apply(&mut inner.durable_names);
        }
        inner.unsynced_names = elsewhere;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if !self.inner.lock().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Create(path, _) | Self::Rename(path, _) | Self::Remove(path)) = self;
        path.parent() == Some(dir)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inner.lock().locks.remove(&self.path);
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDisk").field("names", &self.inner.lock().names).finish_non_exhaustive()
    }
}
