//! Leases: what hangs on them goes with them.

use keepstone_proto::{
    etcdserverpb::{InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest},
    keepstonepb::LeaseExpire,
};
use keepstone_state::{Effects, Error, LeaseChange, LeaseId, Reply};

use crate::support::*;

fn expire(ids: &[i64]) -> InternalRaftRequest {
    InternalRaftRequest { lease_expire: Some(LeaseExpire { ids: ids.to_vec() }), ..request() }
}

#[test]
fn a_revoke_deletes_its_keys_sorted_in_one_revision() {
    let mut member = Member::default();
    member.grant(1, 60).expect("granted");
    for key in ["c", "a", "b"] {
        member.apply(&put(key, "", 1)).expect("put");
    }
    let Ok(Reply::LeaseRevoke(response)) = member.revoke(1) else { panic!() };
    assert_eq!(response.header.expect("a header").revision, 5);
    let keys: Vec<_> = member.store.records.values().skip(3).map(|r| (r.at.main, r.at.sub, r.kv.key())).collect();
    assert_eq!(keys, [(5, 0, &b"a"[..]), (5, 1, b"b"), (5, 2, b"c")]);
    assert_eq!(member.revoke(1), Err(Error::LeaseNotFound));
    assert!(member.store.restore() == member.state);
}

#[test]
fn a_revoke_of_a_lease_without_keys_makes_no_revision() {
    let mut member = Member::default();
    member.grant(1, 60).expect("granted");
    member.revoke(1).expect("revoked");
    assert_eq!(member.state.revision(), 1);
}

#[test]
fn leases_that_expire_together_are_revisions_of_their_own() {
    let mut member = Member::default();
    for id in [1, 2, 3] {
        member.grant(id, 60).expect("granted");
    }
    member.apply(&put("a", "", 1)).expect("put");
    member.apply(&put("b", "", 2)).expect("put");
    // 9 has never been there, 3 has no keys.
    assert_eq!(member.apply(&expire(&[2, 9, 3, 1])), Ok(Reply::Done));
    assert_eq!(member.stored(), [(2, 0), (3, 0), (4, 0), (5, 0)]);
    let keys: Vec<_> = member.store.records.values().map(|r| r.kv.key()).collect();
    assert_eq!(keys, [b"a", b"b", b"b", b"a"]);
    assert!(member.state.leases().is_empty());
}

#[test]
fn a_key_leaves_its_lease_when_it_is_put_elsewhere_or_deleted() {
    let mut member = Member::default();
    member.grant(1, 60).expect("granted");
    member.grant(2, 60).expect("granted");
    for key in ["a", "b", "c", "d"] {
        member.apply(&put(key, "", 1)).expect("put");
    }
    member.put("a", "");
    member.apply(&put("b", "", 2)).expect("put");
    member.delete("c", "");
    let keys = |id| member.state.leases().get(LeaseId(id)).expect("a lease").keys().collect::<Vec<_>>();
    assert_eq!((keys(1), keys(2)), (vec![&b"d"[..]], vec![&b"b"[..]]));
    assert!(member.store.restore() == member.state);
    member.revoke(1).expect("revoked");
    assert!(member.state.find(b"a", member.state.revision()).is_some());
    assert!(member.state.find(b"d", member.state.revision()).is_none());
}

#[test]
fn a_grant_answers_with_the_revision_it_did_not_change() {
    let mut member = Member::default();
    member.put("a", "");
    let Ok(Reply::LeaseGrant(response)) = member.grant(5, 60) else { panic!() };
    assert_eq!((response.id, response.ttl, response.header.expect("a header").revision), (5, 60, 2));
    assert_eq!(member.grant(5, 60), Err(Error::LeaseExists));
}

#[test]
fn a_checkpoint_is_stored_and_unknown_leases_are_passed_over() {
    let mut member = Member::default();
    member.grant(1, 60).expect("granted");
    let left = |id| LeaseCheckpoint { id, remaining_ttl: 12 };
    let lease_checkpoint = Some(LeaseCheckpointRequest { checkpoints: vec![left(8), left(1)] });
    member.apply(&InternalRaftRequest { lease_checkpoint, ..request() }).expect("noted");
    assert_eq!(member.state.leases().get(LeaseId(1)).map(|lease| lease.remaining_ttl), Some(12));
    assert!(member.store.restore() == member.state);
}

#[test]
fn the_leaders_clock_is_told_of_every_lease() {
    let mut member = Member::default();
    let mut effects = Effects::default();
    let grant = |id, ttl| InternalRaftRequest {
        lease_grant: Some(keepstone_proto::etcdserverpb::LeaseGrantRequest { id, ttl }),
        ..request()
    };
    let revoke = InternalRaftRequest { lease_revoke: Some(LeaseRevokeRequest { id: 2 }), ..request() };
    for request in [grant(1, 10), grant(2, 20), revoke] {
        let applied = member.state.apply(1, 1, &request, &member.store, &mut effects);
        applied.expect("the store never fails").expect("applied");
    }
    let (one, two) = (LeaseId(1), LeaseId(2));
    let expected = [LeaseChange::Granted(one, 10), LeaseChange::Granted(two, 20), LeaseChange::Gone(two)];
    assert_eq!(effects.leases, expected);
}
