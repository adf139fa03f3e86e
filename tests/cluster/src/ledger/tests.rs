use keepstone_proto::{Event, KeyValue, KeyValueParts};

use super::*;

/// A ledger whose calls follow each other: each begins at an even stamp and ends at the next odd one.
#[derive(Default)]
struct Book {
    calls: Vec<Call>,
    history: Vec<Revision>,
}

impl Book {
    /// Adds a call; answers the stamp at which it began.
    fn call(&mut self, what: What, outcome: Outcome) -> u64 {
        let begun = 2 * self.calls.len() as u64;
        self.calls.push(Call { what, begun, ended: begun + 1, outcome });
        begun
    }

    fn happens(&mut self, event: impl FnOnce(i64) -> Event) -> i64 {
        let revision = 2 + self.history.len() as i64;
        self.history.push(Revision { revision, events: vec![event(revision)] });
        revision
    }

    fn put(&mut self, key: &str, value: &str, lease: i64) -> u64 {
        let (key, value) = (key.to_owned(), value.to_owned());
        let revision = self.happens(|revision| {
            Event::put(
                &KeyValue::new(&KeyValueParts {
                    key: key.as_bytes(),
                    value: value.as_bytes(),
                    create_revision: revision,
                    mod_revision: revision,
                    version: 1,
                    lease,
                }),
                None,
            )
        });
        self.call(What::Put { key, value, lease }, acked(revision, 0))
    }

    fn deleted(&mut self, key: &str) -> i64 {
        self.happens(|revision| Event::delete(key.as_bytes(), revision, None))
    }

    fn settled(self) -> Result<Ledger> {
        let mut ledger = Ledger::default();
        ledger.enter(self.calls);
        ledger.settle(&self.history)?;
        Ok(ledger)
    }
}

fn acked(revision: i64, number: i64) -> Outcome {
    Outcome::Acked { revision, number }
}

fn delete(key: &str) -> What {
    What::Delete { key: key.to_owned(), range_end: String::new() }
}

const GRANT: What = What::Grant { id: 7, ttl: lease::LASTING };
const REVOKE: What = What::Revoke { id: 7 };

#[test]
fn a_revocation_that_deletes_keys_is_what_a_crash_may_have_reached() {
    let mut book = Book::default();
    book.call(GRANT, acked(1, 0));
    let put = book.put("l/1", "1", 7);
    let revision = book.deleted("l/1");
    let revoke = book.call(REVOKE, acked(revision, 0));
    let next = book.put("k/1", "2", 0);
    let ledger = book.settled().expect("it holds together");
    assert_eq!([put - 1, put, revoke - 1, revoke, next].map(|stamp| ledger.possible(stamp)), [1, 2, 2, 3, 4]);
    assert_eq!(ledger.acknowledged(revoke), (2, 0));
    assert_eq!(ledger.acknowledged(revoke + 1), (3, 0));
}

#[test]
fn nothing_is_possible_past_a_revision_that_nobody_had_asked_for() {
    let mut book = Book::default();
    let first = book.put("k/1", "1", 0);
    let second = book.put("k/2", "2", 0);
    // The last revision was asked for first, and waited.
    book.put("k/3", "3", 0);
    book.calls[2].begun = first;
    let ledger = book.settled().expect("it holds together");
    assert_eq!([first, second].map(|stamp| ledger.possible(stamp)), [2, 4]);
}

#[test]
fn a_deletion_nobody_acknowledged_may_be_any_that_fits() {
    let mut book = Book::default();
    book.put("k/1", "1", 0);
    let early = book.call(delete("k/1"), Outcome::Unknown);
    book.deleted("k/1");
    book.put("k/1", "2", 0);
    book.call(delete("k/1"), Outcome::Unknown);
    book.deleted("k/1");
    let ledger = book.settled().expect("it holds together");
    assert!(early < 4);
    assert_eq!([3, 4, 5].map(|stamp| ledger.possible(stamp)), [3, 5, 5]);
}

#[test]
fn leases_are_judged_by_what_was_answered_by_then() {
    let mut book = Book::default();
    book.call(GRANT, acked(1, 0));
    book.call(REVOKE, acked(1, 0));
    book.put("k/1", "1", 0);
    let ledger = book.settled().expect("it holds together");
    let lists = |stamp| {
        let Leases { there, revoked, not_asked_for } = ledger.leases_at(stamp);
        (there.len(), revoked.len(), not_asked_for.len())
    };
    assert_eq!([0, 1, 2, 3].map(lists), [(0, 0, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0)]);
    let mut later = Book::default();
    later.put("k/1", "1", 0);
    later.call(GRANT, acked(2, 0));
    assert_eq!(later.settled().expect("it holds together").leases_at(1).not_asked_for, [7]);
}

#[test]
fn what_can_not_be_is_refused() {
    let refused = |change: fn(&mut Book)| {
        let mut book = Book::default();
        book.call(GRANT, acked(1, 0));
        book.put("l/1", "1", 7);
        change(&mut book);
        format!("{:#}", book.settled().err().expect("refused"))
    };
    let said = refused(|book| {
        book.deleted("l/1");
    });
    assert!(said.contains("nobody revoked it"), "{said}");
    let said = refused(|book| {
        book.deleted("l/1");
        book.call(REVOKE, acked(9, 0));
    });
    assert!(said.contains("was acknowledged at 9"), "{said}");
    let said = refused(|book| {
        book.call(REVOKE, acked(2, 0));
    });
    assert!(said.contains("though its lease was revoked"), "{said}");
    let said = refused(|book| {
        book.call(delete("k/1"), acked(3, 1));
    });
    assert!(said.contains("LOST"), "{said}");
    let said = refused(|book| {
        book.put("k/1", "2", 0);
        book.deleted("k/1");
    });
    assert!(said.contains("nobody deleted this"), "{said}");
}
