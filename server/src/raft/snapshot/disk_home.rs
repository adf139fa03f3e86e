//! The places of a store on disk: `store/` beside `store.incoming-N/`, each a whole [`DiskStore`].
//!
//! An open store is never moved. One that was received becomes the member's where it is, by a file in it that says so;
//! the next start gives it the usual name. `docs/format-transfer.md` has the file and the order of the steps.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepstone_failpoint::points;
use keepstone_store::{DiskOptions, DiskStore};
use keepstone_wal::{LogPos, Wal, WalError};
use parking_lot::Mutex;

use super::home::{Home, HomeError, Place};
use crate::data::Paths;
use crate::raft::codec;
use crate::raft::types::LogId;

const INCOMING: &str = "store.incoming-";
/// In a store that was received, until its directory has the usual name and the log follows it.
const MARK: &str = "INSTALLED";
const MARK_FORMAT: u8 = 1;
const MARK_BYTES: usize = 22;

/// A member's places below its data directory.
pub struct DiskHome {
    root: PathBuf,
    wal: Arc<Wal>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// The member's store.
    current: PathBuf,
    /// The store before, until it is given up.
    before: Option<PathBuf>,
    /// The highest number that this process has used: what it gives up may still be on its way out.
    last: u64,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    last: LogId,
    /// Whether the log begins after `last`. Until then it may end before it.
    followed: bool,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![MARK_FORMAT];
        out.extend_from_slice(&codec::encode_log_id(&self.last));
        out.push(u8::from(self.followed));
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let whole =
            bytes.len() == MARK_BYTES && body[0] == MARK_FORMAT && crc32c::crc32c(body) == u32::from_le_bytes(*crc);
        let last = codec::decode_log_id(body.get(1..17)?).ok()?;
        whole.then_some(Self { last, followed: body[17] != 0 })
    }
}

impl DiskHome {
    /// `paths` are settled: see [`settle`].
    pub fn new(paths: &Paths, wal: Arc<Wal>) -> Arc<Self> {
        let inner = Inner { current: paths.store.clone(), before: None, last: 0 };
        Arc::new(Self { root: paths.root.clone(), wal, inner: Mutex::new(inner) })
    }

    fn place(&self, number: u64) -> PathBuf {
        self.root.join(format!("{INCOMING}{number}"))
    }

    /// Places that are being received, or were, oldest first.
    fn idle(&self) -> Result<Vec<(u64, PathBuf)>, HomeError> {
        let inner = self.inner.lock();
        let mut places = incoming(&self.root)?;
        places.retain(|(_, path)| *path != inner.current && Some(path) != inner.before.as_ref());
        Ok(places)
    }

    fn open(&self, number: u64, path: &Path) -> Result<Place, HomeError> {
        let store = DiskStore::open(path, &DiskOptions::default())?;
        sync_dir(path)?;
        sync_dir(&self.root)?;
        Ok(Place { number, store: Arc::new(store) })
    }
}

impl Home for DiskHome {
    fn begin(&self) -> Result<Place, HomeError> {
        self.clear()?;
        let highest = incoming(&self.root)?.last().map_or(0, |(number, _)| *number);
        let number = {
            let mut inner = self.inner.lock();
            inner.last = inner.last.max(highest) + 1;
            inner.last
        };
        let path = self.place(number);
        at("making", &path, |path| fs::DirBuilder::new().mode(0o700).create(path))?;
        self.open(number, &path)
    }

    fn clear(&self) -> Result<(), HomeError> {
        self.idle()?.iter().try_for_each(|(_, path)| remove(path))
    }

    fn resume(&self) -> Result<Option<Place>, HomeError> {
        let Some((number, path)) = self.idle()?.pop() else { return Ok(None) };
        self.open(number, &path).map(Some)
    }

    fn commit(&self, number: u64, last: &LogId) -> Result<(), HomeError> {
        let path = self.place(number);
        write_mark(&path, Mark { last: *last, followed: false })?;
        sync_dir(&self.root)?;
        let mut inner = self.inner.lock();
        inner.before = Some(std::mem::replace(&mut inner.current, path));
        Ok(())
    }

    fn follow(&self, number: u64, last: &LogId) -> Result<(), HomeError> {
        purge(&self.wal, last)?;
        write_mark(&self.place(number), Mark { last: *last, followed: true })
    }

    fn discard(&self, number: u64) {
        let path = self.place(number);
        if let Err(error) = remove(&path) {
            tracing::warn!(%error, "what was received of a snapshot stays until the next start");
        }
    }

    fn retire(&self) {
        let before = self.inner.lock().before.take();
        points::SNAPSHOT_BEFORE_RETIRE.hit();
        if let Some(path) = before
            && let Err(error) = remove(&path)
        {
            tracing::warn!(%error, "the store before the snapshot stays until the next start");
        }
    }
}

/// Finishes what a crash has interrupted, and gives the store its usual name. Before the store is opened.
///
/// # Errors
/// When the directory or the log can't be changed.
pub fn settle(paths: &Paths, wal: &Wal) -> Result<(), HomeError> {
    let mut places = incoming(&paths.root)?;
    let marks = places.iter().map(|(_, path)| read_mark(path)).collect::<Result<Vec<_>, _>>()?;
    let marked = marks.iter().rposition(Option::is_some);
    if let Some(marked) = marked {
        let (_, path) = places.remove(marked);
        tracing::info!(store = %path.display(), "the store is the one that a snapshot brought");
        points::SNAPSHOT_BEFORE_SETTLE.hit();
        remove(&paths.store)?;
        at("renaming", &path, |path| fs::rename(path, &paths.store))?;
        sync_dir(&paths.root)?;
        points::SNAPSHOT_AFTER_SETTLE.hit();
    }
    if let Some(mark) = read_mark(&paths.store)? {
        if !mark.followed {
            purge(wal, &mark.last)?;
        }
        at("removing", &paths.store.join(MARK), |mark| fs::remove_file(mark))?;
        sync_dir(&paths.store)?;
    }
    // The newest may be gone on with, if it is not older than the store itself.
    let kept = if marked.is_some() { None } else { places.pop() };
    tracing::debug!(kept = kept.is_some(), "looked for unfinished snapshots");
    places.iter().try_for_each(|(_, path)| remove(path))
}

/// Whether a store that was received is the member's, and has not got its usual name yet.
pub fn is_installed(paths: &Paths) -> bool {
    incoming(&paths.root).is_ok_and(|places| places.iter().any(|(_, path)| path.join(MARK).exists()))
}

/// Has the log begin after `last`.
fn purge(wal: &Wal, last: &LogId) -> Result<(), HomeError> {
    let (done, purged) = std::sync::mpsc::channel();
    let pos = LogPos { term: codec::term_of(last), index: last.index() };
    wal.purge(pos, Box::new(move |result| drop(done.send(result))))?;
    let outcome = purged.recv().unwrap_or_else(|_| Err(io::Error::other(WalError::Closed)));
    outcome.map_err(|source| HomeError::Place { doing: "purging", path: "the log".to_owned(), source })
}

/// The directories of received stores, oldest first.
fn incoming(root: &Path) -> Result<Vec<(u64, PathBuf)>, HomeError> {
    let mut places = Vec::new();
    for entry in at("reading", root, |root| fs::read_dir(root))? {
        let entry = at("reading", root, |_| entry)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(INCOMING)?.parse().ok());
        places.extend(number.map(|number| (number, entry.path())));
    }
    places.sort();
    Ok(places)
}

/// The mark in a store, if it has one. A mark is written whole or not at all: one that can't be read is damaged, and
/// whether the store counts is not known any more.
fn read_mark(store: &Path) -> Result<Option<Mark>, HomeError> {
    let path = store.join(MARK);
    let bytes = at("reading", &path, |path| match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    })?;
    let Some(bytes) = bytes else { return Ok(None) };
    Mark::decode(&bytes).map(Some).ok_or_else(|| HomeError::DamagedMark { path: path.display().to_string() })
}

fn write_mark(store: &Path, mark: Mark) -> Result<(), HomeError> {
    let path = store.join(MARK);
    let draft = store.join("INSTALLED.new");
    at("writing", &draft, |draft| {
        let mut file = File::create(draft)?;
        file.write_all(&mark.encode())?;
        file.sync_all()
    })?;
    at("writing", &path, |path| fs::rename(&draft, path))?;
    sync_dir(store)
}

fn sync_dir(path: &Path) -> Result<(), HomeError> {
    at("syncing", path, |path| File::open(path)?.sync_all())
}

/// Removes a directory, if it is there. Its mark goes first: what is left of it is no store.
fn remove(path: &Path) -> Result<(), HomeError> {
    at("removing", path, |path| match fs::remove_file(path.join(MARK)).and_then(|()| fs::remove_dir_all(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        done => done,
    })
}

/// Does something with a path and names it in the error.
fn at<T>(doing: &'static str, path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, HomeError> {
    act(path).map_err(|source| HomeError::Place { doing, path: path.display().to_string(), source })
}
