//! A store that is being received: filled as pieces come, checked when they are all there.
//!
//! How far it has got is in every batch that it writes, so that an interrupted transfer goes on where the last batch
//! ended, in this process or the next. Memory: [`DIRTY_BYTES`] and one piece; while it is checked the new index, as large
//! as the one in use.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use keepstone_failpoint::points;
use keepstone_state::{Restore, RestoreError, Revision, State};
use keepstone_store::{Options, RecordStore, StoreError};

use super::blocking;
use super::content::{self, Cursor, Tally, Total};
use super::home::{Home, HomeError, Place};
use super::wire::{self, Header, Id};
use crate::raft::codec::{self, Applied};

/// Bytes received past which they are written to the store.
const DIRTY_BYTES: usize = 8 << 20;
/// Bytes written past which they are flushed: what a crash has to receive again.
const FLUSH_BYTES: usize = 64 << 20;
/// The cache of a store that nobody reads yet.
const CACHE_BYTES: u64 = 1 << 20;

/// Why what was received can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a snapshot's piece can't be used: {0}")]
    Content(&'static str),
    #[error("what was received is not what was sent: {found:?} instead of {sent:?}")]
    Total { sent: Total, found: Total },
    #[error("a snapshot is not what its header says: {0}")]
    Header(String),
    #[error("a snapshot is damaged: {0}")]
    State(#[from] RestoreError),
}

/// A store being received.
pub struct Staging {
    home: Arc<dyn Home>,
    number: u64,
    records: Arc<RecordStore>,
    id: Id,
    cursor: Cursor,
    unflushed: usize,
}

impl Staging {
    /// Begins to receive the snapshot `id` anew. `like` gives the bounds of the store.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn begin(home: &Arc<dyn Home>, like: &Options, id: Id) -> Result<Self, StagingError> {
        let place = home.begin()?;
        let number = place.number;
        let records = open(place, like)?.0;
        Ok(Self { home: home.clone(), number, records, id, cursor: Cursor::START, unflushed: 0 })
    }

    /// What an interrupted transfer has left, if anything.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn resume(home: &Arc<dyn Home>, like: &Options) -> Result<Option<Self>, StagingError> {
        let Some(place) = home.resume()? else { return Ok(None) };
        let number = place.number;
        let (records, mark) = open(place, like)?;
        let Some((id, cursor)) = mark.as_deref().and_then(wire::read_progress_mark) else { return Ok(None) };
        Ok(Some(Self { home: home.clone(), number, records, id, cursor, unflushed: 0 }))
    }

    pub fn id(&self) -> Id {
        self.id
    }

    /// Everything up to here has been received.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Takes in the elements that follow.
    ///
    /// # Errors
    /// When they are not such, or can't be written.
    pub fn add(&mut self, elements: Bytes) -> Result<(), StagingError> {
        let (found, end) = content::parse(elements, self.cursor).map_err(StagingError::Content)?;
        self.cursor = end;
        self.records.append(found.records, found.rows, wire::progress_mark(&self.id, &end));
        if self.records.dirty_bytes() > DIRTY_BYTES {
            self.unflushed += self.records.dirty_bytes();
            self.records.checkpoint()?;
        }
        if self.unflushed > FLUSH_BYTES {
            self.unflushed = 0;
            self.records.flush()?;
        }
        Ok(())
    }

    /// Makes durable what was received up to now.
    ///
    /// # Errors
    /// The store's.
    pub fn save(&mut self) -> Result<(), StagingError> {
        self.unflushed = 0;
        self.records.checkpoint()?;
        self.records.flush()?;
        Ok(())
    }

    /// Throws away what was received.
    pub fn discard(self) {
        let Self { home, number, records, .. } = self;
        drop(records);
        home.discard(number);
    }

    /// All pieces are here: makes them durable, reads everything back and compares it with what was sent.
    ///
    /// # Errors
    /// When it is not the same, or not what `header` says. It is thrown away then.
    pub fn complete(mut self, header: &Header, sent: &Total) -> Result<Staged, StagingError> {
        points::RAFT_BEFORE_SAVE_SNAP.hit();
        match self.check(header, sent) {
            Ok(state) => {
                points::RAFT_AFTER_SAVE_SNAP.hit();
                let Self { home, number, records, .. } = self;
                let parts = Parts { state, records: Arc::into_inner(records).expect("nobody else has it") };
                Ok(Staged { home, number, applied: header.applied.clone(), parts: Some(parts) })
            }
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    fn check(&mut self, header: &Header, sent: &Total) -> Result<State, StagingError> {
        self.save()?;
        let (state, found) = read_back(&self.records)?;
        if found != *sent {
            return Err(StagingError::Total { sent: *sent, found });
        }
        if (state.revision(), state.compact_revision()) != (header.revision, header.floor) {
            let (revision, floor) = (state.revision(), state.compact_revision());
            return Err(StagingError::Header(format!("it is at revision {revision}, compacted at {floor}")));
        }
        // From here on it is a store like any other.
        self.records.append(Vec::new(), Vec::new(), codec::encode_applied(&header.applied));
        self.records.checkpoint()?;
        self.records.flush()?;
        Ok(state)
    }
}

fn open(place: Place, like: &Options) -> Result<(Arc<RecordStore>, Option<Bytes>), StoreError> {
    let options = Options { cache_bytes: CACHE_BYTES.min(like.cache_bytes), ..like.clone() };
    let (records, opened) = RecordStore::open(place.store, options)?;
    Ok((records, opened.applied))
}

fn read_back(records: &RecordStore) -> Result<(State, Total), StagingError> {
    let mut tally = Tally::default();
    let mut element = Vec::new();
    let rows = records.tables();
    for (key, value) in &rows {
        element.clear();
        content::put_row(&mut element, key, value);
        tally.add(&element, 1, 0);
    }
    let mut restore = Restore::new(rows.iter().map(|(key, value)| (key, value)))?;
    let mut refused = None;
    records.scan(Revision::default(), Revision::new(i64::MAX, i64::MAX), &mut |record| {
        element.clear();
        content::put_record(&mut element, record);
        tally.add(&element, 0, 1);
        match restore.record(record) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                refused = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match refused {
        Some(error) => Err(error.into()),
        None => Ok((restore.finish()?, tally.total())),
    }
}

/// What takes the place of the member's state and records.
pub struct Parts {
    pub state: State,
    pub records: RecordStore,
}

/// A store that was received whole and checked. Dropped without being installed, it is thrown away.
pub struct Staged {
    pub home: Arc<dyn Home>,
    pub number: u64,
    pub applied: Applied,
    parts: Option<Parts>,
}

impl Staged {
    /// Takes out what is to be installed; from now on the place is in use.
    pub fn take(&mut self) -> Option<Parts> {
        self.parts.take()
    }

    pub fn state(&self) -> Option<&State> {
        self.parts.as_ref().map(|parts| &parts.state)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            let (home, number) = (self.home.clone(), self.number);
            blocking::detach(move || {
                drop(parts);
                home.discard(number);
            });
        }
    }
}
