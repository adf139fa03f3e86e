use std::collections::BTreeSet;

use keepstone_operator_plan::act::{Act, Alarm, Job, Outcome, Purpose};
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::desired::*;
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Defragment, Intent, MakeRoom, Verb};

use crate::fixture::*;

const RULE: Rule = Rule { free_above: 200, quota_percent: 80, min_reclaim: 32 };
const EARLIER: Time = Time(NOW.0 - 50);

fn schedule() -> Schedule {
    Schedule { latest: Some(EARLIER), next: Time(NOW.0 + 3600) }
}

fn scheduled() -> Case {
    let mut case = well(3);
    case.d.maintenance.defragment = Some(Defragmentation { schedule: schedule(), rule: RULE });
    case
}

fn run(done: &[u32]) -> Intent {
    let done = done.iter().map(|n| Ordinal(*n)).collect();
    Intent::Defragment(Defragment { rule: Some(RULE), members: BTreeSet::new(), done })
}

fn fragmented() -> Case {
    let mut case = well(3);
    for n in 0..3 {
        case.answer(n).db_size = 700;
    }
    case.under_way(run(&[]));
    case
}

#[test]
fn a_schedule_that_was_missed_runs_once() {
    let mut case = scheduled();
    let act = Act::Stamp { job: Job::Defragment { rule: RULE }, at: EARLIER };
    assert_eq!(case.act(), Some(act));
    case.request(Verb::Defragment { members: BTreeSet::new(), rule: Some(RULE) });
    let made = &mut known(&mut case.o.requests)[0];
    (made.scheduled, made.phase) = (Some(EARLIER), Phase::Succeeded);
    assert_eq!(case.act(), None);
    assert_eq!(case.plan().marks.defragment, Some(EARLIER), "so that it is known when the object is gone");
    known(&mut case.o.requests).clear();
    case.o.cluster.marks.defragment = Some(EARLIER);
    assert_eq!(case.act(), None);
}

#[test]
fn a_new_cluster_owes_nothing_to_times_before_it() {
    let mut case = scheduled();
    case.o.cluster.created = NOW;
    assert_eq!(case.act(), None);
}

#[test]
fn nobody_is_defragmented_while_another_is_not_well() {
    let mut case = scheduled();
    case.down(2);
    assert_eq!(case.act(), None);
    let mut case = fragmented();
    case.down(2);
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn followers_are_defragmented_first_and_the_leader_once_it_has_handed_over() {
    let mut case = fragmented();
    assert_eq!(case.act(), Some(Act::Defragment { ordinal: Ordinal(1) }));
    case.done(Act::Defragment { ordinal: Ordinal(1) });
    assert_eq!(case.intent(), run(&[1]));
    case.o.echo.clear();
    case.under_way(run(&[1, 2]));
    assert_eq!(case.act(), Some(Act::MoveLeader { from: Ordinal(0), to: id(1) }));
    case.leader(1);
    assert_eq!(case.act(), Some(Act::Defragment { ordinal: Ordinal(0) }));
}

#[test]
fn a_defragmentation_that_failed_is_not_tried_again_in_the_same_run() {
    let mut case = fragmented();
    case.failed(Act::Defragment { ordinal: Ordinal(1) });
    assert_eq!(case.intent(), run(&[1]));
}

/// cozystack: a file that was full of data was defragmented for ever.
#[test]
fn a_file_that_is_tight_but_full_is_left_alone() {
    let mut case = fragmented();
    for n in 0..3 {
        (case.answer(n).db_size, case.answer(n).db_in_use) = (990, 980);
    }
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
}

#[test]
fn a_compaction_keeps_what_it_was_told_to_keep() {
    let mut case = well(3);
    case.d.maintenance.compact = Some(Compaction { schedule: schedule(), keep: Some(1000) });
    let job = Job::Compact { revision: Revision(3000) };
    assert_eq!(case.act(), Some(Act::Stamp { job, at: EARLIER }));
    case.d.maintenance.compact = Some(Compaction { schedule: schedule(), keep: None });
    assert_eq!(case.act(), None, "nobody wrote down which revision was current then");
    case.o.keep_from = Some(Revision(1234));
    assert!(matches!(case.act(), Some(Act::Stamp { job: Job::Compact { revision: Revision(1234) }, .. })));
}

fn full() -> Case {
    let mut case = well(3);
    known(&mut case.o.alarms).insert((id(1), Alarm::NoSpace));
    case
}

fn room(compacted: bool, done: &[u32]) -> Intent {
    Intent::MakeRoom(MakeRoom { compacted, done: done.iter().map(|n| Ordinal(*n)).collect() })
}

#[test]
fn room_is_made_in_order_and_the_alarm_disarmed_last() {
    let mut case = full();
    assert_eq!(case.intent(), room(false, &[]));
    case.says(ConditionType::Available, Truth::False, Reason::AlarmNoSpace);
    case.under_way(room(false, &[]));
    assert_eq!(case.act(), Some(Act::Compact { revision: Revision(4000) }));
    case.done(Act::Compact { revision: Revision(4000) });
    assert_eq!(case.intent(), room(true, &[]));
    case.o.echo.clear();
    case.under_way(room(true, &[1, 2]));
    case.leader(2);
    assert_eq!(case.act(), Some(Act::Defragment { ordinal: Ordinal(0) }));
    case.under_way(room(true, &[0, 1, 2]));
    assert_eq!(case.act(), Some(Act::Disarm { id: id(1), alarm: Alarm::NoSpace }));
}

#[test]
fn an_alarm_stays_where_no_room_was_made_and_is_not_hammered() {
    let mut case = full();
    case.under_way(room(true, &[0, 1, 2]));
    case.answer(1).db_size = 950;
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
    assert_eq!(case.plan().marks.room, Some(NOW));
    case.o.cluster.operation = None;
    case.o.cluster.marks.room = Some(Time(NOW.0 - 60));
    assert_eq!(case.act(), None);
    case.o.cluster.marks.room = Some(Time(NOW.0 - 600));
    assert_eq!(case.intent(), room(false, &[]));
}

fn backup(n: u64, phase: Phase) -> Backup {
    Backup {
        name: format!("b{n}").as_str().into(),
        uid: uid(format!("b{n}")),
        created: Time(n),
        scheduled: Some(Time(n)),
        before: None,
        phase,
        completed: Some(Time(n)).filter(|_| phase == Phase::Succeeded),
        keep: false,
    }
}

#[test]
fn a_backup_is_taken_from_a_follower_also_while_an_operation_is_stuck() {
    let mut case = fragmented();
    case.d.backup = Some(BackupPolicy { schedule: schedule(), keep: 2, immediate: false });
    let act = Act::StartBackup { from: Ordinal(2), purpose: Purpose::Scheduled(EARLIER) };
    assert_eq!(case.act(), Some(act.clone()));
    case.says(ConditionType::BackupHealthy, Truth::False, Reason::NeverTaken);
    case.failed(act);
    assert!(case.act().is_some_and(|act| matches!(act, Act::Defragment { .. })), "and holds nothing up");
}

#[test]
fn only_whole_backups_count_and_the_newest_is_never_collected() {
    let mut case = well(3);
    case.d.backup = Some(BackupPolicy { schedule: Schedule { latest: None, next: NOW }, keep: 0, immediate: false });
    let all = [backup(1, Phase::Succeeded), backup(2, Phase::Succeeded), backup(3, Phase::Failed)];
    case.o.backups = Seen::Known(all.to_vec());
    assert_eq!(case.act(), Some(Act::DeleteBackup { uid: uid("b1") }));
    known(&mut case.o.backups).remove(0);
    assert_eq!(case.act(), None);
    case.says(ConditionType::BackupHealthy, Truth::False, Reason::BackupFailed);
}

#[test]
fn a_request_whose_record_was_lost_does_not_run_for_ever() {
    let mut case = well(3);
    case.request(Verb::Compact { revision: Revision(7) });
    assert_eq!(case.intent(), Intent::Compact { revision: Revision(7) });
    known(&mut case.o.requests)[0].phase = Phase::Running;
    assert!(matches!(case.act(), Some(Act::FinishRequest { outcome: Outcome::Failed(_), .. })));
}

#[test]
fn a_leader_asked_to_move_moves_and_the_request_ends() {
    let mut case = well(3);
    case.request(Verb::MoveLeader { to: Some(Ordinal(2)) });
    assert_eq!(case.intent(), Intent::MoveLeader { to: Ordinal(2) });
    case.under_way(Intent::MoveLeader { to: Ordinal(2) }).request = Some(uid("request"));
    assert_eq!(case.act(), Some(Act::MoveLeader { from: Ordinal(0), to: id(2) }));
    case.leader(2);
    assert_eq!(case.act(), Some(Act::FinishRequest { uid: uid("request"), outcome: Outcome::Succeeded }));
}

#[test]
fn a_leader_is_not_moved_to_a_member_that_is_not_well() {
    let mut case = well(3);
    case.down(2);
    case.request(Verb::MoveLeader { to: Some(Ordinal(2)) });
    assert!(matches!(case.act(), Some(Act::FinishRequest { outcome: Outcome::Rejected(_), .. })));
}

/// Who says that there is room says nothing of damage: it used to lower that alarm first.
#[test]
fn an_order_lowers_the_alarm_it_names_and_no_other() {
    let mut case = well(3);
    let asked = Verb::DisarmAlarm { alarm: Alarm::NoSpace, member: Some(Ordinal(1)) };
    case.request(asked);
    case.under_way(Intent::DisarmAlarm).request = Some(uid("request"));
    known(&mut case.o.alarms).extend([(MemberId::NOBODY, Alarm::Corrupt), (id(2), Alarm::NoSpace)]);
    assert!(matches!(case.act(), Some(Act::FinishRequest { outcome: Outcome::Succeeded, .. })), "{:?}", case.act());
    known(&mut case.o.alarms).insert((id(1), Alarm::NoSpace));
    assert_eq!(case.act(), Some(Act::Disarm { id: id(1), alarm: Alarm::NoSpace }));
    known(&mut case.o.requests).clear();
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }), "nobody says any more which");
}

/// A PodMonitor that nobody takes, say: each pass tried it anew, and forgot over it what had been done in between.
#[test]
fn what_can_not_be_applied_makes_nothing_be_done_twice() {
    let mut case = full();
    known(&mut case.o.objects).current = false;
    case.failed(Act::ApplyObjects);
    case.under_way(room(false, &[]));
    assert_eq!(case.act(), Some(Act::Compact { revision: Revision(4000) }));
    case.done(Act::Compact { revision: Revision(4000) });
    assert_eq!(case.intent(), room(true, &[]));
    case.under_way(room(true, &[]));
    assert_eq!(case.act(), Some(Act::Defragment { ordinal: Ordinal(1) }));
    case.done(Act::Defragment { ordinal: Ordinal(1) });
    assert_eq!(case.intent(), room(true, &[1]));
}

/// A webhook that changes each time what is written.
#[test]
fn what_helps_nobody_holds_up_nothing() {
    let mut case = well(3);
    known(&mut case.o.objects).current = false;
    assert_eq!(case.act(), Some(Act::ApplyObjects));
    case.done(Act::ApplyObjects);
    case.d.size = 5;
    assert!(matches!(case.act(), Some(Act::RecordIntent(_))), "{:?}", case.act());
    case.workload().template.config = "changed".into();
    let Some(apply) = case.act() else { panic!("it is put right") };
    case.done(apply);
    assert!(matches!(case.act(), Some(Act::RecordIntent(_))), "{:?}", case.act());
}
