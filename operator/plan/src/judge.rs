//! What the conditions say, from what was seen and what was decided.

use crate::act::{Act, Alarm};
use crate::condition::{Condition, ConditionType, Reason, Truth};
use crate::desired::{Desired, Tls};
use crate::ids::Ordinal;
use crate::next::{Next, Wait};
use crate::observed::Observed;
use crate::operation::Intent;
use crate::view::{View, quorum};
use crate::{backup, certs, maintenance, repair, storage, workload};

type Verdict = (Truth, Reason, String);

/// Without a view: the API server did not tell enough.
pub(crate) fn unseen(d: &Desired, deleting: bool) -> Vec<Condition> {
    use ConditionType::{AllMembersUpdated, Available, BackupHealthy, Degraded, Progressing, Ready, TlsReady};
    let reason = if deleting { Reason::Deleting } else { Reason::NotObserved };
    let mut kinds = vec![Available, Progressing, Degraded, Ready, TlsReady, AllMembersUpdated];
    kinds.extend(d.backup.as_ref().map(|_| BackupHealthy));
    kinds.into_iter().map(|kind| Condition { kind, truth: Truth::Unknown, reason, message: String::new() }).collect()
}

pub(crate) fn conditions(v: &View, next: &Next) -> Vec<Condition> {
    let wait = match next {
        Next::Wait(wait) => Some(wait),
        _ => None,
    };
    let (available, progressing, degraded) = (available(v, wait), progressing(v, next), degraded(v, wait));
    let truths = [available.0 == Truth::True, progressing.0 == Truth::False, degraded.0 == Truth::False];
    let whole = truths == [true; 3] && v.members().len() == v.d.size as usize;
    let ready = if whole {
        (Truth::True, Reason::AsDesired, String::new())
    } else {
        let why = [(0, &available), (2, &degraded), (1, &progressing)].into_iter().find(|(n, _)| !truths[*n]);
        (Truth::False, why.map_or(Reason::ScalingUp, |(_, verdict)| verdict.1), String::new())
    };
    let mut all = vec![
        (ConditionType::Available, available),
        (ConditionType::Progressing, progressing),
        (ConditionType::Degraded, degraded),
        (ConditionType::Ready, ready),
        (ConditionType::TlsReady, tls(v)),
        (ConditionType::AllMembersUpdated, updated(v)),
    ];
    if v.d.backup.is_some() {
        let verdict = match backup::trouble(v) {
            None => (Truth::True, Reason::BackupCurrent, String::new()),
            Some(reason) => (unknown_or_false(reason), reason, String::new()),
        };
        all.push((ConditionType::BackupHealthy, verdict));
    }
    let condition = |(kind, (truth, reason, message))| Condition { kind, truth, reason, message };
    all.into_iter().map(condition).collect()
}

fn unknown_or_false(reason: Reason) -> Truth {
    if reason == Reason::NotObserved { Truth::Unknown } else { Truth::False }
}

fn available(v: &View, wait: Option<&Wait>) -> Verdict {
    let no = |reason| (Truth::False, reason, String::new());
    if wait.is_some_and(|w| w.reason == Reason::SplitBrain) {
        return no(Reason::SplitBrain);
    }
    let intent = v.operation().map(|o| &o.intent);
    if matches!(intent, Some(Intent::Hibernate { .. })) && v.d.hibernate {
        return no(Reason::Hibernated);
    }
    if v.o.cluster.cluster_id.is_none() {
        return no(wait.map(|w| w.reason).filter(|r| r.is_trouble()).unwrap_or(Reason::Bootstrapping));
    }
    let well = v.well_voters(None).len();
    if v.table.is_some() && well >= quorum(v.voters()) {
        if maintenance::no_space(v) {
            return no(Reason::AlarmNoSpace);
        }
        let all = well == v.members().len();
        let reason = if all { Reason::QuorumHealthy } else { Reason::QuorumAvailable };
        return (Truth::True, reason, String::new());
    }
    if v.quorum_lost() { no(Reason::QuorumLost) } else { (Truth::Unknown, Reason::NotObserved, String::new()) }
}

pub(crate) fn progress(o: &Observed, intent: &Intent) -> Reason {
    match intent {
        Intent::Bootstrap(_) => Reason::Bootstrapping,
        Intent::ScaleUp(_) => Reason::ScalingUp,
        Intent::ScaleDown(_) => Reason::ScalingDown,
        Intent::ReplaceMember(_) => Reason::ReplacingMember,
        Intent::Roll(roll) => {
            let pods = o.pods.known().into_iter().flatten();
            let upgrade = pods.into_iter().any(|(_, p)| p.template.version != roll.template.version);
            if upgrade { Reason::Upgrading } else { Reason::RollingConfig }
        }
        Intent::Hibernate { .. } => Reason::Hibernating,
        Intent::RecoverQuorum(_) => Reason::RecoveringQuorum,
        Intent::Restore(_) => Reason::Restoring,
        Intent::Defragment(_) => Reason::Defragmenting,
        Intent::MakeRoom(_) => Reason::MakingRoom,
        Intent::Compact { .. } => Reason::Compacting,
        Intent::MoveLeader { .. } => Reason::MovingLeader,
        Intent::DisarmAlarm => Reason::DisarmingAlarm,
    }
}

fn progressing(v: &View, next: &Next) -> Verdict {
    if v.d.paused {
        return (Truth::False, Reason::Paused, String::new());
    }
    let intent = match next {
        Next::Act(Act::RecordIntent(operation)) => Some(operation),
        _ => v.operation(),
    };
    if let Some(operation) = intent {
        let message = if let Next::Wait(wait) = next { wait.message.clone() } else { String::new() };
        if matches!(operation.intent, Intent::Hibernate { .. }) && v.d.hibernate && v.pods.is_empty() {
            return (Truth::False, Reason::Hibernated, message);
        }
        if v.overdue(operation) {
            return (Truth::False, Reason::DeadlineExceeded, message);
        }
        return (Truth::True, progress(v.o, &operation.intent), message);
    }
    if storage::pending(v) {
        return (Truth::True, Reason::ResizingStorage, String::new());
    }
    let rotating = v.o.certificates.known().is_some_and(|c| c.next.is_some() || c.bundle.len() > 1);
    if rotating && matches!(v.d.tls, Tls::Auto { .. }) {
        return (Truth::True, Reason::RotatingCA, String::new());
    }
    match next {
        Next::Wait(w) if !w.reason.is_trouble() => (Truth::True, w.reason, w.message.clone()),
        Next::Act(Act::ApplyWorkload { .. }) => (Truth::True, Reason::RollingConfig, String::new()),
        _ => (Truth::False, Reason::AsDesired, String::new()),
    }
}

fn degraded(v: &View, wait: Option<&Wait>) -> Verdict {
    if let Some(wait) = wait.filter(|w| w.reason.is_trouble()) {
        return (Truth::True, wait.reason, wait.message.clone());
    }
    let yes = |reason, message: &str| (Truth::True, reason, message.to_owned());
    let fine = (Truth::False, Reason::AsDesired, String::new());
    if v.o.cluster.cluster_id.is_none() || v.d.hibernate {
        return fine;
    }
    if v.members().iter().any(|m| v.armed(m.id, Alarm::Corrupt)) {
        return yes(Reason::AlarmCorrupt, "a member's data differs from the others'");
    }
    if maintenance::no_space(v) {
        return yes(Reason::AlarmNoSpace, "a member has used up its quota; writes are refused");
    }
    if v.quorum_lost() {
        return yes(Reason::QuorumLost, "");
    }
    if let Some(n) = repair::unsafe_loss(v) {
        return yes(Reason::ReplaceUnsafe, &format!("member {n} is lost; without it the rest have no quorum"));
    }
    let ill = v.members().iter().find(|m| !m.learner && m.ordinal.is_none_or(|n| !v.well(n)));
    if let Some(member) = ill {
        let n = member.ordinal.map_or_else(|| member.id.to_string(), |n: Ordinal| n.to_string());
        return yes(Reason::MemberUnhealthy, &format!("member {n} is not well"));
    }
    if v.claims.values().any(|c| c.resize_rejected) {
        return yes(Reason::ResizeRejected, "a volume can't grow");
    }
    let running = v.workload.map(|w| w.template.version);
    if let Some(why) = running.and_then(|version| workload::allowed(v, version)) {
        return yes(Reason::VersionRefused, why);
    }
    fine
}

fn tls(v: &View) -> Verdict {
    match certs::trouble(v) {
        _ if v.d.tls == Tls::Disabled => (Truth::True, Reason::TLSDisabled, String::new()),
        None => (Truth::True, Reason::CertificatesValid, String::new()),
        Some(reason) => (unknown_or_false(reason), reason, String::new()),
    }
}

fn updated(v: &View) -> Verdict {
    let current = v.workload.is_some_and(|w| w.template == v.d.template);
    if current && v.pods.values().all(|p| p.template == v.d.template) {
        (Truth::True, Reason::AsDesired, String::new())
    } else {
        (Truth::False, Reason::MembersOutdated, String::new())
    }
}
