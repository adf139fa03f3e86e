use keepstone_operator_plan::act::{Act, Outcome};
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::desired::Retention;
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Intent, Join, Leave};

use crate::fixture::*;

fn coming(n: u32) -> Join {
    Join { ordinal: Ordinal(n), leaver: None, stale: None, attempt: 1, applied: 0 }
}

fn going(n: u32) -> Leave {
    Leave { ordinal: Ordinal(n), member: Some(id(n)), claim: Some(uid(format!("claim-{n}"))) }
}

/// Three voters and a learner in place 3, being added.
fn learning() -> Case {
    let mut case = well(4);
    case.d.size = 5;
    case.under_way(Intent::ScaleUp(coming(3)));
    known(&mut case.o.table)[3].learner = true;
    case.answer(3).learner = true;
    case
}

#[test]
fn a_cluster_that_is_well_is_left_alone() {
    let case = well(3);
    assert_eq!(case.act(), None);
    case.says(ConditionType::Ready, Truth::True, Reason::AsExpected);
}

#[test]
fn the_budget_counts_the_coming_voter_before_it_comes() {
    let mut case = well(3);
    case.d.size = 5;
    assert_eq!(case.intent(), Intent::ScaleUp(coming(3)));
    case.under_way(Intent::ScaleUp(coming(3)));
    assert_eq!(case.act(), Some(Act::ApplyBudget { min_available: Some(3) }));
    known(&mut case.o.objects).min_available = Some(3);
    assert_eq!(case.act(), Some(Act::MemberAdd { ordinal: Ordinal(3) }));
}

#[test]
fn a_crash_after_member_add_adds_no_second_member() {
    let mut case = well(3);
    case.d.size = 5;
    known(&mut case.o.objects).min_available = Some(3);
    case.under_way(Intent::ScaleUp(coming(3)));
    known(&mut case.o.table).push(Member { learner: true, ..member(3) });
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 3, to: 4 }));
}

#[test]
fn the_server_decides_when_a_learner_is_ready() {
    let mut case = learning();
    let act = Act::MemberPromote { id: id(3) };
    assert_eq!(case.act(), Some(act.clone()));
    case.failed(act);
    assert_eq!(case.act(), None, "not in sync is no error, and no reason to hurry");
}

#[test]
fn a_second_learner_is_never_added() {
    let mut case = learning();
    case.o.cluster.operation = None;
    known(&mut case.o.objects).min_available = Some(2);
    assert!(matches!(case.intent(), Intent::ReplaceMember(join) if join == coming(3)));
    case.under_way(Intent::ReplaceMember(Join { leaver: Some(MemberId(1)), ..coming(4) }));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

/// openshift/enhancements 920: a large learner needs minutes, and a deadline from its start kills it for ever.
#[test]
fn a_learner_that_gets_on_is_given_time() {
    let mut case = learning();
    case.under_way(Intent::ScaleUp(coming(3))).deadline = Time(NOW.0 + 10);
    assert_eq!(case.intent(), Intent::ScaleUp(Join { applied: 5000, ..coming(3) }));
}

#[test]
fn a_learner_that_is_stuck_makes_way_for_a_fresh_one() {
    let mut case = learning();
    case.down(3);
    case.under_way(Intent::ScaleUp(coming(3))).deadline = Time(NOW.0 - 1);
    let again = Join { leaver: Some(id(3)), stale: Some(uid("claim-3")), attempt: 2, ..coming(3) };
    assert_eq!(case.intent(), Intent::ScaleUp(again.clone()));
    case.under_way(Intent::ScaleUp(again));
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(3) }));
}

#[test]
fn a_learner_that_is_no_longer_wanted_is_undone() {
    let mut case = learning();
    case.d.size = 3;
    assert_eq!(case.intent(), Intent::ScaleDown(going(3)));
    case.under_way(Intent::ScaleDown(going(3)));
    known(&mut case.o.objects).min_available = Some(2);
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(3) }));
}

#[test]
fn what_an_earlier_member_left_is_not_joined_with() {
    let mut case = well(3);
    case.d.size = 4;
    known(&mut case.o.claims).insert(Ordinal(3), Claim { left: Some(Some(id(3))), ..claim(3) });
    let join = Join { stale: Some(uid("claim-3")), ..coming(3) };
    assert_eq!(case.intent(), Intent::ScaleUp(join.clone()));
    case.under_way(Intent::ScaleUp(join));
    known(&mut case.o.objects).min_available = Some(3);
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(3), uid: uid("claim-3") }));
}

/// druid's "wrong volume mounted".
#[test]
fn another_clusters_volume_is_not_taken_for_a_new_member() {
    let mut case = well(3);
    case.d.size = 4;
    known(&mut case.o.claims).insert(Ordinal(3), Claim { owner: uid("former"), ..claim(3) });
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::VolumeForeign);
}

#[test]
fn nothing_is_added_while_a_member_is_not_well() {
    let mut case = well(3);
    case.d.size = 5;
    case.down(1);
    assert_eq!(case.act(), None);
}

/// etcd-io 400: the leader was removed while it led.
#[test]
fn a_leader_moves_before_it_leaves() {
    let mut case = well(3);
    case.d.size = 2;
    case.leader(2);
    assert_eq!(case.intent(), Intent::ScaleDown(going(2)));
    case.under_way(Intent::ScaleDown(going(2)));
    let act = Act::MoveLeader { from: Ordinal(2), to: id(0) };
    assert_eq!(case.act(), Some(act.clone()));
    case.failed(act);
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(2) }), "what can't hand over is not waited for");
}

#[test]
fn a_member_is_out_of_the_table_before_its_pod_and_claim_go() {
    let mut case = well(3);
    case.d.size = 2;
    case.under_way(Intent::ScaleDown(going(2)));
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(2) }));
    known(&mut case.o.table).pop();
    case.o.answers.remove(&Ordinal(2));
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 3, to: 2 }));
    case.workload().replicas = 2;
    assert_eq!(case.act(), None, "the pod may still have the volume");
    known(&mut case.o.pods).remove(&Ordinal(2));
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(2), uid: uid("claim-2") }));
    known(&mut case.o.claims).remove(&Ordinal(2));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn a_kept_volume_says_whose_it_was() {
    let mut case = well(2);
    case.d.retain_policy = Retention::Retain;
    case.under_way(Intent::ScaleDown(going(2)));
    known(&mut case.o.claims).insert(Ordinal(2), claim(2));
    let act = Act::MarkClaimLeft { ordinal: Ordinal(2), uid: uid("claim-2"), member: Some(id(2)) };
    assert_eq!(case.act(), Some(act));
    case.claim(2).left = Some(Some(id(2)));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

/// etcd-io 0.2 removed `memberHealth[n-1]` of a list sorted by text.
#[test]
fn members_are_told_apart_by_address_not_by_their_place_in_a_list() {
    let mut case = well(3);
    case.d.size = 2;
    known(&mut case.o.table).reverse();
    assert_eq!(case.intent(), Intent::ScaleDown(going(2)));
}

#[test]
fn a_table_that_could_not_be_read_removes_nobody() {
    let mut case = well(3);
    case.d.size = 2;
    case.under_way(Intent::ScaleDown(going(2)));
    case.o.table = Seen::Unknown;
    assert_eq!(case.act(), None);
}

#[test]
fn a_shrinking_that_was_taken_back_in_time_touches_nobody() {
    let mut case = well(3);
    case.under_way(Intent::ScaleDown(going(2)));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn a_broken_top_member_leaves_instead_of_being_replaced() {
    let mut case = well(4);
    case.d.size = 3;
    case.down(3);
    case.pod(3).verdict = Some(Verdict::DataLost);
    assert_eq!(case.intent(), Intent::ScaleDown(going(3)));
}

/// Somebody scaled the StatefulSet by hand.
#[test]
fn the_workload_follows_the_member_table_and_never_leads_it() {
    let mut case = well(3);
    case.workload().replicas = 1;
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 1, to: 3 }));
    case.workload().replicas = 5;
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 5, to: 3 }));
    case.o.table = Seen::Unknown;
    assert!(!matches!(case.act(), Some(Act::SetReplicas { .. })));
}

#[test]
fn a_workload_scaled_below_the_quorum_by_hand_comes_back_also_in_mid_operation() {
    let mut case = well(3);
    case.workload().replicas = 1;
    case.under_way(Intent::ReplaceMember(coming(1)));
    (1..3).for_each(|n| case.down(n));
    case.no_quorum();
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 1, to: 3 }));
    case.under_way(Intent::ScaleDown(going(2)));
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 1, to: 3 }), "it may not have left yet");
}

#[test]
fn a_shrinking_that_has_become_unsafe_makes_way_for_repair() {
    let mut case = well(3);
    case.d.size = 1;
    case.under_way(Intent::ScaleDown(going(2)));
    case.down(0);
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn a_lost_workload_comes_back_as_large_as_the_cluster_not_as_the_spec() {
    let mut case = well(5);
    case.d.size = 3;
    case.o.workload = Seen::Known(None);
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { replicas: 5, .. })));
}

#[test]
fn a_finished_request_is_told_before_the_record_goes() {
    let mut case = well(3);
    case.request(keepstone_operator_plan::operation::Verb::ReplaceMember { ordinal: Ordinal(1) });
    case.under_way(Intent::ReplaceMember(coming(1))).request = Some(uid("request"));
    assert_eq!(case.act(), Some(Act::FinishRequest { uid: uid("request"), outcome: Outcome::Succeeded }));
    known(&mut case.o.requests)[0].phase = Phase::Succeeded;
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn claims_that_scaling_by_hand_left_are_cleared_away() {
    let mut case = well(3);
    known(&mut case.o.claims).insert(Ordinal(4), claim(4));
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(4), uid: uid("claim-4") }));
    case.d.retain_policy = Retention::Retain;
    assert_eq!(case.act(), Some(Act::MarkClaimLeft { ordinal: Ordinal(4), uid: uid("claim-4"), member: None }));
}

#[test]
fn a_pod_of_nobody_on_a_node_that_is_gone_holds_up_nothing() {
    let mut case = well(3);
    let stranded = Pod { terminating: true, node_lost: Some(NOW), ..pod(3) };
    known(&mut case.o.pods).insert(Ordinal(3), stranded);
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(3), uid: uid("pod-3"), force: true }));
}

#[test]
fn a_workload_made_anew_without_the_table_forgets_no_member_whose_claim_is_going() {
    let mut case = well(3);
    case.claim(2).terminating = true;
    case.o.workload = Seen::Known(None);
    case.o.table = Seen::Unknown;
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { replicas: 3, .. })));
}
