//! The shared event log: the newest applied runs, each event encoded at most once however many watchers want it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use keepstone_proto::Event;
use keepstone_state::Record;
use parking_lot::RwLock;

/// Bytes of records that the log keeps for watchers which have not read them yet. A watcher that falls behind further
/// reads from the store.
const RING_BYTES: usize = 64 << 20;

/// One change, and its event without `prev_kv` once somebody has asked for it.
#[derive(Debug)]
pub struct Change {
    pub record: Record,
    event: OnceLock<Event>,
}

impl Change {
    pub fn new(record: Record) -> Self {
        Self { record, event: OnceLock::new() }
    }

    /// The event as watchers without `prev_kv` get it. A clone shares the bytes.
    pub fn event(&self) -> &Event {
        self.event.get_or_init(|| event_of(&self.record, None))
    }
}

/// The event of a record.
pub fn event_of(record: &Record, prev: Option<&keepstone_proto::KeyValue>) -> Event {
    if record.tombstone { Event::delete(record.kv.key(), record.at.main, prev) } else { Event::put(&record.kv, prev) }
}

/// The changes of one applied run, in revision order.
#[derive(Debug)]
pub struct Run {
    /// Its place in the log.
    pub seq: u64,
    pub changes: Vec<Change>,
    /// The store revision after it.
    pub revision: i64,
    bytes: usize,
}

/// The log itself. Bounded by [`RING_BYTES`] but for the newest run, which is always kept.
#[derive(Debug, Default)]
pub struct Ring {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: VecDeque<Arc<Run>>,
    next_seq: u64,
    bytes: usize,
}

impl Ring {
    pub fn push(&self, records: &[Record], revision: i64) -> Arc<Run> {
        let bytes = records.iter().map(|r| r.kv.raw().len() + size_of::<Change>()).sum();
        let changes = records.iter().cloned().map(Change::new).collect();
        let mut inner = self.inner.write();
        let run = Arc::new(Run { seq: inner.next_seq, changes, revision, bytes });
        inner.next_seq += 1;
        inner.bytes += bytes;
        inner.runs.push_back(run.clone());
        while inner.bytes > RING_BYTES && inner.runs.len() > 1 {
            if let Some(old) = inner.runs.pop_front() {
                inner.bytes -= old.bytes;
            }
        }
        run
    }

    /// Forgets all runs. Returns the place of one that never was.
    pub fn restart(&self) -> u64 {
        let mut inner = self.inner.write();
        inner.runs.clear();
        inner.bytes = 0;
        inner.next_seq += 1;
        inner.next_seq - 1
    }

    /// The run at `seq`, unless it has been dropped.
    pub fn get(&self, seq: u64) -> Option<Arc<Run>> {
        let inner = self.inner.read();
        let first = inner.runs.front()?.seq;
        inner.runs.get(usize::try_from(seq.checked_sub(first)?).ok()?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use keepstone_proto::{KeyValue, KeyValueParts};
    use keepstone_state::Revision;

    use super::*;

    #[test]
    fn old_runs_go_when_the_bytes_are_spent_and_the_newest_stays() {
        let ring = Ring::default();
        let value = vec![1; RING_BYTES / 2];
        for main in 2..6 {
            let kv = KeyValue::new(&KeyValueParts { key: b"k", value: &value, ..KeyValueParts::default() });
            let record = Record { at: Revision::new(main, 0), tombstone: false, prev: None, kv };
            assert_eq!(ring.push(&[record], main).seq, main as u64 - 2);
        }
        assert!(ring.get(2).is_none());
        assert_eq!(ring.get(3).map(|run| run.revision), Some(5));
        assert!(ring.get(4).is_none());
    }
}
