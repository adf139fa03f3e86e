//! Compaction: what is refused, what is kept, and what a store that has less gives back.

use keepstone_state::{Error, Reply, Restore, RestoreError, Row};

use crate::support::*;

#[test]
fn a_compact_needs_a_revision_between_the_last_one_and_now() {
    let mut member = Member::default();
    // etcd takes 0 on a store that was never compacted.
    assert!(member.compact(0).is_ok());
    assert_eq!(member.compact(0), Err(Error::Compacted));
    assert_eq!(member.compact(2), Err(Error::FutureRevision));
    member.put("a", "");
    let Ok(Reply::Compaction(response)) = member.compact(2) else { panic!() };
    assert_eq!(response.header.expect("a header").revision, 2);
    assert_eq!(member.compact(2), Err(Error::Compacted));
    assert_eq!(member.compact(1), Err(Error::Compacted));
}

#[test]
fn the_newest_put_up_to_the_floor_is_kept_and_a_tombstone_exactly_at_it() {
    let mut member = Member::default();
    member.put("a", "1"); // 2
    member.put("a", "2"); // 3
    member.put("b", "1"); // 4
    member.delete("b", ""); // 5
    member.put("c", "1"); // 6
    member.delete("c", ""); // 7
    member.put("a", "3"); // 8
    member.compact(7).expect("compacted");
    member.sweep();
    assert_eq!(member.stored(), [(3, 0), (7, 0), (8, 0)]);
    assert!(member.store.restore() == member.state);
    member.compact(8).expect("compacted");
    member.sweep();
    assert_eq!(member.stored(), [(8, 0)]);
    assert!(member.store.restore() == member.state);
}

#[test]
fn the_revision_never_falls_back_when_compaction_takes_the_newest_record() {
    let mut member = Member::default();
    member.put("a", "1");
    member.delete("a", "");
    member.put("b", "");
    member.delete("b", "");
    member.compact(5).expect("compacted");
    member.sweep();
    member.store.records.clear();
    assert_eq!(member.store.restore().revision(), 5);
    // Nor without the row: an imported store has none.
    member.store.tables.remove(&Row::Revision(0).write().key);
    assert_eq!(member.store.restore().revision(), 5);
}

#[test]
fn a_compaction_that_was_cut_short_starts_over() {
    let mut member = Member::default();
    for round in 0..3 {
        for key in ["a", "b", "c", "d"] {
            member.put(key, &round.to_string());
        }
    }
    member.compact(11).expect("compacted");
    let mut dead = Vec::new();
    assert!(!member.state.compact_some(2, &mut dead));
    assert_eq!(dead.len(), 2);
    member.store.drop_dead(&dead);

    let state = member.store.restore();
    assert_eq!(state.unfinished_compaction(), Some(11));
    let mut again = Member { state, store: member.store };
    again.sweep();
    assert_eq!(again.state.unfinished_compaction(), None);
    assert_eq!(again.stored(), [(8, 0), (9, 0), (10, 0), (11, 0), (12, 0), (13, 0)]);
    assert!(again.store.restore() == again.state);
}

#[test]
fn one_hot_key_is_compacted_in_steps() {
    let mut member = Member::default();
    for round in 0..100 {
        member.put("a", &round.to_string());
    }
    member.compact(101).expect("compacted");
    let mut dead = Vec::new();
    let mut steps = 0;
    while !member.state.compact_some(10, &mut dead) {
        steps += 1;
        assert!(dead.len() <= steps * 10);
    }
    assert_eq!((dead.len(), steps), (99, 9));
}

#[test]
fn a_floor_that_rises_on_the_way_reaches_every_key() {
    let mut member = Member::default();
    let keys = ["a", "b", "c", "d", "e"];
    for _ in 0..3 {
        for key in keys {
            member.put(key, "");
        }
    }
    member.compact(6).expect("compacted");
    let mut dead = Vec::new();
    // Floors that rise faster than a walk gets round.
    for revision in 7..=16 {
        member.state.compact_some(2, &mut dead);
        member.compact(revision).expect("compacted");
    }
    member.store.drop_dead(&dead);
    member.sweep();
    assert_eq!(member.stored(), [(12, 0), (13, 0), (14, 0), (15, 0), (16, 0)]);
}

#[test]
fn a_store_that_no_member_wrote_is_refused() {
    let mut member = Member::default();
    member.put("a", "1");
    member.put("b", "1");
    let records: Vec<_> = member.store.records.values().cloned().collect();
    let none: [(&[u8], &[u8]); 0] = [];

    let mut restore = Restore::new(none).expect("no rows");
    restore.record(&records[1]).expect("a record");
    assert!(matches!(restore.record(&records[0]), Err(RestoreError::Order { .. })));

    let mut restore = Restore::new(none).expect("no rows");
    let wrong = keepstone_state::Record { at: records[1].at, ..records[0].clone() };
    assert!(matches!(restore.record(&wrong), Err(RestoreError::Record { .. })));

    let row = Row::Revision(2).write();
    let mut restore = Restore::new([(row.key, row.value.expect("a value"))]).expect("a row");
    for record in &records {
        restore.record(record).expect("a record");
    }
    assert!(matches!(restore.finish(), Err(RestoreError::Ahead { revision: 2, .. })));
}
