use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use keepstone_proto::{KeyValue, KeyValueParts};
use keepstone_state::{Record, Revision};

use super::*;
use crate::watch::matcher::Keys;
use crate::watch::ring::Ring;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn record(key: &str, main: i64, sub: i64, value: usize) -> Record {
    let value = vec![1; value];
    let kv = KeyValue::new(&KeyValueParts { key: key.as_bytes(), value: &value, ..KeyValueParts::default() });
    Record { at: Revision::new(main, sub), tombstone: false, prev: None, kv }
}

fn spec(key: &'static str, start: i64) -> Spec {
    let (prev_kv, fragment, progress_notify, no_put, no_delete) = (false, false, true, false, false);
    Spec { keys: Keys::One(key.into()), start, prev_kv, fragment, progress_notify, no_put, no_delete }
}

/// A run of one change of `key` at each revision.
fn run(ring: &Ring, key: &str, revisions: std::ops::RangeInclusive<i64>) -> Arc<Run> {
    let last = *revisions.end();
    ring.push(&revisions.map(|main| record(key, main, 0, 1)).collect::<Vec<_>>(), last)
}

fn taken(table: &mut Table, stream: Slot) -> Vec<(i64, Vec<i64>)> {
    let mut all = Vec::new();
    let mut owed = Vec::new();
    while let Some(turn) = table.take(stream, &mut owed) {
        all.push((turn.watch, owed.drain(..).map(|owed| owed.revision).collect()));
    }
    all
}

#[test]
fn each_watcher_in_step_is_given_each_change_once_and_its_stream_is_woken_once() {
    let (ring, mut table, wakes) = (Ring::default(), Table::default(), Arc::new(Wakes::default()));
    let (stream, other) = (table.open(), table.open());
    for id in [3, 7] {
        table.add(stream, id, spec("a", 0), 1);
    }
    table.add(other, 3, spec("b", 0), 1);
    assert_eq!(taken(&mut table, stream), []);
    let waker = wakes.clone().into();
    assert!(!table.sleep(stream, &waker));
    assert!(!table.sleep(other, &waker));
    table.match_run(&run(&ring, "a", 2..=4));
    table.match_run(&run(&ring, "a", 5..=5));
    assert_eq!(wakes.count(), 1);
    assert_eq!(taken(&mut table, stream), [(3, vec![2, 3, 4, 5]), (7, vec![2, 3, 4, 5])]);
    assert_eq!(taken(&mut table, stream), []);
    assert!(table.remove(stream, 3) && !table.remove(stream, 3));
    table.match_run(&run(&ring, "a", 6..=6));
    assert_eq!(taken(&mut table, stream), [(7, vec![6])]);
    assert_eq!(taken(&mut table, other), []);
    table.close(stream);
    assert_eq!(table.counts(), Counts { watchers: 1, streams: 1, lagging: 0, owed: 0 });
}

#[test]
fn a_response_ends_at_a_revisions_edge_after_so_many_changes_or_bytes() {
    let (ring, mut table) = (Ring::default(), Table::default());
    let stream = table.open();
    table.add(stream, 0, spec("a", 0), 1);
    let wide = EVENTS_A_RESPONSE as i64 + 9;
    let mut records: Vec<Record> = (0..wide).map(|sub| record("a", 2, sub, 1)).collect();
    records.push(record("a", 3, 0, 1));
    table.match_run(&ring.push(&records, 3));
    let large = BYTES_A_RESPONSE as usize / 2;
    table.match_run(&ring.push(&(4..8).map(|main| record("a", main, 0, large)).collect::<Vec<_>>(), 7));
    assert_eq!(table.counts().owed, wide as usize + 5);
    let responses: Vec<Vec<i64>> = taken(&mut table, stream).into_iter().map(|(_, revisions)| revisions).collect();
    assert_eq!(responses, [vec![2; wide as usize], vec![3, 4, 5], vec![6, 7]]);
    assert_eq!(table.counts().owed, 0);
}

#[test]
fn a_watcher_that_owes_too_many_lags_from_the_oldest_on_and_owes_nothing() {
    let (ring, mut table, wakes) = (Ring::default(), Table::default(), Arc::new(Wakes::default()));
    let stream = table.open();
    table.add(stream, 0, spec("a", 0), 1);
    let last = OWED_BY_WATCHER as i64 + 1;
    table.match_run(&run(&ring, "a", 2..=last));
    assert_eq!(table.counts().owed, OWED_BY_WATCHER);
    assert!(!table.sleep(stream, &wakes.clone().into()));
    table.match_run(&run(&ring, "a", last + 1..=last + 2));
    assert_eq!(wakes.count(), 1);
    assert_eq!(taken(&mut table, stream), []);
    assert_eq!(table.counts(), Counts { watchers: 1, streams: 1, lagging: 1, owed: 0 });
    assert_eq!(table.lagging(stream).iter().map(|l| l.next).collect::<Vec<_>>(), [2]);
    // The log went on meanwhile: it lags still. Then it is in step, and gets what comes.
    table.caught_up_to(stream, 0, last + 2, true);
    assert_eq!(table.counts().lagging, 1);
    table.caught_up_to(stream, 0, last + 3, true);
    table.match_run(&run(&ring, "a", last + 3..=last + 3));
    assert_eq!(taken(&mut table, stream), [(0, vec![last + 3])]);
}

#[test]
fn lost_runs_put_behind_whoever_needed_them() {
    let (ring, mut table, wakes) = (Ring::default(), Table::default(), Arc::new(Wakes::default()));
    let stream = table.open();
    table.add(stream, 0, spec("a", 0), 1);
    table.add(stream, 1, spec("a", 9), 1);
    table.add(stream, 2, spec("b", 0), 1);
    table.match_run(&run(&ring, "a", 2..=3));
    table.sleep(stream, &wakes.clone().into());
    table.lose_runs(8);
    assert_eq!(wakes.count(), 1);
    let lagging: Vec<_> = table.lagging(stream).iter().map(|l| (l.watch, l.next)).collect();
    assert_eq!(lagging, [(0, 2), (2, 4)]);
    table.match_run(&run(&ring, "a", 9..=9));
    assert_eq!(taken(&mut table, stream), [(1, vec![9])]);
}

#[test]
fn progress_waits_for_the_log_and_for_what_is_owed() {
    let (ring, mut table, wakes) = (Ring::default(), Table::default(), Arc::new(Wakes::default()));
    let stream = table.open();
    assert_eq!(table.progress(stream, 1), Progress::Never);
    table.add(stream, 0, spec("a", 0), 1);
    assert_eq!(table.progress(stream, 1), Progress::At(1));
    assert_eq!(table.idle_watchers(stream), [(0, 1)]);
    assert_eq!(table.progress(stream, 3), Progress::Later);
    assert_eq!(table.progress(stream, 3), Progress::Later);
    let waker = wakes.clone().into();
    table.sleep(stream, &waker);
    table.match_run(&run(&ring, "b", 2..=2));
    assert_eq!(wakes.count(), 0);
    table.match_run(&run(&ring, "b", 3..=3));
    assert_eq!(wakes.count(), 1);
    assert_eq!(table.progress(stream, 3), Progress::At(3));
    table.match_run(&run(&ring, "a", 4..=4));
    assert_eq!((table.progress(stream, 4), table.idle_watchers(stream)), (Progress::Later, vec![]));
    assert_eq!(taken(&mut table, stream), [(0, vec![4])]);
    assert_eq!(table.progress(stream, 4), Progress::At(4));
    // Sent something since the last time, so it hears only the next time.
    assert_eq!(table.idle_watchers(stream), []);
    assert_eq!(table.idle_watchers(stream), [(0, 4)]);
    table.add(stream, 1, spec("a", 99), 4);
    assert_eq!(table.progress(stream, 4), Progress::Never);
}
