//! Everything the log can answer but yes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a call was refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// Another process, or another `Wal` of this one, has the directory.
    #[error("the log in {dir} is in use by another process: stop it first (the lock is on {dir}/lock)", dir = dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A file operation failed while opening or reading. Nothing was acknowledged because of it.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was being done, as a verb.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Bytes that were synced once no longer verify, or cannot be what this log wrote.
    #[error(
        "the log is damaged: {file} at byte {offset}: {detail}. Acknowledged writes may be in the damaged part, so this \
         member does not start. Remove it from its cluster and add it again with an empty data directory; where no \
         other member is left, restore from a backup. Keep the directory until then",
        file = file.display()
    )]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Byte offset of the first sector that is wrong.
        offset: u64,
        /// What is wrong there.
        detail: String,
    },
    /// Written by a program with another format version.
    #[error("{file} has log format version {found}; this program reads version {supported}", file = file.display())]
    Version {
        /// The segment.
        file: PathBuf,
        /// Its format version.
        found: u32,
        /// What this program reads and writes.
        supported: u32,
    },
    /// A write or sync failed before; nothing is accepted any more. Restarting the process is the only way on.
    #[error("the log stopped after a failure: {0}")]
    Failed(Arc<Failure>),
    /// `close` was called.
    #[error("the log is closed")]
    Closed,
    /// An entry that does not follow the last one.
    #[error("log index {found} does not follow: {expected} was expected")]
    Gap {
        /// The index the next entry must have.
        expected: u64,
        /// The index it had.
        found: u64,
    },
    /// A read or truncation below the first entry kept.
    #[error("log index {index} was purged: the first one kept is {first}")]
    Purged {
        /// The index asked for.
        index: u64,
        /// The first index still here.
        first: u64,
    },
    /// A record larger than a segment takes.
    #[error("a record of {bytes} bytes is larger than the log's limit of {limit}")]
    TooLarge {
        /// The record's payload, bytes.
        bytes: usize,
        /// The largest payload accepted, bytes.
        limit: usize,
    },
    /// Inline mode only: `Options::queue_bytes` are queued already; call `step`.
    #[error("the log's queue is full: {queued} bytes of {limit}")]
    QueueFull {
        /// Bytes queued now.
        queued: usize,
        /// `Options::queue_bytes`.
        limit: usize,
    },
    /// The first record of a log must be `save_meta`'s.
    #[error("the log has no identity yet: save_meta comes first")]
    NoIdentity,
    /// An option outside its bounds.
    #[error("invalid log option: {0}")]
    Option(String),
}

/// The first failed write or sync, kept for every later caller.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}", path = path.display())]
pub struct Failure {
    /// What was being done, as a verb.
    pub what: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl WalError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, detail: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, detail: detail.into() }
    }

    /// The same error for a callback, which speaks `io::Result`.
    pub(crate) fn to_io(&self) -> io::Error {
        let kind = match self {
            Self::Failed(failure) => failure.source.kind(),
            Self::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self.clone())
    }
}

impl Failure {
    pub(crate) fn new(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }
}
