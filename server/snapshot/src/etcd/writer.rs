//! Writes an etcd database front to back.
//!
//! Order: [`EtcdFile::new`] (or `measure` / `with_layout`) with the small tables, `record` for every
//! record, `lease` for every lease, then a `finish`. Records and leases stream; the tables are held.

use std::io::{Seek, Sink, Write};

use prost::Message;

use super::codec::{encode_member, encode_revision};
use super::error::WriteError;
use super::names;
use super::tables::{Lease, Revision, Tables};
use crate::bolt::{Layout, Writer};

/// An etcd database being written.
pub struct EtcdFile<'t, W> {
    out: Writer<W>,
    tables: &'t Tables,
    last: Option<Revision>,
    leases_begun: bool,
}

impl<'t> EtcdFile<'t, Sink> {
    /// First of two passes, for a destination that cannot seek; see [`Writer::measure`].
    pub fn measure(tables: &'t Tables) -> Result<Self, WriteError> {
        Self::start(Writer::measure(), tables)
    }

    pub fn finish_layout(mut self) -> Result<Layout, WriteError> {
        self.close()?;
        Ok(self.out.finish_layout()?)
    }
}

impl<'t, W: Write + Seek> EtcdFile<'t, W> {
    /// Starts a file at offset 0 of `out`.
    pub fn new(out: W, tables: &'t Tables) -> Result<Self, WriteError> {
        Self::start(Writer::new(out)?, tables)
    }

    /// Completes the file; `out` comes back flushed, not synced, and without a trailer.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.close()?;
        Ok(self.out.finish()?)
    }
}

impl<'t, W: Write> EtcdFile<'t, W> {
    /// Second of two passes: the same tables, records and leases again.
    pub fn with_layout(out: W, layout: Layout, tables: &'t Tables) -> Result<Self, WriteError> {
        Self::start(Writer::with_layout(out, layout)?, tables)
    }

    pub fn finish_with(mut self, layout: Layout) -> Result<W, WriteError> {
        self.close()?;
        Ok(self.out.finish_with(layout)?)
    }

    /// Adds a record; revisions ascend strictly. `value` is canonical `mvccpb.KeyValue` bytes.
    pub fn record(&mut self, revision: Revision, tombstone: bool, value: &[u8]) -> Result<(), WriteError> {
        if revision.main < 0 || revision.sub < 0 {
            return Err(WriteError::NegativeRevision(revision));
        }
        // Not left to the key order: a record and a tombstone of one revision differ as keys.
        if let Some(last) = self.last.filter(|last| *last >= revision) {
            return Err(WriteError::RevisionOrder { last, next: revision });
        }
        self.last = Some(revision);
        let (key, len) = encode_revision(revision, tombstone);
        Ok(self.out.put(&key[..len], value)?)
    }

    /// Adds a lease, after all records. Ids ascend strictly, as unsigned numbers.
    pub fn lease(&mut self, lease: &Lease) -> Result<(), WriteError> {
        self.begin_leases()?;
        Ok(self.out.put(&lease.id.to_be_bytes(), &lease.encode_to_vec())?)
    }

    fn start(out: Writer<W>, tables: &'t Tables) -> Result<Self, WriteError> {
        let mut file = Self { out, tables, last: None, leases_begun: false };
        file.before_records()?;
        Ok(file)
    }

    fn before_records(&mut self) -> Result<(), WriteError> {
        let Tables { alarms, auth, .. } = self.tables;
        let alarms = alarms.iter().map(|alarm| (alarm.encode_to_vec(), Vec::new()));
        self.table(names::ALARM, alarms.collect())?;

        let mut rows: Rows = Vec::new();
        if let Some(enabled) = auth.enabled {
            rows.push(row(names::AUTH_ENABLED, [u8::from(enabled)]));
        }
        if auth.revision > 0 {
            rows.push(row(names::AUTH_REVISION, auth.revision.to_be_bytes()));
        }
        self.table(names::AUTH, rows)?;
        let copy = |(name, value): &(bytes::Bytes, bytes::Bytes)| (name.to_vec(), value.to_vec());
        self.table(names::AUTH_ROLES, auth.roles.iter().map(copy).collect())?;
        self.table(names::AUTH_USERS, auth.users.iter().map(copy).collect())?;

        let mut rows: Rows = Vec::new();
        if let Some(version) = &self.tables.cluster_version {
            rows.push(row(names::CLUSTER_VERSION, version.as_bytes()));
        }
        if let Some(downgrade) = &self.tables.downgrade {
            rows.push(row(names::DOWNGRADE, serde_json::to_vec(downgrade)?));
        }
        self.table(names::CLUSTER, rows)?;
        Ok(self.out.bucket(names::KEY)?)
    }

    fn begin_leases(&mut self) -> Result<(), WriteError> {
        if !self.leases_begun {
            self.out.bucket(names::LEASE)?;
            self.leases_begun = true;
        }
        Ok(())
    }

    /// What comes after the leases.
    fn close(&mut self) -> Result<(), WriteError> {
        self.begin_leases()?;
        let mut rows: Rows = Vec::new();
        for member in &self.tables.members {
            rows.push((encode_member(member.id).into_bytes(), serde_json::to_vec(member)?));
        }
        self.table(names::MEMBERS, rows)?;
        let removed = self.tables.removed_members.iter();
        let removed = removed.map(|id| (encode_member(*id).into_bytes(), b"removed".to_vec()));
        self.table(names::MEMBERS_REMOVED, removed.collect())?;

        let meta = &self.tables.meta;
        let mut rows: Rows = Vec::new();
        if let Some(conf_state) = &meta.conf_state {
            rows.push(row(names::CONF_STATE, serde_json::to_vec(conf_state)?));
        }
        if meta.consistent_index > 0 {
            let index = meta.consistent_index.to_be_bytes();
            rows.push(row(names::CONSISTENT_INDEX, index));
        }
        for (name, main) in
            [(names::FINISHED_COMPACT, meta.finished_compact), (names::SCHEDULED_COMPACT, meta.scheduled_compact)]
        {
            if main > 0 {
                let (key, len) = encode_revision(Revision { main, sub: 0 }, false);
                rows.push(row(name, &key[..len]));
            }
        }
        if let Some(version) = &meta.storage_version {
            rows.push(row(names::STORAGE_VERSION, version.as_bytes()));
        }
        if meta.term > 0 {
            rows.push(row(names::TERM, meta.term.to_be_bytes()));
        }
        self.table(names::META, rows)
    }

    /// Writes a small bucket, sorting its rows.
    fn table(&mut self, name: &'static str, mut rows: Rows) -> Result<(), WriteError> {
        rows.sort_unstable();
        if rows.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(WriteError::Duplicate(name));
        }
        self.out.bucket(name)?;
        for (key, value) in rows {
            self.out.put(&key, &value)?;
        }
        Ok(())
    }
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn row(key: &str, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (key.as_bytes().to_vec(), value.as_ref().to_vec())
}
