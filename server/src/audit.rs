//! The audit copy: every committed request, in etcd's log format under `member/wal`, kept while the member runs. For
//! fault tests alone, whose tools read from there what was committed; it takes fail points and [`VARIABLE`].
//!
//! An entry's requests are in the copy, on disk, before any of them is applied. So it has all that was acknowledged, and
//! nothing that was not committed: what is in it is never taken back. The numbers are the copy's own, one a request from
//! 1 on, and the same on every member that has seen all of the log; a member that was given a snapshot instead goes on
//! after one, as in etcd.
//!
//! The member never reads it, but for where to go on.

use std::io;
use std::path::Path;
use std::sync::Arc;

use keepstone_wal::LogPos;
use keepstone_wal::export::etcd_wal::{self, EtcdWal, HardState};
use openraft::entry::RaftEntry;
use parking_lot::Mutex;

use crate::core::Identity;
use crate::raft::codec;
use crate::raft::types::{Entry, StoredMembership};
use crate::wal_export;

/// The environment variable that asks for the copy.
pub const VARIABLE: &str = "KEEPSTONE_AUDIT_WAL";

/// Why there is no copy. Ends the member: a copy that lacks something would have a test find what is not there.
#[derive(Debug, thiserror::Error)]
#[error("the audit copy in member/wal: {0}")]
pub struct AuditError(#[from] io::Error);

/// The copy of one member. Clones share it.
#[derive(Clone)]
pub struct Audit(Arc<Mutex<Copy>>);

struct Copy {
    wal: EtcdWal,
    /// The index of the first entry of our log that is not in the copy.
    next: u64,
}

impl Audit {
    /// Opens or begins the copy in the data directory, if the environment asks for one.
    ///
    /// # Errors
    /// [`AuditError`]: it is another member's, or can't be written.
    pub fn from_environment(data_dir: &Path, identity: Identity) -> Result<Option<Self>, AuditError> {
        if std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty()) {
            return Ok(None);
        }
        if !keepstone_failpoint::is_on() {
            tracing::warn!("{VARIABLE} has no effect: it is for fault tests, which switch fail points on");
            return Ok(None);
        }
        Self::open(&data_dir.join("member"), identity).map(Some)
    }

    fn open(member: &Path, identity: Identity) -> Result<Self, AuditError> {
        let whose = etcd_wal::Identity { node_id: identity.member_id.0, cluster_id: identity.cluster_id };
        let (wal, next) = EtcdWal::reopen(member, whose)?;
        Ok(Self(Arc::new(Mutex::new(Copy { wal, next: next.unwrap_or(0) }))))
    }

    /// Adds committed entries, in their order. Those that are there already, because the log is replayed, are passed
    /// over. Blocks until they are on disk.
    ///
    /// # Errors
    /// The file system's; the copy must then not be used on.
    pub fn add(&self, entries: &[Entry], membership: &StoredMembership) -> Result<(), AuditError> {
        Ok(self.0.lock().add(entries, membership)?)
    }
}

impl Copy {
    fn add(&mut self, entries: &[Entry], membership: &StoredMembership) -> io::Result<()> {
        let mut term = None;
        for entry in entries.iter().filter(|entry| entry.index() >= self.next).collect::<Vec<_>>() {
            let at = entry.log_id();
            if at.index() > self.next {
                self.skip(codec::term_of(&at), at.index() - self.next, membership)?;
            }
            for (kind, data) in wal_export::translated(&entry.payload) {
                let index = self.wal.last_index() + 1;
                self.wal.entry(LogPos { term: codec::term_of(&at), index }, kind, &data)?;
            }
            self.next = at.index() + 1;
            term = Some(codec::term_of(&at));
        }
        match term {
            Some(term) => self.wal.commit(HardState { term, vote: 0, commit: self.wal.last_index() }, self.next),
            None => Ok(()),
        }
    }

    /// Some of our entries were never seen here: a snapshot brought what they made, or there was no copy then. How many
    /// requests they had nobody knows; the copy's numbers leave room for one each.
    fn skip(&mut self, term: u64, entries: u64, membership: &StoredMembership) -> io::Result<()> {
        let voters: Vec<u64> = membership.membership().voter_ids().collect();
        self.wal.skip(LogPos { term, index: self.wal.last_index() + entries }, &voters)
    }
}

#[cfg(test)]
mod tests {
    use keepstone_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
    use keepstone_state::MemberId;

    use super::*;
    use crate::raft::types::{Payload, Proposal, Request};

    const WHO: Identity = Identity { cluster_id: 7, member_id: MemberId(9) };

    fn entry(index: u64, puts: u64) -> Entry {
        let put = |n| {
            let put = PutRequest { key: format!("{index}/{n}").into(), ..Default::default() };
            Request::new(InternalRaftRequest { put: Some(put), ..Default::default() })
        };
        let requests = (0..puts).map(put).collect();
        Entry { log_id: codec::log_id(1, index), payload: Payload::Normal(Proposal { requests }) }
    }

    fn last(audit: &Audit) -> u64 {
        audit.0.lock().wal.last_index()
    }

    #[test]
    fn a_replayed_log_adds_nothing_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let none = StoredMembership::default();
        let audit = Audit::open(dir.path(), WHO).expect("opens");
        audit.add(&[entry(0, 0), entry(1, 3)], &none).expect("adds");
        audit.add(&[entry(2, 2)], &none).expect("adds");
        assert_eq!(last(&audit), 5);
        drop(audit);
        let audit = Audit::open(dir.path(), WHO).expect("opens");
        audit.add(&[entry(1, 3), entry(2, 2), entry(3, 1)], &none).expect("adds");
        assert_eq!(last(&audit), 6);
    }

    #[test]
    fn goes_on_after_what_was_never_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let none = StoredMembership::default();
        let audit = Audit::open(dir.path(), WHO).expect("opens");
        audit.add(&[entry(0, 0), entry(1, 3)], &none).expect("adds");
        // Up to 9 came with a snapshot.
        audit.add(&[entry(10, 2)], &none).expect("adds");
        assert_eq!(last(&audit), 3 + 8 + 2);
        drop(audit);
        let audit = Audit::open(dir.path(), WHO).expect("opens");
        audit.add(&[entry(10, 2)], &none).expect("adds");
        assert_eq!(last(&audit), 3 + 8 + 2);
    }
}
