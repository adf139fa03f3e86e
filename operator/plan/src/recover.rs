//! A majority is given up: what one survivor has becomes a new cluster, with an ID that no old member answers to.
//!
//! Everything that is left is saved before anything is touched, nothing of the old cluster runs when the new one
//! begins, and nothing of it is deleted before the new one has its ID latched.

use std::collections::{BTreeMap, BTreeSet};

use crate::act::{Act, Outcome, Permit, PermitKind};
use crate::condition::Reason;
use crate::ids::{Ordinal, Uid};
use crate::next::Next;
use crate::observed::{Claim, Phase, Pod};
use crate::operation::{Intent, Operation, Recover};
use crate::upkeep;
use crate::verbs;
use crate::view::{Loss, View};
use crate::workload;

/// Who knows most: the newest term, then the most entries; where nobody answers, the first whose volume is there.
pub(crate) fn survivor(v: &View) -> Option<Ordinal> {
    let intact = |n: &Ordinal| kept(v).any(|(m, _)| m == n) && v.loss(*n) != Some(Loss::Data);
    let places = || (0..workload::places(v)).map(Ordinal).filter(intact);
    let best = places().filter_map(|n| v.status(n).map(|s| (s.term, s.applied, std::cmp::Reverse(n)))).max();
    best.map(|(_, _, n)| n.0).or_else(|| places().next())
}

/// Claims of this cluster whose members have not left.
fn kept<'a>(v: &View<'a>) -> impl Iterator<Item = (&'a Ordinal, &'a Claim)> {
    let uid = &v.o.cluster.uid;
    v.claims.iter().filter(move |(_, c)| c.owner == *uid && c.left.is_none())
}

pub(crate) fn begin(v: &View, survivor: Ordinal, request: Option<Uid>) -> Next {
    let (Some(claim), Some(lost)) = (v.claims.get(&survivor), v.o.cluster.cluster_id) else { return Next::Pass };
    let others = kept(v).filter(|(n, _)| **n != survivor && n.0 < workload::places(v));
    let recover = Recover {
        survivor,
        claim: claim.uid.clone(),
        lost,
        nonce: v.o.nonce,
        fenced: false,
        pods: pods(v),
        claims: others.map(|(n, c)| (*n, c.uid.clone())).collect(),
    };
    v.record_for(Intent::RecoverQuorum(recover), v.d.deadlines.other, request)
}

pub(crate) fn resume(v: &View, operation: &Operation, r: &Recover) -> Next {
    if v.o.cluster.cluster_id == Some(r.lost) {
        return upkeep::shut(v)
            .or(|| save(v, operation, r))
            .or(|| stop_others(v, operation, r))
            .or(|| start_survivor(v, r))
            .or(|| latch(v, r));
    }
    if let Some(next) = upkeep::revoke(v) {
        return next;
    }
    discard(v, r)
        .or(|| upkeep::unfence(v))
        .or(|| upkeep::service(v, true))
        .or(|| verbs::finish(v, operation, Outcome::Succeeded))
}

const NOT_SAVED: &str = "the survivor's data could not be saved; nothing is touched";

/// Copies of all there is. Without the survivor's nothing goes on; of the others as many as can be had. Who is fenced was
/// saved before.
fn save(v: &View, operation: &Operation, r: &Recover) -> Next {
    if r.fenced {
        return Next::Pass;
    }
    let Some(saved) = v.o.saved.known() else {
        return Next::wait(Reason::MembersUnreachable, "whether the data was saved can't be read");
    };
    for (n, claim) in r.claims.iter().chain(std::iter::once((&r.survivor, &r.claim))) {
        let there = v.claims.get(n).is_some_and(|c| c.uid == *claim);
        match saved.get(n) {
            None if there => {
                return Next::Act(Act::Save { seq: operation.seq, ordinal: *n, claim: claim.clone() });
            }
            // Who ordered it may name another survivor; by itself it is not tried again and again.
            Some(Phase::Failed) | None if *n == r.survivor && operation.request.is_some() => {
                return verbs::finish(v, operation, Outcome::Failed(NOT_SAVED));
            }
            Some(Phase::Failed) | None if *n == r.survivor => {
                return Next::wait(Reason::DeadlineExceeded, NOT_SAVED);
            }
            Some(Phase::Pending | Phase::Running) => {
                return Next::wait(Reason::RecoveringQuorum, "what is left is being saved");
            }
            _ => {}
        }
    }
    Next::Pass
}

fn stop_others(v: &View, operation: &Operation, r: &Recover) -> Next {
    let Some(fenced) = v.o.fenced.known() else {
        return Next::wait(Reason::MembersUnreachable, "which places are fenced can't be read");
    };
    // Of a StatefulSet that is larger than what there was, the new pods too.
    let places = workload::places(v).max(v.replicas());
    let others: BTreeSet<_> = (0..places).map(Ordinal).filter(|n| *n != r.survivor).collect();
    if !others.is_subset(fenced) || fenced.contains(&r.survivor) {
        return Next::Act(Act::SetFence(others));
    }
    if !r.fenced {
        // Pods that were made since, before there was a fence, may run too; those to come wait.
        let all = Recover { fenced: true, pods: pods(v), ..r.clone() };
        return v.turn(operation, Intent::RecoverQuorum(all), v.d.deadlines.other);
    }
    let old = |n: &Ordinal, p: &Pod| r.pods.get(n) == Some(&p.uid) || !v.dead(*n, p);
    let running = v.pods.iter().find(|(n, p)| **n != r.survivor && old(n, p));
    running.map_or(Next::Pass, |(n, _)| v.end(*n, true))
}

fn pods(v: &View) -> BTreeMap<Ordinal, Uid> {
    v.pods.iter().map(|(n, p)| (*n, p.uid.clone())).collect()
}

fn start_survivor(v: &View, r: &Recover) -> Next {
    let permit =
        Permit { kind: PermitKind::ForceNew, ordinal: r.survivor, pod: None, claim: r.claim.clone(), nonce: r.nonce };
    match v.o.permit.known() {
        None => return Next::wait(Reason::MembersUnreachable, "whether there is a permit can't be read"),
        Some(None) => return Next::Act(Act::GrantPermit(permit)),
        Some(Some(held)) if *held != permit => return Next::Act(Act::RevokePermit { nonce: held.nonce }),
        Some(Some(_)) => {}
    }
    // It may have been made anew since, and have started before there was a permit.
    let without = v.o.answers.get(&r.survivor).is_some_and(|s| s.permit != Some(r.nonce));
    match v.pods.get(&r.survivor) {
        Some(pod) if (without || r.pods.get(&r.survivor) == Some(&pod.uid)) && !pod.terminating => {
            Next::Act(Act::DeletePod { ordinal: r.survivor, uid: pod.uid.clone(), force: false })
        }
        // What is asked for now may be what it lacks.
        _ => crate::roll::mend_alone(v, r.survivor),
    }
}

fn latch(v: &View, r: &Recover) -> Next {
    let answer = v.o.answers.get(&r.survivor).filter(|s| s.permit == Some(r.nonce) && s.cluster_id != r.lost);
    let alone = |id| v.table.is_some_and(|t| t.len() == 1 && t[0].id == id && t[0].ordinal == Some(r.survivor));
    match answer {
        Some(s) if alone(s.member_id) => Next::Act(Act::Latch { from: Some(r.lost), to: Some(s.cluster_id) }),
        _ => Next::wait(Reason::RecoveringQuorum, format!("{} is founding the new cluster", v.pod(r.survivor))),
    }
}

/// The new cluster stands: what is left of the old one makes room for its members.
fn discard(v: &View, r: &Recover) -> Next {
    for (n, uid) in &r.claims {
        let Some(claim) = v.claims.get(n).filter(|c| c.uid == *uid) else { continue };
        if v.table.is_none() || v.member_at(*n).is_some() {
            return Next::wait(Reason::MembersUnreachable, "the new cluster's member table can't be read");
        }
        if !claim.terminating {
            return Next::Act(Act::DeleteClaim { ordinal: *n, uid: uid.clone() });
        }
        let gone = || Next::wait(Reason::RecoveringQuorum, "volumes of the old cluster are being deleted");
        return v.end(*n, true).or(gone);
    }
    Next::Pass
}
