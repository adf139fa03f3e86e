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
        let act = Act::ApplyWorkload { replicas: w.replicas, template: target.clone(), storage: w.storage };
        if !v.done(&act) {
            return Next::Act(act);
        }
        // Something changes each time what is written. What pods are made of counts all the same.
    }
    let outdated = |_: Ordinal, pod: &Pod| pod.template != target;
    next(v, &target, outdated, None)
}

/// What is of use even without a quorum: a better template, for pods that don't take part as they are. Before any of them
/// is given up for lost.
pub(crate) fn mend(v: &View) -> Next {
    mend_for(v, None)
}

/// The same while an operation waits that can't get on: pods that don't take part need not wait with it. What it was about
/// is seen again later; an order to restart goes on, any other counts as given up.
pub(crate) fn mend_others(v: &View, operation: &Operation) -> Next {
    let rolls = matches!(operation.intent, Intent::Roll(_));
    mend_for(v, operation.request.clone().filter(|_| rolls))
}

fn mend_for(v: &View, request: Option<Uid>) -> Next {
    let template = workload::mending(v);
    // A disk that is lost is not mended by a template.
    let idle = |n: Ordinal, p: &Pod| v.dead(n, p) && !p.terminating && has_place(v, n) && v.loss(n) != Some(Loss::Data);
    let Some((n, pod)) = v.pods.iter().find(|(n, p)| p.template != template && idle(**n, p)) else { return Next::Pass };
    if v.workload.is_some_and(|w| w.template != template) {
        return workload_to(v, template);
    }
    let roll = Roll { ordinal: *n, pod: pod.uid.clone(), template };
    v.record_for(Intent::Roll(roll), v.d.deadlines.restart, request)
}

/// Whether a pod is a member's, and not one that somebody made by scaling the StatefulSet.
fn has_place(v: &View, n: Ordinal) -> bool {
    if v.table.is_some() { v.member_at(n).is_some() } else { n.0 < workload::places(v) }
}

/// The same for the pod of a member that is to join, or that founds a cluster anew: nobody counts on it, so that nothing has to
/// be recorded.
pub(crate) fn mend_alone(v: &View, n: Ordinal) -> Next {
    let template = workload::mending(v);
    match v.pods.get(&n) {
        Some(pod) if pod.template != template && !pod.terminating && v.dead(n, pod) => {
            if v.workload.is_some_and(|w| w.template != template) {
                return workload_to(v, template);
            }
            Next::Act(Act::DeletePod { ordinal: n, uid: pod.uid.clone(), force: false })
        }
        _ => Next::Pass,
    }
}

/// The next of those pods that `outdated` names.
pub(crate) fn next(
    v: &View,
    target: &Template,
    outdated: impl Fn(Ordinal, &Pod) -> bool,
    request: Option<Uid>,
) -> Next {
    let old: Vec<_> = v.pods.iter().filter(|(n, p)| !p.terminating && has_place(v, **n) && outdated(**n, p)).collect();
    let begin = |ordinal: Ordinal, pod: &Pod| {
        let roll = Roll { ordinal, pod: pod.uid.clone(), template: target.clone() };
        v.record_for(Intent::Roll(roll), v.d.deadlines.restart, request.clone())
    };
    // Silence alone is no death: a pod that is ready and doesn't answer us may serve others.
    if let Some((n, pod)) = old.iter().find(|(n, p)| v.dead(**n, p)) {
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
        _ if lost(v, n) => replace(v, operation, n),
        _ if v.workload.is_none() => workload::create(v),
        _ => Next::wait(crate::judge::rolling(v), format!("waiting for the new pod {n}")),
    }
}

fn take_down(v: &View, operation: &Operation, roll: &Roll, pod: &Pod) -> Next {
    let n = roll.ordinal;
    let dead = v.dead(n, pod);
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
            return Next::wait(crate::judge::rolling(v), format!("{} is back, and settles", v.pod(n)));
        }
    }
    if lost(v, n) {
        return replace(v, operation, n);
    }
    let target = workload::mending(v);
    let dead = v.dead(n, pod);
    if dead && pod.template != target {
        // The spec was changed while the new pod failed: this one goes first, and no other.
        if v.workload.is_some_and(|w| w.template != target) {
            return workload_to(v, target);
        }
        let roll = Roll { ordinal: n, pod: pod.uid.clone(), template: target };
        return v.turn(operation, Intent::Roll(roll), v.d.deadlines.restart);
    }
    if !v.overdue(operation) {
        return Next::wait(crate::judge::rolling(v), format!("waiting for {} to be well", v.pod(n)));
    }
    let why =
        format!("{} is not well with the new pod; no other is touched. Change the spec back, or mend it", v.pod(n));
    Next::wait(Reason::UpgradeStuck, why)
}

fn workload_to(v: &View, template: Template) -> Next {
    let Some(w) = v.workload else { return workload::create(v) };
    Next::Act(Act::ApplyWorkload { replicas: w.replicas, template, storage: w.storage })
}

fn lost(v: &View, n: Ordinal) -> bool {
    matches!(v.loss(n), Some(Loss::Data | Loss::Hopeless))
}

/// The restart showed that the data is gone, or took the pod to a node that is.
fn replace(v: &View, operation: &Operation, ordinal: Ordinal) -> Next {
    if !v.removable(ordinal) {
        return Next::wait(Reason::MemberUnhealthy, "without this member the rest would have no quorum");
    }
    let join = crate::join::replacement(v, ordinal);
    v.turn(operation, Intent::ReplaceMember(join), v.d.deadlines.learner)
}
