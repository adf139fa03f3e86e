//! A cluster is founded by one member, once, with a permit that names its pod, its claim and a nonce.
//!
//! What must not happen is a second founding: a blank volume under the seed's name would make a cluster that looks
//! whole and knows nothing. So the intent is written before there is anything to found with, the cluster ID is latched
//! only from the very directory the permit named, and before that no client is let in: until then nothing was
//! acknowledged, and a failed attempt may be thrown away.

use crate::act::{Act, Outcome, Permit, PermitKind};
use crate::condition::Reason;
use crate::ids::{ClusterId, Ordinal, Seconds};
use crate::next::Next;
use crate::observed::{Phase, Pod};
use crate::operation::{Bootstrap, Intent, Operation};
use crate::verbs;
use crate::view::{View, quorum};
use crate::workload;

/// After so many attempts only a change of the spec starts another.
pub(crate) const ATTEMPTS: u32 = 3;

/// While there is no cluster ID nothing else has its turn.
pub(crate) fn step(v: &View) -> Next {
    if v.o.cluster.cluster_id.is_some() {
        return Next::Pass;
    }
    match v.operation() {
        Some(operation) => match &operation.intent {
            Intent::Bootstrap(b) => found(v, operation, b),
            Intent::Restore(r) => crate::restore::refound(v, operation, r),
            _ => Next::wait(Reason::VolumeForeign, "there is an operation, but no cluster ID"),
        },
        None if v.d.hibernate => Next::wait(Reason::Hibernated, "nothing is founded while the cluster is to sleep"),
        None => begin(v),
    }
}

fn begin(v: &View) -> Next {
    if let Some(id) = lost_latch(v) {
        return Next::Act(Act::Latch { from: None, to: Some(id) });
    }
    if v.workload.is_some() || !v.claims.is_empty() || !v.pods.is_empty() {
        let why = "there are volume claims or pods, but no cluster ID: what is in them is not known, so nothing is \
                   founded over them";
        return Next::wait(Reason::VolumeForeign, why);
    }
    crate::certs::before_founding(v).or(|| {
        let first = Bootstrap { attempt: 1, permit: None, spoiled: None, source: v.d.source.clone(), lost: None };
        let span = span(v, &first);
        v.record(Intent::Bootstrap(first), span)
    })
}

fn span(v: &View, b: &Bootstrap) -> Seconds {
    if b.source.is_some() { v.d.deadlines.restore } else { v.d.deadlines.bootstrap }
}

/// The status was lost, but a majority of members is here, in volumes of ours, and tells its ID.
fn lost_latch(v: &View) -> Option<ClusterId> {
    let first = v.o.answers.values().next()?.cluster_id;
    let agree = v.o.answers.iter().all(|(n, s)| {
        s.cluster_id == first && s.leader == v.leader && v.claims.get(n).is_some_and(|c| c.owner == v.o.cluster.uid)
    });
    let members = v.table?.len();
    (agree && members > 0 && v.o.answers.len() >= quorum(members)).then_some(first)
}

fn found(v: &View, operation: &Operation, b: &Bootstrap) -> Next {
    let before = crate::restore::instead(v, operation, b).or(|| clear_spoiled(v, b)).or(|| fence_seed(v, b));
    before.or(|| make_seed(v)).or(|| match &b.permit {
        Some(permit) => await_founding(v, operation, b, permit),
        None => name_seed(v, operation, b),
    })
}

/// The permit goes before the claim, so that what is thrown away can no longer found.
fn clear_spoiled(v: &View, b: &Bootstrap) -> Next {
    let Some(spoiled) = &b.spoiled else { return Next::Pass };
    if let Some(next) = crate::upkeep::revoke(v) {
        return next;
    }
    let Some(claim) = v.claims.get(&Ordinal::SEED).filter(|c| c.uid == *spoiled) else { return Next::Pass };
    if claim.owner != v.o.cluster.uid {
        return Next::wait(Reason::VolumeForeign, "the seed's volume claim is another cluster's");
    }
    if !claim.terminating {
        return Next::Act(Act::DeleteClaim { ordinal: Ordinal::SEED, uid: claim.uid.clone() });
    }
    v.end(Ordinal::SEED, true)
        .or(|| Next::wait(Reason::Bootstrapping, "the volume of the attempt before is being deleted"))
}

/// A backup is put into a directory that no server has opened. So the fence comes before the pod.
fn fence_seed(v: &View, b: &Bootstrap) -> Next {
    match v.o.fenced.known() {
        _ if b.source.is_none() => Next::Pass,
        None => Next::wait(Reason::MembersUnreachable, "which places are fenced can't be read"),
        Some(fenced) if fenced.contains(&Ordinal::SEED) => Next::Pass,
        Some(_) => Next::Act(Act::SetFence([Ordinal::SEED].into())),
    }
}

fn make_seed(v: &View) -> Next {
    match v.workload {
        None => workload::apply(v, 1),
        Some(w) if w.template != v.d.template && !v.done(&workload::applied(v, w.replicas)) => {
            workload::apply(v, w.replicas)
        }
        Some(w) if w.replicas == 0 => Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: 0, to: 1 }),
        Some(_) => Next::Pass,
    }
}

fn name_seed(v: &View, operation: &Operation, b: &Bootstrap) -> Next {
    let pod = v.pods.get(&Ordinal::SEED).filter(|p| !p.terminating);
    let doomed = v.claims.get(&Ordinal::SEED).is_some_and(|c| c.terminating && c.owner == v.o.cluster.uid);
    if doomed || v.pods.get(&Ordinal::SEED).is_some_and(Pod::stranded) {
        // Somebody deleted the claim, which goes only with the pod, or its node is gone. Nothing was founded yet.
        return v.end(Ordinal::SEED, true);
    }
    if pod.is_some_and(|p| outdated(v, p)) {
        return v.end(Ordinal::SEED, true);
    }
    let claim = v.claims.get(&Ordinal::SEED).filter(|c| !c.terminating);
    let (Some(pod), Some(claim)) = (pod, claim) else {
        return Next::wait(waiting(v, operation), "the first pod and its volume claim are not there yet");
    };
    if claim.owner != v.o.cluster.uid {
        return Next::wait(Reason::VolumeForeign, "the seed's volume claim is another cluster's");
    }
    let permit = Permit {
        kind: b.source.clone().map_or(PermitKind::Found, PermitKind::FoundFrom),
        ordinal: Ordinal::SEED,
        pod: Some(pod.uid.clone()),
        claim: claim.uid.clone(),
        nonce: v.o.nonce,
    };
    let named = Bootstrap { permit: Some(permit), spoiled: None, ..b.clone() };
    let span = span(v, &named);
    v.turn(operation, Intent::Bootstrap(named), span)
}

/// It does not run, and what is asked for now may be what it lacks: it is replaced by nobody else. One that waits for its
/// backup does not run either, and what is fetched is not thrown away for it.
fn outdated(v: &View, seed: &Pod) -> bool {
    let fetching = !matches!(v.o.filled.known(), Some(None | Some(Phase::Succeeded | Phase::Failed)));
    seed.template != v.d.template && v.dead(Ordinal::SEED, seed) && !fetching
}

fn await_founding(v: &View, operation: &Operation, b: &Bootstrap, permit: &Permit) -> Next {
    let Some(held) = v.o.permit.known() else {
        return Next::wait(Reason::MembersUnreachable, "whether there is a permit can't be read");
    };
    let claim = v.claims.get(&Ordinal::SEED).filter(|c| c.uid == permit.claim && !c.terminating);
    let seed = v.o.answers.get(&Ordinal::SEED).filter(|s| s.permit == Some(permit.nonce));
    if let (Some(seed), Some(_)) = (seed, claim) {
        let alone =
            v.table.is_some_and(|t| t.len() == 1 && t[0].id == seed.member_id && t[0].ordinal == Some(Ordinal::SEED));
        if alone {
            return Next::Act(Act::Latch { from: None, to: Some(seed.cluster_id) });
        }
        if !v.overdue(operation) {
            return Next::wait(Reason::Bootstrapping, "the seed has founded, and does not lead itself yet");
        }
    }
    let foreign = v.o.answers.contains_key(&Ordinal::SEED) && seed.is_none();
    let pod = v.pods.get(&Ordinal::SEED).filter(|p| Some(&p.uid) == permit.pod.as_ref());
    let same = !foreign && claim.is_some() && pod.is_some_and(|p| !p.stranded() && !outdated(v, p));
    if v.overdue(operation) || !same {
        return try_again(v, operation, b, permit, v.overdue(operation));
    }
    match held {
        None => fill(v, operation, b, permit)
            .or(|| crate::upkeep::shut(v))
            .or(|| Next::Act(Act::GrantPermit(permit.clone()))),
        Some(other) if other != permit => Next::Act(Act::RevokePermit { nonce: other.nonce }),
        // The backup is in place, whatever became of the Job that put it there.
        Some(_) => Next::wait(Reason::Bootstrapping, "the first member is founding the cluster"),
    }
}

/// The permit is given when the backup is on the volume; it opens the fence for the one it names.
fn fill(v: &View, operation: &Operation, b: &Bootstrap, permit: &Permit) -> Next {
    if !matches!(permit.kind, PermitKind::FoundFrom(_)) {
        return Next::Pass;
    }
    match v.o.filled.known() {
        None => Next::wait(Reason::MembersUnreachable, "whether the backup is in place can't be read"),
        Some(None) => Next::Act(Act::Fill(permit.clone())),
        Some(Some(Phase::Pending | Phase::Running)) => {
            Next::wait(Reason::Restoring, "the backup is being put onto the first member's volume")
        }
        Some(Some(Phase::Failed)) => try_again(v, operation, b, permit, true),
        Some(Some(Phase::Succeeded)) => Next::Pass,
    }
}

fn try_again(v: &View, operation: &Operation, b: &Bootstrap, permit: &Permit, failed: bool) -> Next {
    let edited = v.o.cluster.generation != operation.generation;
    if b.attempt >= ATTEMPTS && failed && !edited {
        return give_up(v, operation, b);
    }
    // A pod that was moved before it founded is nobody's failure.
    let attempt = if edited { 1 } else { b.attempt + u32::from(failed) };
    let spoiled = v.claims.get(&Ordinal::SEED).map_or(permit.claim.clone(), |c| c.uid.clone());
    let next = Bootstrap { attempt, permit: None, spoiled: Some(spoiled), ..b.clone() };
    let span = span(v, &next);
    v.turn(operation, Intent::Bootstrap(next), span)
}

/// Whoever ordered it is told, and may order another backup in its place; a change of the spec tries the same again.
fn give_up(v: &View, operation: &Operation, b: &Bootstrap) -> Next {
    let what = if b.lost.is_some() { "order another backup, or change the spec" } else { "change the spec" };
    let why = format!("the first member did not found a cluster; {what} to retry");
    verbs::tell(v, operation, Outcome::Failed("no cluster could be founded from this backup"))
        .or(|| Next::wait(Reason::BootstrapFailed, why))
}

fn waiting(v: &View, operation: &Operation) -> Reason {
    if v.overdue(operation) { Reason::BootstrapFailed } else { Reason::Bootstrapping }
}

/// The ID is latched: now the permit goes, and only then clients come. In between the seed has to be seen once more: as
/// long as there is a permit, a disk that is wiped founds a second time.
pub(crate) fn resume(v: &View, operation: &Operation) -> Next {
    // A restart that found the fence and no permit would wait for nobody.
    let rest = crate::upkeep::revoke(v).unwrap_or(Next::Pass).or(|| crate::upkeep::unfence(v));
    rest.or(|| let_in(v, operation))
}

fn let_in(v: &View, operation: &Operation) -> Next {
    let Some(objects) = v.o.objects.known() else {
        return Next::wait(Reason::MembersUnreachable, "whether clients are let in can't be read");
    };
    if objects.open {
        return verbs::finish(v, operation, Outcome::Succeeded);
    }
    let founder = v.o.answers.get(&Ordinal::SEED);
    let other = founder.is_some_and(|s| Some(s.cluster_id) != v.o.cluster.cluster_id);
    let stranded = v.pods.get(&Ordinal::SEED).is_some_and(Pod::stranded);
    match founder {
        Some(_) if !other && v.well(Ordinal::SEED) => Next::Act(Act::OpenClientService { open: true }),
        // No client was ever let in, so that nothing is lost with it.
        _ if other || stranded || v.overdue(operation) => {
            Next::Act(Act::Latch { from: v.o.cluster.cluster_id, to: None })
        }
        _ => Next::wait(Reason::Bootstrapping, "the first member is gone again"),
    }
}
