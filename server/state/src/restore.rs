//! The state from what is stored: the rows of the small tables, then every record in revision order.

use crate::{
    head::Head,
    state::State,
    tables::{BadRow, Row},
    types::{LeaseId, Record, Revision},
};

/// What is stored is not what a member could have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Row(#[from] BadRow),
    #[error("record {at:?} comes after record {after:?}")]
    Order { at: Revision, after: Revision },
    #[error("record {at:?} is impossible: {why}")]
    Record { at: Revision, why: &'static str },
    #[error("record {at:?} is newer than the stored revision {revision}")]
    Ahead { at: Revision, revision: i64 },
}

/// A state being put together. See the module's head.
#[derive(Debug)]
pub struct Restore {
    state: State,
    /// The stored revision; an imported store has none.
    revision: Option<i64>,
    last: Revision,
}

impl Restore {
    /// Starts from the rows, in any order; rows of others are passed over.
    ///
    /// # Errors
    /// [`RestoreError::Row`].
    pub fn new<K, V>(tables: impl IntoIterator<Item = (K, V)>) -> Result<Self, RestoreError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut restore = Self { state: State::new(), revision: None, last: Revision::new(0, -1) };
        for (key, value) in tables {
            if let Some(row) = Row::read(key.as_ref(), value.as_ref())? {
                restore.row(row);
            }
        }
        Ok(restore)
    }

    fn row(&mut self, row: Row) {
        match self.state.members.restore(row) {
            Some(Row::Revision(revision)) => self.revision = Some(revision),
            Some(Row::Floor(floor)) => self.state.kv.floor = floor,
            Some(Row::Done(done)) => self.state.kv.done = done,
            Some(Row::Lease(lease)) => self.state.leases.restore(&lease),
            Some(Row::Alarm(alarm)) => drop(self.state.alarms.raise(&alarm)),
            _ => {}
        }
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// [`RestoreError::Order`] unless revisions rise; [`RestoreError::Record`].
    pub fn record(&mut self, record: &Record) -> Result<(), RestoreError> {
        let at = record.at;
        if at <= self.last {
            return Err(RestoreError::Order { at, after: self.last });
        }
        self.last = at;
        let parts = record.kv.parts();
        if parts.key.is_empty() {
            return Err(RestoreError::Record { at, why: "it has no key" });
        }
        let index = &mut self.state.kv.index;
        let old = if record.tombstone {
            index.restore_tombstone(parts.key, at)
        } else {
            if parts.mod_revision != at.main {
                return Err(RestoreError::Record { at, why: "it says another revision" });
            }
            if parts.version < 1 || !(1..=at.main).contains(&parts.create_revision) {
                return Err(RestoreError::Record { at, why: "its version or create revision" });
            }
            let head = Head::new(parts.create_revision, at, parts.version, parts.lease != 0);
            index.restore_put(parts.key, head)
        };
        if !record.tombstone && parts.lease != 0 {
            self.state.leases.attach(parts.key, LeaseId(parts.lease));
        } else if old.is_some_and(Head::leased) {
            self.state.leases.detach(parts.key);
        }
        Ok(())
    }

    /// The state, as it was when the last of this was written. A compaction that was not finished starts over.
    ///
    /// # Errors
    /// [`RestoreError::Ahead`].
    pub fn finish(mut self) -> Result<State, RestoreError> {
        let kv = &mut self.state.kv;
        let stored = self.revision.unwrap_or(1).max(self.last.main);
        if let Some(revision) = self.revision
            && revision < self.last.main
        {
            return Err(RestoreError::Ahead { at: self.last, revision });
        }
        // A compaction can take the newest record, if that is a tombstone below its floor.
        kv.revision = stored.max(kv.floor);
        if kv.done < kv.floor {
            kv.index.start_compaction(kv.floor);
        }
        Ok(self.state)
    }
}
