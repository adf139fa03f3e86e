//! What can go wrong with state on disk. Every error names the place and what happened to it.

use std::path::PathBuf;

use keepstone_state::Revision;

/// An error of the store. Whoever gets one stops using the store: the directory is set aside and rebuilt from the log,
/// a snapshot or a peer. None of these ever becomes an answer to a client.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory can't be opened as a store.
    #[error("opening the store {}: {why}", path.display())]
    Open { path: PathBuf, why: String },
    /// Reading, writing or flushing failed.
    #[error("store {}: {doing}: {why}", path.display())]
    Io { path: PathBuf, doing: &'static str, why: String },
    /// The store was written in a format that this program does not know.
    #[error("store {}: format {found}, this program reads format {known}", path.display())]
    Format { path: PathBuf, found: u32, known: u32 },
    /// The store answered, but what it holds can't be right.
    #[error("store {} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    /// A chunk of records fails its check.
    #[error("store {} is damaged: the chunk from {}/{}: {why}", path.display(), first.main, first.sub)]
    DamagedChunk { path: PathBuf, first: Revision, why: String },
}
