//! Founding from a backup, and the backups themselves.

use std::collections::BTreeMap;

use keepstone_operator_plan::act::{Act, Alarm, Outcome, Permit, PermitKind, Purpose};
use keepstone_operator_plan::backup_source;
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::desired::{BackupPolicy, Schedule};
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Bootstrap, Intent, Restore, Verb};

use crate::fixture::*;

fn from() -> Permit {
    Permit { kind: PermitKind::FoundFrom("b1".into()), ..permit() }
}

fn attempt(attempt: u32, permit: Option<Permit>) -> Intent {
    Intent::Bootstrap(Bootstrap { attempt, permit, spoiled: None, source: Some("b1".into()), lost: None })
}

/// The seed's pod and claim are there, fenced, and named in the record.
fn fenced() -> Case {
    let mut case = nothing(3);
    let whole = well(1);
    (case.o.workload, case.o.pods, case.o.claims) = (whole.o.workload, whole.o.pods, whole.o.claims);
    case.d.source = Some("b1".into());
    case.o.fenced = Seen::Known([Ordinal(0)].into());
    case.under_way(attempt(1, Some(from())));
    case
}

/// A server that opened its directory first would have made it one that nothing is restored into.
#[test]
fn the_fence_comes_before_the_pod_whose_volume_is_filled() {
    let mut case = nothing(3);
    case.d.source = Some("b1".into());
    assert_eq!(case.intent(), attempt(1, None));
    case.under_way(attempt(1, None));
    assert_eq!(case.act(), Some(Act::SetFence([Ordinal(0)].into())));
    case.o.fenced = Seen::Unknown;
    assert_eq!(case.act(), None);
    case.o.fenced = Seen::Known([Ordinal(0)].into());
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { replicas: 1, .. })));
    case.d.source = None;
    case.o.fenced = Seen::Known([].into());
    case.under_way(Intent::Bootstrap(Bootstrap { attempt: 1, permit: None, spoiled: None, source: None, lost: None }));
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { .. })), "who founds an empty cluster is not fenced");
}

/// With a permit and no backup the member would open the fence, and found nothing for ever.
#[test]
fn a_permit_is_given_when_the_backup_is_in_place_and_not_before() {
    let mut case = fenced();
    assert_eq!(case.act(), Some(Act::Fill(from())));
    for (filled, reason) in [
        (Seen::Unknown, Reason::MembersUnreachable),
        (Seen::Known(Some(Phase::Pending)), Reason::Restoring),
        (Seen::Known(Some(Phase::Running)), Reason::Restoring),
    ] {
        case.o.filled = filled;
        assert_eq!(case.act(), None, "{reason:?}");
    }
    case.says(ConditionType::Available, Truth::False, Reason::Restoring);
    case.o.filled = Seen::Known(Some(Phase::Succeeded));
    assert_eq!(case.act(), Some(Act::GrantPermit(from())));
}

/// Seed 145: the Job was gone before the member answered, and another was to put the backup into the directory it had opened.
#[test]
fn what_a_permit_was_given_for_is_not_put_in_place_again() {
    let mut case = fenced();
    case.o.answers.clear();
    case.o.permit = Seen::Known(Some(from()));
    for filled in [Seen::Known(None), Seen::Unknown, Seen::Known(Some(Phase::Succeeded))] {
        case.o.filled = filled;
        assert_eq!(case.act(), None);
    }
}

#[test]
fn a_backup_that_does_not_arrive_is_fetched_anew_onto_another_volume_and_not_for_ever() {
    let mut case = fenced();
    case.o.filled = Seen::Known(Some(Phase::Failed));
    let Intent::Bootstrap(next) = case.intent() else { panic!("another intent") };
    assert_eq!((next.attempt, next.spoiled, next.permit), (2, Some(uid("claim-0")), None));
    assert_eq!(next.source.as_deref(), Some("b1"));
    case.under_way(attempt(3, Some(from())));
    assert_eq!(case.act(), None);
    case.says(ConditionType::Degraded, Truth::True, Reason::BootstrapFailed);
    case.o.cluster.generation = 2;
    assert!(matches!(case.intent(), Intent::Bootstrap(Bootstrap { attempt: 1, .. })), "a change of the spec does");
}

/// Such an order stayed Running for ever, and nothing but deleting the EtcdCluster helped.
#[test]
fn an_order_for_what_is_no_backup_fails_and_another_takes_its_place() {
    let mut case = fenced();
    let founding = |attempt, permit, spoiled, source: &str| {
        let source = Some(source.into());
        Intent::Bootstrap(Bootstrap { attempt, permit, spoiled, source, lost: Some(CLUSTER) })
    };
    let restore = |source: &str, confirm| Verb::Restore { source: source.into(), save: true, confirm };
    case.request(restore("b1", CLUSTER));
    known(&mut case.o.requests)[0].phase = Phase::Running;
    case.under_way(founding(3, Some(from()), None, "b1")).request = Some(uid("request"));
    case.o.filled = Seen::Known(Some(Phase::Failed));
    let failed = case.act();
    assert!(matches!(&failed, Some(Act::FinishRequest { outcome: Outcome::Failed(_), .. })), "{failed:?}");
    known(&mut case.o.requests)[0].phase = Phase::Failed;
    assert_eq!(case.act(), None);
    case.says(ConditionType::Available, Truth::False, Reason::BootstrapFailed);
    case.request(restore("b2", ClusterId(99)));
    known(&mut case.o.requests)[1].uid = uid("other");
    let rejected = case.act();
    assert!(matches!(&rejected, Some(Act::FinishRequest { outcome: Outcome::Rejected(_), .. })), "{rejected:?}");
    known(&mut case.o.requests)[1].verb = restore("b2", CLUSTER);
    let Some(Act::RecordIntent(next)) = case.act() else { panic!("it is not begun") };
    assert_eq!(next.intent, founding(1, None, Some(uid("claim-0")), "b2"));
    assert_eq!(next.request, Some(uid("other")));
}

/// It waited for three attempts, which may be most of a day where the first backup has gone.
#[test]
fn a_restore_gives_way_to_another_order_until_it_has_founded() {
    let mut case = fenced();
    let Intent::Bootstrap(founding) = attempt(1, Some(from())) else { unreachable!() };
    case.under_way(Intent::Bootstrap(Bootstrap { lost: Some(CLUSTER), ..founding })).request = Some(uid("first"));
    case.request(Verb::Restore { source: "b1".into(), save: true, confirm: CLUSTER });
    let first = &mut known(&mut case.o.requests)[0];
    (first.uid, first.phase) = (uid("first"), Phase::Running);
    case.request(Verb::Restore { source: "b2".into(), save: true, confirm: CLUSTER });
    assert!(matches!(case.act(), Some(Act::FinishRequest { uid: one, .. }) if one == uid("first")));
    known(&mut case.o.requests)[0].phase = Phase::Failed;
    assert!(matches!(case.intent(), Intent::Bootstrap(b) if b.source.as_deref() == Some("b2")));
    case.o.answers.insert(Ordinal(0), Status { permit: Some(Nonce(42)), ..status(0) });
    assert!(!matches!(case.act(), Some(Act::RecordIntent(_))), "it is founded: {:?}", case.act());
}

/// A large backup takes as long as it takes; what is said of a first member that doesn't come is another deadline.
#[test]
fn an_edit_does_not_throw_away_what_is_being_fetched() {
    let mut case = fenced();
    case.o.answers.clear();
    (case.pod(0).started, case.pod(0).ready) = (false, false);
    case.d.template.config = "b".into();
    case.workload().template.config = "b".into();
    for filled in [Seen::Unknown, Seen::Known(Some(Phase::Pending)), Seen::Known(Some(Phase::Running))] {
        case.o.filled = filled;
        assert!(!matches!(case.act(), Some(Act::RecordIntent(_))), "{:?}", case.act());
    }
    case.o.filled = Seen::Known(Some(Phase::Succeeded));
    assert!(matches!(case.intent(), Intent::Bootstrap(Bootstrap { permit: None, .. })));
}

/// A restore has hours, and its pod will never end.
#[test]
fn a_seed_on_a_dead_node_makes_way_for_another_at_once() {
    let mut case = fenced();
    case.o.filled = Seen::Known(Some(Phase::Succeeded));
    case.o.permit = Seen::Known(Some(from()));
    case.o.answers.clear();
    (case.pod(0).terminating, case.pod(0).node_lost) = (true, Some(NOW));
    let Intent::Bootstrap(next) = case.intent() else { panic!("another intent") };
    assert_eq!((next.attempt, next.spoiled, next.permit), (1, Some(uid("claim-0")), None));
}

#[test]
fn a_restore_has_time_for_a_large_backup() {
    let mut case = nothing(3);
    case.d.source = Some("b1".into());
    let Some(Act::RecordIntent(operation)) = case.act() else { panic!("no intent") };
    assert_eq!(operation.deadline, case.now.after(case.d.deadlines.restore));
}

/// Restarted with the fence up and the permit gone, the one member there is would wait for nobody.
#[test]
fn the_fence_goes_before_clients_come() {
    let mut case = fenced();
    case.o.cluster.cluster_id = Some(CLUSTER);
    case.o.table = Seen::Known(vec![member(0)]);
    case.o.answers.insert(Ordinal(0), Status { permit: Some(Nonce(42)), ..status(0) });
    case.o.permit = Seen::Known(Some(from()));
    assert_eq!(case.act(), Some(Act::RevokePermit { nonce: Nonce(42) }));
    case.o.permit = Seen::Known(None);
    assert_eq!(case.act(), Some(Act::SetFence([].into())));
    case.o.fenced = Seen::Known([].into());
    assert_eq!(case.act(), Some(Act::OpenClientService { open: true }));
}

fn policy(immediate: bool) -> BackupPolicy {
    BackupPolicy { schedule: Schedule { latest: None, next: Time(NOW.0 + 1000) }, keep: 1, immediate }
}

fn backup(n: u64, scheduled: Option<Time>, phase: Phase) -> Backup {
    Backup {
        name: format!("b{n}").as_str().into(),
        uid: uid(format!("b{n}")),
        created: Time(n),
        scheduled,
        before: None,
        phase,
        completed: Some(Time(n)).filter(|_| phase == Phase::Succeeded),
        keep: false,
    }
}

#[test]
fn the_first_backup_need_not_wait_for_its_time() {
    let mut case = well(3);
    case.d.backup = Some(policy(false));
    assert_eq!(case.act(), None);
    case.d.backup = Some(policy(true));
    let created = case.o.cluster.created;
    let act = Act::StartBackup { from: Ordinal(2), purpose: Purpose::Scheduled(created) };
    assert_eq!(case.act(), Some(act));
    case.o.backups = Seen::Known(vec![backup(1, Some(created), Phase::Succeeded)]);
    assert_eq!(case.act(), None, "once");
}

#[test]
fn a_backup_that_somebody_took_by_hand_is_not_collected() {
    let mut case = well(3);
    case.d.backup = Some(policy(false));
    let by_hand = [backup(1, None, Phase::Succeeded), backup(2, None, Phase::Succeeded)];
    case.o.backups = Seen::Known(by_hand.to_vec());
    assert_eq!(case.act(), None);
    known(&mut case.o.backups).extend([3, 4].map(|n| backup(n, Some(Time(n)), Phase::Succeeded)));
    assert_eq!(case.act(), Some(Act::DeleteBackup { uid: uid("b3") }));
}

/// A store that is away for a month leaves no more records of that than there are backups.
#[test]
fn failed_backups_do_not_pile_up() {
    let mut case = well(3);
    case.d.backup = Some(policy(false));
    let all = [1, 2].map(|n| backup(n, Some(Time(n)), Phase::Failed));
    case.o.backups = Seen::Known(all.to_vec());
    assert_eq!(case.act(), Some(Act::DeleteBackup { uid: uid("b1") }));
    known(&mut case.o.backups).remove(0);
    assert_eq!(case.act(), None);
}

#[test]
fn a_backup_by_hand_is_taken_from_a_follower_and_from_nobody_who_is_not_well() {
    let mut case = well(3);
    assert_eq!(backup_source(&case.o, &case.d, case.now), Some(Ordinal(2)));
    case.leader(2);
    assert_eq!(backup_source(&case.o, &case.d, case.now), Some(Ordinal(1)));
    case.no_quorum();
    assert_eq!(backup_source(&case.o, &case.d, case.now), None);
}

/// The oldest that is kept may be the one to go back to.
#[test]
fn no_backup_goes_while_data_is_exchanged_or_damaged() {
    let mut case = well(3);
    case.d.backup = Some(policy(false));
    let all = [1, 2].map(|n| backup(n, Some(Time(n)), Phase::Succeeded));
    case.o.backups = Seen::Known(all.to_vec());
    assert_eq!(case.act(), Some(Act::DeleteBackup { uid: uid("b1") }));
    known(&mut case.o.alarms).insert((id(3), Alarm::Corrupt));
    assert!(!matches!(case.act(), Some(Act::DeleteBackup { .. })));
    known(&mut case.o.alarms).clear();
    let restore = Restore { source: "b1".into(), lost: CLUSTER, save: true, claims: BTreeMap::new() };
    case.under_way(Intent::Restore(restore));
    assert!(!matches!(case.act(), Some(Act::DeleteBackup { .. })));
}

#[test]
fn nothing_is_deleted_for_a_backup_that_is_gone() {
    let mut case = well(1);
    // One is deleted already, by us or by somebody else: all the more reason to keep the other.
    let claims = BTreeMap::from([(Ordinal(0), uid("claim-0")), (Ordinal(1), uid("claim-1"))]);
    case.under_way(Intent::Restore(Restore { source: "b1".into(), lost: CLUSTER, save: false, claims }));
    known(&mut case.o.objects).open = false;
    case.stopped();
    case.o.source = Seen::Known(false);
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
    case.o.source = Seen::Unknown;
    assert_eq!(case.act(), None);
    case.claim(0).terminating = true;
    case.o.source = Seen::Known(false);
    assert_eq!(case.act(), None, "there is no way back: the volume is awaited");
    case.o.source = Seen::Known(true);
    case.claim(0).terminating = false;
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(0), uid: uid("claim-0") }));
}
