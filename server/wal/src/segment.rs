//! Segment files: their names, and the spare ones that wait to become the next.
//!
//! A new file is filled with zeros and synced before it gets a segment's name, because an overwrite of written space
//! syncs in half the time that growing or merely allocated space does. A purged segment is renamed and used again as it
//! is: its old sectors carry older sequence numbers and are never taken for new ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, File};
use crate::error::Failure;

/// Zeros written at a time; synced as often, so that a sync of the log never waits behind a whole file of them.
const FILL: usize = 1 << 20;

const SUFFIX: &str = ".wal";
const SPARE: &str = "spare-";
const FILLING: &str = "filling-";

/// What a name in the log's directory means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u64),
    Spare(u64),
    /// A spare whose filling did not end.
    Filling,
    Other,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Self {
        let hex = |s: &str| (s.len() == 16).then(|| u64::from_str_radix(s, 16).ok()).flatten();
        if let Some(number) = name.strip_suffix(SUFFIX).and_then(hex) {
            Self::Segment(number)
        } else if let Some(id) = name.strip_prefix(SPARE).and_then(hex) {
            Self::Spare(id)
        } else if name.strip_prefix(FILLING).and_then(hex).is_some() {
            Self::Filling
        } else {
            Self::Other
        }
    }
}

/// The path of segment `number`.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}{SUFFIX}"))
}

/// A file under a spare's name.
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

/// The spare files of a directory.
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    keep: usize,
    fsync: bool,
    /// Held while a file is filled, so that whoever needs it waits instead of filling a second one.
    filling: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    ready: Vec<Spare>,
    next_id: u64,
}

impl Spares {
    /// Takes over the spares found in `dir`; those of another size, half-filled ones and too many are removed.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
        keep: usize,
        fsync: bool,
    ) -> Result<Self, Failure> {
        let mut state = State { ready: Vec::new(), next_id: 1 };
        let mut names = disk.list(dir).map_err(|e| Failure::new("list", dir, e))?;
        names.sort_unstable();
        for name in names {
            let path = dir.join(&name);
            let spare = match Name::parse(&name) {
                Name::Spare(id) => {
                    state.next_id = state.next_id.max(id + 1);
                    let file = disk.open(&path).map_err(|e| Failure::new("open", &path, e))?;
                    let len = file.len().map_err(|e| Failure::new("stat", &path, e))?;
                    (len == segment_bytes && state.ready.len() < keep).then_some(file)
                }
                Name::Filling => None,
                Name::Segment(_) | Name::Other => continue,
            };
            match spare {
                Some(file) => state.ready.push(Spare { path, file }),
                None => disk.remove(&path).map_err(|e| Failure::new("remove", &path, e))?,
            }
        }
        let dir = dir.to_owned();
        Ok(Self { disk, dir, segment_bytes, keep, fsync, filling: Mutex::new(()), state: Mutex::new(state) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().ready.is_empty()
    }

    /// Fills a spare if there is none.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let _alone = self.filling.lock();
        if self.is_empty() {
            let spare = self.fill()?;
            self.state.lock().ready.push(spare);
        }
        Ok(())
    }

    /// Takes a spare and gives it segment `number`'s name, durably.
    pub(crate) fn take(&self, number: u64) -> Result<Arc<dyn File>, Failure> {
        let ready = self.state.lock().ready.pop();
        let spare = match ready {
            Some(spare) => spare,
            None => {
                let _alone = self.filling.lock();
                let ready = self.state.lock().ready.pop();
                ready.map_or_else(|| self.fill(), Ok)?
            }
        };
        self.rename(&spare.path, &path(&self.dir, number))?;
        Ok(spare.file)
    }

    /// Makes a spare of segment `number`, which nobody needs any more, or removes it. Its name is gone for good when
    /// this returns: the next newer segment must not go before it.
    pub(crate) fn retire(&self, number: u64, file: Arc<dyn File>) -> Result<(), Failure> {
        let old = path(&self.dir, number);
        let len = file.len().map_err(|e| Failure::new("stat", &old, e))?;
        let spare = {
            let mut state = self.state.lock();
            (len == self.segment_bytes && state.ready.len() < self.keep).then(|| state.name(&self.dir, SPARE))
        };
        match spare {
            Some(path) => {
                self.rename(&old, &path)?;
                self.state.lock().ready.push(Spare { path, file });
            }
            None => {
                self.disk.remove(&old).map_err(|e| Failure::new("remove", &old, e))?;
                self.sync_dir()?;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        self.disk.rename(from, to).map_err(|e| Failure::new("rename", from, e))?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> Result<(), Failure> {
        if self.fsync {
            self.disk.sync_dir(&self.dir).map_err(|e| Failure::new("sync directory", &self.dir, e))?;
        }
        Ok(())
    }

    /// A new file of zeros under a spare's name. A file that did not fit the disk is removed again.
    fn fill(&self) -> Result<Spare, Failure> {
        let (filling, path) = {
            let mut state = self.state.lock();
            (state.name(&self.dir, FILLING), state.name(&self.dir, SPARE))
        };
        let file = self.disk.create(&filling).map_err(|e| Failure::new("create", &filling, e))?;
        if let Err(e) = self.zero(&*file) {
            if let Err(e) = self.disk.remove(&filling) {
                tracing::warn!(file = %filling.display(), error = %e, "could not remove a half-filled log segment");
            }
            return Err(Failure::new("fill with zeros", &filling, e));
        }
        self.rename(&filling, &path)?;
        Ok(Spare { path, file })
    }

    fn zero(&self, file: &dyn File) -> io::Result<()> {
        let zeros = vec![0; FILL.min(self.segment_bytes as usize)];
        let mut at = 0;
        while at < self.segment_bytes {
            let n = zeros.len().min((self.segment_bytes - at) as usize);
            file.pwrite(&zeros[..n], at)?;
            if self.fsync {
                file.fdatasync()?;
            }
            at += n as u64;
        }
        Ok(())
    }
}

impl State {
    fn name(&mut self, dir: &Path, prefix: &str) -> PathBuf {
        let id = self.next_id;
        self.next_id += 1;
        dir.join(format!("{prefix}{id:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(Name::parse("00000000000000ff.wal"), Name::Segment(255));
        assert_eq!(Name::parse("spare-0000000000000002"), Name::Spare(2));
        assert_eq!(Name::parse("filling-0000000000000002"), Name::Filling);
        assert_eq!(Name::parse("lock"), Name::Other);
        assert_eq!(Name::parse("ff.wal"), Name::Other);
    }
}
