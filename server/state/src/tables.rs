//! The rows of the small tables: what a checkpoint stores beside the records.
//!
//! | key | value |
//! |---|---|
//! | `state/revision` | the store revision, 8 bytes big-endian |
//! | `state/compact/floor` | the revision of the last Compact that was applied, 8 bytes big-endian, signed |
//! | `state/compact/done` | the revision whose compaction this member has finished, likewise |
//! | `state/lease/` + ID as 8 bytes big-endian | `leasepb.Lease` |
//! | `state/alarm/` + member ID as 8 bytes big-endian + type as 4 bytes big-endian | `etcdserverpb.AlarmMember` |
//! | `state/member/` + ID as 8 bytes big-endian | `keepstonepb.Member` |
//! | `state/removed/` + ID as 8 bytes big-endian | empty |
//! | `state/bound/` + ID as 8 bytes big-endian | the incarnation of the member's data directory |
//! | `state/permit` | the nonce of the permit the cluster was founded with, or a survivor went on alone with |
//! | `state/cluster` | `keepstonepb.ClusterInit` without members |
//! | `state/version` | the cluster version, as text |
//! | `state/downgrade` | the target version, as text; no row when no downgrade is under way |
//! | `state/auth/`… | kept for users, roles and whether they are asked for; none yet |
//!
//! A row that is not there has its default. Keys outside `state/` belong to others. Every row is the same on every
//! member, except `state/compact/done`.

use keepstone_proto::{
    etcdserverpb::AlarmMember,
    keepstonepb::{ClusterInit, Member},
    leasepb,
};
use prost::Message;

use crate::types::{Effects, LeaseId, MemberId, TableWrite};

const PREFIX: &[u8] = b"state/";
const REVISION: &[u8] = b"state/revision";
const FLOOR: &[u8] = b"state/compact/floor";
const DONE: &[u8] = b"state/compact/done";
const LEASE: &[u8] = b"state/lease/";
const ALARM: &[u8] = b"state/alarm/";
const MEMBER: &[u8] = b"state/member/";
const REMOVED: &[u8] = b"state/removed/";
const BOUND: &[u8] = b"state/bound/";
const PERMIT: &[u8] = b"state/permit";
const CLUSTER: &[u8] = b"state/cluster";
const VERSION: &[u8] = b"state/version";
const DOWNGRADE: &[u8] = b"state/downgrade";

/// How far back to look for the revision's row before another is written: a run of plain puts has just one.
const LOOK_BACK: usize = 4;

/// A row, decoded.
#[derive(Debug, PartialEq)]
pub enum Row {
    Revision(i64),
    Floor(i64),
    Done(i64),
    Lease(leasepb::Lease),
    Alarm(AlarmMember),
    Member(Member),
    Removed(MemberId),
    Bound(MemberId, Vec<u8>),
    Permit(Vec<u8>),
    Cluster(ClusterInit),
    Version(String),
    Downgrade(String),
}

/// A row under `state/` that this version can't read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table row {:?} can't be read: {why}", key.escape_ascii().to_string())]
pub struct BadRow {
    pub key: Vec<u8>,
    pub why: &'static str,
}

impl Row {
    /// Reads a stored row; `None` if it is not one of the state's.
    ///
    /// # Errors
    /// [`BadRow`] for a row of the state that is unknown or malformed.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Option<Self>, BadRow> {
        if !key.starts_with(PREFIX) {
            return Ok(None);
        }
        Self::parse(key, value).map(Some).map_err(|why| BadRow { key: key.to_vec(), why })
    }

    fn parse(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        if let Some(id) = key.strip_prefix(LEASE) {
            let lease = leasepb::Lease::decode(value).map_err(|_| "no Lease")?;
            return if number(id)? == lease.id { Ok(Self::Lease(lease)) } else { Err("another lease's") };
        }
        if let Some(id) = key.strip_prefix(MEMBER) {
            let member = Member::decode(value).map_err(|_| "no Member")?;
            let same = number(id)?.cast_unsigned() == member.id;
            return if same { Ok(Self::Member(member)) } else { Err("another member's") };
        }
        if let Some(id) = key.strip_prefix(REMOVED) {
            return Ok(Self::Removed(MemberId(number(id)?.cast_unsigned())));
        }
        if let Some(id) = key.strip_prefix(BOUND) {
            return Ok(Self::Bound(MemberId(number(id)?.cast_unsigned()), value.to_vec()));
        }
        if key.starts_with(ALARM) {
            return AlarmMember::decode(value).map(Self::Alarm).map_err(|_| "no AlarmMember");
        }
        let text = || String::from_utf8(value.to_vec()).map_err(|_| "no text");
        match key {
            REVISION => number(value).map(Self::Revision),
            FLOOR => number(value).map(Self::Floor),
            DONE => number(value).map(Self::Done),
            PERMIT => Ok(Self::Permit(value.to_vec())),
            CLUSTER => ClusterInit::decode(value).map(Self::Cluster).map_err(|_| "no ClusterInit"),
            VERSION => text().map(Self::Version),
            DOWNGRADE => text().map(Self::Downgrade),
            _ => Err("an unknown kind"),
        }
    }

    /// The row as it is stored.
    pub fn write(&self) -> TableWrite {
        let (key, value) = match self {
            Self::Revision(revision) => (REVISION.to_vec(), revision.to_be_bytes().to_vec()),
            Self::Floor(revision) => (FLOOR.to_vec(), revision.to_be_bytes().to_vec()),
            Self::Done(revision) => (DONE.to_vec(), revision.to_be_bytes().to_vec()),
            Self::Lease(lease) => (lease_key(LeaseId(lease.id)), lease.encode_to_vec()),
            Self::Alarm(alarm) => (alarm_key(alarm), alarm.encode_to_vec()),
            Self::Member(member) => (member_key(MemberId(member.id)), member.encode_to_vec()),
            Self::Removed(id) => (with_id(REMOVED, id.0), Vec::new()),
            Self::Bound(id, incarnation) => (with_id(BOUND, id.0), incarnation.clone()),
            Self::Permit(nonce) => (PERMIT.to_vec(), nonce.clone()),
            Self::Cluster(cluster) => (CLUSTER.to_vec(), cluster.encode_to_vec()),
            Self::Version(version) => (VERSION.to_vec(), version.clone().into_bytes()),
            Self::Downgrade(target) => (DOWNGRADE.to_vec(), target.clone().into_bytes()),
        };
        TableWrite { key, value: Some(value) }
    }
}

impl Effects {
    pub(crate) fn write(&mut self, row: &Row) {
        self.tables.push(row.write());
    }

    fn erase(&mut self, key: Vec<u8>) {
        self.tables.push(TableWrite { key, value: None });
    }

    pub(crate) fn erase_lease(&mut self, id: LeaseId) {
        self.erase(lease_key(id));
    }

    pub(crate) fn erase_alarm(&mut self, alarm: &AlarmMember) {
        self.erase(alarm_key(alarm));
    }

    pub(crate) fn erase_member(&mut self, id: MemberId) {
        self.erase(member_key(id));
    }

    pub(crate) fn erase_removed(&mut self, id: MemberId) {
        self.erase(with_id(REMOVED, id.0));
    }

    pub(crate) fn erase_downgrade(&mut self) {
        self.erase(DOWNGRADE.to_vec());
    }

    /// The revision's row is rewritten where it stands if it stands near the end, so that a run of a thousand puts
    /// has one row and not a thousand.
    pub(crate) fn write_revision(&mut self, revision: i64) {
        let near = self.tables.iter_mut().rev().take(LOOK_BACK).find(|row| row.key == REVISION);
        if let Some(value) = near.and_then(|row| row.value.as_mut()) {
            value.copy_from_slice(&revision.to_be_bytes());
            return;
        }
        self.write(&Row::Revision(revision));
    }
}

fn with_id(prefix: &[u8], id: u64) -> Vec<u8> {
    [prefix, &id.to_be_bytes()].concat()
}

fn lease_key(id: LeaseId) -> Vec<u8> {
    with_id(LEASE, id.0.cast_unsigned())
}

fn member_key(id: MemberId) -> Vec<u8> {
    with_id(MEMBER, id.0)
}

fn alarm_key(alarm: &AlarmMember) -> Vec<u8> {
    let mut key = with_id(ALARM, alarm.member_id);
    key.extend_from_slice(&alarm.alarm.to_be_bytes());
    key
}

fn number(bytes: &[u8]) -> Result<i64, &'static str> {
    bytes.try_into().map(i64::from_be_bytes).map_err(|_| "not 8 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_reads_as_it_was_written() {
        let rows = [
            Row::Revision(i64::MAX),
            Row::Floor(-1),
            Row::Done(7),
            Row::Lease(leasepb::Lease { id: -3, ttl: 60, remaining_ttl: 4 }),
            Row::Alarm(AlarmMember { member_id: 9, alarm: 2 }),
            Row::Member(Member { id: u64::MAX, name: "a".into(), ..Member::default() }),
            Row::Removed(MemberId(4)),
            Row::Bound(MemberId(4), b"incarnation".to_vec()),
            Row::Permit(b"nonce".to_vec()),
            Row::Cluster(ClusterInit { cluster_id: 1, token: "t".into(), members: Vec::new(), former_ids: vec![2] }),
            Row::Version("3.6.0".into()),
            Row::Downgrade("3.5.0".into()),
        ];
        for row in rows {
            let written = row.write();
            assert_eq!(Row::read(&written.key, &written.value.expect("a value")), Ok(Some(row)));
        }
    }

    #[test]
    fn rows_of_others_are_left_alone_and_unknown_ones_are_refused() {
        assert_eq!(Row::read(b"raft/membership", b"x"), Ok(None));
        assert!(Row::read(b"state/tomorrow", b"x").is_err());
        assert!(Row::read(b"state/revision", b"x").is_err());
    }

    #[test]
    fn a_run_has_one_revision_row() {
        let mut effects = Effects::default();
        for revision in 2..100 {
            effects.write_revision(revision);
        }
        assert_eq!(effects.tables, [Row::Revision(99).write()]);
    }
}
