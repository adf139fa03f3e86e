//! What the operator does next, as a pure function: [`plan`] takes what was seen, what is asked for and the time, and
//! names at most one act. No Kubernetes, no clock, no randomness, no IO.
//!
//! The rules that every decision keeps:
//!
//! - What is meant is recorded before its first act. The record holds what no later look can tell; how far it has come
//!   is seen anew each time, so that any pass finishes or undoes what a crash left.
//! - What could not be read is unknown, and unknown is never absent.
//! - At most one learner. No act of ours takes a cluster below its quorum, or a second member down.
//! - A claim is deleted only when its member is out of the table, or the whole cluster goes.
//! - A cluster is founded once: by the seed, with a permit, before any client is let in.

pub mod act;
mod backup;
mod bootstrap;
mod certs;
pub mod condition;
mod delete;
pub mod desired;
pub mod ids;
mod join;
mod judge;
mod leave;
mod maintenance;
mod next;
pub mod observed;
pub mod operation;
mod recover;
mod repair;
mod restore;
mod roll;
mod sleep;
mod storage;
mod upkeep;
mod verbs;
mod view;
mod workload;

use act::Act;
use condition::{Condition, Reason};
use desired::Desired;
use ids::{Seconds, Time};
use next::Next;
use observed::{Marks, Observed};
use operation::{Intent, Operation};
use view::{Loss, View};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To be done once status is written. None: there is nothing to do now.
    pub act: Option<Act>,
    /// All of them, always; none while the cluster is being deleted.
    pub conditions: Vec<Condition>,
    /// What status has to remember.
    pub marks: Marks,
    /// When to look again, where nothing else sets off a pass before.
    pub again: Seconds,
}

/// Names what to do next.
#[must_use]
pub fn plan(o: &Observed, d: &Desired, now: Time) -> Plan {
    let view = View::new(o, d, now);
    let next = match &view {
        _ if o.cluster.deleting => delete::step(o, d),
        Some(v) => decide(v),
        None => Next::wait(Reason::MembersUnreachable, "pods, claims or the StatefulSet can't be read"),
    };
    let conditions = match &view {
        _ if o.cluster.deleting => Vec::new(),
        Some(v) => judge::conditions(v, &next),
        None => judge::unseen(d),
    };
    let again = if next == Next::Pass { Seconds(30) } else { Seconds(2) };
    let marks = view.as_ref().map_or(o.cluster.marks, |v| marks(v, &next));
    let act = if let Next::Act(act) = next { Some(act) } else { None };
    Plan { act, conditions, marks, again }
}

/// The order of what matters. Each falls through where it has nothing to do.
fn decide(v: &View) -> Next {
    if v.d.paused {
        return Next::wait(Reason::Paused, "the spec says that nothing is to be done");
    }
    repair::split(v, || latched_certificates(v))
        .or(|| upkeep::step(v))
        .or(|| latched_certificates(v))
        .or(|| bootstrap::step(v))
        .or(|| backup::step(v))
        .or(|| verbs::drastic(v))
        .or(|| workload::whole(v))
        .or(|| repair::undecided(v))
        .or(|| resume(v))
        .or(|| sleep::step(v))
        .or(|| repair::corrupt(v))
        .or(|| maintenance::room(v))
        .or(|| roll::mend(v))
        .or(|| repair::lost(v))
        .or(|| repair::quorum(v))
        .or(|| repair::orphans(v))
        .or(|| verbs::step(v))
        .or(|| roll::step(v))
        .or(|| quiet(v))
}

fn latched_certificates(v: &View) -> Next {
    if v.o.cluster.cluster_id.is_none() {
        return Next::Pass;
    }
    certs::step(v).or(|| certs::rotate_late(v))
}

/// What is begun only while every member is well.
fn quiet(v: &View) -> Next {
    if !v.all_well() {
        return Next::Pass;
    }
    repair::doomed(v)
        .or(|| leave::strays(v))
        .or(|| storage::step(v))
        .or(|| scale(v))
        .or(|| certs::rotate(v))
        .or(|| maintenance::schedule(v))
}

fn scale(v: &View) -> Next {
    match v.d.size.cmp(&v.span()) {
        std::cmp::Ordering::Greater => join::scale_up(v),
        std::cmp::Ordering::Less => leave::scale_down(v),
        std::cmp::Ordering::Equal => Next::Pass,
    }
}

fn resume(v: &View) -> Next {
    let Some(operation) = v.operation() else { return Next::Pass };
    match &operation.intent {
        Intent::Bootstrap(_) => bootstrap::resume(v, operation),
        Intent::ScaleUp(join) | Intent::ReplaceMember(join) => {
            or_quorum(v, operation, join::resume(v, operation, join))
        }
        Intent::ScaleDown(leave) => or_quorum(v, operation, leave::resume(v, operation, leave)),
        Intent::Roll(roll) => or_repair(v, operation, roll::resume(v, operation, roll)),
        Intent::Hibernate { replicas } => sleep::resume(v, operation, *replicas),
        Intent::RecoverQuorum(recover) => recover::resume(v, operation, recover),
        Intent::Restore(restore) => restore::resume(v, operation, restore),
        Intent::Defragment(run) => maintenance::resume_defragment(v, operation, run),
        Intent::MakeRoom(run) => maintenance::resume_room(v, operation, run),
        Intent::Compact { revision } => maintenance::resume_compact(v, operation, *revision),
        Intent::MoveLeader { to } => verbs::resume_move(v, operation, *to),
        Intent::DisarmAlarm => maintenance::resume_disarm(v, operation),
    }
}

/// A lost majority is no less lost because something else is under way.
fn or_quorum(v: &View, operation: &Operation, next: Next) -> Next {
    match next {
        Next::Wait(_) if v.table.is_none() => roll::mend_others(v, operation).or(|| repair::quorum(v)).or(|| next),
        said => said,
    }
}

/// One pod that is stuck keeps no other from being repaired.
fn or_repair(v: &View, operation: &Operation, next: Next) -> Next {
    match next {
        Next::Wait(_) => {
            let other = repair::instead_of(v, operation).or(|| roll::mend_others(v, operation));
            or_quorum(v, operation, other.or(|| next))
        }
        said => said,
    }
}

fn marks(v: &View, next: &Next) -> Marks {
    let mut marks = v.o.cluster.marks;
    if let Some(requests) = v.o.requests.known() {
        marks.compact = maintenance::last(requests, marks.compact, maintenance::compacts);
        marks.defragment = maintenance::last(requests, marks.defragment, maintenance::defragments);
    }
    if let Some(backups) = v.o.backups.known() {
        marks.backup = backup::last(v, backups);
    }
    let room = |operation: &Operation| matches!(operation.intent, Intent::MakeRoom(_));
    if v.operation().is_some_and(room) || matches!(next, Next::Act(Act::RecordIntent(o)) if room(o)) {
        marks.room = Some(v.now);
    }
    let lost = v.o.cluster.cluster_id.is_some() && v.quorum_lost();
    marks.quorum_lost = lost.then(|| marks.quorum_lost.unwrap_or(v.now));
    marks
}

/// Whom a backup is taken from now, which somebody asked for; none where no member is well.
#[must_use]
pub fn backup_source(o: &Observed, d: &Desired, now: Time) -> Option<ids::Ordinal> {
    backup::source(&View::new(o, d, now)?)
}

/// Whether the member at a place is beyond help, for pictures of the cluster.
#[must_use]
pub fn is_lost(o: &Observed, d: &Desired, now: Time, ordinal: ids::Ordinal) -> bool {
    View::new(o, d, now).is_some_and(|v| matches!(v.loss(ordinal), Some(Loss::Data | Loss::Hopeless)))
}
