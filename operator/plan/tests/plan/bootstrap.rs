use keepstone_operator_plan::act::{Act, Permit};
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Bootstrap, Intent};

use crate::fixture::*;

fn attempt(attempt: u32, permit: Option<Permit>) -> Intent {
    Intent::Bootstrap(Bootstrap { attempt, permit, spoiled: None, source: None, lost: None })
}

/// The seed's pod and claim are there, and it waits for its permit.
fn seed() -> Case {
    let mut case = nothing(3);
    let whole = well(1);
    case.o.workload = whole.o.workload;
    case.o.pods = whole.o.pods;
    case.o.claims = whole.o.claims;
    case
}

/// The seed has founded with the permit, and nobody knows.
fn founded() -> Case {
    let mut case = seed();
    case.under_way(attempt(1, Some(permit())));
    case.o.permit = Seen::Known(Some(permit()));
    case.o.table = Seen::Known(vec![member(0)]);
    case.o.answers.insert(Ordinal(0), Status { permit: Some(Nonce(42)), ..status(0) });
    case
}

#[test]
fn the_intent_to_found_is_recorded_before_anything_exists() {
    assert_eq!(nothing(3).intent(), attempt(1, None));
}

#[test]
fn only_the_seed_runs_before_there_is_a_cluster() {
    let mut case = nothing(5);
    case.under_way(attempt(1, None));
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { replicas: 1, .. })));
}

#[test]
fn a_permit_names_pod_claim_and_nonce_and_is_recorded_before_it_is_given() {
    let mut case = seed();
    case.under_way(attempt(1, None));
    assert_eq!(case.intent(), attempt(1, Some(permit())));
    case.under_way(attempt(1, Some(permit())));
    assert_eq!(case.act(), Some(Act::GrantPermit(permit())));
}

/// cozystack/etcd-operator 355: the seed came up with a blank volume and formed a second cluster of the same ID.
#[test]
fn a_seed_with_a_blank_volume_never_founds_again() {
    let mut case = well(3);
    case.down(0);
    case.leader(1);
    case.claim(0).uid = uid("blank");
    case.pod(0).verdict = Some(Verdict::DataLost);
    assert!(matches!(case.intent(), Intent::ReplaceMember(_)));
    case.o.table = Seen::Unknown;
    assert!(!matches!(case.act(), Some(Act::GrantPermit(_))));
}

#[test]
fn clients_come_only_after_the_id_is_latched_and_the_permit_gone() {
    let mut case = founded();
    assert_eq!(case.act(), Some(Act::Latch { from: None, to: Some(CLUSTER) }));
    case.o.cluster.cluster_id = Some(CLUSTER);
    assert_eq!(case.act(), Some(Act::RevokePermit { nonce: Nonce(42) }));
    case.o.permit = Seen::Unknown;
    assert_eq!(case.act(), None, "whether the permit is gone must be known");
    case.o.permit = Seen::Known(None);
    assert_eq!(case.act(), Some(Act::OpenClientService { open: true }));
    known(&mut case.o.objects).open = true;
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 0 }));
}

#[test]
fn a_founding_in_another_volume_is_not_latched() {
    let mut case = founded();
    case.claim(0).uid = uid("other");
    assert!(!matches!(case.act(), Some(Act::Latch { .. })));
}

#[test]
fn a_founding_with_another_permit_is_not_latched() {
    let mut case = founded();
    case.answer(0).permit = Some(Nonce(7));
    assert!(!matches!(case.act(), Some(Act::Latch { .. })));
}

#[test]
fn a_seed_with_more_than_one_member_is_not_latched() {
    let mut case = founded();
    known(&mut case.o.table).push(member(1));
    assert!(!matches!(case.act(), Some(Act::Latch { .. })));
}

#[test]
fn a_failed_founding_is_thrown_away_permit_first() {
    let mut case = seed();
    case.under_way(attempt(1, Some(permit()))).deadline = Time(NOW.0 - 1);
    case.o.permit = Seen::Known(Some(permit()));
    let again = Bootstrap { attempt: 2, permit: None, spoiled: Some(uid("claim-0")), source: None, lost: None };
    assert_eq!(case.intent(), Intent::Bootstrap(again.clone()));
    case.under_way(Intent::Bootstrap(again));
    assert_eq!(case.act(), Some(Act::RevokePermit { nonce: Nonce(42) }));
    case.o.permit = Seen::Known(None);
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(0), uid: uid("claim-0") }));
    case.claim(0).terminating = true;
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
    case.pod(0).uid = uid("pod-0b");
    case.claim(0).uid = uid("claim-0b");
    case.claim(0).terminating = false;
    let Intent::Bootstrap(named) = case.intent() else { panic!("not a founding") };
    assert_eq!((named.attempt, named.permit.map(|p| p.claim)), (2, Some(uid("claim-0b"))));
}

#[test]
fn a_founding_that_failed_three_times_waits_for_the_spec_to_change() {
    let mut case = seed();
    case.under_way(attempt(3, Some(permit()))).deadline = Time(NOW.0 - 1);
    case.o.permit = Seen::Known(Some(permit()));
    assert_eq!(case.act(), None);
    case.says(ConditionType::Available, Truth::False, Reason::BootstrapFailed);
    case.o.cluster.generation = 2;
    let Intent::Bootstrap(again) = case.intent() else { panic!("not a founding") };
    assert_eq!(again.attempt, 1);
}

#[test]
fn a_seed_that_moved_before_it_founded_gets_another_permit() {
    let mut case = seed();
    case.under_way(attempt(3, Some(permit())));
    case.o.permit = Seen::Known(Some(permit()));
    case.pod(0).uid = uid("pod-0b");
    let Intent::Bootstrap(again) = case.intent() else { panic!("not a founding") };
    assert_eq!((again.attempt, again.permit), (3, None));
}

/// A configuration that did not start and was mended took effect when the founding was overdue: with a backup after hours.
#[test]
fn a_seed_that_does_not_run_is_made_anew_when_the_spec_is_mended() {
    let mut case = seed();
    case.o.answers.clear();
    let pod = case.pod(0);
    (pod.started, pod.ready, pod.template.config) = (false, false, "bad".into());
    case.under_way(attempt(1, None));
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
    case.under_way(attempt(1, Some(permit())));
    case.o.permit = Seen::Known(Some(permit()));
    let Intent::Bootstrap(again) = case.intent() else { panic!("not a founding") };
    assert_eq!((again.permit, again.spoiled), (None, Some(uid("claim-0"))));
    case.pod(0).started = true;
    assert_eq!(case.act(), None, "it may be about to found");
}

#[test]
fn nothing_is_founded_over_volumes_of_which_nobody_knows() {
    let mut case = nothing(3);
    known(&mut case.o.claims).insert(Ordinal(1), claim(1));
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::VolumeForeign);
}

/// A volume that was kept of a cluster of the same name.
#[test]
fn another_clusters_volume_is_never_adopted_nor_deleted() {
    let mut case = seed();
    case.claim(0).owner = uid("former");
    case.under_way(attempt(1, None));
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::VolumeForeign);
}

#[test]
fn a_status_that_was_lost_is_latched_again_from_the_members() {
    let mut case = well(3);
    case.o.cluster.cluster_id = None;
    known(&mut case.o.objects).open = false;
    assert_eq!(case.act(), Some(Act::Latch { from: None, to: Some(CLUSTER) }));
    case.o.table = Seen::Unknown;
    case.o.answers.clear();
    assert_eq!(case.act(), None, "without them nothing is known, and nothing founded");
}

/// druid 361 and 1022: two clusters, and clients on both.
#[test]
fn members_of_another_cluster_stop_everything() {
    let mut case = well(3);
    case.d.size = 5;
    case.answer(2).cluster_id = ClusterId(0xbad);
    assert_eq!(case.act(), None);
    case.says(ConditionType::Available, Truth::False, Reason::SplitBrain);
}

#[test]
fn a_permit_that_was_left_behind_is_taken_away() {
    let mut case = well(3);
    case.o.permit = Seen::Known(Some(permit()));
    assert_eq!(case.act(), Some(Act::RevokePermit { nonce: Nonce(42) }));
}

/// The permit outlives the founding by a moment, in which the disk may be wiped.
#[test]
fn a_second_founding_with_the_same_permit_gets_no_clients_and_is_thrown_away() {
    let mut case = founded();
    case.o.cluster.cluster_id = Some(CLUSTER);
    case.o.permit = Seen::Known(None);
    case.o.answers.clear();
    assert_eq!(case.act(), None, "who founded is not seen any more");
    case.o.answers = founded().o.answers;
    case.answer(0).cluster_id = ClusterId(0xc2);
    assert_eq!(case.act(), Some(Act::Latch { from: Some(CLUSTER), to: None }));
}

/// A founding from a backup may take hours, and nobody waits for a node that long.
#[test]
fn a_founder_whose_node_is_gone_before_clients_came_is_given_up() {
    let mut case = founded();
    case.o.cluster.cluster_id = Some(CLUSTER);
    case.o.permit = Seen::Known(None);
    case.o.answers.clear();
    case.pod(0).node_lost = Some(NOW);
    assert_eq!(case.act(), None, "it is not ended yet, and may come back");
    case.pod(0).terminating = true;
    assert_eq!(case.act(), Some(Act::Latch { from: Some(CLUSTER), to: None }));
}

#[test]
fn a_cluster_that_is_to_sleep_and_cannot_yet_is_not_said_to_be_well() {
    let mut case = founded();
    case.d.hibernate = true;
    case.o.cluster.cluster_id = Some(CLUSTER);
    case.o.permit = Seen::Known(None);
    case.down(0);
    case.no_quorum();
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::QuorumLost);
}

#[test]
fn a_seed_on_a_node_that_is_gone_is_not_waited_for() {
    let mut case = seed();
    case.under_way(attempt(1, None));
    case.pod(0).terminating = true;
    case.pod(0).node_lost = Some(NOW);
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: true }));
}

#[test]
fn a_seed_whose_claim_is_being_deleted_makes_way_for_another() {
    let mut case = seed();
    case.under_way(attempt(1, None));
    case.claim(0).terminating = true;
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
}
