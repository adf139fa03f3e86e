//! Pods are replaced one at a time: those that don't take part first, then followers, the leader last after it has
//! handed over; each is well again before the next goes. What fails on the first pod never reaches the second.

use crate::act::{Act, Outcome};
use crate::condition::Reason;
use crate::ids::{Ordinal, Template, Uid};
use crate::leave;
use crate::next::Next;
use crate::observed::Pod;
use crate::operation::{Intent, Operation, Roll};
use crate::verbs;
use crate::view::{Loss, View};
use crate::workload;

/// The configuration's and the version's turn are the same: what differs is which template [`workload::target`] gives.
pub(crate) fn step(v: &View) -> Next {
    let Some(w) = v.workload else { return Next::Pass };
    let target = workload::target(v);
    if w.template != target {
        if target.version > w.template.version {
            let saved = crate::backup::before(v, target.version);
            if saved != Next::Pass {
                return saved;
            }
        }
        return Next::Act(Act::ApplyWorkload { replicas: w.replicas, template: target, storage: w.storage });
    }
    let outdated = |_: Ordinal, pod: &Pod| pod.template != target;
    next(v, &target, outdated, None)
}

/// What is of use even without a quorum: a better template, for pods that don't take part as they are. Before any of them
/// is given up for lost.
pub(crate) fn mend(v: &View) -> Next {
    let Some(w) = v.workload else { return Next::Pass };
    let target = workload::mending(v);
    if w.template != target {
        return Next::Act(Act::ApplyWorkload { replicas: w.replicas, template: target, storage: w.storage });
    }
    let idle = |n: &Ordinal, p: &Pod| !p.ready && !p.terminating && !v.well(*n) && n.0 < w.replicas;
    match v.pods.iter().find(|(n, p)| p.template != target && idle(n, p)) {
        Some((n, pod)) => {
            let roll = Roll { ordinal: *n, pod: pod.uid.clone(), template: target };
            v.record(Intent::Roll(roll), v.d.deadlines.restart)
        }
        None => Next::Pass,
    }
}

/// The next of those pods that `outdated` names.
pub(crate) fn next(
    v: &View,
    target: &Template,
    outdated: impl Fn(Ordinal, &Pod) -> bool,
    request: Option<Uid>,
) -> Next {
    let old: Vec<_> = v.pods.iter().filter(|(n, p)| !p.terminating && n.0 < v.replicas() && outdated(**n, p)).collect();
    let begin = |ordinal: Ordinal, pod: &Pod| {
        let roll = Roll { ordinal, pod: pod.uid.clone(), template: target.clone() };
        v.record_for(Intent::Roll(roll), v.d.deadlines.restart, request.clone())
    };
    // Silence alone is no death: a pod that is ready and doesn't answer us may serve others.
    if let Some((n, pod)) = old.iter().find(|(n, p)| !p.ready && !v.well(**n)) {
        return begin(**n, pod);
    }
    if old.is_empty() {
        return Next::Pass;
    }
    if !v.all_well() {
        return Next::wait(Reason::WaitingForMembers, "pods are replaced only while every member is well");
    }
    let follower = old.iter().find(|(n, _)| !v.leads(**n)).or(old.first());
    follower.map_or(Next::Pass, |(n, pod)| begin(**n, pod))
}

pub(crate) fn resume(v: &View, operation: &Operation, roll: &Roll) -> Next {
    let n = roll.ordinal;
    if v.table.is_some() && v.member_at(n).is_none() {
        return verbs::finish(v, operation, Outcome::Failed("the member is gone"));
    }
    match v.pods.get(&n) {
        Some(pod) if pod.uid == roll.pod && !pod.terminating => take_down(v, operation, roll, pod),
        Some(pod) if pod.uid != roll.pod && !pod.terminating => verify(v, operation, roll, pod),
        _ if v.loss(n) == Some(Loss::Data) => replace(v, operation, n),
        _ if v.workload.is_none() => workload::create(v),
        _ => Next::wait(crate::judge::rolling(v), format!("waiting for the new pod {n}")),
    }
}

fn take_down(v: &View, operation: &Operation, roll: &Roll, pod: &Pod) -> Next {
    let n = roll.ordinal;
    let dead = !pod.ready && !v.well(n);
    // One or two voters have no majority to spare: there a restart is a pause, which the change is worth.
    let small = v.voters() <= 2 && v.all_well();
    if !(dead || small || v.all_well() && v.spare(n)) {
        return verbs::finish(v, operation, Outcome::Failed("a member was not well before the pod was touched"));
    }
    let updated = |o: Ordinal| v.pods.get(&o).is_some_and(|p| p.template == roll.template);
    if !dead && !v.overdue(operation) {
        let handed = leave::hand_over(v, n, updated);
        if handed != Next::Pass {
            return handed;
        }
    }
    Next::Act(Act::DeletePod { ordinal: n, uid: pod.uid.clone(), force: false })
}

fn verify(v: &View, operation: &Operation, roll: &Roll, pod: &Pod) -> Next {
    let n = roll.ordinal;
    if let Some(status) = v.status(n).filter(|_| v.well(n)) {
        let newest = v.o.answers.values().map(|s| s.applied).max().unwrap_or(0);
        let near = newest.saturating_sub(status.applied) <= v.d.update.max_lag;
        let settled = pod.ready && v.now.since(pod.ready_changed) >= v.d.update.pause_between;
        if near && settled && status.version == pod.template.version {
            return verbs::finish(v, operation, Outcome::Succeeded);
        }
        if status.version == pod.template.version {
            return Next::wait(crate::judge::rolling(v), format!("member {n} is back, and settles"));
        }
    }
    if v.loss(n) == Some(Loss::Data) {
        return replace(v, operation, n);
    }
    let target = workload::mending(v);
    let dead = !pod.ready && !v.well(n);
    if dead && pod.template != target {
        // The spec was changed while the new pod failed: this one goes first, and no other.
        if v.workload.is_some_and(|w| w.template != target) {
            return workload_to(v, target);
        }
        let roll = Roll { ordinal: n, pod: pod.uid.clone(), template: target };
        return v.turn(operation, Intent::Roll(roll), v.d.deadlines.restart);
    }
    if !v.overdue(operation) {
        return Next::wait(crate::judge::rolling(v), format!("waiting for member {n} to be well"));
    }
    let why = format!("member {n} is not well with the new pod; no other is touched. Change the spec back, or mend it");
    Next::wait(Reason::UpgradeStuck, why)
}

fn workload_to(v: &View, template: Template) -> Next {
    let Some(w) = v.workload else { return workload::create(v) };
    Next::Act(Act::ApplyWorkload { replicas: w.replicas, template, storage: w.storage })
}

/// The restart showed that the data is gone.
fn replace(v: &View, operation: &Operation, ordinal: Ordinal) -> Next {
    if !v.removable(ordinal) {
        return Next::wait(Reason::MemberUnhealthy, "without this member the rest would have no quorum");
    }
    let join = crate::join::replacement(v, ordinal);
    v.turn(operation, Intent::ReplaceMember(join), v.d.deadlines.learner)
}
