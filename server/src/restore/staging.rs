//! The directory beside the target in which everything is made, and the move into place.
//!
//! `D.restoring` becomes `D` by one rename after everything in it is on the disk: a crash leaves nothing at `D`, or a
//! whole data directory. A log directory outside of `D` has a staging directory of its own and is moved last: a member
//! with state and no log refuses to start, where one with a log and no state would found an empty cluster. What a crash
//! left behind is removed by the next restore, and only if it is marked as a restore's.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::RestoreError;
use crate::data::Paths;

const SUFFIX: &str = ".restoring";
/// In a staging directory until it has its final name and everything is done.
const MARK: &str = "RESTORING";

/// The directories being made. Dropped before [`Staging::finish`], they are removed.
pub struct Staging {
    data: Place,
    /// A log directory that is not inside the data directory.
    log: Option<Place>,
    paths: Paths,
}

impl Staging {
    /// Takes the places of `data_dir` and `wal_dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// [`RestoreError::NotEmpty`], [`RestoreError::Busy`], [`RestoreError::Place`], [`RestoreError::File`].
    pub fn begin(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, RestoreError> {
        let target = resolve(data_dir)?;
        let mut log = None;
        let mut inside = None;
        if let Some(wal_dir) = wal_dir {
            let wal = resolve(wal_dir)?;
            match wal.strip_prefix(&target) {
                Ok(rest) if rest == Path::new("") || rest.starts_with("store") => {
                    return Err(place(
                        wal_dir,
                        "the data directory has other things there; give the log a directory of its own",
                    ));
                }
                Ok(rest) => inside = Some(rest.to_path_buf()),
                Err(_) if target.starts_with(&wal) => {
                    return Err(place(wal_dir, "the data directory lies in it; give the log a directory of its own"));
                }
                Err(_) => log = Some(wal),
            }
        }
        let data = Place::take(target)?;
        let log = log.map(Place::take).transpose()?;
        let inside = inside.map(|rest| data.staged.join(rest));
        let paths = Paths::new(&data.staged, log.as_ref().map(|log| log.staged.as_path()).or(inside.as_deref()));
        Ok(Self { data, log, paths })
    }

    /// Where the parts are made.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Makes everything durable and moves it into place. Whatever was opened in the directories must be closed.
    ///
    /// # Errors
    /// [`RestoreError::File`]; then nothing is in place.
    pub fn finish(mut self) -> Result<(), RestoreError> {
        let places = || std::iter::once(&self.data).chain(&self.log);
        places().try_for_each(|place| sync_tree(&place.staged))?;
        self.data.rename()?;
        if let Some(log) = &mut self.log
            && let Err(error) = log.rename()
        {
            self.data.rename_back();
            return Err(error);
        }
        // Only a sign by now: where a crash leaves it, nothing is wrong.
        for place in std::iter::once(&self.data).chain(&self.log) {
            at(&place.target.join(MARK), |mark| fs::remove_file(mark))?;
        }
        Ok(())
    }
}

/// One directory: where it is made, and what it becomes.
struct Place {
    target: PathBuf,
    staged: PathBuf,
    moved: bool,
    /// Locked while the restore runs, so that another leaves it alone.
    _lock: File,
}

impl Place {
    fn take(target: PathBuf) -> Result<Self, RestoreError> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(place(&target, "it has no directory above it to be made in"));
        };
        if target.exists() {
            if at(&target, |path| fs::read_dir(path))?.next().is_some() {
                return Err(RestoreError::NotEmpty { path: target });
            }
            if at(&target, |path| fs::metadata(path))?.dev() != at(parent, |path| fs::metadata(path))?.dev() {
                return Err(place(
                    &target,
                    "it is a mount point, which nothing can be renamed to; name a directory below it",
                ));
            }
        }
        at(parent, |parent| fs::DirBuilder::new().mode(0o700).recursive(true).create(parent))?;
        let mut staged = OsString::from(name);
        staged.push(SUFFIX);
        let staged = parent.join(staged);
        let lock = make_staged(&staged)?;
        Ok(Self { target, staged, moved: false, _lock: lock })
    }

    fn rename(&mut self) -> Result<(), RestoreError> {
        at(&self.target, |target| fs::rename(&self.staged, target))?;
        self.moved = true;
        self.target.parent().map_or(Ok(()), |parent| at(parent, |parent| File::open(parent)?.sync_all()))
    }

    fn rename_back(&mut self) {
        self.moved = fs::rename(&self.target, &self.staged).is_err();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.moved {
            // What can't be removed is removed by the next restore.
            drop(fs::remove_dir_all(&self.staged));
        }
    }
}

/// Makes a staging directory, in place of one that a crash left, and locks it.
fn make_staged(path: &Path) -> Result<File, RestoreError> {
    let lock = |file: &File| match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RestoreError::Busy { path: path.to_path_buf() }),
        Err(error) => Err(RestoreError::File { path: path.to_path_buf(), source: error.into() }),
    };
    let create = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    match create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let left = at(path, |path| File::open(path))?;
            lock(&left)?;
            let empty = at(path, |path| fs::read_dir(path))?.next().is_none();
            if !empty && !path.join(MARK).exists() {
                return Err(place(path, "it is in the way and not of an earlier restore; move it"));
            }
            at(path, |path| fs::remove_dir_all(path))?;
            at(path, create)?;
        }
        made => at(path, |_| made)?,
    }
    let file = at(path, |path| File::open(path))?;
    lock(&file)?;
    at(&path.join(MARK), |mark| fs::write(mark, b"made by `keepstone restore`\n"))?;
    Ok(file)
}

/// The path without links in what exists of it, so that two paths can be compared.
fn resolve(path: &Path) -> Result<PathBuf, RestoreError> {
    let full = at(path, |path| std::path::absolute(path))?;
    for known in full.ancestors() {
        if let Ok(real) = known.canonicalize() {
            let rest = full.strip_prefix(known).unwrap_or(Path::new(""));
            // Joining nothing would add a slash.
            return Ok(if rest == Path::new("") { real } else { real.join(rest) });
        }
    }
    Ok(full)
}

fn sync_tree(dir: &Path) -> Result<(), RestoreError> {
    for entry in at(dir, |dir| fs::read_dir(dir))? {
        let path = at(dir, |_| entry)?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            at(&path, |path| File::open(path)?.sync_all())?;
        }
    }
    at(dir, |dir| File::open(dir)?.sync_all())
}

fn place(path: &Path, why: &'static str) -> RestoreError {
    RestoreError::Place { path: path.to_path_buf(), why }
}

/// Does something with a path and names it in the error.
fn at<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, RestoreError> {
    act(path).map_err(|source| RestoreError::File { path: path.to_path_buf(), source })
}
