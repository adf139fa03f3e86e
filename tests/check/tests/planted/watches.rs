use keepstone_check::{Checked, Delivery, History, Op, WatchLog, check_watch};
use keepstone_proto::Event;

use crate::world::{World, everything, put, txn};

/// Four revisions, the third of them with two events; one response each.
fn world() -> (World, Vec<Vec<Event>>) {
    let mut world = World::empty(3);
    world.call(Op::Put(put("a", "one")), false, true);
    world.call(Op::Put(put("a", "two")), false, true);
    world.call(Op::Txn(txn("c", "d", "three", "four")), false, true);
    world.call(Op::Put(put("a", "five")), false, true);
    world.check().expect("nothing is wrong yet");
    let mut all: Vec<Vec<Event>> = vec![Vec::new(); 4];
    for delivery in &world.watch.deliveries {
        if let Delivery::Events { events, .. } = delivery {
            for event in events {
                all[usize::try_from(event.kv().mod_revision() - 2).expect("a revision")].push(event.clone());
            }
        }
    }
    (world, all)
}

fn check(deliveries: Vec<Delivery>, compactions: &[i64]) -> Checked {
    let (world, _) = world();
    let history = History::of([&world.watch])?;
    let log = WatchLog { deliveries, complete_to: 5, ..everything() };
    check_watch(&log, &history, &world.model, compactions)
}

fn broken(deliveries: Vec<Delivery>, says: &str) {
    let violation = check(deliveries, &[]).expect_err(says).to_string();
    assert!(violation.contains(says), "{violation} does not say {says:?}");
}

fn begun() -> Vec<Delivery> {
    vec![Delivery::Started(2), Delivery::Created(2)]
}

fn events(revision: i64, of: &[&[Event]]) -> Delivery {
    Delivery::Events { revision, events: of.concat() }
}

fn log(then: Vec<Delivery>) -> Vec<Delivery> {
    [begun(), then].concat()
}

#[test]
fn a_complete_one_passes_however_it_is_cut() {
    let (_, all) = world();
    let [a, b, c, d] = [&all[0][..], &all[1], &all[2], &all[3]];
    check(log(vec![events(5, &[a, b, c, d])]), &[]).expect("in one");
    check(log(vec![events(2, &[a]), events(4, &[b, c]), Delivery::Progress(4), events(5, &[d])]), &[])
        .expect("in three");
    let resumed = vec![events(3, &[a, b]), Delivery::Started(4), Delivery::Created(5), events(5, &[c, d])];
    check(log(resumed), &[]).expect("resumed");
    let now = vec![Delivery::Started(0), Delivery::Created(4), events(5, &[d])];
    check(now, &[]).expect("from now");
    let compacted = vec![events(2, &[a]), Delivery::Compacted(5), Delivery::Started(5), events(5, &[d])];
    check(log(compacted), &[5]).expect("compacted");
}

#[test]
fn what_a_watch_must_not_do() {
    let (_, all) = world();
    let [a, b, c, d] = [&all[0][..], &all[1], &all[2], &all[3]];
    broken(log(vec![events(2, &[a]), events(5, &[c, d])]), "never saw revision 3");
    broken(log(vec![events(4, &[a, b, c])]), "before the watch ended");
    broken(log(vec![events(3, &[a, b]), events(5, &[b, c, d])]), "again or out of order");
    broken(log(vec![events(3, &[b, a]), events(5, &[c, d])]), "never saw");
    broken(log(vec![events(5, &[a, b, &c[..1], d])]), "got");
    broken(log(vec![events(4, &[a, b, &c[..1]]), events(5, &[&c[1..], d])]), "got");
    broken(log(vec![events(3, &[a, b]), Delivery::Progress(4), events(5, &[c, d])]), "before progress was announced");
    broken(log(vec![events(2, &[a, b, c, d])]), "under a header");
    broken(log(vec![events(3, &[a, b]), Delivery::Started(5), Delivery::Created(5), events(4, &[c])]), "again");
    broken(log(vec![events(2, &[a]), Delivery::Compacted(5)]), "nobody asked for");
    broken(vec![Delivery::Started(0), Delivery::Created(3), events(5, &[d])], "never saw revision 4");
    broken(vec![events(2, &[a])], "before it was created");
    broken(log(vec![Delivery::Progress(9)]), "the history ends at");
}

#[test]
fn the_wrong_value_before() {
    let (_, all) = world();
    let [a, b, c, d] = [&all[0][..], &all[1], &all[2], &all[3]];
    let wrong = [d[0].without_prev_kv()];
    broken(log(vec![events(5, &[a, b, c, &wrong])]), "as what was there before");
    check(log(vec![events(5, &[a, b, c, &wrong])]), &[5]).expect("compacted");
}

#[test]
fn a_revision_that_two_watches_saw_differently() {
    let (world, all) = world();
    let other = WatchLog { deliveries: log(vec![events(4, &[&all[2][..1]])]), ..everything() };
    let violation = History::of([&world.watch, &other]).expect_err("they differ").to_string();
    assert!(violation.contains("revision 4"), "{violation}");
    let gap = WatchLog { deliveries: log(vec![events(2, &[&all[0]]), events(5, &[&all[3]])]), ..everything() };
    let violation = History::of([&gap]).expect_err("a hole").to_string();
    assert!(violation.contains("no watch saw revision 3"), "{violation}");
}
