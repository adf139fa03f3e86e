//! A member comes to a place: for more members, or in the stead of one that is lost.
//!
//! The order is what keeps it safe: the old member leaves the table before anything of it is deleted, its claim is gone
//! before the new one is added, and a learner counts for no quorum until it has caught up. Each step is derived from what
//! is there, so that a crash after any of them changes nothing.

use crate::act::{Act, Outcome};
use crate::condition::Reason;
use crate::ids::{Ordinal, Seconds};
use crate::leave;
use crate::next::Next;
use crate::observed::{Member, Verdict};
use crate::operation::{Intent, Join, Operation};
use crate::verbs;
use crate::view::{Loss, View};

/// The place after the highest, once that is free of what an earlier member left.
pub(crate) fn scale_up(v: &View) -> Next {
    let ordinal = Ordinal(v.span());
    if v.claims.get(&ordinal).is_some_and(|c| c.owner != v.o.cluster.uid) {
        let why = format!("a volume claim of another cluster is at place {ordinal}");
        return Next::wait(Reason::VolumeForeign, why);
    }
    // No member is there, so that nobody's data is in it.
    let stale = v.claims.get(&ordinal).map(|c| c.uid.clone());
    let join = Join { ordinal, leaver: None, stale, attempt: 1, applied: 0 };
    v.record(Intent::ScaleUp(join), v.d.deadlines.learner)
}

/// A new member at a place whose member is lost, or which has none.
pub(crate) fn replacement(v: &View, ordinal: Ordinal) -> Join {
    let leaver = v.member_at(ordinal).map(|m| m.id);
    let stale = v.claims.get(&ordinal).map(|c| c.uid.clone());
    Join { ordinal, leaver, stale, attempt: 1, applied: 0 }
}

pub(crate) fn resume(v: &View, operation: &Operation, join: &Join) -> Next {
    if v.table.is_none() {
        return Next::wait(Reason::MembersUnreachable, "the member table can't be read");
    }
    remove(v, operation, join).or(|| clear(v, join)).or(|| add(v, operation, join)).or(|| grow_up(v, operation, join))
}

fn remove(v: &View, operation: &Operation, join: &Join) -> Next {
    let Some(leaver) = join.leaver else { return Next::Pass };
    if v.member(leaver).is_none() {
        return crate::repair::disarm(v, leaver);
    }
    let voter = v.member(leaver).is_some_and(|m| !m.learner);
    // A cache that was behind may have shown the loss. Silence alone is none, now as then.
    if voter && operation.request.is_none() && v.loss(join.ordinal).is_none() {
        return verbs::finish(v, operation, Outcome::Failed("it came back by itself"));
    }
    if !v.removable(join.ordinal) {
        // Nothing has been touched yet: what else there is to repair goes first.
        return verbs::finish(v, operation, Outcome::Failed("the rest would have had no quorum"));
    }
    leave::hand_over(v, join.ordinal, |_| true).or(|| Next::Act(Act::MemberRemove { id: leaver }))
}

/// Deleting the claim first only marks it: it goes with the pod, and no new pod may have it. The other way round the
/// StatefulSet's next pod would take the same volume again.
fn clear(v: &View, join: &Join) -> Next {
    if v.member_at(join.ordinal).is_some() {
        // On a cache that was behind it was added too early: whether it can use the volume is for its server to say.
        return Next::Pass;
    }
    let Some(claim) = v.claims.get(&join.ordinal).filter(|c| Some(&c.uid) == join.stale.as_ref()) else {
        return Next::Pass;
    };
    if claim.owner != v.o.cluster.uid {
        return Next::wait(Reason::VolumeForeign, format!("the claim at place {} is another cluster's", join.ordinal));
    }
    if !claim.terminating {
        return Next::Act(Act::DeleteClaim { ordinal: join.ordinal, uid: claim.uid.clone() });
    }
    v.end(join.ordinal, true).or(|| Next::wait(Reason::ReplacingMember, "the old volume is being deleted"))
}

fn add(v: &View, operation: &Operation, join: &Join) -> Next {
    if v.member_at(join.ordinal).is_none() {
        if unwanted(v, operation, join) {
            return undo(v, operation, join, None);
        }
        if v.learners() > 0 {
            // Whoever added it, nobody sees to it while this is open; the place without a member is found again.
            return verbs::finish(v, operation, Outcome::Failed("another learner has to be promoted first"));
        }
        return Next::Act(Act::MemberAdd { ordinal: join.ordinal });
    }
    match v.workload {
        Some(w) if w.replicas <= join.ordinal.0 => {
            Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: w.replicas, to: join.ordinal.0 + 1 })
        }
        Some(_) => Next::Pass,
        None => crate::workload::create(v),
    }
}

fn grow_up(v: &View, operation: &Operation, join: &Join) -> Next {
    let Some(member) = v.member_at(join.ordinal) else { return Next::Pass };
    if !member.learner {
        return settled(v, operation, join);
    }
    if unwanted(v, operation, join) {
        return undo(v, operation, join, Some(member));
    }
    // Its claim may not have been made yet, so that only what its server says about the data counts.
    let refused = v.pods.get(&join.ordinal).and_then(|p| p.verdict).is_some_and(|said| match said {
        Verdict::DataLost | Verdict::Corrupt | Verdict::Removed => v.status(join.ordinal).is_none(),
    });
    if refused {
        return again(v, operation, join, member);
    }
    let mended = crate::roll::mend_alone(v, join.ordinal);
    if mended != Next::Pass {
        return mended;
    }
    let Some(status) = v.status(join.ordinal) else {
        if v.overdue(operation) {
            return again(v, operation, join, member);
        }
        return Next::wait(Reason::LearnerSyncing, "the learner has not started yet");
    };
    let half = Seconds(v.d.deadlines.learner.0 / 2);
    if status.applied > join.applied && v.now.after(half) >= operation.deadline {
        let join = Join { applied: status.applied, ..join.clone() };
        return v.turn(operation, rename(operation, join), v.d.deadlines.learner);
    }
    let act = Act::MemberPromote { id: member.id };
    match v.failed(&act) {
        false => Next::Act(act),
        true if v.overdue(operation) => again(v, operation, join, member),
        true => Next::wait(Reason::LearnerSyncing, "the learner is catching up"),
    }
}

/// A learner that does not get on makes way for a fresh one.
fn again(v: &View, operation: &Operation, join: &Join, member: &Member) -> Next {
    let stale = v.claims.get(&join.ordinal).map(|c| c.uid.clone());
    let attempt = join.attempt.saturating_add(1);
    let join = Join { ordinal: join.ordinal, leaver: Some(member.id), stale, attempt, applied: 0 };
    v.turn(operation, rename(operation, join), v.d.deadlines.learner)
}

fn rename(operation: &Operation, join: Join) -> Intent {
    match operation.intent {
        Intent::ScaleUp(_) => Intent::ScaleUp(join),
        _ => Intent::ReplaceMember(join),
    }
}

/// The spec has gone back on it before the member had a vote.
fn unwanted(v: &View, operation: &Operation, join: &Join) -> bool {
    matches!(operation.intent, Intent::ScaleUp(_)) && v.d.size <= join.ordinal.0
}

fn undo(v: &View, operation: &Operation, join: &Join, member: Option<&Member>) -> Next {
    let claim = v.claims.get(&join.ordinal).map(|c| c.uid.clone());
    let leave = crate::operation::Leave { ordinal: join.ordinal, member: member.map(|m| m.id), claim };
    v.turn(operation, Intent::ScaleDown(leave), v.d.deadlines.other)
}

fn settled(v: &View, operation: &Operation, join: &Join) -> Next {
    if v.well(join.ordinal) {
        return verbs::finish(v, operation, Outcome::Succeeded);
    }
    if let Some(Loss::Data) = v.loss(join.ordinal) {
        let join = replacement(v, join.ordinal);
        return v.turn(operation, Intent::ReplaceMember(join), v.d.deadlines.learner);
    }
    if v.overdue(operation) {
        // It has its vote: whatever ails it now is for repair to see.
        return verbs::finish(v, operation, Outcome::Failed("the new member is not well"));
    }
    Next::wait(Reason::LearnerSyncing, "the new member is not well yet")
}
