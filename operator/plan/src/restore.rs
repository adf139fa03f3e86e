//! The data is replaced by a backup's. The old cluster is stopped and saved, its volumes go, and a seed founds a new
//! one from the backup, as at the first time.

use std::sync::Arc;

use crate::act::{Act, Outcome};
use crate::condition::Reason;
use crate::ids::{ClusterId, Ordinal, Uid};
use crate::next::Next;
use crate::observed::Phase;
use crate::operation::{Bootstrap, Intent, Operation, Restore, Verb};
use crate::view::{View, quorum};
use crate::{upkeep, verbs};

pub(crate) fn begin(v: &View, source: &Arc<str>, save: bool, lost: ClusterId, request: Option<Uid>) -> Next {
    let ours = v.claims.iter().filter(|(_, c)| c.owner == v.o.cluster.uid && c.left.is_none());
    let claims = ours.map(|(n, c)| (*n, c.uid.clone())).collect();
    let restore = Restore { source: source.clone(), lost, save, claims };
    v.record_for(Intent::Restore(restore), v.d.deadlines.other, request)
}

pub(crate) fn resume(v: &View, operation: &Operation, r: &Restore) -> Next {
    sourced(v, operation, r)
        .or(|| upkeep::shut(v))
        .or(|| stop(v))
        .or(|| save(v, operation, r))
        .or(|| clear(v, r))
        .or(|| Next::Act(Act::Latch { from: Some(r.lost), to: None }))
}

/// The old cluster is gone from status and from the disks: the founding is one like any other.
pub(crate) fn refound(v: &View, operation: &Operation, r: &Restore) -> Next {
    clear(v, r).or(|| {
        let source = Some(r.source.clone());
        let first = Bootstrap { attempt: 1, permit: None, spoiled: None, source, lost: Some(r.lost) };
        v.turn(operation, Intent::Bootstrap(first), v.d.deadlines.restore)
    })
}

/// As long as it is not founded, the founding goes on from another backup for another order. There is no ID any more to be
/// confirmed but that of the cluster that was given up.
pub(crate) fn instead(v: &View, operation: &Operation, b: &Bootstrap) -> Next {
    let nonce = b.permit.as_ref().map(|permit| permit.nonce);
    let founded = nonce.is_some() && v.o.answers.get(&Ordinal::SEED).is_some_and(|s| s.permit == nonce);
    let Some(lost) = b.lost.filter(|_| !founded) else { return Next::Pass };
    let mut orders = verbs::pending(v).filter(|r| operation.request.as_ref() != Some(&r.uid));
    let Some((request, source, confirm)) = orders.find_map(|r| match &r.verb {
        Verb::Restore { source, confirm, .. } => Some((r, source, *confirm)),
        _ => None,
    }) else {
        return Next::Pass;
    };
    if confirm != lost {
        return verbs::reject(request, "confirm is not the ID of the cluster that was given up");
    }
    verbs::tell(v, operation, Outcome::Failed("another order takes its place")).or(|| {
        let permitted = b.permit.as_ref().map(|permit| permit.claim.clone());
        let spoiled = v.claims.get(&Ordinal::SEED).map(|c| c.uid.clone()).or(permitted);
        let first = Bootstrap { attempt: 1, permit: None, spoiled, source: Some(source.clone()), lost: b.lost };
        v.record_for(Intent::Bootstrap(first), v.d.deadlines.restore, Some(request.uid.clone()))
    })
}

/// As long as anything is left of what there was, it is not given up for a backup that is gone.
fn sourced(v: &View, operation: &Operation, r: &Restore) -> Next {
    let left = r.claims.iter().any(|(n, uid)| v.claims.get(n).is_some_and(|c| c.uid == *uid && !c.terminating));
    match v.o.source.known() {
        _ if !left => Next::Pass,
        Some(true) => Next::Pass,
        Some(false) => verbs::finish(v, operation, Outcome::Failed("its backup is gone; what is left is kept")),
        None => Next::wait(Reason::Restoring, "whether the backup is there can't be read"),
    }
}

fn stop(v: &View) -> Next {
    match v.workload {
        Some(w) if w.replicas > 0 => Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: w.replicas, to: 0 }),
        // Without it nobody ends the pods.
        None => crate::workload::create(v),
        Some(_) => match v.pods.iter().find(|(_, p)| p.stranded()) {
            Some((n, _)) => v.end(*n, true),
            None if v.pods.is_empty() => Next::Pass,
            None => Next::wait(Reason::Restoring, "the members are being stopped"),
        },
    }
}

/// Copies of a majority, so that one has whatever was acknowledged; of all there is, where that is less. Unless nobody wants
/// them.
fn save(v: &View, operation: &Operation, r: &Restore) -> Next {
    if !r.save {
        return Next::Pass;
    }
    let Some(saved) = v.o.saved.known() else {
        return Next::wait(Reason::MembersUnreachable, "whether the data was saved can't be read");
    };
    let there = |n, uid: &Uid| v.claims.get(n).is_some_and(|c| c.uid == *uid && !c.terminating);
    for (n, claim) in r.claims.iter().filter(|(n, uid)| there(n, uid)) {
        match saved.get(n) {
            None => return Next::Act(Act::Save { seq: operation.seq, ordinal: *n, claim: claim.clone() }),
            Some(Phase::Pending | Phase::Running) => {
                return Next::wait(Reason::Restoring, "the data there is, is being saved");
            }
            _ => {}
        }
    }
    // One that was put in the place of a member's has nothing of it.
    let had = |n: &Ordinal, uid: &Uid| v.o.cluster.volumes.get(n).is_none_or(|last| last == uid);
    let members = || r.claims.iter().filter(|(n, uid)| had(n, uid));
    let left = members().filter(|(n, uid)| there(n, uid)).count();
    let whole = members().filter(|(n, _)| saved.get(n) == Some(&Phase::Succeeded)).count();
    if whole >= quorum(members().count()).min(left) {
        return Next::Pass;
    }
    verbs::finish(v, operation, Outcome::Failed("the data there is could not be saved; nothing of it is deleted"))
}

fn clear(v: &View, r: &Restore) -> Next {
    for (n, uid) in &r.claims {
        let Some(claim) = v.claims.get(n).filter(|c| c.uid == *uid) else { continue };
        if !claim.terminating {
            return Next::Act(Act::DeleteClaim { ordinal: *n, uid: uid.clone() });
        }
        return Next::wait(Reason::Restoring, "the old volumes are being deleted");
    }
    Next::Pass
}
