//! What is put right whenever it is not, because it disturbs nobody: objects, the budget, the client Service, what a
//! permit or a fence left behind. An act that was just tried is passed over, whatever came of it, so that it can't hold up a
//! repair: something else may change each time what it writes.

use std::collections::BTreeSet;

use crate::act::Act;
use crate::condition::Reason;
use crate::next::Next;
use crate::operation::Intent;
use crate::view::{View, quorum};

pub(crate) fn step(v: &View) -> Next {
    objects(v).or(|| budget(v)).or(|| leftovers(v)).or(|| clients(v))
}

fn objects(v: &View) -> Next {
    match v.o.objects.known() {
        Some(o) if !o.current => v.once(Act::ApplyObjects),
        _ => Next::Pass,
    }
}

/// Counted in voters, the coming one included: a budget that follows the pods lets a drain take a majority.
fn budget(v: &View) -> Next {
    let (Some(objects), Some(_)) = (v.o.objects.known(), v.table) else { return Next::Pass };
    if v.o.cluster.cluster_id.is_none() || refounding(v) {
        return Next::Pass;
    }
    let coming = match v.operation().map(|o| &o.intent) {
        Some(Intent::ScaleUp(join)) => join.ordinal.0 as usize + 1,
        _ => 0,
    };
    let voters = v.voters().max(coming);
    let min_available = (voters > 0).then(|| quorum(voters) as u32);
    if objects.min_available == min_available {
        return Next::Pass;
    }
    v.once(Act::ApplyBudget { min_available })
}

/// A permit or a fence belongs to an operation; without that one it must go.
fn leftovers(v: &View) -> Next {
    let intent = v.operation().map(|o| &o.intent);
    let granted = matches!(intent, Some(Intent::Bootstrap(_) | Intent::RecoverQuorum(_)));
    if !granted && let Some(Some(permit)) = v.o.permit.known() {
        return v.once(Act::RevokePermit { nonce: permit.nonce });
    }
    let fencing = match intent {
        Some(Intent::RecoverQuorum(_)) => true,
        Some(Intent::Bootstrap(b)) => b.source.is_some(),
        _ => false,
    };
    if !fencing && v.o.fenced.known().is_some_and(|f| !f.is_empty()) {
        return v.once(Act::SetFence(BTreeSet::new()));
    }
    Next::Pass
}

/// Clients are let in once the cluster has its ID, and kept out while its data is exchanged.
fn clients(v: &View) -> Next {
    if refounding(v) { Next::Pass } else { service(v, v.o.cluster.cluster_id.is_some()) }
}

fn refounding(v: &View) -> bool {
    let intent = v.operation().map(|o| &o.intent);
    matches!(intent, Some(Intent::Bootstrap(_) | Intent::RecoverQuorum(_) | Intent::Restore(_)))
}

pub(crate) fn service(v: &View, open: bool) -> Next {
    match v.o.objects.known() {
        Some(o) if o.open != open => v.once(Act::OpenClientService { open }),
        _ => Next::Pass,
    }
}

/// Has no client let in before anything goes on: what is acknowledged from here on would be lost.
pub(crate) fn shut(v: &View) -> Next {
    match v.o.objects.known() {
        None => Next::wait(Reason::MembersUnreachable, "whether clients are let in can't be read"),
        Some(o) if o.open => Next::Act(Act::OpenClientService { open: false }),
        Some(_) => Next::Pass,
    }
}

/// Has nobody fenced any more.
pub(crate) fn unfence(v: &View) -> Next {
    match v.o.fenced.known() {
        None => Next::wait(Reason::MembersUnreachable, "which places are fenced can't be read"),
        Some(fenced) if !fenced.is_empty() => Next::Act(Act::SetFence(BTreeSet::new())),
        Some(_) => Next::Pass,
    }
}

/// What has to be done before there is surely no permit; none if there is none.
pub(crate) fn revoke(v: &View) -> Option<Next> {
    match v.o.permit.known() {
        None => Some(Next::wait(Reason::MembersUnreachable, "whether there is a permit can't be read")),
        Some(None) => None,
        Some(Some(permit)) => Some(Next::Act(Act::RevokePermit { nonce: permit.nonce })),
    }
}
