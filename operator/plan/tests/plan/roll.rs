use keepstone_operator_plan::act::{Act, Purpose};
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::desired::{BackupPolicy, Schedule};
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Intent, Join, Roll, Verb};

use crate::fixture::*;

fn config(text: &str) -> Template {
    Template { config: text.into(), version: V1 }
}

fn rolled(n: u32, template: &Template) -> Roll {
    Roll { ordinal: Ordinal(n), pod: uid(format!("pod-{n}")), template: template.clone() }
}

/// The StatefulSet has the new template, no pod has.
fn outdated(template: &Template) -> Case {
    let mut case = well(3);
    case.d.template = template.clone();
    case.workload().template = template.clone();
    case
}

/// Pod 1 is new, and what it was replaced for.
fn restarted(template: &Template) -> Case {
    let mut case = outdated(template);
    case.under_way(Intent::Roll(rolled(1, template)));
    let pod = case.pod(1);
    (pod.uid, pod.template) = (uid("pod-1b"), template.clone());
    case.answer(1).version = template.version;
    case
}

/// etcd-io 0.2 ignored every change of the spec but the size.
#[test]
fn a_changed_template_reaches_the_workload_and_then_the_pods() {
    let mut case = well(3);
    case.d.template = config("b");
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { replicas: 3, .. })));
    case.workload().template = config("b");
    assert_eq!(case.intent(), Intent::Roll(rolled(1, &config("b"))));
    case.says(ConditionType::AllMembersUpdated, Truth::False, Reason::RollingConfig);
}

#[test]
fn the_leader_goes_last_after_handing_over_to_an_updated_member() {
    let mut case = outdated(&config("b"));
    case.leader(1);
    for n in [0, 2] {
        case.pod(n).template = config("b");
    }
    case.pod(0).template = config("a");
    assert_eq!(case.intent(), Intent::Roll(rolled(0, &config("b"))));
    case.pod(0).template = config("b");
    assert_eq!(case.intent(), Intent::Roll(rolled(1, &config("b"))));
    case.under_way(Intent::Roll(rolled(1, &config("b"))));
    assert_eq!(case.act(), Some(Act::MoveLeader { from: Ordinal(1), to: id(0) }));
    case.leader(0);
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(1), uid: uid("pod-1"), force: false }));
}

#[test]
fn a_leader_that_will_not_hand_over_is_restarted_after_a_while() {
    let mut case = outdated(&config("b"));
    case.under_way(Intent::Roll(rolled(0, &config("b")))).deadline = Time(NOW.0 - 1);
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
}

#[test]
fn what_does_not_take_part_is_mended_first_and_waits_for_no_quorum() {
    let mut case = outdated(&config("b"));
    (0..3).for_each(|n| case.down(n));
    case.no_quorum();
    assert_eq!(case.intent(), Intent::Roll(rolled(0, &config("b"))));
    case.under_way(Intent::Roll(rolled(0, &config("b"))));
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
}

#[test]
fn no_pod_is_taken_down_while_another_is() {
    let mut case = outdated(&config("b"));
    case.down(2);
    case.pod(2).template = config("b");
    assert_eq!(case.act(), None);
    case.under_way(Intent::Roll(rolled(1, &config("b"))));
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }), "it is undone, for nothing was touched");
}

#[test]
fn the_next_pod_waits_until_the_last_has_settled() {
    let mut case = restarted(&config("b"));
    case.pod(1).ready_changed = Time(NOW.0 - 5);
    assert_eq!(case.act(), None);
    case.pod(1).ready_changed = Time(NOW.0 - 20);
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn a_restarted_member_that_is_far_behind_does_not_count_as_back() {
    let mut case = restarted(&config("b"));
    case.answer(1).applied = 10;
    assert_eq!(case.act(), None);
}

#[test]
fn a_new_version_is_seen_to_run_before_the_next_pod() {
    let mut case = restarted(&Template { version: V2, ..config("a") });
    case.answer(1).version = V1;
    assert_eq!(case.act(), None);
    case.answer(1).version = V2;
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

fn stuck() -> Case {
    let template = Template { version: V2, ..config("a") };
    let mut case = restarted(&template);
    case.down(1);
    case.under_way(Intent::Roll(rolled(1, &template))).deadline = Time(NOW.0 - 1);
    case
}

#[test]
fn a_version_that_fails_on_its_first_pod_reaches_no_second() {
    let case = stuck();
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::UpgradeStuck);
    case.says(ConditionType::Progressing, Truth::False, Reason::UpgradeStuck);
}

#[test]
fn a_spec_that_goes_back_rolls_back_the_one_pod() {
    let mut case = stuck();
    case.d.template = template();
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { template: t, .. }) if t == template()));
    case.workload().template = template();
    let back = Roll { ordinal: Ordinal(1), pod: uid("pod-1b"), template: template() };
    assert_eq!(case.intent(), Intent::Roll(back.clone()));
    case.under_way(Intent::Roll(back));
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(1), uid: uid("pod-1b"), force: false }));
}

/// Nothing may follow a version that never ran, and the one asked for is further back than where the cluster comes from.
#[test]
fn a_spec_that_goes_back_too_far_still_ends_what_does_not_start() {
    let mut case = stuck();
    case.d.template = Template { version: Version { minor: 3, ..V1 }, ..config("b") };
    let back = config("b");
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { template: t, .. }) if t == back));
    case.workload().template = back.clone();
    let roll = Roll { ordinal: Ordinal(1), pod: uid("pod-1b"), template: back.clone() };
    assert_eq!(case.intent(), Intent::Roll(roll));
    case.o.cluster.operation = None;
    for allowed in [false, true] {
        case.d.update.allow_downgrade = allowed;
        let mut well = well(3);
        well.d = case.d.clone();
        well.workload().template = back.clone();
        (0..3).for_each(|n| well.pod(n).template = back.clone());
        let lowered = matches!(well.act(), Some(Act::ApplyWorkload { template: t, .. }) if t == case.d.template);
        assert_eq!(lowered, allowed);
    }
}

/// A new disk does not help, and each of its pods would fail like the last.
#[test]
fn a_learner_that_never_starts_gets_a_version_that_runs_whatever_is_asked_for() {
    let mut case = stuck();
    let join = Join { ordinal: Ordinal(1), leaver: None, stale: None, attempt: 2, applied: 0 };
    case.under_way(Intent::ReplaceMember(join)).deadline = Time(NOW.0 - 1);
    known(&mut case.o.table)[1].learner = true;
    case.d.template.version = Version { minor: 3, ..V1 };
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { template: t, .. }) if t == template()));
    case.workload().template = template();
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(1), uid: uid("pod-1b"), force: false }));
}

/// There is no other pod that would tell which version the cluster comes from.
#[test]
fn one_member_alone_goes_back_from_a_version_that_never_ran() {
    let newer = Template { version: V2, ..template() };
    let mut case = well(1);
    let mut roll = rolled(0, &newer);
    roll.pod = uid("pod-0");
    case.under_way(Intent::Roll(roll)).deadline = Time(NOW.0 - 1);
    case.down(0);
    case.o.table = Seen::Unknown;
    (case.pod(0).uid, case.pod(0).template) = (uid("pod-0b"), newer.clone());
    case.workload().template = newer;
    assert_eq!(case.act(), None, "nobody knows what it ran");
    case.o.cluster.ran = Some(V2);
    assert_eq!(case.act(), None, "it has run");
    case.o.cluster.ran = Some(V1);
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { template: t, .. }) if t == template()));
    case.workload().template = template();
    let back = Roll { ordinal: Ordinal(0), pod: uid("pod-0b"), template: template() };
    assert_eq!(case.intent(), Intent::Roll(back.clone()));
    case.under_way(Intent::Roll(back));
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0b"), force: false }));
}

#[test]
fn a_disk_lost_elsewhere_does_not_wait_for_a_pod_that_is_stuck() {
    let mut case = well(5);
    case.under_way(Intent::Roll(rolled(1, &template()))).deadline = Time(NOW.0 - 1);
    case.down(1);
    case.pod(1).uid = uid("pod-1b");
    case.down(3);
    case.pod(3).verdict = Some(Verdict::DataLost);
    let Intent::ReplaceMember(join) = case.intent() else { panic!("not a replacement") };
    assert_eq!(join.ordinal, Ordinal(3));
}

#[test]
fn a_restart_that_shows_the_data_is_gone_becomes_a_replacement() {
    let mut case = restarted(&config("b"));
    case.down(1);
    case.pod(1).verdict = Some(Verdict::DataLost);
    assert!(matches!(case.intent(), Intent::ReplaceMember(_)));
}

#[test]
fn versions_change_one_minor_at_a_time() {
    let mut case = well(3);
    case.d.template.version = Version { minor: 6, ..V1 };
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::InvalidSpec);
    case.d.template.version = V2;
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { .. })));
}

/// One whose turn had not come would go from the version before the last to the next.
#[test]
fn no_version_follows_while_a_pod_still_has_the_one_before() {
    let next = Template { version: V2, ..template() };
    let mut case = outdated(&next);
    for n in 1..3 {
        case.pod(n).template = next.clone();
        case.answer(n).version = V2;
    }
    case.d.template.version = Version { minor: 6, ..V1 };
    assert_eq!(case.intent(), Intent::Roll(rolled(0, &next)));
    case.pod(0).template = next;
    let last = case.d.template.clone();
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { template: t, .. }) if t == last));
}

#[test]
fn a_downgrade_has_to_be_allowed() {
    let mut case = well(3);
    case.d.template.version = Version { minor: 3, ..V1 };
    assert_eq!(case.act(), None);
    case.d.update.allow_downgrade = true;
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { .. })));
}

#[test]
fn a_version_does_not_change_while_a_member_is_not_well_but_a_configuration_may() {
    let mut case = well(3);
    case.down(2);
    case.d.template = Template { config: "b".into(), version: V2 };
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { template, .. }) if template == config("b")));
}

/// Configuration, then size, then version.
#[test]
fn the_size_changes_before_the_version() {
    let mut case = well(3);
    case.d.size = 4;
    case.d.template.version = V2;
    assert!(matches!(case.intent(), Intent::ScaleUp(_)));
}

#[test]
fn a_version_change_has_a_backup_behind_it() {
    let mut case = well(3);
    let schedule = Schedule { latest: None, next: Time(NOW.0 + 9) };
    case.d.backup = Some(BackupPolicy { schedule, keep: 3, immediate: false });
    case.d.template.version = V2;
    let purpose = Purpose::Before { version: V2, generation: 1 };
    assert_eq!(case.act(), Some(Act::StartBackup { from: Ordinal(2), purpose }));
    let taken = |phase| Backup {
        name: "b".into(),
        uid: uid("backup"),
        created: NOW,
        scheduled: None,
        before: Some((V2, 1)),
        phase,
        completed: None,
        keep: false,
    };
    for phase in [Phase::Running, Phase::Failed] {
        case.o.backups = Seen::Known(vec![taken(phase)]);
        assert_eq!(case.act(), None, "{phase:?}");
    }
    case.says(ConditionType::Degraded, Truth::True, Reason::UpgradeStuck);
    case.o.backups = Seen::Known(vec![taken(Phase::Succeeded)]);
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { .. })));
}

#[test]
fn one_member_alone_is_restarted_all_the_same() {
    let mut case = well(1);
    case.d.template = config("b");
    case.workload().template = config("b");
    case.under_way(Intent::Roll(rolled(0, &config("b"))));
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
}

#[test]
fn asked_for_restarts_go_one_by_one_and_end() {
    let mut case = well(3);
    case.request(Verb::RestartMembers { members: [Ordinal(0), Ordinal(2)].into() });
    assert_eq!(case.intent(), Intent::Roll(rolled(2, &template())));
    for n in [0, 2] {
        case.pod(n).created = Time(NOW.0 + 1);
    }
    assert!(matches!(case.act(), Some(Act::FinishRequest { .. })));
}

#[test]
fn a_member_that_only_lost_its_quorum_is_not_restarted_for_a_template() {
    let mut case = well(3);
    (0..2).for_each(|n| case.down(n));
    case.no_quorum();
    case.pod(2).ready = false;
    case.d.template = config("b");
    case.workload().template = config("b");
    for n in 0..2 {
        case.pod(n).template = config("b");
    }
    assert_eq!(case.act(), None);
}

#[test]
fn a_pod_that_waits_for_a_quorum_does_not_keep_the_others_from_being_mended() {
    let mut case = well(3);
    (0..2).for_each(|n| case.down(n));
    case.no_quorum();
    for n in [0, 2] {
        case.pod(n).template = config("bad");
    }
    case.under_way(Intent::Roll(Roll { pod: uid("before"), ..rolled(1, &template()) }));
    assert_eq!(case.intent(), Intent::Roll(rolled(0, &template())));
}

#[test]
fn a_pod_somebody_made_by_scaling_is_not_rolled() {
    let mut case = outdated(&config("b"));
    known(&mut case.o.pods).insert(Ordinal(3), Pod { started: false, ready: false, ..pod(3) });
    case.workload().replicas = 4;
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 4, to: 3 }));
}
