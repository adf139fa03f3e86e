//! The log as its owner sees it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, File};
use crate::error::{Failure, WalError};
use crate::options::Options;
use crate::reader;
use crate::record::{self, Entry, LogPos, Record};
use crate::recover::{self, Recovered, Recovery};
use crate::segment::Spares;
use crate::shared::{self, Done, Op, Shared, Stats};
use crate::writer::{self, Chore, Writer};

/// An open log. Dropping it closes it, see [`Wal::close`].
pub struct Wal {
    dir: PathBuf,
    shared: Arc<Shared>,
    inline: Option<Mutex<Writer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    recovered: Recovered,
    /// Released last.
    _lock: Box<dyn Send + Sync>,
}

impl Wal {
    /// Opens the log in `dir`, or begins one there, and starts its writer thread. Reads every segment once.
    ///
    /// # Errors
    /// [`WalError::Locked`], [`WalError::Corrupt`], [`WalError::Version`], [`WalError::Io`], [`WalError::Option`].
    pub fn open(dir: &Path, options: Options, disk: Arc<dyn Disk>) -> Result<(Self, Recovered), WalError> {
        let (send, chores) = mpsc::channel();
        let (mut wal, writer, spares) = Self::build(dir, options, disk, Some(send))?;
        let (shared, chore_shared) = (Arc::clone(&wal.shared), Arc::clone(&wal.shared));
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|e| WalError::io("start a thread for", dir, e))
        };
        let threads = wal.threads.get_mut();
        threads.push(start("wal", Box::new(move || run(&shared, writer)))?);
        threads.push(start("wal-chores", Box::new(move || run_chores(&chore_shared, &spares, &chores)))?);
        let recovered = wal.recovered.clone();
        Ok((wal, recovered))
    }

    /// As `open`, without threads and without ever looking at a clock: what is queued is written by [`Wal::step`] alone.
    pub fn open_inline(dir: &Path, options: Options, disk: Arc<dyn Disk>) -> Result<(Self, Recovered), WalError> {
        let (mut wal, writer, _) = Self::build(dir, options, disk, None)?;
        wal.inline = Some(Mutex::new(writer));
        let recovered = wal.recovered.clone();
        Ok((wal, recovered))
    }

    fn build(
        dir: &Path,
        options: Options,
        disk: Arc<dyn Disk>,
        chores: Option<mpsc::Sender<Chore>>,
    ) -> Result<(Self, Writer, Arc<Spares>), WalError> {
        options.check()?;
        disk.create_dir(dir).map_err(|e| WalError::io("create directory", dir, e))?;
        let lock = lock(&*disk, dir)?;
        let recovery = recover::recover(&*disk, dir, &options)?;
        let recovered = recovery.recovered();
        let Recovery { tail, replay, .. } = recovery;
        let spares =
            Spares::open(disk, dir, options.segment_bytes, options.spare_segments, options.fsync).map_err(startup)?;
        let spares = Arc::new(spares);
        let files: BTreeMap<u32, Arc<dyn File>> =
            tail.segments.iter().map(|segment| (segment.number as u32, Arc::clone(&segment.file))).collect();
        let inline = chores.is_none();
        let shared = Arc::new(Shared::new(options, replay.index, files, recovered.meta.is_some(), inline));
        let mut writer = Writer::new(Arc::clone(&shared), dir, Arc::clone(&spares), tail, chores);
        let empty = shared.state().files.is_empty();
        if empty {
            writer.roll().map_err(startup)?;
        }
        let wal =
            Self { dir: dir.to_owned(), shared, inline: None, threads: Mutex::new(Vec::new()), recovered, _lock: lock };
        Ok((wal, writer, spares))
    }

    /// What `open` found.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Saves the identity this log belongs to: the first record of a log, at most 2 KiB. A later one replaces it.
    ///
    /// # Errors
    /// [`WalError::TooLarge`], [`WalError::Failed`], [`WalError::Closed`].
    pub fn save_meta(&self, meta: Bytes, done: Done) -> Result<(), WalError> {
        check_blob(&meta)?;
        let mut state = self.shared.open_state()?;
        state.has_meta = true;
        self.shared.enqueue(state, [Op { record: Some(Record::Meta(meta)), ticket: 0, done: Some(done) }], true);
        Ok(())
    }

    /// Saves a vote, at most 2 KiB, after everything queued before it. Never waits for company.
    ///
    /// # Errors
    /// [`WalError::NoIdentity`], [`WalError::TooLarge`], [`WalError::Failed`], [`WalError::Closed`].
    pub fn save_vote(&self, vote: Bytes, done: Done) -> Result<(), WalError> {
        check_blob(&vote)?;
        self.queue(Record::Vote(vote), Some(done), true)
    }

    /// Notes how far the log is committed, at most 2 KiB. Costs no sync of its own: it rides the next one, and may be
    /// lost with a crash before that.
    ///
    /// # Errors
    /// [`WalError::NoIdentity`], [`WalError::TooLarge`], [`WalError::Failed`], [`WalError::Closed`].
    pub fn save_committed(&self, committed: Bytes) -> Result<(), WalError> {
        check_blob(&committed)?;
        self.queue(Record::Committed(committed), None, false)
    }

    /// Appends entries, readable when this returns, durable when `done` hears so. The first must follow the last entry;
    /// in a log that never had one it has index 0 or 1. All or none are taken. Blocks while `Options::queue_bytes` are
    /// queued (inline: refuses).
    ///
    /// # Errors
    /// [`WalError::Gap`], [`WalError::TooLarge`], [`WalError::NoIdentity`], [`WalError::QueueFull`],
    /// [`WalError::Failed`], [`WalError::Closed`]. `done` is dropped uncalled then.
    pub fn append(&self, entries: impl IntoIterator<Item = Entry>, done: Done) -> Result<(), WalError> {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let limit = self.shared.options.max_entry_bytes();
        let mut bytes = 0;
        for (i, entry) in entries.iter().enumerate() {
            if entry.data.len() > limit {
                return Err(WalError::TooLarge { bytes: entry.data.len(), limit });
            }
            let expected = entries[0].index + i as u64;
            if entry.index != expected {
                return Err(WalError::Gap { expected, found: entry.index });
            }
            bytes += shared::entry_cost(entry.data.len());
        }
        let mut state = self.shared.open_state()?;
        if !state.has_meta {
            return Err(WalError::NoIdentity);
        }
        self.shared.wait_for_room(&mut state, bytes)?;
        if let Some(first) = entries.first() {
            state.index.follows(first.index)?;
        }
        let mut ops: Vec<Op> = Vec::with_capacity(entries.len());
        for entry in entries {
            let ticket = state.index.push(&entry);
            ops.push(Op { record: Some(Record::Entry(entry)), ticket, done: None });
        }
        match ops.last_mut() {
            Some(last) => last.done = Some(done),
            None => ops.push(Op { record: None, ticket: 0, done: Some(done) }),
        }
        self.shared.enqueue(state, ops, false);
        Ok(())
    }

    /// Removes the entries above `keep`, all with `None`. They are gone for readers when this returns.
    ///
    /// # Errors
    /// [`WalError::Purged`] if `keep` lies below what was purged; [`WalError::NoIdentity`], [`WalError::Failed`],
    /// [`WalError::Closed`].
    pub fn truncate_after(&self, keep: Option<u64>, done: Done) -> Result<(), WalError> {
        let mut state = self.shared.open_state()?;
        if let Some(purged) = state.index.purged()
            && keep.is_none_or(|keep| keep < purged.index)
        {
            return Err(WalError::Purged { index: keep.unwrap_or(0), first: purged.index + 1 });
        }
        if !state.has_meta {
            return Err(WalError::NoIdentity);
        }
        let last = state.index.last();
        let something = last.is_some_and(|last| keep.is_none_or(|keep| keep < last.index));
        state.index.truncate(keep);
        let record = something.then_some(Record::Truncate(keep));
        self.shared.enqueue(state, [Op { record, ticket: 0, done: Some(done) }], true);
        Ok(())
    }

    /// Removes the entries up to and with `up_to`, which may lie above the last entry (a snapshot was installed): the
    /// next index is then the one after it. Gone for readers when this returns; their segments are used again once the
    /// record is synced. At or below what was purged before, it is only a wait.
    ///
    /// # Errors
    /// [`WalError::NoIdentity`], [`WalError::Failed`], [`WalError::Closed`].
    pub fn purge(&self, up_to: LogPos, done: Done) -> Result<(), WalError> {
        let mut state = self.shared.open_state()?;
        if !state.has_meta {
            return Err(WalError::NoIdentity);
        }
        let something = state.index.purged().is_none_or(|purged| purged.index < up_to.index);
        state.index.purge(up_to);
        let record = something.then_some(Record::Purge(up_to));
        self.shared.enqueue(state, [Op { record, ticket: 0, done: Some(done) }], false);
        Ok(())
    }

    /// Waits for everything queued so far, a lazily saved committed position included.
    ///
    /// # Errors
    /// [`WalError::Failed`], [`WalError::Closed`].
    pub fn sync(&self, done: Done) -> Result<(), WalError> {
        let state = self.shared.open_state()?;
        self.shared.enqueue(state, [Op { record: None, ticket: 0, done: Some(done) }], true);
        Ok(())
    }

    /// The entries of `range`, as many as `max_bytes` of payload hold but always one; fewer where the log ends.
    /// Blocks for disk reads of what is not in memory.
    ///
    /// # Errors
    /// [`WalError::Purged`] if the range begins below the first entry; [`WalError::Corrupt`] or [`WalError::Io`] for
    /// what does not read back, which is not final by itself; [`WalError::Failed`].
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        reader::Reader::new(&self.shared, &self.dir).read(range, max_bytes)
    }

    /// The term of an entry that is here, or of the last purged one.
    pub fn term(&self, index: u64) -> Option<u64> {
        self.shared.state().index.term(index)
    }

    /// The index of the first entry that is here.
    pub fn first_index(&self) -> Option<u64> {
        self.shared.state().index.first()
    }

    /// The last entry, durable or not; with none left, the last purged one.
    pub fn last(&self) -> Option<LogPos> {
        self.shared.state().index.last()
    }

    /// The last entry purged.
    pub fn purged(&self) -> Option<LogPos> {
        self.shared.state().index.purged()
    }

    /// The failure that ended the log, if one did.
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.shared.state().failed.clone()
    }

    /// Figures for metrics.
    pub fn stats(&self) -> Stats {
        let state = self.shared.state();
        Stats {
            queued_bytes: state.queued_bytes,
            cached_bytes: state.index.cached_bytes(),
            segments: state.files.len(),
        }
    }

    /// Inline mode: writes and syncs one group of what is queued and runs its callbacks. `false` if nothing wanted it.
    ///
    /// # Errors
    /// [`WalError::Failed`], after which every callback has heard it.
    ///
    /// # Panics
    /// On a log opened with `open`, which has a thread for this.
    pub fn step(&self) -> Result<bool, WalError> {
        let writer = self.inline.as_ref().expect("step is for logs opened inline");
        if self.shared.open_state()?.eager == 0 {
            return Ok(false);
        }
        writer.lock().step()
    }

    /// Refuses new calls, writes what is queued and stops the writer. Inline, what is queued is dropped unwritten and
    /// its callbacks with it. Calling it again does nothing.
    pub fn close(&self) {
        self.shared.close();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }

    fn queue(&self, record: Record, done: Option<Done>, urgent: bool) -> Result<(), WalError> {
        let state = self.shared.open_state()?;
        if !state.has_meta {
            return Err(WalError::NoIdentity);
        }
        self.shared.enqueue(state, [Op { record: Some(record), ticket: 0, done }], urgent);
        Ok(())
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

fn check_blob(blob: &Bytes) -> Result<(), WalError> {
    let limit = record::MAX_BLOB;
    if blob.len() > limit {
        return Err(WalError::TooLarge { bytes: blob.len(), limit });
    }
    Ok(())
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Send + Sync>, WalError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => WalError::Locked { dir: dir.to_owned() },
        _ => WalError::io("lock", &path, e),
    })
}

fn startup(failure: Failure) -> WalError {
    WalError::io(failure.what, &failure.path, failure.source)
}

fn run(shared: &Shared, mut writer: Writer) {
    let guard = PanicGuard(shared);
    while shared.wait_for_work() && writer.step().is_ok() {}
    drop(guard);
}

fn run_chores(shared: &Shared, spares: &Spares, chores: &Receiver<Chore>) {
    step_back();
    while let Ok(chore) = chores.recv() {
        if writer::do_chore(shared, spares, chore).is_err() {
            break;
        }
    }
}

/// Chores have seconds of time, the groups of the writer none: where both want the same core, most of it is the writer's.
/// A kernel that refuses this changes nothing else.
fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
}

/// Ends the log if its thread panics, so that nobody waits for an answer that never comes.
struct PanicGuard<'a>(&'a Shared);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = std::io::Error::other("the log's thread panicked");
            self.0.fail(Failure::new("write", Path::new("the log"), error), &mut Vec::new());
        }
    }
}
