//! What the keyspace was at every revision, replayed from events, each checked against the one before.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use keepstone_proto::etcdserverpb::RangeResponse;
use keepstone_proto::mvccpb::EventType;
use keepstone_proto::{Event, KeyValue};

use crate::watcher::Revision;

/// The keyspace at a revision.
#[derive(Clone, Debug)]
pub struct Keyspace {
    pub revision: i64,
    pub keys: BTreeMap<Bytes, KeyValue>,
}

impl Default for Keyspace {
    /// A new cluster's.
    fn default() -> Self {
        Self { revision: 1, keys: BTreeMap::new() }
    }
}

/// Whether the event is a deletion.
pub fn is_delete(event: &Event) -> bool {
    event.type_() == EventType::Delete
}

impl Keyspace {
    /// Goes on to the next revision.
    ///
    /// # Errors
    /// When it is not the next one, or its events do not follow from what was there.
    pub fn apply(&mut self, next: &Revision) -> Result<()> {
        let revision = next.revision;
        ensure!(revision == self.revision + 1, "revision {revision} follows {}", self.revision);
        for event in &next.events {
            let kv = event.kv();
            let before = self.keys.get(kv.key());
            if is_delete(event) {
                ensure!(before.is_some(), "revision {revision} deletes {:?}, which is not there", kv.key_bytes());
                self.keys.remove(kv.key());
                continue;
            }
            let (create, version) = before.map_or((revision, 1), |kv| (kv.create_revision(), kv.version() + 1));
            ensure!(
                (kv.create_revision(), kv.version(), kv.mod_revision()) == (create, version, revision),
                "revision {revision}: {kv:?} does not follow {before:?}"
            );
            self.keys.insert(kv.key_bytes(), kv);
        }
        self.revision = revision;
        Ok(())
    }

    /// The keys that hang on a lease, in order.
    pub fn attached(&self, lease: i64) -> Vec<Bytes> {
        self.keys.values().filter(|kv| kv.lease() == lease).map(|kv| kv.key_bytes()).collect()
    }

    /// Compares with a list of everything.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, listed: &RangeResponse) -> Result<()> {
        let mut ours = self.keys.values();
        for theirs in &listed.kvs {
            let ours = ours.next();
            ensure!(
                ours == Some(theirs),
                "at revision {}: the member has {theirs:?}, its history {ours:?}",
                self.revision
            );
        }
        let missing = ours.next();
        ensure!(missing.is_none(), "at revision {}: the member lacks {missing:?}", self.revision);
        Ok(())
    }
}

/// `history` from a cluster's founding up to `revision`.
///
/// # Errors
/// When it has a hole, or ends before.
pub fn replay(history: &[Revision], revision: i64) -> Result<Keyspace> {
    let mut keys = Keyspace::default();
    for next in history.iter().take_while(|next| next.revision <= revision) {
        keys.apply(next)?;
    }
    ensure!(keys.revision == revision, "the history ends at {}, not at {revision}", keys.revision);
    Ok(keys)
}

/// Compares two histories where both have revisions, from `from` to `to`.
///
/// # Errors
/// The first difference.
pub fn same(first: &[Revision], second: &[Revision], from: i64, to: i64) -> Result<()> {
    let part = |all: &[Revision]| -> Vec<Revision> {
        let begin = all.partition_point(|next| next.revision < from);
        let end = all.partition_point(|next| next.revision <= to);
        all[begin..end].to_vec()
    };
    let (first, second) = (part(first), part(second));
    for (a, b) in first.iter().zip(&second) {
        ensure!(a == b, "one watch saw {a:?}, another {b:?}");
    }
    let longer = if first.len() > second.len() { first.get(second.len()) } else { second.get(first.len()) };
    if first.len() != second.len() {
        let extra = longer.context("one of them is longer")?;
        anyhow::bail!("between {from} and {to} only one of two watches saw {extra:?}");
    }
    Ok(())
}
