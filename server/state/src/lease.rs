//! Leases and what hangs on them. Knows no clock: expiry is decided elsewhere and arrives as a request.
//!
//! Which keys are attached is not stored: it follows from the records' lease field.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use keepstone_proto::leasepb;

use crate::{error::Error, types::LeaseId};

/// etcd's largest TTL, in seconds.
pub const MAX_TTL: i64 = 9_000_000_000;

/// How many keys may hang on one lease, so that its end stays one bounded revision.
pub const MAX_KEYS: usize = 1 << 24;

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// As granted, in seconds.
    pub ttl: i64,
    /// What the last checkpoint left of it, in seconds; 0 if there was none since the last renewal.
    pub remaining_ttl: i64,
    keys: BTreeSet<Arc<[u8]>>,
}

impl Lease {
    /// The attached keys, sorted.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.keys.iter().map(AsRef::as_ref)
    }
}

/// All leases. See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    table: BTreeMap<LeaseId, Lease>,
    attached: BTreeMap<Arc<[u8]>, LeaseId>,
}

impl Leases {
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.table.get(&id)
    }

    pub fn contains(&self, id: LeaseId) -> bool {
        self.table.contains_key(&id)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All leases in the order of their IDs.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.table.iter().map(|(id, lease)| (*id, lease))
    }

    /// The lease that `key` hangs on.
    pub fn of(&self, key: &[u8]) -> Option<LeaseId> {
        self.attached.get(key).copied()
    }

    /// Whether a put may name this lease.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`]; [`Error::RequestTooLarge`] past [`MAX_KEYS`].
    pub(crate) fn admit(&self, id: LeaseId) -> Result<(), Error> {
        let lease = self.table.get(&id).ok_or(Error::LeaseNotFound)?;
        if lease.keys.len() >= MAX_KEYS {
            return Err(Error::RequestTooLarge);
        }
        Ok(())
    }

    /// A new lease. The TTL is at least one second; the cluster's own minimum, which follows from the election
    /// timeout, has been put into the request by its proposer.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<leasepb::Lease, Error> {
        if id.0 == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > MAX_TTL {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.table.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let ttl = ttl.max(1);
        self.restore(&leasepb::Lease { id: id.0, ttl, remaining_ttl: 0 });
        Ok(leasepb::Lease { id: id.0, ttl, remaining_ttl: 0 })
    }

    pub(crate) fn restore(&mut self, lease: &leasepb::Lease) {
        let new = Lease { ttl: lease.ttl, remaining_ttl: lease.remaining_ttl, keys: BTreeSet::new() };
        self.table.insert(LeaseId(lease.id), new);
    }

    /// Takes a lease out, with the keys that hung on it, sorted. They are detached.
    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Vec<Arc<[u8]>>> {
        let lease = self.table.remove(&id)?;
        for key in &lease.keys {
            self.attached.remove(key);
        }
        Some(lease.keys.into_iter().collect())
    }

    /// Notes what is left of a lease; `None` if there is none.
    pub(crate) fn checkpoint(&mut self, id: LeaseId, remaining_ttl: i64) -> Option<leasepb::Lease> {
        let lease = self.table.get_mut(&id)?;
        lease.remaining_ttl = remaining_ttl;
        Some(leasepb::Lease { id: id.0, ttl: lease.ttl, remaining_ttl })
    }

    /// Hangs `key` on a lease, and off any other. A lease that is not there is as good as none: a record may still
    /// name one that a later record's end took along.
    pub(crate) fn attach(&mut self, key: &[u8], id: LeaseId) {
        if self.of(key) == Some(id) {
            return;
        }
        self.detach(key);
        if let Some(lease) = self.table.get_mut(&id) {
            let key: Arc<[u8]> = key.into();
            lease.keys.insert(Arc::clone(&key));
            self.attached.insert(key, id);
        }
    }

    pub(crate) fn detach(&mut self, key: &[u8]) {
        if let Some(id) = self.attached.remove(key)
            && let Some(lease) = self.table.get_mut(&id)
        {
            lease.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(leases: &Leases, id: i64) -> Vec<&[u8]> {
        leases.get(LeaseId(id)).expect("a lease").keys().collect()
    }

    #[test]
    fn grant_refuses_zero_known_and_endless_leases() {
        let mut leases = Leases::default();
        assert_eq!(leases.grant(LeaseId(0), 5), Err(Error::LeaseNotFound));
        assert_eq!(leases.grant(LeaseId(1), MAX_TTL + 1), Err(Error::LeaseTtlTooLarge));
        assert_eq!(leases.grant(LeaseId(1), -5).map(|lease| lease.ttl), Ok(1));
        assert_eq!(leases.grant(LeaseId(1), 5), Err(Error::LeaseExists));
    }

    #[test]
    fn a_key_hangs_on_one_lease_and_keys_come_sorted() {
        let mut leases = Leases::default();
        leases.grant(LeaseId(1), 5).expect("granted");
        leases.grant(LeaseId(2), 5).expect("granted");
        for key in [b"c", b"a", b"b"] {
            leases.attach(key, LeaseId(1));
        }
        leases.attach(b"a", LeaseId(2));
        assert_eq!(keys(&leases, 1), [b"b", b"c"]);
        assert_eq!(keys(&leases, 2), [b"a"]);
        leases.detach(b"b");
        let gone = leases.remove(LeaseId(1)).expect("there");
        assert_eq!(gone, [Arc::from(*b"c")]);
        assert_eq!(leases.of(b"c"), None);
        assert_eq!(leases.of(b"a"), Some(LeaseId(2)));
    }
}
