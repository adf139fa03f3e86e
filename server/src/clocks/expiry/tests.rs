use super::*;

const RULES: Rules = Rules { extend: Duration::from_secs(1), checkpoint: Some(Duration::from_secs(300)) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn known(id: i64, ttl: i64, remaining_ttl: i64) -> Known {
    Known { id: LeaseId(id), ttl, remaining_ttl }
}

fn leading() -> Expiry {
    let mut expiry = Expiry::default();
    expiry.promote(at(0), [], RULES);
    expiry
}

fn ids(ids: &[i64]) -> Vec<LeaseId> {
    ids.iter().copied().map(LeaseId).collect()
}

#[test]
fn a_lease_ends_at_its_time_and_is_named_once() {
    let mut expiry = leading();
    expiry.grant(at(10), LeaseId(7), 5);
    assert_eq!(expiry.due(at(15) - Duration::from_nanos(1), 10), []);
    assert_eq!(expiry.due(at(15), 10), ids(&[7]));
    assert_eq!(expiry.due(at(99), 10), []);
    expiry.retry(&ids(&[7]), at(102));
    assert_eq!(expiry.due(at(101), 10), []);
    assert_eq!(expiry.due(at(102), 10), ids(&[7]));
    expiry.revoke(LeaseId(7));
    expiry.retry(&ids(&[7]), at(103));
    assert_eq!(expiry.due(at(200), 10), []);
}

#[test]
fn a_renewal_starts_the_time_anew_and_one_that_comes_too_late_does_not() {
    let mut expiry = leading();
    expiry.grant(at(0), LeaseId(1), 5);
    for second in [4, 8, 12] {
        assert_eq!(expiry.due(at(second), 10), []);
        assert_eq!(expiry.renew(at(second), LeaseId(1)), Renewed::For(5));
    }
    assert_eq!(expiry.remaining(at(13), LeaseId(1)), Some((at(4), 5)));
    assert_eq!(expiry.renew(at(17), LeaseId(1)), Renewed::Ended, "not named yet, but ended");
    assert_eq!(expiry.due(at(17), 10), ids(&[1]));
    assert_eq!(expiry.renew(at(17), LeaseId(1)), Renewed::Ended);
    expiry.revoke(LeaseId(1));
    assert_eq!(expiry.renew(at(17), LeaseId(1)), Renewed::Unknown);
}

#[test]
fn nothing_ends_early_after_a_promotion() {
    let mut expiry = Expiry::default();
    expiry.promote(at(1000), [known(1, 10, 0), known(2, 600, 20)], RULES);
    assert_eq!(expiry.due(at(1010), 10), []);
    assert_eq!(expiry.due(at(1011), 10), ids(&[1]), "the whole time and the election's");
    assert_eq!(expiry.due(at(1020), 10), []);
    assert_eq!(expiry.due(at(1021), 10), ids(&[2]), "what the checkpoint left and the election's");
}

#[test]
fn a_renewal_right_after_a_promotion_does_not_shorten_the_time() {
    let mut expiry = Expiry::default();
    expiry.promote(at(0), [known(1, 10, 0)], RULES);
    assert_eq!(expiry.renew(at(0), LeaseId(1)), Renewed::For(10));
    assert_eq!(expiry.due(at(10), 10), []);
    assert_eq!(expiry.due(at(11), 10), ids(&[1]));
}

#[test]
fn each_promotion_starts_the_time_anew_and_a_follower_ends_nothing() {
    let mut expiry = Expiry::default();
    expiry.promote(at(0), [known(1, 10, 0)], RULES);
    assert_eq!(expiry.due(at(11), 10), ids(&[1]));
    expiry.demote();
    assert!(!expiry.leads());
    expiry.grant(at(12), LeaseId(2), 5);
    assert_eq!(expiry.due(at(1000), 10), []);
    assert_eq!(expiry.len(), 0, "a follower holds no lease's time");
    expiry.promote(at(1000), [known(1, 10, 0), known(2, 5, 0)], RULES);
    assert_eq!(expiry.due(at(1005), 10), []);
    assert_eq!(expiry.due(at(1006), 10), ids(&[2]));
    assert_eq!(expiry.renew(at(1006), LeaseId(1)), Renewed::For(10), "its end was never applied");
}

#[test]
fn a_hundred_thousand_leases_end_in_batches_and_none_twice() {
    let mut expiry = leading();
    for id in 1..=100_000 {
        expiry.grant(at(0), LeaseId(id), 10 + id % 3);
    }
    let mut named = std::collections::BTreeSet::new();
    let mut batches = 0;
    loop {
        let due = expiry.due(at(13), 1000);
        if due.is_empty() {
            break;
        }
        batches += 1;
        assert_eq!(due.len(), 1000);
        for id in due {
            assert!(named.insert(id));
        }
    }
    assert_eq!((batches, named.len()), (100, 100_000));
    for id in named {
        expiry.revoke(id);
    }
    assert!(expiry.is_empty());
    assert!(expiry.ends.len() <= STALE_ENTRIES && expiry.notes.len() <= STALE_ENTRIES);
}

#[test]
fn the_longest_ended_come_first() {
    let mut expiry = leading();
    for (id, ttl) in [(1, 30), (2, 10), (3, 20)] {
        expiry.grant(at(0), LeaseId(id), ttl);
    }
    assert_eq!(expiry.due(at(60), 2), ids(&[2, 3]));
    assert_eq!(expiry.due(at(60), 2), ids(&[1]));
}

#[test]
fn queues_stay_bounded_under_renewals_and_short_lives() {
    let mut expiry = leading();
    for round in 0..100_000 {
        expiry.grant(at(0), LeaseId(1 + round % 10), 9_000_000_000);
        assert_eq!(expiry.renew(at(0), LeaseId(1 + round % 10)), Renewed::For(9_000_000_000));
        expiry.revoke(LeaseId(1 + round % 10));
    }
    expiry.grant(at(0), LeaseId(1), 400);
    let bound = 2 + STALE_ENTRIES;
    assert!(expiry.ends.len() <= bound && expiry.notes.len() <= bound);
    assert_eq!(expiry.due(at(400), 10), ids(&[1]));
}

#[test]
fn an_id_that_is_granted_again_lives_by_its_new_time() {
    let mut expiry = leading();
    expiry.grant(at(0), LeaseId(1), 100);
    expiry.revoke(LeaseId(1));
    expiry.grant(at(0), LeaseId(1), 10);
    assert_eq!(expiry.due(at(10), 10), ids(&[1]));
    expiry.revoke(LeaseId(1));
    expiry.grant(at(20), LeaseId(1), 500);
    assert_eq!(expiry.due(at(100), 10), [], "the first life's end means nothing");
    assert_eq!(expiry.due(at(520), 10), ids(&[1]));
}

#[test]
fn what_is_left_is_noted_and_survives_a_promotion() {
    let mut expiry = leading();
    expiry.grant(at(0), LeaseId(1), 1000);
    expiry.grant(at(0), LeaseId(2), 300);
    assert_eq!(expiry.due_notes(at(299), 10), []);
    assert_eq!(expiry.due_notes(at(300), 10), [(LeaseId(1), 700)], "a short lease is not worth a note");
    expiry.checkpointed(LeaseId(1), 700);
    expiry.promote(at(310), [known(1, 1000, 700)], RULES);
    assert_eq!(expiry.remaining(at(310), LeaseId(1)), Some((at(701), 1000)));
    assert_eq!(expiry.due(at(1010), 10), []);
    assert_eq!(expiry.due(at(1011), 10), ids(&[1]));
}

#[test]
fn a_lease_that_is_kept_alive_is_not_noted() {
    let mut expiry = leading();
    expiry.grant(at(0), LeaseId(1), 600);
    for second in (100..3000).step_by(100) {
        assert_eq!(expiry.renew(at(second), LeaseId(1)), Renewed::For(600));
        assert_eq!(expiry.due_notes(at(second), 10), []);
    }
    assert_eq!(expiry.due_notes(at(3200), 10), [(LeaseId(1), 300)], "once it is left alone it is");
}

#[test]
fn a_note_is_cleared_in_the_log_before_a_renewal_counts() {
    let mut expiry = leading();
    expiry.grant(at(0), LeaseId(1), 1000);
    assert_eq!(expiry.due_notes(at(300), 10), [(LeaseId(1), 700)]);
    assert_eq!(expiry.renew(at(301), LeaseId(1)), Renewed::BeingNoted);
    expiry.checkpointed(LeaseId(1), 0);
    assert_eq!(expiry.renew(at(301), LeaseId(1)), Renewed::BeingNoted, "the note itself is still on its way");
    expiry.checkpointed(LeaseId(1), 700);
    assert_eq!(expiry.renew(at(302), LeaseId(1)), Renewed::ClearFirst);
    expiry.checkpointed(LeaseId(1), 0);
    assert_eq!(expiry.renew(at(303), LeaseId(1)), Renewed::For(1000));
    assert_eq!(expiry.due(at(1302), 10), []);
    assert_eq!(expiry.due(at(1303), 10), ids(&[1]));
}

#[test]
fn a_note_of_unknown_fate_counts_as_written() {
    let mut expiry = leading();
    expiry.grant(at(0), LeaseId(1), 1000);
    let notes = expiry.due_notes(at(300), 10);
    expiry.not_noted(&notes);
    assert_eq!(expiry.renew(at(301), LeaseId(1)), Renewed::ClearFirst);
    expiry.checkpointed(LeaseId(1), 0);
    expiry.not_noted(&notes);
    assert_eq!(expiry.renew(at(301), LeaseId(1)), Renewed::For(1000));
}

#[test]
fn notes_go_on_until_little_is_left() {
    let mut expiry = leading();
    expiry.grant(at(0), LeaseId(1), 1000);
    for (second, left) in [(300, 700), (600, 400), (900, 100)] {
        assert_eq!(expiry.due_notes(at(second), 10), [(LeaseId(1), left)]);
        expiry.checkpointed(LeaseId(1), left);
    }
    assert_eq!(expiry.due_notes(at(1200), 10), []);
}
