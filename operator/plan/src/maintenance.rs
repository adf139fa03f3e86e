//! Compaction and defragmentation: by schedule, when asked, and when the space is used up.
//!
//! A scheduled run becomes an `EtcdOperation` first, named after its time, so that it is made once and its history shows.
//! One member at a time is defragmented, the leader last, never while another is not well.

use std::collections::BTreeSet;

use crate::act::{Act, Alarm, Job, Outcome};
use crate::backup::due;
use crate::condition::Reason;
use crate::desired::Rule;
use crate::ids::{MemberId, Ordinal, Revision, Seconds, Time};
use crate::leave;
use crate::next::Next;
use crate::observed::{Echo, Request, Status};
use crate::operation::{Defragment, Intent, MakeRoom, Operation, Verb};
use crate::verbs;
use crate::view::View;

/// Room is not made faster than this, or a quota that is too small would stop writers for ever.
const ROOM_PAUSE: Seconds = Seconds(600);
/// So full may a file be at most, in percent of the quota, for its alarm to be disarmed.
const ROOM_ENOUGH: u64 = 90;

pub(crate) fn schedule(v: &View) -> Next {
    let Some(requests) = v.o.requests.known() else { return Next::Pass };
    compaction(v, requests).or(|| defragmentation(v, requests))
}

fn stamp(v: &View, job: Job, at: Time) -> Next {
    let act = Act::Stamp { job, at };
    if v.failed(&act) { Next::Pass } else { Next::Act(act) }
}

pub(crate) fn last(requests: &[Request], mark: Option<Time>, like: fn(&Verb) -> bool) -> Option<Time> {
    requests.iter().filter(|r| like(&r.verb)).filter_map(|r| r.scheduled).max().max(mark)
}

pub(crate) fn compacts(verb: &Verb) -> bool {
    matches!(verb, Verb::Compact { .. })
}

pub(crate) fn defragments(verb: &Verb) -> bool {
    matches!(verb, Verb::Defragment { .. })
}

fn busy(requests: &[Request], like: fn(&Verb) -> bool) -> bool {
    requests.iter().any(|r| like(&r.verb) && !r.phase.finished())
}

fn compaction(v: &View, requests: &[Request]) -> Next {
    let Some(policy) = &v.d.maintenance.compact else { return Next::Pass };
    let done = last(requests, v.o.cluster.marks.compact, compacts);
    let Some(at) = due(policy.schedule.latest, done, v.o.cluster.created) else { return Next::Pass };
    let newest = v.o.answers.values().map(|s| s.revision).max();
    let revision = match policy.keep {
        Some(keep) => newest.map(|r| Revision(r.0 - keep)),
        None => v.o.keep_from,
    };
    match revision {
        Some(revision) if revision.0 > 0 && !busy(requests, compacts) => stamp(v, Job::Compact { revision }, at),
        _ => Next::Pass,
    }
}

fn defragmentation(v: &View, requests: &[Request]) -> Next {
    let Some(policy) = &v.d.maintenance.defragment else { return Next::Pass };
    let done = last(requests, v.o.cluster.marks.defragment, defragments);
    match due(policy.schedule.latest, done, v.o.cluster.created) {
        Some(at) if v.all_well() && !busy(requests, defragments) => stamp(v, Job::Defragment { rule: policy.rule }, at),
        _ => Next::Pass,
    }
}

/// Whether there is enough to gain. A file that is tight but full of data is left alone, or it would be done for ever.
fn worth(v: &View, rule: Option<Rule>, status: &Status) -> bool {
    let Some(rule) = rule else { return true };
    let free = status.db_size.saturating_sub(status.db_in_use);
    let tight = status.db_size.saturating_mul(100) >= v.d.quota.saturating_mul(rule.quota_percent.into());
    free >= rule.min_reclaim && (free >= rule.free_above || tight)
}

/// The next to be defragmented: followers first, the leader after them.
fn next_member(v: &View, rule: Option<Rule>, skip: &BTreeSet<Ordinal>, only: &BTreeSet<Ordinal>) -> Option<Ordinal> {
    let voters = v.well_voters(None);
    let places = voters.iter().filter_map(|m| m.ordinal);
    let wanted = places.filter(|n| !skip.contains(n) && (only.is_empty() || only.contains(n)));
    wanted.filter(|n| v.status(*n).is_some_and(|s| worth(v, rule, s))).min_by_key(|n| (v.leads(*n), *n))
}

/// Whose turn there was, as far as that is not written down yet.
fn tried(v: &View, done: &BTreeSet<Ordinal>) -> Option<Ordinal> {
    let turn = |e: &Echo| if let Act::Defragment { ordinal } = e.act { Some(ordinal) } else { None };
    v.o.echo.iter().filter_map(turn).find(|n| !done.contains(n))
}

/// One that failed is not tried again in this run.
pub(crate) fn resume_defragment(v: &View, operation: &Operation, run: &Defragment) -> Next {
    if let Some(n) = tried(v, &run.done) {
        let mut run = run.clone();
        run.done.insert(n);
        return v.turn(operation, Intent::Defragment(run), v.d.deadlines.other);
    }
    if v.overdue(operation) {
        return verbs::finish(v, operation, Outcome::Failed("it took too long"));
    }
    let Some(n) = next_member(v, run.rule, &run.done, &run.members) else {
        return verbs::finish(v, operation, Outcome::Succeeded);
    };
    if !v.all_well() {
        // Repair comes first, and can't while this is open.
        return verbs::finish(v, operation, Outcome::Failed("a member was not well"));
    }
    leave::hand_over(v, n, |_| true).or(|| Next::Act(Act::Defragment { ordinal: n }))
}

pub(crate) fn no_space(v: &View) -> bool {
    v.o.alarms.known().is_some_and(|a| a.iter().any(|(_, alarm)| *alarm == Alarm::NoSpace))
}

pub(crate) fn room(v: &View) -> Next {
    let rested = v.o.cluster.marks.room.is_none_or(|last| v.now.since(last) >= ROOM_PAUSE);
    if no_space(v) && v.table.is_some() && rested {
        let fresh = MakeRoom { compacted: false, done: BTreeSet::new() };
        return v.record(Intent::MakeRoom(fresh), v.d.deadlines.other);
    }
    Next::Pass
}

pub(crate) fn resume_room(v: &View, operation: &Operation, run: &MakeRoom) -> Next {
    if v.overdue(operation) {
        return verbs::finish(v, operation, Outcome::Failed("it took too long"));
    }
    if !no_space(v) && v.o.alarms.known().is_some() {
        return verbs::finish(v, operation, Outcome::Succeeded);
    }
    compact_all(v, operation, run).or(|| defragment_all(v, operation, run)).or(|| disarm(v, operation))
}

fn compact_all(v: &View, operation: &Operation, run: &MakeRoom) -> Next {
    if run.compacted {
        return Next::Pass;
    }
    let Some(revision) = v.o.answers.values().map(|s| s.revision).max() else {
        return Next::wait(Reason::AlarmNoSpace, "no member tells its revision");
    };
    if let Some(echo) = v.o.echo.iter().rev().find(|e| matches!(e.act, Act::Compact { .. })) {
        // A revision that is compacted already is an error, too, and as good.
        if echo.done || v.overdue(operation) {
            let run = MakeRoom { compacted: true, done: run.done.clone() };
            return v.turn(operation, Intent::MakeRoom(run), v.d.deadlines.other);
        }
        return Next::wait(Reason::AlarmNoSpace, "the compaction did not succeed yet");
    }
    Next::Act(Act::Compact { revision })
}

fn defragment_all(v: &View, operation: &Operation, run: &MakeRoom) -> Next {
    if let Some(n) = tried(v, &run.done) {
        let mut run = run.clone();
        run.done.insert(n);
        return v.turn(operation, Intent::MakeRoom(run), v.d.deadlines.other);
    }
    match next_member(v, None, &run.done, &BTreeSet::new()) {
        // While it is defragmented a member answers nobody.
        Some(n) if v.spare(n) || v.voters() <= 2 => {
            leave::hand_over(v, n, |_| true).or(|| Next::Act(Act::Defragment { ordinal: n }))
        }
        Some(_) => verbs::finish(v, operation, Outcome::Failed("a member was not well")),
        None => Next::Pass,
    }
}

fn disarm(v: &View, operation: &Operation) -> Next {
    let full = v.o.answers.values().any(|s| s.db_size.saturating_mul(100) >= v.d.quota.saturating_mul(ROOM_ENOUGH));
    let armed = v.o.alarms.known().into_iter().flatten().find(|(_, alarm)| *alarm == Alarm::NoSpace);
    match armed {
        Some((id, alarm)) if !full => Next::Act(Act::Disarm { id: *id, alarm: *alarm }),
        _ => verbs::finish(v, operation, Outcome::Failed("there is no more to gain: raise the quota, or delete keys")),
    }
}

pub(crate) fn resume_compact(v: &View, operation: &Operation, revision: Revision) -> Next {
    let act = Act::Compact { revision };
    if v.done(&act) {
        return verbs::finish(v, operation, Outcome::Succeeded);
    }
    if v.failed(&act) || v.overdue(operation) {
        return verbs::finish(v, operation, Outcome::Failed("the members refused"));
    }
    Next::Act(act)
}

/// By hand those are disarmed that were named, and no other: who says that there is room says nothing of damage. One that
/// still has its cause comes back.
pub(crate) fn resume_disarm(v: &View, operation: &Operation) -> Next {
    let (Some(alarms), Some(requests)) = (v.o.alarms.known(), v.o.requests.known()) else {
        return Next::wait(Reason::MembersUnreachable, "the alarms can't be read");
    };
    let Some(order) = requests.iter().find(|r| Some(&r.uid) == operation.request.as_ref()) else {
        return verbs::finish(v, operation, Outcome::Failed("its order is gone"));
    };
    let named = |(id, alarm): &&(MemberId, Alarm)| match &order.verb {
        Verb::DisarmAlarm { alarm: asked, member } => {
            alarm == asked && member.is_none_or(|n| v.member_at(n).is_some_and(|m| m.id == *id))
        }
        _ => false,
    };
    match alarms.iter().find(named) {
        Some((id, alarm)) if !v.overdue(operation) => {
            let act = Act::Disarm { id: *id, alarm: *alarm };
            if v.failed(&act) {
                return verbs::finish(v, operation, Outcome::Failed("the members refused"));
            }
            Next::Act(act)
        }
        Some(_) => verbs::finish(v, operation, Outcome::Failed("it took too long")),
        None => verbs::finish(v, operation, Outcome::Succeeded),
    }
}
