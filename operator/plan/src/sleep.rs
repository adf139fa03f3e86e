//! Hibernation: the pods go, identity and data stay. The record is open as long as the cluster sleeps, because the number
//! of pods to wake is in no other place.

use crate::act::{Act, Outcome};
use crate::condition::Reason;
use crate::next::Next;
use crate::operation::{Intent, Operation};
use crate::verbs;
use crate::view::View;

pub(crate) fn step(v: &View) -> Next {
    if !v.d.hibernate || v.replicas() == 0 {
        return Next::Pass;
    }
    v.record(Intent::Hibernate { replicas: v.replicas() }, v.d.deadlines.other)
}

pub(crate) fn resume(v: &View, operation: &Operation, replicas: u32) -> Next {
    let Some(w) = v.workload else { return crate::workload::create(v) };
    let to = if v.d.hibernate { 0 } else { replicas };
    if w.replicas != to {
        return Next::Act(Act::SetReplicas { uid: w.uid.clone(), from: w.replicas, to });
    }
    if v.d.hibernate {
        return Next::wait(Reason::Hibernated, "the cluster sleeps; its volumes are kept");
    }
    if v.pods.len() < replicas as usize {
        return Next::wait(Reason::WakingUp, "pods are being made");
    }
    // Whether they are well is for repair to see: a volume that was lost meanwhile must not keep this open.
    verbs::finish(v, operation, Outcome::Succeeded)
}
