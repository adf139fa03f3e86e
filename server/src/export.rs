//! A point-in-time copy of the state as etcd's own database file: what Maintenance.Snapshot streams.
//!
//! Made in two passes over the same pinned history, the first of which only measures, so that neither a temporary file
//! nor memory for the whole is needed.

use std::io::{self, Write};
use std::ops::ControlFlow;

use keepstone_snapshot::etcd;
use keepstone_state::{Record, Revision};

use crate::core::Core;
use crate::pins::Pin;
use crate::version;

/// Why a snapshot broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Write(#[from] etcd::WriteError),
    #[error(transparent)]
    Store(#[from] keepstone_store::StoreError),
    #[error("the state was replaced by the leader's while it was being copied: try again")]
    Replaced,
}

/// One moment of the state. Compactions after it are held back while it lives.
pub struct Copy {
    tables: etcd::Tables,
    leases: Vec<etcd::Lease>,
    revision: i64,
    floor: i64,
    epoch: u64,
    _pin: Pin,
}

impl Copy {
    /// Takes the small tables and pins the history.
    pub fn take(core: &Core) -> Self {
        let state = core.state.read();
        let floor = state.compact_revision();
        let members = state.members();
        let member = |m: &keepstone_proto::keepstonepb::Member| etcd::Member {
            id: m.id,
            peer_urls: m.peer_urls.clone(),
            is_learner: m.is_learner,
            name: m.name.clone(),
            client_urls: m.client_urls.clone(),
        };
        let ids = |learner: bool| members.iter().filter(|m| m.is_learner == learner).map(|m| m.id).collect();
        let alarm =
            |a: keepstone_proto::etcdserverpb::AlarmMember| etcd::Alarm { member_id: a.member_id, kind: a.alarm };
        let tables = etcd::Tables {
            alarms: state.alarms().list(0).into_iter().map(alarm).collect(),
            auth: etcd::AuthTable { enabled: None, revision: 1, users: Vec::new(), roles: Vec::new() },
            cluster_version: members.version().map(str::to_owned),
            downgrade: None,
            members: members.iter().map(member).collect(),
            removed_members: Vec::new(),
            meta: etcd::MetaTable {
                conf_state: Some(etcd::ConfState { voters: ids(false), learners: ids(true), ..Default::default() }),
                consistent_index: core.applied_index(),
                term: core.term(),
                finished_compact: floor,
                scheduled_compact: floor,
                storage_version: Some(version::ETCD_STORAGE.to_owned()),
            },
        };
        let lease = |(id, lease): (keepstone_state::LeaseId, &keepstone_state::Lease)| etcd::Lease {
            id: id.0,
            ttl: lease.ttl,
            remaining_ttl: lease.remaining_ttl,
        };
        let mut leases: Vec<etcd::Lease> = state.leases().iter().map(lease).collect();
        leases.sort_by_key(|lease| lease.id.cast_unsigned());
        // Pinned at the floor, not at the revision: the copy has all history, and a later compaction may go up to and
        // with the current revision.
        let pin = core.pins.pin(floor);
        Self { tables, leases, revision: state.revision(), floor, epoch: core.epoch(), _pin: pin }
    }

    /// The revision of that moment.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The size of the file in bytes, and what writing it takes.
    ///
    /// # Errors
    /// The store's.
    pub fn measure(&self, core: &Core) -> Result<keepstone_snapshot::bolt::Layout, ExportError> {
        let mut file = etcd::EtcdFile::measure(&self.tables)?;
        self.fill(core, |at, record| file.record(at, record.tombstone, record.kv.raw()))?;
        self.leases.iter().try_for_each(|lease| file.lease(lease))?;
        Ok(file.finish_layout()?)
    }

    /// Writes the file that was measured.
    ///
    /// # Errors
    /// The store's and the writer's.
    pub fn write<W: Write>(
        &self,
        core: &Core,
        layout: keepstone_snapshot::bolt::Layout,
        out: W,
    ) -> Result<W, ExportError> {
        let mut file = etcd::EtcdFile::with_layout(out, layout, &self.tables)?;
        self.fill(core, |at, record| file.record(at, record.tombstone, record.kv.raw()))?;
        self.leases.iter().try_for_each(|lease| file.lease(lease))?;
        Ok(file.finish_with(layout)?)
    }

    /// The records of this moment. What a running compaction has or has not yet dropped makes no difference.
    fn fill(
        &self,
        core: &Core,
        mut add: impl FnMut(etcd::Revision, &Record) -> Result<(), etcd::WriteError>,
    ) -> Result<(), ExportError> {
        let mut failed = None;
        let (from, until) = (Revision::default(), Revision::new(self.revision, i64::MAX));
        core.records.scan(from, until, &mut |record| {
            let at = record.at;
            let kept =
                at.main >= self.floor || !record.tombstone && core.state.read().keeps(record.kv.key(), at, self.floor);
            if kept && let Err(error) = add(etcd::Revision { main: at.main, sub: at.sub }, record) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        // What was read while this was unchanged is of this moment.
        if core.epoch() != self.epoch {
            return Err(ExportError::Replaced);
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Cuts what is written into pieces of a fixed size and hands each on.
pub struct Pieces<F> {
    size: usize,
    piece: Vec<u8>,
    hand_on: F,
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Pieces<F> {
    pub fn new(size: usize, hand_on: F) -> Self {
        Self { size, piece: Vec::with_capacity(size), hand_on }
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// The receiver's.
    pub fn finish(mut self) -> io::Result<F> {
        if !self.piece.is_empty() {
            (self.hand_on)(std::mem::take(&mut self.piece))?;
        }
        Ok(self.hand_on)
    }
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Write for Pieces<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.size - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == self.size {
            let full = std::mem::replace(&mut self.piece, Vec::with_capacity(self.size));
            (self.hand_on)(full)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
