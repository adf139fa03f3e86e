use std::collections::{BTreeMap, BTreeSet};

use keepstone_operator_plan::act::{Act, Alarm, Outcome, Permit, PermitKind};
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Intent, Join, Recover, Verb};

use crate::fixture::*;

fn replaced(n: u32) -> Join {
    let stale = Some(uid(format!("claim-{n}")));
    Join { ordinal: Ordinal(n), leaver: Some(id(n)), stale, attempt: 1, applied: 0 }
}

/// Member `n` is silent, and its server says that its data is gone.
fn lost(n: u32) -> Case {
    let mut case = well(3);
    case.down(n);
    case.pod(n).verdict = Some(Verdict::DataLost);
    case
}

/// The volumes of all but `survivor` are gone, and with them the quorum.
fn majority_lost(survivor: u32) -> Case {
    let mut case = well(3);
    for n in (0..3).filter(|n| *n != survivor) {
        case.down(n);
        known(&mut case.o.claims).remove(&Ordinal(n));
    }
    case.no_quorum();
    case.o.cluster.marks.quorum_lost = Some(Time(NOW.0 - 3600));
    case
}

#[test]
fn silence_alone_is_no_loss() {
    let mut case = well(3);
    case.o.answers.remove(&Ordinal(1));
    assert_eq!(case.act(), None);
    case.down_only(1);
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::MemberUnhealthy);
    case.says(ConditionType::Available, Truth::True, Reason::QuorumAvailable);
}

impl Case {
    fn down_only(&mut self, n: u32) {
        self.pod(n).ready = false;
    }
}

#[test]
fn a_list_that_failed_is_not_an_empty_one() {
    let mut case = well(3);
    case.o.answers.remove(&Ordinal(1));
    case.o.claims = Seen::Unknown;
    assert_eq!(case.act(), None);
    case.says(ConditionType::Available, Truth::Unknown, Reason::MembersUnreachable);
    let mut case = well(3);
    case.o.pods = Seen::Unknown;
    assert_eq!(case.act(), None);
}

#[test]
fn restarting_pods_need_nobody() {
    let mut case = well(3);
    (0..3).for_each(|n| case.down(n));
    case.no_quorum();
    assert_eq!(case.act(), None);
    case.o.pods = Seen::Known(BTreeMap::new());
    assert_eq!(case.act(), None);
    case.says(ConditionType::Available, Truth::False, Reason::QuorumLost);
}

#[test]
fn a_lost_member_leaves_the_table_before_anything_is_deleted() {
    let mut case = lost(1);
    assert_eq!(case.intent(), Intent::ReplaceMember(replaced(1)));
    case.under_way(Intent::ReplaceMember(replaced(1)));
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(1) }));
    known(&mut case.o.table).remove(1);
    known(&mut case.o.objects).min_available = Some(2);
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(1), uid: uid("claim-1") }));
}

/// The StatefulSet makes the next pod at once: with the claim still whole it would get the same bad volume again.
#[test]
fn the_claim_is_marked_before_the_pod_goes_and_gone_before_the_new_member_comes() {
    let mut case = lost(1);
    case.under_way(Intent::ReplaceMember(replaced(1)));
    known(&mut case.o.table).remove(1);
    case.claim(1).terminating = true;
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(1), uid: uid("pod-1"), force: false }));
    case.pod(1).terminating = true;
    assert_eq!(case.act(), None);
    known(&mut case.o.pods).remove(&Ordinal(1));
    assert_eq!(case.act(), None, "the claim is still there");
    case.claim(1).uid = uid("claim-1b");
    case.claim(1).terminating = false;
    assert_eq!(case.act(), Some(Act::MemberAdd { ordinal: Ordinal(1) }));
}

#[test]
fn a_pod_on_a_dead_node_is_forced_only_once_its_member_is_out() {
    let mut case = well(3);
    case.down(1);
    case.pod(1).terminating = true;
    case.pod(1).node_lost = Some(Time(NOW.0 - 700));
    assert_eq!(case.intent(), Intent::ReplaceMember(replaced(1)));
    case.under_way(Intent::ReplaceMember(replaced(1)));
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(1) }));
    known(&mut case.o.table).remove(1);
    case.claim(1).terminating = true;
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(1), uid: uid("pod-1"), force: true }));
}

/// cozystack 354: the seed was exempt, and one of three runs failed.
#[test]
fn the_seed_is_replaced_like_any_other() {
    let mut case = lost(0);
    case.leader(1);
    assert_eq!(case.intent(), Intent::ReplaceMember(replaced(0)));
}

#[test]
fn a_second_loss_is_not_repaired_while_that_would_cost_the_quorum() {
    let mut case = lost(1);
    case.down(2);
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::MemberUnhealthy);
}

#[test]
fn of_two_losses_the_follower_is_repaired_first_and_only_one() {
    let mut case = well(5);
    for n in [0, 3] {
        let member = id(n);
        known(&mut case.o.alarms).insert((member, Alarm::Corrupt));
    }
    let Intent::ReplaceMember(_) = case.intent() else { panic!("not a replacement") };
    case.o.alarms = Seen::Known(BTreeSet::new());
    for n in [0, 3] {
        case.o.answers.remove(&Ordinal(n));
        case.pod(n).ready = false;
        case.pod(n).verdict = Some(Verdict::DataLost);
    }
    assert_eq!(case.intent(), Intent::ReplaceMember(replaced(3)));
}

#[test]
fn damage_needs_no_second_sign_and_its_alarm_goes_with_the_member() {
    let mut case = well(3);
    known(&mut case.o.alarms).insert((id(2), Alarm::Corrupt));
    assert_eq!(case.intent(), Intent::ReplaceMember(replaced(2)));
    case.says(ConditionType::Degraded, Truth::True, Reason::AlarmCorrupt);
    case.under_way(Intent::ReplaceMember(replaced(2)));
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(2) }));
    known(&mut case.o.table).pop();
    assert_eq!(case.act(), Some(Act::Disarm { id: id(2), alarm: Alarm::Corrupt }));
}

/// What a new cluster is made of may bring along the alarm of a member that was given up.
#[test]
fn the_alarm_of_a_member_that_is_no_more_is_lowered() {
    let mut case = well(1);
    known(&mut case.o.alarms).insert((id(3), Alarm::Corrupt));
    assert_eq!(case.act(), Some(Act::Disarm { id: id(3), alarm: Alarm::Corrupt }));
    case.o.table = Seen::Unknown;
    assert_ne!(case.act(), Some(Act::Disarm { id: id(3), alarm: Alarm::Corrupt }), "it may be a member");
}

/// Members raise it where no hash is a majority's. Lowering it lets writes go on over data that nobody vouches for.
#[test]
fn the_alarm_that_names_nobody_is_told_and_left_to_people() {
    let mut case = well(3);
    known(&mut case.o.alarms).insert((MemberId::NOBODY, Alarm::Corrupt));
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::AlarmCorrupt);
    case.says(ConditionType::Available, Truth::False, Reason::AlarmCorrupt);
}

#[test]
fn a_crash_loop_has_to_last_before_a_disk_is_given_up() {
    let mut case = well(3);
    case.down(1);
    case.pod(1).restarts = 50;
    assert_eq!(case.act(), None, "it has not been long");
    case.pod(1).ready_changed = Time(NOW.0 - 601);
    assert_eq!(case.intent(), Intent::ReplaceMember(replaced(1)));
    case.pod(1).restarts = 4;
    assert_eq!(case.act(), None, "it has not crashed often");
}

#[test]
fn a_crash_loop_of_a_new_template_is_no_lost_disk() {
    let mut case = well(3);
    case.down(1);
    case.pod(1).restarts = 50;
    case.pod(1).ready_changed = Time(NOW.0 - 6000);
    case.pod(1).template.config = "b".into();
    case.workload().template.config = "b".into();
    case.d.template.config = "b".into();
    assert_eq!(case.act(), None);
}

#[test]
fn a_claim_deleted_under_a_running_member_is_seen_before_it_restarts() {
    let mut case = well(3);
    case.claim(2).terminating = true;
    assert_eq!(case.intent(), Intent::ReplaceMember(replaced(2)));
}

#[test]
fn a_replacement_that_has_become_unsafe_is_undone_before_anything_is_touched() {
    let mut case = well(3);
    case.down(0);
    case.under_way(Intent::ReplaceMember(replaced(1)));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn a_new_member_refused_for_old_data_starts_over() {
    let mut case = well(3);
    case.under_way(Intent::ReplaceMember(Join { leaver: Some(MemberId(5)), ..replaced(1) }));
    case.claim(1).uid = uid("claim-1b");
    known(&mut case.o.table)[1].learner = true;
    case.down(1);
    case.pod(1).verdict = Some(Verdict::Removed);
    let again = Join { stale: Some(uid("claim-1b")), attempt: 2, ..replaced(1) };
    assert_eq!(case.intent(), Intent::ReplaceMember(again));
}

#[test]
fn a_place_without_a_member_gets_one_without_a_record() {
    let mut case = well(3);
    known(&mut case.o.table).remove(1);
    known(&mut case.o.objects).min_available = Some(2);
    case.o.answers.remove(&Ordinal(1));
    assert_eq!(case.intent(), Intent::ReplaceMember(Join { leaver: None, ..replaced(1) }));
}

#[test]
fn a_lost_majority_is_given_up_by_a_human() {
    let case = majority_lost(2);
    assert_eq!(case.act(), None);
    let message = case.condition(ConditionType::Degraded).message;
    assert!(message.contains("kubectl keepstone recover-quorum main --survivor main-2"), "{message}");
}

/// The StatefulSet makes a claim anew as soon as it is gone.
#[test]
fn blank_claims_where_data_was_are_a_loss_that_is_named() {
    let mut case = majority_lost(2);
    for n in 0..2 {
        known(&mut case.o.claims).insert(Ordinal(n), Claim { uid: uid(format!("claim-{n}b")), ..claim(n) });
    }
    let told = |case: &Case| case.condition(ConditionType::Degraded).message.contains("--survivor main-2");
    assert!(told(&case));
    case.o.answers.clear();
    assert!(told(&case), "who survives is told also while nobody answers");
    case.o.cluster.volumes.insert(Ordinal(1), uid("claim-1b"));
    assert!(!told(&case), "one of three is no majority");
}

/// Places that never had a member have lost nothing.
#[test]
fn a_statefulset_that_was_scaled_by_hand_makes_no_lost_majority() {
    let mut case = well(3);
    (1..3).for_each(|n| case.down(n));
    case.no_quorum();
    case.d.recovery.automatic = true;
    case.o.cluster.marks.quorum_lost = Some(Time(NOW.0 - 3600));
    case.workload().replicas = 7;
    assert_eq!(case.act(), None);
}

/// One answer that is lost, and an order with the wrong survivor gave up a cluster that was well.
#[test]
fn a_table_that_could_not_be_read_gives_up_nothing_where_the_stateful_set_is_too_large() {
    let mut case = well(1);
    case.workload().replicas = 4;
    case.o.table = Seen::Unknown;
    case.request(Verb::RecoverQuorum { survivor: Ordinal(0), confirm: CLUSTER });
    assert!(!matches!(case.act(), Some(Act::RecordIntent(_))), "{:?}", case.act());
}

#[test]
fn an_order_whose_survivor_can_not_be_saved_ends() {
    let mut case = majority_lost(2);
    known(&mut case.o.objects).open = false;
    case.request(Verb::RecoverQuorum { survivor: Ordinal(2), confirm: CLUSTER });
    case.under_way(Intent::RecoverQuorum(Recover { fenced: false, ..recovery(2) })).request = Some(uid("request"));
    case.o.saved = Seen::Known(BTreeMap::from([(Ordinal(2), Phase::Failed)]));
    assert!(matches!(case.act(), Some(Act::FinishRequest { outcome: Outcome::Failed(_), .. })));
    known(&mut case.o.requests)[0].phase = Phase::Failed;
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn the_way_out_is_told_at_once_and_taken_after_a_while() {
    let mut case = majority_lost(2);
    case.d.recovery.automatic = true;
    case.o.cluster.marks.quorum_lost = None;
    assert_eq!(case.act(), None);
    assert!(case.condition(ConditionType::Degraded).message.contains("recover-quorum"));
}

#[test]
fn members_that_are_only_slow_are_not_given_up() {
    let mut case = well(3);
    case.d.recovery.automatic = true;
    (1..3).for_each(|n| case.down(n));
    case.no_quorum();
    case.o.cluster.marks.quorum_lost = Some(Time(NOW.0 - 100_000));
    assert_eq!(case.act(), None);
}

/// The survivor is saved, and the others are fenced.
fn recovering() -> Case {
    let mut case = majority_lost(2);
    known(&mut case.o.objects).open = false;
    case.under_way(Intent::RecoverQuorum(recovery(2)));
    case.o.saved = Seen::Known(BTreeMap::from([(Ordinal(2), Phase::Succeeded)]));
    case.o.fenced = Seen::Known([Ordinal(0), Ordinal(1)].into());
    case
}

/// What the survivor founds with.
fn alone() -> Permit {
    Permit { kind: PermitKind::ForceNew, ordinal: Ordinal(2), pod: None, claim: uid("claim-2"), ..permit() }
}

fn recovery(survivor: u32) -> Recover {
    Recover {
        survivor: Ordinal(survivor),
        claim: uid(format!("claim-{survivor}")),
        lost: CLUSTER,
        nonce: Nonce(42),
        fenced: true,
        pods: (0..3).map(|n| (Ordinal(n), uid(format!("pod-{n}")))).collect(),
        claims: BTreeMap::new(),
    }
}

#[test]
fn the_survivor_that_knows_most_is_named() {
    let mut case = well(5);
    for n in [0, 1, 2] {
        case.down(n);
        known(&mut case.o.claims).remove(&Ordinal(n));
    }
    case.no_quorum();
    case.d.recovery.automatic = true;
    case.o.cluster.marks.quorum_lost = Some(Time(NOW.0 - 3600));
    case.answer(4).applied += 1;
    let Intent::RecoverQuorum(recover) = case.intent() else { panic!("not a recovery") };
    assert_eq!(recover.survivor, Ordinal(4));
    assert!(recover.claims.contains_key(&Ordinal(3)));
}

#[test]
fn the_survivor_is_saved_before_anything_is_touched() {
    let mut case = majority_lost(2);
    case.request(Verb::RecoverQuorum { survivor: Ordinal(2), confirm: CLUSTER });
    assert_eq!(case.intent(), Intent::RecoverQuorum(Recover { fenced: false, ..recovery(2) }));
    case.under_way(Intent::RecoverQuorum(Recover { fenced: false, ..recovery(2) }));
    assert_eq!(case.act(), Some(Act::OpenClientService { open: false }));
    known(&mut case.o.objects).open = false;
    assert_eq!(case.act(), Some(Act::Save { seq: 9, ordinal: Ordinal(2), claim: uid("claim-2") }));
    for phase in [Phase::Pending, Phase::Running, Phase::Failed] {
        case.o.saved = Seen::Known(BTreeMap::from([(Ordinal(2), phase)]));
        assert_eq!(case.act(), None, "{phase:?}");
    }
    case.o.saved = Seen::Unknown;
    assert_eq!(case.act(), None);
    case.o.saved = Seen::Known(BTreeMap::from([(Ordinal(2), Phase::Succeeded)]));
    assert_eq!(case.act(), Some(Act::SetFence([Ordinal(0), Ordinal(1)].into())));
}

#[test]
fn nothing_of_the_old_cluster_runs_when_the_new_one_begins() {
    let mut case = recovering();
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
    case.pod(0).uid = uid("pod-0b");
    case.pod(1).terminating = true;
    assert_eq!(case.act(), None);
    case.pod(1).uid = uid("pod-1b");
    case.pod(1).terminating = false;
    let permit = alone();
    assert_eq!(case.act(), Some(Act::GrantPermit(permit.clone())));
    case.o.permit = Seen::Known(Some(permit));
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(2), uid: uid("pod-2"), force: false }));
}

/// Its node was drained while the data was saved, and there was no fence yet: it served beside the new cluster.
#[test]
fn a_pod_that_was_made_before_the_fence_is_ended_too() {
    let mut case = recovering();
    for n in 0..2 {
        case.pod(n).uid = uid(format!("pod-{n}b"));
    }
    case.pod(1).started = true;
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(1), uid: uid("pod-1b"), force: false }));
    case.pod(1).started = false;
    assert!(matches!(case.act(), Some(Act::GrantPermit(_))), "these wait behind the fence");
}

#[test]
fn a_recovery_that_gets_nowhere_is_not_called_sleep() {
    let mut case = recovering();
    case.d.hibernate = true;
    case.says(ConditionType::Degraded, Truth::True, Reason::QuorumLost);
}

/// A server that reads its log looks as one that waits behind the fence does.
#[test]
fn pods_are_written_down_anew_once_there_is_a_fence() {
    let mut case = majority_lost(2);
    known(&mut case.o.objects).open = false;
    case.under_way(Intent::RecoverQuorum(Recover { fenced: false, ..recovery(2) }));
    case.o.saved = Seen::Known(BTreeMap::from([(Ordinal(2), Phase::Succeeded)]));
    case.pod(1).uid = uid("pod-1b");
    assert_eq!(case.act(), Some(Act::SetFence([Ordinal(0), Ordinal(1)].into())));
    case.o.fenced = Seen::Known([Ordinal(0), Ordinal(1)].into());
    let Intent::RecoverQuorum(recover) = case.intent() else { panic!("not a recovery") };
    assert!(recover.fenced && recover.pods[&Ordinal(1)] == uid("pod-1b"));
    case.under_way(Intent::RecoverQuorum(recover));
    // Copies are named after the record: those of the record before are enough.
    case.o.saved = Seen::Known(BTreeMap::new());
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
}

/// It went on as a member of the old cluster, and was waited for to found the new one.
#[test]
fn a_survivor_that_started_before_its_permit_is_started_again() {
    let mut case = recovering();
    for n in 0..3 {
        case.pod(n).uid = uid(format!("pod-{n}b"));
    }
    case.o.permit = Seen::Known(Some(alone()));
    case.o.answers.insert(Ordinal(2), status(2));
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(2), uid: uid("pod-2b"), force: false }));
    case.o.answers.clear();
    assert_eq!(case.act(), None, "it may be about to found");
}

#[test]
fn a_recovered_cluster_has_an_id_that_no_old_member_answers_to() {
    let mut case = recovering();
    for n in 0..3 {
        case.pod(n).uid = uid(format!("pod-{n}b"));
    }
    case.o.permit = Seen::Known(Some(alone()));
    case.o.table = Seen::Known(vec![member(2)]);
    case.answer(2).permit = Some(Nonce(42));
    assert_eq!(case.act(), None, "it answers under the old ID");
    case.answer(2).cluster_id = ClusterId(0xc2);
    let new = Some(ClusterId(0xc2));
    assert_eq!(case.act(), Some(Act::Latch { from: Some(CLUSTER), to: new }));
    case.o.cluster.cluster_id = new;
    assert_eq!(case.act(), Some(Act::RevokePermit { nonce: Nonce(42) }));
}

/// Taken for no claims of the cluster's, they would come back with its old data under the new one.
#[test]
fn claims_beyond_a_statefulset_that_was_scaled_by_hand_are_saved_too() {
    let mut case = majority_lost(2);
    for n in [1, 3] {
        known(&mut case.o.claims).insert(Ordinal(n), claim(n));
    }
    case.claim(3).left = Some(Some(id(3)));
    case.workload().replicas = 1;
    case.request(Verb::RecoverQuorum { survivor: Ordinal(2), confirm: CLUSTER });
    let Intent::RecoverQuorum(recover) = case.intent() else { panic!("not a recovery") };
    assert_eq!(recover.claims, BTreeMap::from([(Ordinal(1), uid("claim-1"))]), "and none that a member has left");
    case.under_way(Intent::RecoverQuorum(recover));
    known(&mut case.o.objects).open = false;
    case.o.saved = Seen::Known([1, 2].map(|n| (Ordinal(n), Phase::Succeeded)).into());
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 1, to: 3 }));
    case.workload().replicas = 3;
    assert_eq!(case.act(), Some(Act::SetFence([Ordinal(0), Ordinal(1)].into())));
}

#[test]
fn a_copied_manifest_gives_up_no_other_cluster() {
    let mut case = majority_lost(2);
    case.request(Verb::RecoverQuorum { survivor: Ordinal(2), confirm: ClusterId(1) });
    let Some(Act::FinishRequest { outcome: Outcome::Rejected(_), .. }) = case.act() else { panic!("not rejected") };
}

#[test]
fn a_cluster_with_a_quorum_is_not_given_up() {
    let mut case = well(3);
    case.request(Verb::RecoverQuorum { survivor: Ordinal(2), confirm: CLUSTER });
    let Some(Act::FinishRequest { outcome: Outcome::Rejected(_), .. }) = case.act() else { panic!("not rejected") };
}

/// The first of two calls failed to reach anybody: that is the operator's network, not the cluster's end.
#[test]
fn a_table_that_could_not_be_read_is_no_lost_quorum() {
    let mut case = well(3);
    case.o.table = Seen::Unknown;
    case.says(ConditionType::Available, Truth::Unknown, Reason::MembersUnreachable);
    assert_eq!(case.plan().marks.quorum_lost, None);
}

/// A cache that was behind had shown no claim.
#[test]
fn a_claim_is_not_deleted_once_a_new_member_may_use_it() {
    let mut case = well(3);
    case.under_way(Intent::ReplaceMember(Join { leaver: Some(MemberId(5)), ..replaced(1) }));
    known(&mut case.o.table)[1].learner = true;
    assert_eq!(case.act(), Some(Act::MemberPromote { id: id(1) }));
}

#[test]
fn a_pod_with_a_bad_template_is_mended_also_in_mid_replacement() {
    let mut case = well(3);
    (0..2).for_each(|n| case.down(n));
    case.no_quorum();
    case.pod(1).template.config = "bad".into();
    case.under_way(Intent::ReplaceMember(replaced(0)));
    assert!(matches!(case.intent(), Intent::Roll(roll) if roll.ordinal == Ordinal(1)));
}

/// Its node was gone for longer than anybody waits, and came back.
#[test]
fn a_member_that_came_back_before_it_was_removed_stays() {
    let mut case = well(3);
    case.under_way(Intent::ReplaceMember(replaced(1)));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
    case.request(Verb::ReplaceMember { ordinal: Ordinal(1) });
    case.under_way(Intent::ReplaceMember(replaced(1))).request = Some(uid("request"));
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(1) }), "unless somebody asked for it");
}

/// A cache that was behind had shown its claim as gone, and when it was looked at again one call to it was lost.
#[test]
fn a_member_that_is_only_silent_is_not_removed_for_a_loss_that_nobody_sees() {
    let mut case = well(3);
    case.under_way(Intent::ReplaceMember(replaced(1)));
    case.o.answers.remove(&Ordinal(1));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

/// A call to add it that was long under way arrived when its operation was closed: each waited for the other for ever.
#[test]
fn a_learner_that_nobody_speaks_for_is_seen_to_before_another_is_added() {
    let mut case = well(3);
    known(&mut case.o.table).remove(0);
    case.o.answers.remove(&Ordinal(0));
    case.leader(1);
    known(&mut case.o.objects).min_available = Some(1);
    let learner = known(&mut case.o.table).iter_mut().find(|m| m.ordinal == Some(Ordinal(2)));
    learner.expect("it is there").learner = true;
    case.under_way(Intent::ReplaceMember(Join { leaver: None, stale: None, ..replaced(0) }));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

/// The third copy is what could have told.
#[test]
fn while_nobody_knows_who_is_right_nothing_is_taken_away() {
    let mut case = well(3);
    known(&mut case.o.alarms).insert((MemberId::NOBODY, Alarm::Corrupt));
    case.down(2);
    known(&mut case.o.claims).remove(&Ordinal(2));
    (case.d.size, case.d.hibernate) = (1, false);
    assert_eq!(case.act(), None);
    case.request(Verb::ReplaceMember { ordinal: Ordinal(2) });
    assert_eq!(case.act(), None);
    case.under_way(Intent::ReplaceMember(replaced(2)));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
    case.o.cluster.operation = None;
    known(&mut case.o.requests)[0].verb = Verb::DisarmAlarm { alarm: Alarm::Corrupt, member: None };
    assert_eq!(case.intent(), Intent::DisarmAlarm);
    case.under_way(Intent::DisarmAlarm).request = Some(uid("request"));
    assert_eq!(case.act(), Some(Act::Disarm { id: MemberId::NOBODY, alarm: Alarm::Corrupt }));
}

/// Without its certificate, or behind a wall, the operator hears nobody. A member is ready while it has a quorum.
#[test]
fn what_the_operator_can_not_reach_is_not_lost() {
    let mut case = well(3);
    case.o.table = Seen::Unknown;
    case.o.answers.clear();
    case.claim(1).terminating = true;
    case.claim(2).terminating = true;
    case.d.recovery.automatic = true;
    case.o.cluster.marks.quorum_lost = Some(Time(NOW.0 - 100_000));
    case.says(ConditionType::Available, Truth::Unknown, Reason::MembersUnreachable);
    assert_eq!(case.act(), None);
    case.request(Verb::RecoverQuorum { survivor: Ordinal(0), confirm: CLUSTER });
    assert_eq!(case.act(), None, "most serve: they are not given up");
    (case.pod(1).ready, case.pod(2).ready) = (false, false);
    assert!(matches!(case.intent(), Intent::RecoverQuorum(_)));
}
