//! A disk that lies: it says that a sync is done and does it later. Planted to see whether a write that is acknowledged
//! before it is on disk is found out.

use std::io;
use std::path::Path;
use std::sync::Arc;

use keepstone_wal::testing::SimDisk;
use keepstone_wal::{Disk, File};
use parking_lot::Mutex;

use crate::dice::Dice;

/// The disk. Clones are one.
#[derive(Clone)]
pub struct LazyDisk {
    disk: SimDisk,
    owed: Arc<Mutex<Vec<Arc<dyn File>>>>,
}

struct LazyFile {
    file: Arc<dyn File>,
    owed: Arc<Mutex<Vec<Arc<dyn File>>>>,
}

impl LazyDisk {
    pub fn new(disk: SimDisk) -> Self {
        Self { disk, owed: Arc::default() }
    }

    /// Does at times what it has said was done.
    pub async fn write_back(self, mut dice: Dice) {
        loop {
            tokio::time::sleep(dice.millis(5..400)).await;
            for file in std::mem::take(&mut *self.owed.lock()) {
                // It has said that all is well.
                drop(file.fdatasync());
            }
        }
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(LazyFile { file, owed: self.owed.clone() })
    }
}

impl File for LazyFile {
    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.pwrite(buf, offset)
    }

    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.pread(buf, offset)
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.owed.lock().push(self.file.clone());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Disk for LazyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.create(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.open(path).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
}
