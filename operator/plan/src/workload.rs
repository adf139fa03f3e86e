//! The StatefulSet. It replaces pods that are gone and never another, so its template may change at any time; its size
//! follows the member table, and never leads it.

use crate::act::Act;
use crate::condition::Reason;
use crate::ids::{Template, Version};
use crate::next::Next;
use crate::operation::Intent;
use crate::view::View;

pub(crate) fn apply(v: &View, replicas: u32) -> Next {
    Next::Act(applied(v, replicas))
}

pub(crate) fn applied(v: &View, replicas: u32) -> Act {
    Act::ApplyWorkload { replicas, template: v.d.template.clone(), storage: v.d.storage }
}

/// How many places there are: as the table has it; without that, as the claims have it that no member has left.
pub(crate) fn places(v: &View) -> u32 {
    if let Some(Intent::RecoverQuorum(r)) = v.operation().map(|o| &o.intent) {
        let all = r.pods.keys().chain(r.claims.keys()).chain([&r.survivor]);
        return all.map(|n| n.next().0).max().unwrap_or(0);
    }
    if v.table.is_some() {
        return v.span();
    }
    // One that is leaving counts until its claim is gone: a pod too many is refused by its own server, one too few is a
    // member taken down.
    let kept = v.claims.iter().filter(|(_, c)| c.owner == v.o.cluster.uid && c.left.is_none()).map(|(n, _)| n);
    kept.chain(v.o.answers.keys()).map(|n| n.next().0).max().unwrap_or(0)
}

fn asleep(v: &View) -> bool {
    matches!(v.operation().map(|o| &o.intent), Some(Intent::Hibernate { .. } | Intent::Restore(_)))
}

/// It is gone although there is a cluster: it comes back as large as the cluster is, whatever size the spec asks for.
pub(crate) fn create(v: &View) -> Next {
    match places(v) {
        _ if asleep(v) => make(v, 0),
        0 => Next::wait(Reason::QuorumLost, "there is a cluster ID, but neither members nor volume claims"),
        n => make(v, n),
    }
}

/// Nothing goes on while places are missing: whoever took them away, with them went members, and maybe the quorum.
pub(crate) fn whole(v: &View) -> Next {
    if asleep(v) {
        return Next::Pass;
    }
    match v.workload {
        None => create(v),
        Some(w) if w.replicas < places(v) => {
            Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: w.replicas, to: places(v) })
        }
        Some(_) => Next::Pass,
    }
}

fn make(v: &View, replicas: u32) -> Next {
    // What runs now is what a lost StatefulSet had; a change of version is for later.
    let version = v.o.answers.values().map(|s| s.version).max().unwrap_or(v.d.template.version);
    let template = Template { version, ..v.d.template.clone() };
    Next::Act(Act::ApplyWorkload { replicas, template, storage: v.d.storage })
}

/// Places that no member has are given up, where nobody is about to come.
pub(crate) fn size(v: &View) -> Next {
    let Some(w) = v.workload else { return Next::Pass };
    if v.table.is_none() || v.span() == 0 || v.span() >= w.replicas {
        return Next::Pass;
    }
    Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: w.replicas, to: v.span() })
}

/// The template that pods should have now: the configuration always as asked for, so that a broken one can be mended
/// while nothing runs; a version that goes up only when all is well and as large as it should be, and no pod is left
/// that would skip one.
pub(crate) fn target(v: &View) -> Template {
    let mending = mending(v);
    let from = mending.version;
    let follows = || v.pods.values().map(|p| p.template.version).chain([from]).all(|one| allowed(v, one).is_none());
    let may = v.all_well() && v.span() == v.d.size && follows();
    Template { version: if may { v.d.template.version } else { from }, ..mending }
}

/// What of it needs no cluster that is well: the configuration, and the way back from a version that did not do. That
/// leads no further than to where the cluster comes from, whatever is asked for: the rest is a downgrade.
pub(crate) fn mending(v: &View) -> Template {
    let Some(w) = v.workload else { return v.d.template.clone() };
    let back = oldest(v).map_or(w.template.version, |oldest| oldest.max(v.d.template.version));
    Template { config: v.d.template.config.clone(), version: back.min(w.template.version) }
}

/// The lowest that a pod is made of, or a voter was seen to run. Where there is only one no pod can tell.
fn oldest(v: &View) -> Option<Version> {
    v.pods.values().map(|p| p.template.version).chain(v.o.cluster.ran).min()
}

/// Whether there is a member that was never seen to run what is newer.
fn came_from(v: &View, version: Version) -> bool {
    oldest(v).is_some_and(|oldest| oldest <= version)
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
    if to.minor < from.minor && !came_from(v, to) && (!v.d.update.allow_downgrade || to.minor + 1 < from.minor) {
        return Some("a downgrade has to be allowed, and goes one minor at a time");
    }
    None
}
