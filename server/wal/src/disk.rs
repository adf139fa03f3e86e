//! What the log asks of a disk, and the real one behind it.
//!
//! Everything the log does to files goes through these two traits, so that tests and the simulator can hand in a disk
//! that fails, tears and forgets (see [`crate::testing`]). Nothing here retries.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::Arc;

/// An open file. Calls may come from several threads at once; the log never overlaps writes to the same bytes.
pub trait File: Send + Sync {
    /// Writes all of `buf` at `offset`, or fails; after a failure any part of it may have been written.
    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Returns once every byte written so far survives a loss of power.
    fn fdatasync(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A set of directories. A created, renamed or removed name survives a loss of power only after `sync_dir`.
pub trait Disk: Send + Sync {
    /// Makes `dir` and its parents, and their names durable. No error if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a new file for reading and writing; an error if it exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing; an error if it does not exist.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Renames within a directory, over nothing: the log never renames onto a name in use.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names of the files in `dir`, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the directory's names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock at `path` until the answer is dropped; `ErrorKind::WouldBlock` if somebody has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// The machine's own file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealDisk;

struct RealFile(fs::File);

impl File for RealFile {
    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn fdatasync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut made = Vec::new();
        let mut at = dir;
        while !at.as_os_str().is_empty() && !at.exists() {
            made.push(at);
            match at.parent() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for new in made {
            let parent = new.parent().filter(|p| !p.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut how = fs::OpenOptions::new();
        how.read(true).write(true).create_new(true);
        Ok(Arc::new(RealFile(private(&mut how).open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut how = fs::OpenOptions::new();
        how.read(true).write(true).create(true).truncate(false);
        let file = private(&mut how).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }
}

/// A log holds every key's value: nobody but the server's user reads it (etcd's mode, 0600).
fn private(how: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(how, 0o600)
}
