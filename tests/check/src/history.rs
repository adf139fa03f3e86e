//! What became of the keyspace, revision by revision, as watches of all of it have seen it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use keepstone_proto::Event;

use crate::watch::{Delivery, WatchLog};
use crate::{Checked, broken};

/// All events of one revision, in their order, without what was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub revision: i64,
    pub events: Vec<Event>,
}

/// Every revision from the cluster's first change on, without a hole.
#[derive(Clone, Debug, Default)]
pub struct History {
    revisions: Vec<Revision>,
}

/// The revision that a new cluster has: its first change makes the one after.
const FOUNDED: i64 = 1;

impl History {
    /// Puts together what watches of the whole keyspace saw. They may begin and end anywhere, as long as some watch saw
    /// each revision.
    ///
    /// # Errors
    /// When two watches differ about a revision, or none saw one that lies between others.
    pub fn of<'a>(logs: impl IntoIterator<Item = &'a WatchLog>) -> Checked<Self> {
        let mut found: BTreeMap<i64, (Vec<Event>, &str)> = BTreeMap::new();
        for log in logs.into_iter().filter(|log| log.covers_everything()) {
            for (revision, events) in log.revisions() {
                match found.entry(revision) {
                    Entry::Vacant(entry) => drop(entry.insert((events, &log.name))),
                    Entry::Occupied(entry) => {
                        let (other, name) = entry.get();
                        if *other != events {
                            broken!(
                                "revision {revision}: watch {name} saw {other:?}, watch {} saw {events:?}",
                                log.name
                            );
                        }
                    }
                }
            }
        }
        let mut revisions: Vec<Revision> = Vec::with_capacity(found.len());
        for (revision, (events, _)) in found {
            let expected = revisions.last().map_or(FOUNDED, |last| last.revision) + 1;
            if revision != expected {
                broken!("no watch saw revision {expected}, but {revision}");
            }
            revisions.push(Revision { revision, events });
        }
        Ok(Self { revisions })
    }

    /// The newest revision.
    pub fn last(&self) -> i64 {
        self.revisions.last().map_or(FOUNDED, |last| last.revision)
    }

    /// The revisions of a range of them, as far as they are there.
    pub fn between(&self, from: i64, to: i64) -> &[Revision] {
        let begin = usize::try_from(from - FOUNDED - 1).unwrap_or(0).min(self.revisions.len());
        let end = usize::try_from(to - FOUNDED).unwrap_or(0).min(self.revisions.len());
        &self.revisions[begin..end.max(begin)]
    }

    /// All of them.
    pub fn all(&self) -> &[Revision] {
        &self.revisions
    }
}

impl WatchLog {
    /// The events seen, by revision, each without what was there before.
    fn revisions(&self) -> BTreeMap<i64, Vec<Event>> {
        let mut found: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for delivery in &self.deliveries {
            if let Delivery::Events { events, .. } = delivery {
                for event in events {
                    found.entry(event.kv().mod_revision()).or_default().push(event.without_prev_kv());
                }
            }
        }
        found
    }
}
