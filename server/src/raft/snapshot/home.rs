//! Where a member's store lives, and how one that was received takes its place.

use std::sync::Arc;

use keepstone_store::{Store, StoreError};

use crate::raft::types::LogId;

/// Why a place for a store can't be made, taken or given up.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("snapshot: {doing} {path}: {source}")]
    Place { doing: &'static str, path: String, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{path} is damaged, so whether the state beside it is this member's is not known. Remove the member and add it again with an empty data directory"
    )]
    DamagedMark { path: String },
    #[error("snapshot: the log: {0}")]
    Log(#[from] keepstone_wal::WalError),
}

/// A place beside the member's store, and the store in it.
pub struct Place {
    pub number: u64,
    pub store: Arc<dyn Store>,
}

/// The places of one member. What a crash leaves is either the store before or the one after [`Home::commit`], each
/// whole; everything else goes at the next start, but for the newest place that is not complete, which may be gone on
/// with.
///
/// All of it blocks.
pub trait Home: Send + Sync + 'static {
    /// A new and empty place. Those of interrupted transfers are gone.
    ///
    /// # Errors
    /// When it can't be made durable.
    fn begin(&self) -> Result<Place, HomeError>;

    /// Gives up the places of interrupted transfers.
    ///
    /// # Errors
    /// When one can't be removed.
    fn clear(&self) -> Result<(), HomeError>;

    /// The place that an interrupted transfer has left.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    fn resume(&self) -> Result<Option<Place>, HomeError>;

    /// From now on this place is the member's store, whatever happens: `last` is the last entry in it. Everything in it
    /// is on the disk.
    ///
    /// # Errors
    /// When that may not be durable: the member has to stop, and its next start decides.
    fn commit(&self, number: u64, last: &LogId) -> Result<(), HomeError>;

    /// Has the log follow the store that was committed: it begins after `last`.
    ///
    /// # Errors
    /// When that may not be durable. The next start does it again.
    fn follow(&self, number: u64, last: &LogId) -> Result<(), HomeError>;

    /// Gives up a place whose store is closed. What can't be removed is removed by the next start.
    fn discard(&self, number: u64);

    /// Gives up the place of the store before the one that was committed. It is closed.
    fn retire(&self);
}
