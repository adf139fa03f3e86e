//! The end of a cluster. Comes before everything, so that a paused or broken one can be deleted too.

use crate::act::Act;
use crate::condition::Reason;
use crate::desired::{Desired, Retention};
use crate::next::Next;
use crate::observed::Observed;

/// The StatefulSet goes first, or it would make new claims for old; claims of other clusters are never touched.
pub(crate) fn step(o: &Observed, d: &Desired) -> Next {
    let (Some(workload), Some(claims)) = (o.workload.known(), o.claims.known()) else {
        return Next::wait(Reason::MembersUnreachable, "what is left to delete can't be read");
    };
    if let Some(w) = workload {
        return Next::Act(Act::DeleteWorkload { uid: w.uid.clone(), orphan: false });
    }
    if d.deletion_policy == Retention::Delete {
        let ours = claims.iter().find(|(_, c)| c.owner == o.cluster.uid && !c.terminating);
        if let Some((n, claim)) = ours {
            return Next::Act(Act::DeleteClaim { ordinal: *n, uid: claim.uid.clone() });
        }
    }
    Next::Act(Act::RemoveFinalizer)
}
