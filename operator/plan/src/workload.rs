//! The StatefulSet. It replaces pods that are gone and never another, so its template may change at any time; its size
//! follows the member table, and never leads it.

use crate::act::Act;
use crate::condition::Reason;
use crate::ids::{Ordinal, Template, Version};
use crate::next::Next;
use crate::operation::Intent;
use crate::view::View;

pub(crate) fn apply(v: &View, replicas: u32) -> Next {
    Next::Act(Act::ApplyWorkload { replicas, template: v.d.template.clone(), storage: v.d.storage })
}

/// It is gone although there is a cluster: it comes back as large as the cluster is, whatever size the spec asks for.
pub(crate) fn create(v: &View) -> Next {
    let kept = v.claims.iter().filter(|(_, c)| c.left.is_none() && !c.terminating).map(|(n, _)| n.next().0).max();
    let pods = v.pods.keys().map(|n| n.next().0).max();
    let replicas = if v.table.is_some() { Some(v.span()) } else { pods.max(kept) };
    let asleep = matches!(v.operation().map(|o| &o.intent), Some(Intent::Hibernate { .. } | Intent::Restore(_)));
    match replicas {
        _ if asleep => make(v, 0),
        Some(n) if n > 0 => make(v, n),
        _ => Next::wait(Reason::QuorumLost, "there is a cluster ID, but neither pods nor volume claims"),
    }
}

fn make(v: &View, replicas: u32) -> Next {
    // What runs now is what a lost StatefulSet had; a change of version is for later.
    let version = v.o.answers.values().map(|s| s.version).max().unwrap_or(v.d.template.version);
    let template = Template { version, ..v.d.template.clone() };
    Next::Act(Act::ApplyWorkload { replicas, template, storage: v.d.storage })
}

/// Pods are made anew for every place that has a member, also where somebody else scaled the StatefulSet down.
pub(crate) fn size(v: &View) -> Next {
    let Some(w) = v.workload else { return create(v) };
    if v.table.is_none() || v.span() == w.replicas || v.span() == 0 {
        return Next::Pass;
    }
    let to = v.span();
    let members_kept = (to..w.replicas).all(|n| v.member_at(Ordinal(n)).is_none());
    if to > w.replicas || members_kept {
        return Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: w.replicas, to });
    }
    Next::Pass
}

/// The template that pods should have now: the configuration always as asked for, so that a broken one can be mended
/// while nothing runs; a version that goes up only when all is well and as large as it should be.
pub(crate) fn target(v: &View) -> Template {
    let mending = mending(v);
    let from = mending.version;
    let may = v.all_well() && v.span() == v.d.size && allowed(v, from).is_none();
    Template { version: if may { v.d.template.version } else { from }, ..mending }
}

/// What of it needs no cluster that is well: the configuration, and the way back from a version that did not do.
pub(crate) fn mending(v: &View) -> Template {
    let Some(w) = v.workload else { return v.d.template.clone() };
    let wanted = v.d.template.version;
    let back = wanted < w.template.version && v.pods.values().any(|p| p.template.version <= wanted);
    Template { config: v.d.template.config.clone(), version: if back { wanted } else { w.template.version } }
}

/// Why the asked for version can't follow `from`.
pub(crate) fn allowed(v: &View, from: Version) -> Option<&'static str> {
    let to = v.d.template.version;
    if to.major != from.major {
        return Some("a change of the major version is not supported");
    }
    if to.minor > from.minor + 1 {
        return Some("versions change one minor at a time");
    }
    let back = v.pods.values().any(|p| p.template.version <= to);
    if to.minor < from.minor && !back && (!v.d.update.allow_downgrade || to.minor + 1 < from.minor) {
        return Some("a downgrade has to be allowed, and goes one minor at a time");
    }
    None
}
