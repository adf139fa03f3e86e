//! One moment of the state, to be sent: the small tables are copied, the history is pinned, and the records are read
//! piece by piece as they are asked for.
//!
//! Memory: the rows of the small tables, one piece under way, and about 150 bytes for each piece that was sent.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use keepstone_state::{Record, Revision, Row};
use keepstone_store::StoreError;
use parking_lot::Mutex;

use super::content::{self, Cursor, Tally, Total};
use super::wire::{self, Id};
use crate::core::Core;
use crate::pins::Pin;
use crate::raft::codec::Applied;
use crate::raft::types::LogId;

/// Why a cut can't be sent on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CutError {
    #[error("the state that it is of was replaced by a snapshot")]
    Replaced,
    #[error("it has held back the log or compaction for too long")]
    Expired,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module's head. Compactions after it are held back while it lives.
pub struct Cut {
    last: LogId,
    applied: Applied,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    revision: i64,
    floor: i64,
    epoch: u64,
    expired: AtomicBool,
    /// What was sent comes to, at each piece's end.
    tallies: Mutex<BTreeMap<Cursor, Tally>>,
    _pin: Pin,
}

/// What follows a cursor.
pub enum Next {
    Elements { encoded: Vec<u8>, end: Cursor },
    End(Total),
}

impl Cut {
    /// Takes the moment; none before the first entry was applied. Holds the state's lock while the rows are copied.
    pub fn take(core: &Core) -> Option<Self> {
        let own = Row::Done(0).write().key;
        let state = core.state.read();
        let applied = core.applied();
        let mut rows = core.records.tables();
        // How far this member has got with a compaction is its own affair.
        rows.retain(|(key, _)| *key != own);
        let floor = state.compact_revision();
        Some(Self {
            last: applied.log_id?,
            applied,
            rows,
            revision: state.revision(),
            floor,
            epoch: core.epoch(),
            expired: AtomicBool::new(false),
            tallies: Mutex::new(BTreeMap::from([(Cursor::START, Tally::default())])),
            // At the floor, not at the revision: all history goes along, and a later compaction may go up to and with
            // the current revision.
            _pin: core.pins.pin(floor),
        })
    }

    /// The last entry in it.
    pub fn last(&self) -> LogId {
        self.last
    }

    pub fn id(&self) -> Id {
        wire::id_of(&self.last)
    }

    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn floor(&self) -> i64 {
        self.floor
    }

    /// Nobody sends it on from now.
    pub fn expire(&self) {
        self.expired.store(true, Ordering::Relaxed);
    }

    /// Whether a piece that was sent ended at `cursor`.
    pub fn knows(&self, cursor: Cursor) -> bool {
        self.tallies.lock().contains_key(&cursor)
    }

    /// Reads what follows `from`, which [`Cut::knows`]: about [`wire::UNIT_BYTES`]. Blocks.
    ///
    /// # Errors
    /// When the moment can no longer be read.
    pub fn next(&self, core: &Core, from: Cursor) -> Result<Next, CutError> {
        if self.expired.load(Ordering::Relaxed) {
            return Err(CutError::Expired);
        }
        let mut tally = self.tallies.lock().get(&from).cloned().unwrap_or_default();
        let mut end = from;
        let mut encoded = Vec::with_capacity(wire::UNIT_BYTES);
        let (rows, records) =
            (self.read_rows(&mut end, &mut encoded), self.read_records(core, &mut end, &mut encoded)?);
        // Looked at last: what was read while it was unchanged is of this moment.
        if core.epoch() != self.epoch {
            return Err(CutError::Replaced);
        }
        if rows + records == 0 {
            return Ok(Next::End(tally.total()));
        }
        tally.add(&encoded, rows, records);
        self.tallies.lock().insert(end, tally);
        Ok(Next::Elements { encoded, end })
    }

    fn read_rows(&self, end: &mut Cursor, encoded: &mut Vec<u8>) -> u64 {
        let before = end.rows;
        for (key, value) in self.rows.iter().skip(usize::try_from(before).unwrap_or(usize::MAX)) {
            if !fits(encoded, key.len() + value.len()) {
                break;
            }
            content::put_row(encoded, key, value);
            end.rows += 1;
        }
        end.rows - before
    }

    /// The records of this moment. What a running compaction has or has not yet dropped makes no difference.
    fn read_records(&self, core: &Core, end: &mut Cursor, encoded: &mut Vec<u8>) -> Result<u64, CutError> {
        if end.rows < self.rows.len() as u64 {
            return Ok(0);
        }
        let mut records = 0;
        let until = Revision::new(self.revision, i64::MAX);
        core.records.scan(end.next_record(), until, &mut |record| {
            if !self.holds(core, record) {
                return ControlFlow::Continue(());
            }
            if !fits(encoded, record.kv.raw().len()) {
                return ControlFlow::Break(());
            }
            content::put_record(encoded, record);
            end.at = record.at;
            records += 1;
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    fn holds(&self, core: &Core, record: &Record) -> bool {
        let live = || core.state.read().keeps(record.kv.key(), record.at, self.floor);
        record.at.main >= self.floor || (!record.tombstone && live())
    }
}

/// Whether a unit takes another element: one always, more up to its bound.
fn fits(encoded: &[u8], bytes: usize) -> bool {
    encoded.is_empty() || encoded.len() + bytes + 32 <= wire::UNIT_BYTES
}
