//! The end of a cluster. Comes before everything, so that a paused or broken one can be deleted too.

use crate::act::Act;
use crate::condition::Reason;
use crate::desired::{Desired, Retention};
use crate::next::Next;
use crate::observed::Observed;

/// The StatefulSet goes first, or it would make new claims for old; claims of other clusters are never touched.
pub(crate) fn step(o: &Observed, d: &Desired) -> Next {
    let (Some(workload), Some(pods), Some(claims)) = (o.workload.known(), o.pods.known(), o.claims.known()) else {
        return Next::wait(Reason::MembersUnreachable, "what is left to delete can't be read");
    };
    if let Some(w) = workload {
        return Next::Act(Act::DeleteWorkload { uid: w.uid.clone(), orphan: false });
    }
    // Kubernetes collects the pods of a StatefulSet, but not those that it was once taken away from around.
    if let Some((n, pod)) = pods.iter().find(|(_, pod)| !pod.terminating) {
        return Next::Act(Act::DeletePod { ordinal: *n, uid: pod.uid.clone(), force: false });
    }
    if d.deletion_policy == Retention::Delete {
        let ours = claims.iter().find(|(_, c)| c.owner == o.cluster.uid && !c.terminating);
        if let Some((n, claim)) = ours {
            return Next::Act(Act::DeleteClaim { ordinal: *n, uid: claim.uid.clone() });
        }
    }
    Next::Act(Act::RemoveFinalizer)
}
