use std::time::Duration;

use keepstone_check::{Call, Delivery, Op, Outcome};
use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::world::{World, get, put, txn};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn what_is_right_passes() {
    for seed in 0..60 {
        let world = World::random(seed, 300);
        let summary = world.check().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(summary.writes > 50 && summary.reads > 30 && summary.carried_out > 3, "{summary:?}");
    }
}

/// Two puts and a read of the second.
fn three() -> World {
    let mut world = World::empty(1);
    world.call(Op::Put(put("a", "one")), false, true);
    world.call(Op::Put(put("a", "two")), false, true);
    world.call(Op::Range(get("a")), false, true);
    for (n, call) in world.calls.iter_mut().enumerate() {
        (call.begun, call.ended) = (ms(1000 * n as u64), ms(1000 * n as u64 + 500));
    }
    world.check().expect("nothing is wrong yet");
    world
}

fn drop_last_events(world: &mut World) {
    let Some(Delivery::Events { events, .. }) =
        world.watch.deliveries.iter_mut().rfind(|one| matches!(one, Delivery::Events { .. }))
    else {
        panic!("there are events");
    };
    events.pop();
}

#[test]
fn a_lost_write() {
    let mut world = three();
    world.calls.pop();
    drop_last_events(&mut world);
    world.broken("LOST");
}

#[test]
fn a_read_of_what_is_lost() {
    let mut world = three();
    world.calls.remove(1);
    drop_last_events(&mut world);
    world.broken("is lost");
}

#[test]
fn a_stale_read() {
    let mut world = three();
    let mut old = World::empty(1);
    old.call(Op::Put(put("a", "one")), false, true);
    world.calls[2].outcome = old.carry_out(&Op::Range(get("a")));
    world.broken("STALE");
    // At the same time as the second write it is right, and so it is where staleness is asked for.
    world.calls[2].begun = ms(1200);
    world.check().expect("concurrent");
    world.calls[2].begun = ms(2000);
    world.calls[2].op = Op::Range(RangeRequest { serializable: true, ..get("a") });
    world.check().expect("serializable");
}

#[test]
fn a_wrong_value() {
    let mut world = three();
    if let Outcome::Range(answer) = &mut world.calls[2].outcome {
        answer.kvs = vec![KeyValue::default()];
    }
    world.broken("right was");
}

#[test]
fn a_wrong_answer_to_a_write() {
    let mut world = three();
    if let Outcome::Put(answer) = &mut world.calls[1].outcome {
        answer.prev_kv = None;
    }
    world.broken("right was");
}

#[test]
fn a_write_that_happened_twice() {
    let mut world = three();
    world.call(Op::Put(put("b", "three")), true, true);
    world.check().expect("once is right");
    world.carry_out(&Op::Put(put("b", "three")));
    world.broken("happened twice");
}

#[test]
fn a_refused_write_that_happened() {
    let mut world = three();
    world.call(Op::Put(put("b", "three")), true, true);
    world.calls[3].outcome = Outcome::Refused("no".to_owned());
    world.broken("was answered Refused");
}

#[test]
fn two_writes_of_one_revision() {
    let mut world = three();
    let mut twin = world.calls[1].clone();
    twin.op = Op::Put(put("a", "three"));
    world.calls.push(twin);
    world.broken("both were answered");
}

#[test]
fn a_write_before_it_was_asked_for() {
    let mut world = three();
    world.calls[1].outcome = Outcome::Unknown;
    world.check().expect("it may have happened");
    world.calls[2].ended = ms(900);
    (world.calls[2].begun, world.calls[0].ended) = (ms(600), ms(500));
    world.broken("STALE");
}

#[test]
fn a_value_nobody_wrote() {
    let mut world = three();
    world.carry_out(&Op::Put(put("b", "three")));
    world.broken("nobody wrote");
}

#[test]
fn a_deletion_nobody_asked_for() {
    let mut world = three();
    let delete = Op::Delete(DeleteRangeRequest { key: "a".into(), ..Default::default() });
    world.carry_out(&delete);
    world.broken("nobody deleted");
    world.calls.push(Call { client: 9, begun: ms(2100), ended: ms(0), op: delete, outcome: Outcome::Unknown });
    world.check().expect("somebody may have");
}

#[test]
fn half_a_transaction() {
    let mut world = three();
    world.call(Op::Txn(txn("c", "d", "three", "four")), false, true);
    (world.calls[3].begun, world.calls[3].ended) = (ms(4000), ms(4100));
    world.check().expect("a whole one is right");
    drop_last_events(&mut world);
    world.broken("makes");
}

#[test]
fn the_other_branch() {
    let mut world = three();
    world.call(Op::Txn(txn("c", "d", "three", "four")), false, true);
    (world.calls[3].begun, world.calls[3].ended) = (ms(4000), ms(4100));
    if let Outcome::Txn(answer) = &mut world.calls[3].outcome {
        answer.succeeded = false;
    }
    world.broken("right was");
}

#[test]
fn a_lease_that_ended_early() {
    let mut world = World::empty(2);
    let (op, outcome) = (Op::Grant { id: 7, ttl: 10 }, Outcome::Done(1));
    world.calls.push(Call { client: 0, begun: ms(1000), ended: ms(1100), op, outcome });
    world.call(Op::Put(PutRequest { lease: 7, ..put("a", "one") }), false, true);
    let events = world.model.delete_keys(&["a".into()]);
    world.deliver(events);
    world.call(Op::Range(get("a")), false, true);
    (world.calls[1].begun, world.calls[1].ended) = (ms(1200), ms(1300));
    (world.calls[2].begun, world.calls[2].ended) = (ms(11_500), ms(11_600));
    assert_eq!(world.check().expect("it had time").lease_ends, 1);
    (world.calls[2].begun, world.calls[2].ended) = (ms(10_000), ms(10_100));
    world.broken("could not end before");
    let op = Op::Revoke(7);
    world.calls.push(Call { client: 1, begun: ms(9000), ended: ms(0), op, outcome: Outcome::Unknown });
    world.check().expect("somebody may have revoked it");
}

#[test]
fn the_end_of_a_lease_leaves_an_unanswered_delete_to_a_later_revision() {
    let mut world = World::empty(2);
    let mut done = |begun, op, revision| {
        let outcome = Outcome::Done(revision);
        world.calls.push(Call { client: 0, begun: ms(begun), ended: ms(begun + 1), op, outcome });
    };
    done(100, Op::Grant { id: 7, ttl: 10 }, 1);
    done(500, Op::Revoke(7), 3);
    world.call(Op::Put(PutRequest { lease: 7, ..put("a", "one") }), false, true);
    let events = world.model.delete_keys(&["a".into()]);
    world.deliver(events);
    world.call(Op::Put(put("a", "two")), false, true);
    let delete = DeleteRangeRequest { key: "a".into(), ..Default::default() };
    world.call(Op::Delete(delete), true, true);
    for (call, begun) in [(2, 200), (3, 600), (4, 150)] {
        (world.calls[call].begun, world.calls[call].ended) = (ms(begun), ms(begun + 50));
    }
    assert_eq!(world.check().expect("each has its cause").lease_ends, 1);
}

#[test]
fn a_renewed_lease_that_ended() {
    let mut world = World::empty(2);
    let mut done = |begun, op| {
        world.calls.push(Call { client: 0, begun: ms(begun), ended: ms(begun + 1), op, outcome: Outcome::Done(1) });
    };
    done(1000, Op::Grant { id: 7, ttl: 10 });
    done(9000, Op::KeepAlive(7));
    world.call(Op::Put(PutRequest { lease: 7, ..put("a", "one") }), false, true);
    let events = world.model.delete_keys(&["a".into()]);
    world.deliver(events);
    world.call(Op::Range(get("a")), false, true);
    (world.calls[2].begun, world.calls[2].ended) = (ms(1200), ms(1300));
    (world.calls[3].begun, world.calls[3].ended) = (ms(12_000), ms(12_100));
    world.broken("could not end before");
}

#[test]
fn history_that_was_compacted_and_read() {
    let mut world = three();
    world.call(Op::Range(RangeRequest { revision: 2, ..get("a") }), false, true);
    world.check().expect("it is there");
    (world.calls[3].begun, world.calls[3].ended) = (ms(5000), ms(5100));
    let (op, outcome) = (Op::Compact(3), Outcome::Done(3));
    world.calls.push(Call { client: 9, begun: ms(4000), ended: ms(4100), op, outcome });
    world.broken("was answered after");
    world.calls[3].outcome = Outcome::Refused("required revision has been compacted".to_owned());
    world.check().expect("refused as it should be");
    world.calls.pop();
    world.broken("nobody asked for");
}
