//! Volumes grow; they never shrink.

use crate::act::Act;
use crate::ids::Ordinal;
use crate::next::Next;
use crate::view::View;

/// First the claims there are, one a pass; then what the StatefulSet asks for new ones, which can't be changed but by
/// making it anew around its running pods.
pub(crate) fn step(v: &View) -> Next {
    let Some(w) = v.workload else { return Next::Pass };
    let small = v.claims.iter().find(|(n, c)| n.0 < v.span() && !c.terminating && c.request < v.d.storage);
    if let Some((n, claim)) = small {
        return grow(v, *n, claim.uid.clone());
    }
    if w.storage < v.d.storage {
        return Next::Act(Act::DeleteWorkload { uid: w.uid.clone(), orphan: true });
    }
    Next::Pass
}

fn grow(v: &View, ordinal: Ordinal, uid: crate::ids::Uid) -> Next {
    let act = Act::GrowClaim { ordinal, uid, bytes: v.d.storage };
    // A class that refuses to grow holds up nothing else.
    if v.failed(&act) { Next::Pass } else { Next::Act(act) }
}

/// Whether a volume has not got what its claim asks for.
pub(crate) fn pending(v: &View) -> bool {
    v.claims.iter().any(|(n, c)| n.0 < v.span() && c.capacity > 0 && c.capacity < c.request)
}
