//! The member table.

use keepstone_proto::{
    etcdserverpb::InternalRaftRequest,
    keepstonepb::{
        ClusterInit, Member as Row, MemberAdd, MemberBind, MemberPromote, MemberRemove, MemberUpdate, SoleSurvivor,
    },
    membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest},
};
use keepstone_state::{Error, MemberId, Reply};

use crate::support::*;

fn init() -> InternalRaftRequest {
    let member = Row { id: 1, name: "one".into(), peer_urls: vec!["http://1:2380".into()], ..Row::default() };
    let cluster_init =
        Some(ClusterInit { cluster_id: 77, token: "t".into(), members: vec![member], ..ClusterInit::default() });
    InternalRaftRequest { cluster_init, ..request() }
}

fn add(id: u64, url: &str, is_learner: bool) -> InternalRaftRequest {
    let member_add = Some(MemberAdd { id, peer_urls: vec![url.into()], is_learner, ..MemberAdd::default() });
    InternalRaftRequest { member_add, ..request() }
}

fn remove(id: u64) -> InternalRaftRequest {
    InternalRaftRequest { member_remove: Some(MemberRemove { id }), ..request() }
}

fn promote(id: u64) -> InternalRaftRequest {
    InternalRaftRequest { member_promote: Some(MemberPromote { id }), ..request() }
}

fn bind(member_id: u64, incarnation: &'static str) -> InternalRaftRequest {
    let (incarnation, permit_nonce) = (incarnation.into(), "nonce".into());
    InternalRaftRequest { member_bind: Some(MemberBind { member_id, incarnation, permit_nonce }), ..request() }
}

fn founded() -> Member {
    let mut member = Member::default();
    assert_eq!(member.apply(&init()), Ok(Reply::Done));
    member
}

#[test]
fn a_cluster_is_founded_once() {
    let mut member = founded();
    assert_eq!(member.state.members().cluster_id(), Some(77));
    assert_eq!(member.apply(&init()), Ok(Reply::Done));
    let other = Some(ClusterInit { cluster_id: 78, ..ClusterInit::default() });
    let other = InternalRaftRequest { cluster_init: other, ..request() };
    assert_eq!(member.apply(&other), Err(Error::ClusterInitialized));
    assert!(member.store.restore() == member.state);
}

#[test]
fn ids_and_peer_urls_are_nobody_elses() {
    let mut member = founded();
    assert_eq!(member.apply(&add(1, "http://9:2380", false)), Err(Error::MemberExists));
    assert_eq!(member.apply(&add(2, "http://1:2380", false)), Err(Error::PeerUrlExists));
    let Ok(Reply::MemberAdd(response)) = member.apply(&add(2, "http://2:2380", true)) else { panic!() };
    assert_eq!(response.header.expect("a header").revision, 0);
    assert_eq!((response.member.expect("a member").id, response.members.len()), (2, 2));
    let table = member.state.members();
    let learner = MemberAdd { id: 3, is_learner: true, ..MemberAdd::default() };
    assert_eq!(table.check_add(&learner, 1), Err(Error::TooManyLearners));
    assert_eq!(table.check_add(&learner, 2), Ok(()));
    assert!(member.store.restore() == member.state);
}

#[test]
fn two_removals_side_by_side_leave_a_voter() {
    let mut member = founded();
    member.apply(&add(2, "http://2:2380", false)).expect("added");
    member.apply(&add(3, "http://3:2380", true)).expect("added");
    member.apply(&remove(2)).expect("removed");
    assert_eq!(member.apply(&remove(1)), Err(Error::MemberNotEnoughStarted));
    assert_eq!(member.apply(&remove(4)), Err(Error::MemberNotFound));
    member.apply(&remove(3)).expect("a learner is no voter");
    assert_eq!(member.state.members().iter().map(|row| row.id).collect::<Vec<_>>(), [1]);
    assert!(member.store.restore() == member.state);
}

#[test]
fn a_removed_id_never_comes_back() {
    let mut member = founded();
    member.apply(&add(2, "http://2:2380", false)).expect("added");
    member.apply(&remove(2)).expect("removed");
    assert_eq!(member.apply(&remove(2)), Err(Error::MemberNotFound));
    assert_eq!(member.apply(&add(2, "http://3:2380", false)), Err(Error::MemberNotFound));
    assert!(member.state.members().is_removed(MemberId(2)));
    assert!(member.store.restore() == member.state);
}

#[test]
fn only_learners_are_promoted() {
    let mut member = founded();
    member.apply(&add(2, "http://2:2380", true)).expect("added");
    assert_eq!(member.apply(&promote(1)), Err(Error::MemberNotLearner));
    assert_eq!(member.apply(&promote(9)), Err(Error::MemberNotFound));
    let Ok(Reply::MemberPromote(response)) = member.apply(&promote(2)) else { panic!() };
    assert!(response.members.iter().all(|member| !member.is_learner));
}

#[test]
fn an_update_leaves_alone_what_it_does_not_name() {
    let mut member = founded();
    member.apply(&add(2, "http://2:2380", true)).expect("added");
    let update = |id, url: &str| {
        let member_update = Some(MemberUpdate { id, peer_urls: vec![url.into()], ..MemberUpdate::default() });
        InternalRaftRequest { member_update, ..request() }
    };
    assert_eq!(member.apply(&update(2, "http://1:2380")), Err(Error::PeerUrlExists));
    assert_eq!(member.apply(&update(3, "http://1:2380")), Err(Error::MemberNotFound));
    member.apply(&update(1, "http://one:2380")).expect("updated");
    let row = member.state.members().get(MemberId(1)).expect("a row");
    assert_eq!((row.name.as_str(), row.peer_urls[0].as_str()), ("one", "http://one:2380"));
}

#[test]
fn a_member_publishes_itself_unless_it_was_removed() {
    let mut member = founded();
    let publish = |member_id| {
        let attributes = Attributes { name: "n".into(), client_urls: vec!["http://c:2379".into()] };
        let set = ClusterMemberAttrSetRequest { member_id, member_attributes: Some(attributes) };
        InternalRaftRequest { cluster_member_attr_set: Some(set), ..request() }
    };
    assert_eq!(member.apply(&publish(1)), Ok(Reply::Done));
    assert_eq!(member.state.members().list()[0].client_urls, ["http://c:2379"]);
    assert_eq!(member.apply(&publish(2)), Err(Error::MemberNotFound));
    member.apply(&add(2, "http://2:2380", false)).expect("added");
    member.apply(&remove(1)).expect("removed");
    assert_eq!(member.apply(&publish(1)), Ok(Reply::Done));
    assert!(member.state.members().get(MemberId(1)).is_none());
}

#[test]
fn an_id_is_bound_to_one_data_directory() {
    let mut member = founded();
    assert_eq!(member.apply(&bind(2, "x")), Err(Error::MemberNotFound));
    assert_eq!(member.apply(&bind(1, "x")), Ok(Reply::Done));
    assert_eq!(member.apply(&bind(1, "x")), Ok(Reply::Done));
    assert_eq!(member.apply(&bind(1, "y")), Err(Error::IncarnationMismatch));
    let table = member.state.members();
    assert_eq!((table.incarnation(MemberId(1)), table.permit()), (Some(&b"x"[..]), Some(&b"nonce"[..])));
    assert!(member.store.restore() == member.state);
}

#[test]
fn cluster_version_and_downgrade_are_stored() {
    let mut member = founded();
    let version = Some(ClusterVersionSetRequest { ver: "3.6.0".into() });
    member.apply(&InternalRaftRequest { cluster_version_set: version, ..request() }).expect("set");
    let downgrade = |enabled| InternalRaftRequest {
        downgrade_info_set: Some(DowngradeInfoSetRequest { enabled, ver: "3.5.0".into() }),
        ..request()
    };
    member.apply(&downgrade(true)).expect("set");
    let restored = member.store.restore();
    assert_eq!(restored.members().version(), Some("3.6.0"));
    assert_eq!(restored.members().downgrade_target(), Some("3.5.0"));
    member.apply(&downgrade(false)).expect("set");
    assert_eq!(member.store.restore().members().downgrade_target(), None);
}

#[test]
fn what_this_version_can_not_do_is_refused() {
    use keepstone_proto::etcdserverpb::{AuthEnableRequest, AuthStatusRequest};
    let mut member = founded();
    assert_eq!(member.apply(&request()), Err(Error::NotCapable));
    let enable = InternalRaftRequest { auth_enable: Some(AuthEnableRequest {}), ..request() };
    assert_eq!(member.apply(&enable), Err(Error::NotCapable));
    let status = InternalRaftRequest { auth_status: Some(AuthStatusRequest {}), ..request() };
    let Ok(Reply::AuthStatus(status)) = member.apply(&status) else { panic!() };
    assert!(!status.enabled);
}

fn alone(cluster_id: u64) -> InternalRaftRequest {
    let member = Some(Row { id: 2, peer_urls: vec!["http://2:2380".into()], ..Row::default() });
    let permit_nonce = "another".into();
    let sole_survivor = Some(SoleSurvivor { member, cluster_id, bump_revision: 1000, permit_nonce });
    InternalRaftRequest { sole_survivor, ..request() }
}

#[test]
fn a_survivor_is_the_only_member_left() {
    let mut member = founded();
    member.apply(&add(2, "http://two:2380", true)).expect("added");
    member.apply(&add(3, "http://3:2380", false)).expect("added");
    member.put("a", "1");
    assert_eq!(member.apply(&alone(77)), Ok(Reply::Done));
    let table = member.state.members();
    assert_eq!(table.list().len(), 1);
    let left = table.get(MemberId(2)).expect("the survivor");
    assert_eq!((left.is_learner, left.peer_urls[0].as_str()), (false, "http://two:2380"));
    assert!(table.is_removed(MemberId(1)) && table.is_removed(MemberId(3)));
    // The cluster is the same: so is its history.
    assert_eq!((table.cluster_id(), table.former_ids()), (Some(77), &[][..]));
    assert_eq!((member.state.revision(), member.state.compact_revision()), (2, -1));
    assert!(member.store.restore() == member.state);
}

#[test]
fn a_survivor_under_another_id_has_new_revisions_and_no_history() {
    let mut member = founded();
    member.apply(&add(2, "http://2:2380", false)).expect("added");
    member.put("a", "1");
    member.put("a", "2");
    // Whether it is carried out once or twice.
    for _ in 0..2 {
        assert_eq!(member.apply(&alone(78)), Ok(Reply::Done));
        let table = member.state.members();
        assert_eq!((table.cluster_id(), table.former_ids()), (Some(78), &[77][..]));
        assert_eq!(table.permit(), Some(&b"another"[..]));
        assert_eq!((member.state.revision(), member.state.compact_revision()), (1003, 1003));
        assert!(member.store.restore() == member.state);
    }
    member.sweep();
    assert_eq!(member.stored(), [(3, 0)]);
    assert_eq!(member.put("b", "").header.expect("a header").revision, 1004);
}

#[test]
fn a_survivor_that_was_removed_is_a_member_again() {
    let mut member = founded();
    member.apply(&add(2, "http://two:2380", false)).expect("added");
    member.apply(&remove(2)).expect("removed");
    assert_eq!(member.apply(&alone(77)), Ok(Reply::Done));
    let table = member.state.members();
    assert!(!table.is_removed(MemberId(2)));
    assert_eq!(table.get(MemberId(2)).expect("a row").peer_urls, ["http://2:2380"]);
    assert!(member.store.restore() == member.state);
}
