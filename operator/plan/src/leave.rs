//! The highest place is given up: its leader moves, the member leaves the table, and only then its pod and claim go.

use crate::act::{Act, Outcome};
use crate::condition::Reason;
use crate::desired::Retention;
use crate::ids::{MemberId, Ordinal};
use crate::next::Next;
use crate::operation::{Intent, Leave, Operation};
use crate::verbs;
use crate::view::View;

/// The victim is always the highest place, because a StatefulSet can give up no other.
pub(crate) fn scale_down(v: &View) -> Next {
    let Some(last) = v.span().checked_sub(1).map(Ordinal) else { return Next::Pass };
    if !v.removable(last) {
        return Next::wait(Reason::WaitingForMembers, "a member leaves only while the rest have a quorum");
    }
    let member = v.member_at(last).map(|m| m.id);
    let claim = v.claims.get(&last).map(|c| c.uid.clone());
    v.record(Intent::ScaleDown(Leave { ordinal: last, member, claim }), v.d.deadlines.other)
}

/// Has the member at a place hand over, if it leads. Where that fails it is not insisted on: a leader that leaves has
/// the others elect, which takes them a little longer.
pub(crate) fn hand_over(v: &View, from: Ordinal, suits: impl Fn(Ordinal) -> bool) -> Next {
    if !v.leads(from) || v.status(from).is_none() {
        return Next::Pass;
    }
    let Some(to) = v.heir(from, suits) else { return Next::Pass };
    let act = Act::MoveLeader { from, to };
    if v.failed(&act) { Next::Pass } else { Next::Act(act) }
}

pub(crate) fn resume(v: &View, operation: &Operation, leave: &Leave) -> Next {
    if v.table.is_none() {
        return Next::wait(Reason::MembersUnreachable, "the member table can't be read");
    }
    remove(v, operation, leave).or(|| shrink(v, leave)).or(|| discard(v, operation, leave))
}

fn remove(v: &View, operation: &Operation, leave: &Leave) -> Next {
    let Some(member) = v.member_at(leave.ordinal) else { return Next::Pass };
    if leave.member.is_some_and(|id| id != member.id) {
        return verbs::finish(v, operation, Outcome::Failed("another member is there now"));
    }
    if v.d.size > leave.ordinal.0 && !member.learner && v.well(leave.ordinal) {
        // The spec has gone back on it, and nothing has been touched.
        return verbs::finish(v, operation, Outcome::Failed("no longer wanted"));
    }
    if !v.removable(leave.ordinal) {
        // Nothing has been touched yet: repair goes first.
        return verbs::finish(v, operation, Outcome::Failed("the rest would have had no quorum"));
    }
    hand_over(v, leave.ordinal, |_| true).or(|| Next::Act(Act::MemberRemove { id: member.id }))
}

/// Its place is free in the table, so that the pod can go.
fn shrink(v: &View, leave: &Leave) -> Next {
    match v.workload {
        Some(w) if w.replicas > leave.ordinal.0 => {
            Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: w.replicas, to: leave.ordinal.0 })
        }
        None => crate::workload::create(v),
        Some(_) => Next::Pass,
    }
}

fn discard(v: &View, operation: &Operation, leave: &Leave) -> Next {
    match v.pods.get(&leave.ordinal) {
        Some(pod) if pod.terminating => return v.end(leave.ordinal, true),
        Some(_) => return Next::wait(Reason::ScalingDown, "the pod of the member that left is ending"),
        None => {}
    }
    keep_or_delete(v, leave.ordinal, leave.member).or(|| verbs::finish(v, operation, Outcome::Succeeded))
}

fn keep_or_delete(v: &View, ordinal: Ordinal, member: Option<MemberId>) -> Next {
    let claim = v.claims.get(&ordinal).filter(|c| c.owner == v.o.cluster.uid && !c.terminating);
    let Some(claim) = claim else { return Next::Pass };
    let uid = claim.uid.clone();
    match v.d.retain_policy {
        Retention::Delete => Next::Act(Act::DeleteClaim { ordinal, uid }),
        Retention::Retain if claim.left.is_none() => Next::Act(Act::MarkClaimLeft { ordinal, uid, member }),
        Retention::Retain => Next::Pass,
    }
}

/// A claim above the highest member, as somebody leaves it who scales the StatefulSet: whoever counts claims later must not
/// take it for a member's.
pub(crate) fn strays(v: &View) -> Next {
    let stray = v.claims.iter().find(|(n, c)| n.0 >= v.span() && c.left.is_none() && !c.terminating);
    stray.map_or(Next::Pass, |(n, _)| keep_or_delete(v, *n, None))
}
