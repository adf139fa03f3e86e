//! What lagging watchers missed, read from the record store in bounded steps. Blocking: runs on a blocking thread.

use std::ops::ControlFlow;
use std::sync::Arc;

use keepstone_proto::{Event, KeyValue};
use keepstone_state::{Record, RecordError, Records, Revision};

use super::matcher::Matcher;
use super::ring::event_of;
use super::watcher::{Lagging, Spec};
use crate::core::Core;

/// One step ends after so many revisions or bytes of matching events, at a revision's edge.
const STEP_REVISIONS: i64 = 1000;
const STEP_BYTES: usize = 1 << 20;

/// Why a stream has to end.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("reading history: {0}")]
    Store(String),
    #[error("etcdserver: server stopped")]
    Stopped,
}

impl HistoryError {
    pub fn status(&self) -> tonic::Status {
        match self {
            Self::Store(_) => tonic::Status::internal(self.to_string()),
            Self::Stopped => tonic::Status::unavailable(self.to_string()),
        }
    }
}

/// What one watcher gets of a step.
pub struct Feed {
    pub watch: i64,
    pub spec: Arc<Spec>,
    pub events: Vec<Event>,
    /// It has everything below this revision then.
    pub next: i64,
    /// Its history is gone: the compaction revision that took it.
    pub compacted: Option<i64>,
}

pub struct Batch {
    pub feeds: Vec<Feed>,
    /// The store's revision when the step was read.
    pub revision: i64,
}

/// Where the key's value before the record's revision is, unless it was not there or has been compacted since. As in etcd,
/// this is never what the same revision wrote, and a put that creates the key has none.
pub fn prev_place(core: &Core, record: &Record) -> Option<Revision> {
    let (key, before) = (record.kv.key(), record.at.main - 1);
    let creates = !record.tombstone && record.kv.create_revision() == record.at.main;
    if creates || before < core.compact_revision() {
        return None;
    }
    record.prev.filter(|prev| prev.main <= before).or_else(|| core.find(key, before))
}

/// What came of reading the value at [`prev_place`]: none if it has been compacted meanwhile.
pub fn prev_kv(
    core: &Core,
    record: &Record,
    read: Result<KeyValue, RecordError>,
) -> Result<Option<KeyValue>, HistoryError> {
    match read {
        Ok(kv) => Ok(Some(kv)),
        Err(RecordError::Missing(_)) if record.at.main - 1 < core.compact_revision() => Ok(None),
        Err(error) => Err(HistoryError::Store(error.to_string())),
    }
}

/// Reads the next step for all of a stream's lagging watchers in one pass from the lowest of their cursors.
pub fn read(core: &Core, lagging: Vec<Lagging>) -> Result<Batch, HistoryError> {
    let revision = core.revision();
    let mut matcher = Matcher::default();
    for (at, watcher) in lagging.iter().enumerate() {
        matcher.insert(&watcher.spec.keys, at);
    }
    let compact = core.compact_revision();
    let from = lagging.iter().map(|w| w.next).filter(|next| *next >= compact).min().unwrap_or(revision);
    let (found, until) = collect(core, &lagging, &matcher, from, revision)?;
    // A compaction since then may have taken records out from under the scan: its watchers are told, not fed.
    let compact = core.compact_revision();
    let mut feeds = Vec::with_capacity(lagging.len());
    for (watcher, records) in lagging.into_iter().zip(found) {
        let mut feed =
            Feed { watch: watcher.watch, spec: watcher.spec, events: Vec::new(), next: watcher.next, compacted: None };
        if watcher.next < compact {
            feed.compacted = Some(compact);
        } else if watcher.next <= until {
            feed.next = until + 1;
            feed.events = events(core, &feed.spec, &records)?;
        }
        feeds.push(feed);
    }
    Ok(Batch { feeds, revision })
}

/// The matching records per watcher and the revision up to which they are complete.
fn collect(
    core: &Core,
    lagging: &[Lagging],
    matcher: &Matcher<usize>,
    from: i64,
    revision: i64,
) -> Result<(Vec<Vec<Record>>, i64), HistoryError> {
    let mut found: Vec<Vec<Record>> = lagging.iter().map(|_| Vec::new()).collect();
    let last = revision.min(from.saturating_add(STEP_REVISIONS - 1));
    let (mut bytes, mut until) = (0, last);
    let mut visit = |record: &Record| {
        if bytes >= STEP_BYTES && record.at.main > until {
            return ControlFlow::Break(());
        }
        matcher.find(record.kv.key(), |at| {
            let watcher = &lagging[at];
            if record.at.main >= watcher.next && watcher.spec.wants(record.tombstone) {
                bytes += record.kv.raw().len();
                found[at].push(record.clone());
            }
        });
        until = if bytes >= STEP_BYTES { record.at.main } else { last };
        ControlFlow::Continue(())
    };
    core.records
        .scan(Revision::new(from, 0), Revision::new(last, i64::MAX), &mut visit)
        .map_err(|error| HistoryError::Store(error.to_string()))?;
    Ok((found, until))
}

fn events(core: &Core, spec: &Spec, records: &[Record]) -> Result<Vec<Event>, HistoryError> {
    let event = |record: &Record| {
        let prev = match spec.prev_kv.then(|| prev_place(core, record)).flatten() {
            Some(at) => prev_kv(core, record, core.records.get(at))?,
            None => None,
        };
        Ok(event_of(record, prev.as_ref()))
    };
    records.iter().map(event).collect()
}
