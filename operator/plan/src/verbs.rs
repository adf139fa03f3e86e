//! What an `EtcdOperation` asks for: taken up, refused, or seen to its end.

use std::collections::BTreeSet;

use crate::act::{Act, Outcome};
use crate::condition::Reason;
use crate::ids::{ClusterId, Ordinal};
use crate::next::Next;
use crate::observed::{Phase, Request};
use crate::operation::{Defragment, Intent, Operation, Verb};
use crate::view::View;

/// Ends an operation: first whoever asked for it is told, then the record is closed.
pub(crate) fn finish(v: &View, operation: &Operation, outcome: Outcome) -> Next {
    tell(v, operation, outcome).or(|| Next::Act(Act::CloseIntent { seq: operation.seq }))
}

/// Tells whoever asked for an operation how it ended.
pub(crate) fn tell(v: &View, operation: &Operation, outcome: Outcome) -> Next {
    let Some(uid) = &operation.request else { return Next::Pass };
    let Some(requests) = v.o.requests.known() else {
        return Next::wait(Reason::MembersUnreachable, "the operations asked for can't be read");
    };
    // Restarting many takes as many records; its end is for `restart` to see.
    let open = |r: &&Request| !r.phase.finished() && !matches!(r.verb, Verb::RestartMembers { .. });
    if requests.iter().filter(open).any(|r| r.uid == *uid) {
        return Next::Act(Act::FinishRequest { uid: uid.clone(), outcome });
    }
    Next::Pass
}

pub(crate) fn reject(request: &Request, why: &'static str) -> Next {
    Next::Act(Act::FinishRequest { uid: request.uid.clone(), outcome: Outcome::Rejected(why) })
}

fn open<'a>(v: &View<'a>) -> impl Iterator<Item = &'a Request> + use<'a> {
    v.o.requests.known().into_iter().flatten().filter(|r| !r.phase.finished())
}

/// Those that nobody has begun.
pub(crate) fn pending<'a>(v: &View<'a>) -> impl Iterator<Item = &'a Request> + use<'a> {
    open(v).filter(|r| r.phase == Phase::Pending)
}

/// A human's word that data is given up, or exchanged, comes before whatever is stuck.
pub(crate) fn drastic(v: &View) -> Next {
    let Some(id) = v.o.cluster.cluster_id else { return Next::Pass };
    let stuck = v.operation().filter(|o| matches!(o.intent, Intent::RecoverQuorum(_)) && v.overdue(o));
    let busy = v.operation().map(|o| &o.intent).filter(|_| stuck.is_none());
    if matches!(
        busy,
        Some(Intent::Bootstrap(_) | Intent::RecoverQuorum(_) | Intent::Restore(_) | Intent::Hibernate { .. })
    ) {
        return Next::Pass;
    }
    for request in pending(v).filter(|r| v.operation().is_none_or(|o| o.request.as_ref() != Some(&r.uid))) {
        let next = match &request.verb {
            Verb::RecoverQuorum { survivor, confirm } => recover(v, request, id, *survivor, *confirm),
            Verb::Restore { confirm, .. } if *confirm != id => reject(request, "confirm is not this cluster's ID"),
            Verb::Restore { source, save, .. } => {
                crate::restore::begin(v, source, *save, id, Some(request.uid.clone()))
            }
            _ => Next::Pass,
        };
        if next != Next::Pass {
            let begins = matches!(next, Next::Act(Act::RecordIntent(_)));
            return stuck.filter(|_| begins).map_or(Next::Pass, |o| give_way(v, o)).or(|| next);
        }
    }
    Next::Pass
}

/// A recovery whose survivor does not come up holds up no other order for ever. Its permit goes first: it may still start.
fn give_way(v: &View, operation: &Operation) -> Next {
    let told = tell(v, operation, Outcome::Failed("its survivor did not come up; another order takes its place"));
    told.or(|| crate::upkeep::revoke(v).unwrap_or(Next::Pass))
}

fn recover(v: &View, request: &Request, id: ClusterId, survivor: Ordinal, confirm: ClusterId) -> Next {
    if confirm != id {
        return reject(request, "confirm is not this cluster's ID");
    }
    if v.table.is_some() {
        return reject(request, "the cluster has a quorum");
    }
    if !v.quorum_lost() {
        return Next::Pass;
    }
    if v.claims.get(&survivor).is_none_or(|c| c.owner != v.o.cluster.uid || c.terminating) {
        return reject(request, "the survivor has no volume");
    }
    crate::recover::begin(v, survivor, Some(request.uid.clone()))
}

/// The other verbs, the oldest first.
pub(crate) fn step(v: &View) -> Next {
    for request in open(v) {
        if request.phase == Phase::Running && !matches!(request.verb, Verb::RestartMembers { .. }) {
            // Its operation gave way to another, or its record was lost.
            let outcome = Outcome::Failed("it was given up for something more urgent");
            return Next::Act(Act::FinishRequest { uid: request.uid.clone(), outcome });
        }
        let next = take_up(v, request);
        if next != Next::Pass {
            return next;
        }
    }
    Next::Pass
}

/// Orders about alarms, where nothing else may go on.
pub(crate) fn alarms(v: &View) -> Next {
    let order = open(v).find(|r| matches!(r.verb, Verb::DisarmAlarm { .. }));
    order.map_or(Next::Pass, |request| take_up(v, request))
}

fn take_up(v: &View, request: &Request) -> Next {
    let span = v.d.deadlines.other;
    let record = |intent| v.record_for(intent, span, Some(request.uid.clone()));
    match &request.verb {
        Verb::Defragment { members, rule } if v.all_well() => {
            let (members, done) = (members.clone(), BTreeSet::new());
            record(Intent::Defragment(Defragment { rule: *rule, members, done }))
        }
        Verb::Compact { revision } if v.table.is_some() => record(Intent::Compact { revision: *revision }),
        Verb::MoveLeader { to } => move_leader(v, request, *to),
        Verb::ReplaceMember { ordinal } => replace(v, request, *ordinal),
        Verb::DisarmAlarm { .. } if v.table.is_some() => record(Intent::DisarmAlarm),
        Verb::RestartMembers { members } => restart(v, request, members),
        _ => Next::Pass,
    }
}

fn move_leader(v: &View, request: &Request, to: Option<Ordinal>) -> Next {
    let Some(from) = v.members().iter().find(|m| v.leader == Some(m.id)).and_then(|m| m.ordinal) else {
        return Next::Pass;
    };
    let heir = to.or_else(|| v.heir(from, |_| true).and_then(|id| v.member(id)).and_then(|m| m.ordinal));
    match heir {
        Some(to) if to == from || (v.well(to) && v.member_at(to).is_some_and(|m| !m.learner)) => {
            v.record_for(Intent::MoveLeader { to }, v.d.deadlines.hand_over, Some(request.uid.clone()))
        }
        _ => reject(request, "there is no such voter that is well"),
    }
}

/// Orders to replace members that are another cluster's, where nothing else may go on.
pub(crate) fn replace_foreign(v: &View) -> Next {
    let foreign = |n: &Ordinal| v.o.answers.get(n).is_some_and(|s| Some(s.cluster_id) != v.o.cluster.cluster_id);
    let mut orders = pending(v).filter_map(|r| match &r.verb {
        Verb::ReplaceMember { ordinal } if v.operation().is_none() && foreign(ordinal) => Some((r, *ordinal)),
        _ => None,
    });
    orders.next().map_or(Next::Pass, |(request, ordinal)| replace(v, request, ordinal))
}

fn replace(v: &View, request: &Request, ordinal: Ordinal) -> Next {
    if v.table.is_none() || v.learners() > 0 {
        return Next::Pass;
    }
    if v.member_at(ordinal).is_none() {
        return reject(request, "there is no such member");
    }
    if !v.removable(ordinal) {
        return reject(request, "without this member the rest would have no quorum");
    }
    let join = crate::join::replacement(v, ordinal);
    v.record_for(Intent::ReplaceMember(join), v.d.deadlines.learner, Some(request.uid.clone()))
}

/// One pod after the other, as in a change of configuration.
fn restart(v: &View, request: &Request, members: &BTreeSet<Ordinal>) -> Next {
    let named = |n: &Ordinal| members.is_empty() || members.contains(n);
    let mut old = v.pods.iter().filter(|(n, p)| named(n) && n.0 < v.replicas() && p.created <= request.created);
    if old.next().is_none() {
        return Next::Act(Act::FinishRequest { uid: request.uid.clone(), outcome: Outcome::Succeeded });
    }
    let target = crate::workload::target(v);
    let outdated = |n: Ordinal, created| named(&n) && created <= request.created;
    crate::roll::next(v, &target, |n, p| outdated(n, p.created), Some(request.uid.clone()))
}

pub(crate) fn resume_move(v: &View, operation: &Operation, to: Ordinal) -> Next {
    if v.leads(to) {
        return finish(v, operation, Outcome::Succeeded);
    }
    let from = v.members().iter().find(|m| v.leader == Some(m.id)).and_then(|m| m.ordinal);
    match (from, v.member_at(to)) {
        _ if v.overdue(operation) => finish(v, operation, Outcome::Failed("the leader did not hand over")),
        (Some(from), Some(heir)) if !heir.learner && v.well(to) => Next::Act(Act::MoveLeader { from, to: heir.id }),
        _ => finish(v, operation, Outcome::Failed("there is no such voter that is well")),
    }
}
