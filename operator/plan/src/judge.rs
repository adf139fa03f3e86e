//! What the conditions say, from what was seen and what was decided.

use crate::act::Act;
use crate::condition::{Condition, ConditionType, Reason, Truth};
use crate::desired::{Desired, Tls};
use crate::ids::MemberId;
use crate::next::{Next, Wait};
use crate::operation::Intent;
use crate::view::{View, quorum};
use crate::{backup, certs, maintenance, repair, storage, workload};

type Verdict = (Truth, Reason, String);

/// Whether it says that there is less than was asked for, rather than that something is under way.
fn is_trouble(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::QuorumLost
            | Reason::SplitBrain
            | Reason::BootstrapFailed
            | Reason::UpgradeStuck
            | Reason::DeadlineExceeded
            | Reason::InvalidSpec
            | Reason::StorageResizeRejected
            | Reason::MemberUnhealthy
            | Reason::LearnerStuck
            | Reason::VolumeForeign
            | Reason::AlarmNoSpace
            | Reason::AlarmCorrupt
    )
}

/// Without a view: the API server did not tell enough.
pub(crate) fn unseen(d: &Desired) -> Vec<Condition> {
    use ConditionType::{AllMembersUpdated, Available, BackupHealthy, Degraded, Progressing, Ready, TlsReady};
    let mut kinds = vec![Available, Progressing, Degraded, Ready, TlsReady, AllMembersUpdated];
    kinds.extend((d.backup.is_some() || d.backup_suspended).then_some(BackupHealthy));
    let (truth, reason) = (Truth::Unknown, Reason::MembersUnreachable);
    kinds.into_iter().map(|kind| Condition { kind, truth, reason, message: String::new() }).collect()
}

pub(crate) fn conditions(v: &View, next: &Next) -> Vec<Condition> {
    let wait = match next {
        Next::Wait(wait) => Some(wait),
        _ => None,
    };
    let (available, progressing, degraded) = (available(v, wait), progressing(v, next), degraded(v, wait));
    let mut all = vec![
        (ConditionType::Ready, ready(v, &available, &progressing, &degraded)),
        (ConditionType::TlsReady, tls(v)),
        (ConditionType::AllMembersUpdated, updated(v, progressing.1)),
    ];
    all.splice(
        0..0,
        [
            (ConditionType::Available, available),
            (ConditionType::Progressing, progressing),
            (ConditionType::Degraded, degraded),
        ],
    );
    if v.d.backup.is_some() {
        let verdict = match backup::trouble(v) {
            None => (Truth::True, Reason::BackupFresh, String::new()),
            Some(reason) => (unknown_or_false(reason), reason, String::new()),
        };
        all.push((ConditionType::BackupHealthy, verdict));
    } else if v.d.backup_suspended {
        all.push((ConditionType::BackupHealthy, (Truth::False, Reason::BackupSuspended, String::new())));
    }
    let condition = |(kind, (truth, reason, message))| Condition { kind, truth, reason, message };
    all.into_iter().map(condition).collect()
}

/// Repeats the reason of whichever keeps it.
fn ready(v: &View, available: &Verdict, progressing: &Verdict, degraded: &Verdict) -> Verdict {
    let not = |verdict: &Verdict| (Truth::False, verdict.1, String::new());
    if available.0 != Truth::True {
        return if available.0 == Truth::Unknown {
            (Truth::Unknown, available.1, String::new())
        } else {
            not(available)
        };
    }
    if degraded.0 != Truth::False {
        return not(degraded);
    }
    if progressing.0 != Truth::False {
        return not(progressing);
    }
    match v.members().len().cmp(&(v.d.size as usize)) {
        std::cmp::Ordering::Less => (Truth::False, Reason::ScalingUp, String::new()),
        std::cmp::Ordering::Greater => (Truth::False, Reason::ScalingDown, String::new()),
        std::cmp::Ordering::Equal => (Truth::True, Reason::AsExpected, String::new()),
    }
}

fn unknown_or_false(reason: Reason) -> Truth {
    if reason == Reason::MembersUnreachable { Truth::Unknown } else { Truth::False }
}

fn available(v: &View, wait: Option<&Wait>) -> Verdict {
    let no = |reason| (Truth::False, reason, String::new());
    if !v.d.paused && repair::is_split(v) {
        return no(Reason::SplitBrain);
    }
    let intent = v.operation().map(|o| &o.intent);
    if matches!(intent, Some(Intent::Hibernate { .. })) && v.d.hibernate {
        return no(Reason::Hibernated);
    }
    if let Some(Intent::Restore(_)) = intent {
        return no(Reason::Restoring);
    }
    if v.o.cluster.cluster_id.is_none() {
        let failed = wait.is_some_and(|w| w.reason == Reason::BootstrapFailed);
        let under_way = intent.and_then(|intent| progress(v, intent)).filter(|reason| *reason == Reason::Restoring);
        return no(if failed { Reason::BootstrapFailed } else { under_way.unwrap_or(Reason::Bootstrapping) });
    }
    if let Some(Intent::RecoverQuorum(_)) = intent {
        return no(Reason::RecoveringQuorum);
    }
    let well = v.well_voters(None).len();
    if v.table.is_some() && v.corrupted().next().is_some() {
        return no(Reason::AlarmCorrupt);
    }
    if v.table.is_some() && well >= quorum(v.voters()) {
        if maintenance::no_space(v) {
            return no(Reason::AlarmNoSpace);
        }
        let all = well == v.members().len();
        let reason = if all { Reason::QuorumHealthy } else { Reason::QuorumAvailable };
        return (Truth::True, reason, String::new());
    }
    if v.quorum_lost() { no(Reason::QuorumLost) } else { (Truth::Unknown, Reason::MembersUnreachable, String::new()) }
}

/// What an operation is called while it goes on. Maintenance is none: a cluster that is being defragmented is as it
/// should be.
fn progress(v: &View, intent: &Intent) -> Option<Reason> {
    Some(match intent {
        Intent::Bootstrap(b) if b.source.is_some() => Reason::Restoring,
        Intent::Bootstrap(_) => Reason::Bootstrapping,
        Intent::ScaleUp(_) => Reason::ScalingUp,
        Intent::ScaleDown(_) => Reason::ScalingDown,
        Intent::ReplaceMember(_) => Reason::ReplacingMember,
        Intent::Roll(_) => rolling(v),
        Intent::Hibernate { .. } if v.d.hibernate => Reason::Hibernating,
        Intent::Hibernate { .. } => Reason::WakingUp,
        Intent::RecoverQuorum(_) => Reason::RecoveringQuorum,
        Intent::Restore(_) => Reason::Restoring,
        Intent::Defragment(_)
        | Intent::MakeRoom(_)
        | Intent::Compact { .. }
        | Intent::MoveLeader { .. }
        | Intent::DisarmAlarm => return None,
    })
}

/// Whether versions differ is all that makes a roll an upgrade.
pub(crate) fn rolling(v: &View) -> Reason {
    let other = |version| version != v.d.template.version;
    let upgrade =
        v.pods.values().any(|p| other(p.template.version)) || v.workload.is_some_and(|w| other(w.template.version));
    if upgrade { Reason::Upgrading } else { Reason::RollingConfig }
}

fn progressing(v: &View, next: &Next) -> Verdict {
    let no = |reason, message| (Truth::False, reason, message);
    if v.d.paused {
        return no(Reason::Paused, String::new());
    }
    let message = if let Next::Wait(wait) = next { wait.message.clone() } else { String::new() };
    let operation = match next {
        Next::Act(Act::RecordIntent(operation)) => Some(operation),
        _ => v.operation(),
    };
    if let Next::Wait(Wait { reason: Reason::Hibernated, .. }) = next {
        return no(Reason::Hibernated, message);
    }
    if let Next::Wait(wait) = next
        && matches!(wait.reason, Reason::UpgradeStuck | Reason::BootstrapFailed | Reason::QuorumLost)
    {
        return no(wait.reason, message);
    }
    if let Some((operation, reason)) = operation.and_then(|o| Some((o, progress(v, &o.intent)?))) {
        let late = v.overdue(operation) && matches!(next, Next::Wait(_));
        return if late { no(Reason::DeadlineExceeded, message) } else { (Truth::True, reason, message) };
    }
    let yes = |reason| (Truth::True, reason, message.clone());
    match next {
        Next::Act(Act::ApplyWorkload { .. }) => return yes(rolling(v)),
        Next::Wait(w) if !is_trouble(w.reason) && w.reason != Reason::MembersUnreachable => return yes(w.reason),
        _ => {}
    }
    if v.o.cluster.cluster_id.is_none() {
        return yes(Reason::Bootstrapping);
    }
    if storage::pending(v) {
        return yes(Reason::ResizingStorage);
    }
    let rotating = v.o.certificates.known().is_some_and(|c| c.next.is_some() || c.bundle.len() > 1);
    if rotating && matches!(v.d.tls, Tls::Auto { .. }) {
        return yes(Reason::RotatingCA);
    }
    no(Reason::Stable, String::new())
}

fn degraded(v: &View, wait: Option<&Wait>) -> Verdict {
    if let Some(wait) = wait.filter(|w| is_trouble(w.reason)) {
        return (Truth::True, wait.reason, wait.message.clone());
    }
    let yes = |reason, message: &str| (Truth::True, reason, message.to_owned());
    if !v.d.paused && repair::is_split(v) {
        return yes(Reason::SplitBrain, "members of another cluster answer");
    }
    let fine = |reason| (Truth::False, reason, String::new());
    if v.o.cluster.cluster_id.is_none() {
        return fine(Reason::Bootstrapping);
    }
    // It is not put to sleep as long as something else is under way.
    let busy = v.operation().is_some_and(|o| !matches!(o.intent, Intent::Hibernate { .. }));
    if v.d.hibernate && !busy {
        return fine(Reason::Hibernated);
    }
    if v.corrupt(MemberId::NOBODY) {
        return yes(Reason::AlarmCorrupt, "members' data differs, and no majority tells whose is right");
    }
    if v.corrupted().next().is_some() {
        return yes(Reason::AlarmCorrupt, "a member's data differs from the others'");
    }
    if maintenance::no_space(v) {
        return yes(Reason::AlarmNoSpace, "a member has used up its quota; writes are refused");
    }
    if v.quorum_lost() {
        return yes(Reason::QuorumLost, "");
    }
    if let Some(n) = repair::unsafe_loss(v) {
        return yes(Reason::MemberUnhealthy, &format!("{} is lost; without it the rest have no quorum", v.pod(n)));
    }
    let ill = v.members().iter().find(|m| !m.learner && m.ordinal.is_none_or(|n| !v.well(n)));
    if let Some(member) = ill {
        let name = member.ordinal.map_or_else(|| format!("member {}", member.id), |n| v.pod(n));
        return yes(Reason::MemberUnhealthy, &format!("{name} is not well"));
    }
    if v.claims.values().any(|c| c.resize_rejected) {
        return yes(Reason::StorageResizeRejected, "a volume can't grow");
    }
    let running = v.workload.map(|w| w.template.version);
    if let Some(why) = running.and_then(|version| workload::allowed(v, version)) {
        return yes(Reason::InvalidSpec, why);
    }
    let attempt = match v.operation().map(|o| &o.intent) {
        Some(Intent::ScaleUp(join) | Intent::ReplaceMember(join)) => join.attempt,
        _ => 1,
    };
    if attempt > 1 {
        return yes(Reason::LearnerStuck, "a new member made no headway; it is tried anew");
    }
    fine(Reason::AsExpected)
}

fn tls(v: &View) -> Verdict {
    match certs::trouble(v) {
        _ if v.d.tls == Tls::Disabled => (Truth::False, Reason::TLSDisabled, String::new()),
        None => (Truth::True, Reason::CertificatesValid, String::new()),
        Some((reason, why)) => (unknown_or_false(reason), reason, why),
    }
}

fn updated(v: &View, progressing: Reason) -> Verdict {
    let current = v.workload.is_some_and(|w| w.template == v.d.template);
    let no = |reason| (Truth::False, reason, String::new());
    if v.d.hibernate && v.pods.is_empty() {
        return (Truth::True, Reason::Hibernated, String::new());
    }
    if current && v.pods.values().all(|p| p.template == v.d.template) && !v.pods.is_empty() {
        return (Truth::True, Reason::AllUpdated, String::new());
    }
    no(match progressing {
        Reason::Paused | Reason::UpgradeStuck | Reason::DeadlineExceeded | Reason::QuorumLost => progressing,
        _ if v.o.cluster.cluster_id.is_none() => Reason::Bootstrapping,
        Reason::Upgrading | Reason::RollingConfig => progressing,
        _ => Reason::WaitingForMembers,
    })
}
