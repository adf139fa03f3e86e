//! Members that are lost are replaced, one at a time; places that have no member get one; a lost majority is named.

use crate::act::{Act, Alarm, Outcome};
use crate::condition::Reason;
use crate::ids::{MemberId, Ordinal};
use crate::next::Next;
use crate::operation::{Intent, Leave, Operation};
use crate::verbs;
use crate::view::{Loss, View};

const UNDECIDED: &str = "members' data differs, and no majority tells whose is right";

/// Evidence goes before suspicion, a follower before the leader, the lower before the higher.
fn candidate(v: &View, like: impl Fn(Loss) -> bool) -> Option<(Ordinal, Loss)> {
    let places = v.members().iter().filter(|m| !m.learner).filter_map(|m| m.ordinal);
    let lost = places.filter_map(|n| Some((n, v.loss(n)?))).filter(|(_, loss)| like(*loss));
    lost.min_by_key(|(n, loss)| (*loss != Loss::Data, v.leads(*n), *n))
}

/// Damage that a member tells of itself needs no second sign.
pub(crate) fn corrupt(v: &View) -> Next {
    let corrupt = v.members().iter().find(|m| v.corrupt(m.id));
    match corrupt.and_then(|m| m.ordinal) {
        Some(n) => replace(v, n),
        None => outlived(v),
    }
}

/// Members differ, and no majority says who is right. Whatever is taken away now, or made of what a leader has, may be the
/// copy that could have told: nothing goes on but what somebody orders who has looked.
pub(crate) fn undecided(v: &View) -> Next {
    if !v.corrupt(MemberId::NOBODY) {
        return Next::Pass;
    }
    match v.operation() {
        Some(operation) => match operation.intent {
            Intent::Bootstrap(_)
            | Intent::RecoverQuorum(_)
            | Intent::Restore(_)
            | Intent::Hibernate { .. }
            | Intent::DisarmAlarm => Next::Pass,
            _ => verbs::finish(v, operation, Outcome::Failed(UNDECIDED)),
        },
        None => verbs::alarms(v).or(|| crate::sleep::step(v)).or(|| Next::wait(Reason::AlarmCorrupt, UNDECIDED)),
    }
}

/// An alarm outlives its member, and whom it was raised for may have stayed behind in a cluster that was given up. The one
/// of [`MemberId::NOBODY`] says that nobody knows who is right: that is for people to find out.
fn outlived(v: &View) -> Next {
    let corrupt = v.corrupted().find(|id| *id != MemberId::NOBODY && v.table.is_some() && v.member(*id).is_none());
    corrupt.map_or(Next::Pass, |id| disarm(v, id))
}

/// Lowers the alarm of a member that is no more.
pub(crate) fn disarm(v: &View, gone: MemberId) -> Next {
    let act = Act::Disarm { id: gone, alarm: Alarm::Corrupt };
    if v.corrupt(gone) && !v.failed(&act) { Next::Act(act) } else { Next::Pass }
}

pub(crate) fn lost(v: &View) -> Next {
    match candidate(v, |loss| loss != Loss::Doomed) {
        Some((n, _)) => replace(v, n),
        None => Next::Pass,
    }
}

/// A claim that was deleted under a running member: it is replaced before its next restart, once nothing is worse.
pub(crate) fn doomed(v: &View) -> Next {
    if !v.all_well() {
        return Next::Pass;
    }
    match candidate(v, |loss| loss == Loss::Doomed) {
        Some((n, _)) => replace(v, n),
        None => Next::Pass,
    }
}

fn replace(v: &View, n: Ordinal) -> Next {
    if !v.d.recovery.replace || !v.removable(n) {
        return Next::Pass;
    }
    if v.learners() > 0 {
        return Next::Pass;
    }
    if n.next().0 == v.span() && v.d.size < v.span() {
        // It was to go anyway: no new member for a place that is given up next.
        let claim = v.claims.get(&n).map(|c| c.uid.clone());
        let leave = Leave { ordinal: n, member: v.member_at(n).map(|m| m.id), claim };
        return v.record(Intent::ScaleDown(leave), v.d.deadlines.other);
    }
    v.record(Intent::ReplaceMember(crate::join::replacement(v, n)), v.d.deadlines.learner)
}

/// A member that is lost, and can't be replaced now.
pub(crate) fn unsafe_loss(v: &View) -> Option<Ordinal> {
    candidate(v, |loss| loss != Loss::Doomed).map(|(n, _)| n).filter(|n| v.table.is_some() && !v.removable(*n))
}

/// While one pod is stuck in a roll, the loss of another member's data doesn't wait for it.
pub(crate) fn instead_of(v: &View, operation: &Operation) -> Next {
    let Intent::Roll(roll) = &operation.intent else { return Next::Pass };
    match candidate(v, |loss| loss != Loss::Doomed) {
        Some((n, _)) if n != roll.ordinal && v.removable(n) && v.d.recovery.replace && v.learners() == 0 => {
            v.turn(operation, Intent::ReplaceMember(crate::join::replacement(v, n)), v.d.deadlines.learner)
        }
        _ => Next::Pass,
    }
}

/// Without a quorum nothing can be repaired: it comes back by itself, or somebody decides what is given up.
pub(crate) fn quorum(v: &View) -> Next {
    if v.table.is_some() {
        return Next::Pass;
    }
    if !v.quorum_lost() {
        return Next::wait(Reason::MembersUnreachable, "the member table can't be read");
    }
    if !v.majority_gone() {
        return Next::wait(Reason::QuorumLost, "too few members answer; nothing tells that their data is lost");
    }
    let Some(survivor) = crate::recover::survivor(v) else {
        return Next::wait(Reason::QuorumLost, "no member's data is left: found a new cluster from a backup");
    };
    let since = v.o.cluster.marks.quorum_lost.unwrap_or(v.now);
    if v.d.recovery.automatic && v.now.since(since) >= v.d.recovery.after {
        return crate::recover::begin(v, survivor, None);
    }
    let (name, pod) = (&v.o.cluster.name, v.pod(survivor));
    let how = format!(
        "most volumes are lost. To go on with what {pod} has: \
         kubectl keepstone recover-quorum {name} --survivor {pod}"
    );
    Next::wait(Reason::QuorumLost, how)
}

/// Members and places that no operation speaks for, as a crash or somebody's hand may leave them.
pub(crate) fn orphans(v: &View) -> Next {
    // Whose place nobody knows: it may be any of those that look vacant.
    if v.members().iter().any(|m| m.ordinal.is_none()) {
        let why = "a member is in the table whose address is no pod's; give it that back, or remove it";
        return Next::wait(Reason::MemberUnhealthy, why);
    }
    let sized = crate::workload::size(v);
    if sized != Next::Pass {
        return sized;
    }
    if let Some(n) = v.pods.iter().find(|(n, p)| n.0 >= v.span() && p.stranded()).map(|(n, _)| *n) {
        return v.end(n, true);
    }
    let learner = v.members().iter().filter(|m| m.learner).find_map(|m| Some((m, m.ordinal?)));
    if let Some((learner, n)) = learner {
        let claim = v.claims.get(&n).map(|c| c.uid.clone());
        if n.next().0 == v.span() && n.0 >= v.d.size {
            let leave = Leave { ordinal: n, member: Some(learner.id), claim };
            return v.record(Intent::ScaleDown(leave), v.d.deadlines.other);
        }
        // It may have all the data already: it is only seen to its end.
        let mut join = crate::join::replacement(v, n);
        (join.leaver, join.stale) = (None, None);
        return v.record(Intent::ReplaceMember(join), v.d.deadlines.learner);
    }
    let vacant = (0..v.span().min(v.replicas())).map(Ordinal).find(|n| v.member_at(*n).is_none());
    match vacant {
        Some(n) if v.well_voters(None).len() >= crate::view::quorum(v.voters()) => {
            v.record(Intent::ReplaceMember(crate::join::replacement(v, n)), v.d.deadlines.learner)
        }
        Some(_) => Next::wait(Reason::MemberUnhealthy, "a place has no member, and too few are well to add one"),
        None => Next::Pass,
    }
}

/// Two clusters where one should be: nobody can know here which of them to keep. Nothing is changed but what somebody orders
/// who has looked, and certificates, which nobody may outlive.
pub(crate) fn split(v: &View, certificates: impl FnOnce() -> Next) -> Next {
    if !is_split(v) {
        return Next::Pass;
    }
    match certificates() {
        Next::Act(act) => Next::Act(act),
        _ => verbs::drastic(v).or(|| verbs::replace_foreign(v)).or(|| {
            Next::wait(Reason::SplitBrain, "members of another cluster answer; nothing is changed until they are gone")
        }),
    }
}

/// Whether members of another cluster answer, and nothing is under way that ends that.
pub(crate) fn is_split(v: &View) -> bool {
    let settling = v.operation().is_some_and(|o| match o.intent {
        Intent::RecoverQuorum(_) | Intent::Restore(_) | Intent::Bootstrap(_) => true,
        Intent::ReplaceMember(_) => o.request.is_some(),
        _ => false,
    });
    let mut ids = v.o.answers.values().map(|s| s.cluster_id);
    let split = match v.o.cluster.cluster_id {
        Some(ours) => ids.any(|id| id != ours),
        None => ids.next().is_some_and(|first| ids.any(|id| id != first)),
    };
    split && !settling
}
