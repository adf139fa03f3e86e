//! When a backup is taken, by whom, and which are no longer kept. A backup disturbs no member, so none of this waits for
//! an operation to end.

use crate::act::{Act, Purpose};
use crate::condition::Reason;
use crate::ids::{Ordinal, Seconds, Time, Version};
use crate::next::Next;
use crate::observed::{Backup, Phase};
use crate::operation::Intent;
use crate::view::View;

pub(crate) fn step(v: &View) -> Next {
    let (Some(policy), Some(backups)) = (&v.d.backup, v.o.backups.known()) else { return Next::Pass };
    let busy = backups.iter().any(|b| !b.phase.finished());
    let created = v.o.cluster.created;
    let done = last(v, backups);
    let first = (policy.immediate && done.is_none() && v.o.cluster.cluster_id.is_some()).then_some(created);
    if let Some(at) = due(policy.schedule.latest, done, created).or(first)
        && !busy
        && let Some(from) = source(v)
    {
        let act = Act::StartBackup { from, purpose: Purpose::Scheduled(at) };
        if !v.failed(&act) {
            return Next::Act(act);
        }
    }
    retain(v, backups, policy.keep.max(1) as usize)
}

/// The schedule's last time, if nothing was done for it. Of several that were missed only the last counts.
pub(crate) fn due(latest: Option<Time>, done: Option<Time>, created: Time) -> Option<Time> {
    latest.filter(|at| *at > done.unwrap_or(created))
}

/// The last scheduled time that was seen to.
pub(crate) fn last(v: &View, backups: &[Backup]) -> Option<Time> {
    backups.iter().filter_map(|b| b.scheduled).max().max(v.o.cluster.marks.backup)
}

/// A follower that is well, the highest; the leader only where there is no other.
pub(crate) fn source(v: &View) -> Option<Ordinal> {
    let voters = v.well_voters(None);
    voters.iter().filter_map(|m| m.ordinal).max_by_key(|n| (!v.leads(*n), *n))
}

/// Those that somebody took by hand are his. Failed ones don't count, and go when there are as many of them; the newest
/// that is whole never goes.
///
/// While data is damaged, or is about to be exchanged for that of a backup, all are kept.
fn retain(v: &View, backups: &[Backup], keep: usize) -> Next {
    let needed = match v.operation().map(|o| &o.intent) {
        Some(Intent::Restore(_)) => true,
        Some(Intent::Bootstrap(b)) => b.source.is_some(),
        _ => v.corrupted().next().is_some(),
    };
    if needed {
        return Next::Pass;
    }
    let ours = |b: &&Backup| (b.scheduled.is_some() || b.before.is_some()) && !b.keep;
    let beyond = |phase| {
        let mut all: Vec<_> = backups.iter().filter(ours).filter(|b| b.phase == phase).collect();
        all.sort_by_key(|b| std::cmp::Reverse((b.completed, b.created)));
        all.get(keep..).and_then(<[_]>::last).copied()
    };
    match beyond(Phase::Succeeded).or_else(|| beyond(Phase::Failed)) {
        Some(oldest) => {
            let act = Act::DeleteBackup { uid: oldest.uid.clone() };
            if v.failed(&act) { Next::Pass } else { Next::Act(act) }
        }
        None => Next::Pass,
    }
}

/// A version change has a backup behind it, where there is somewhere to put one.
pub(crate) fn before(v: &View, version: Version) -> Next {
    if v.d.backup.is_none() || !v.d.update.snapshot_before {
        return Next::Pass;
    }
    let Some(backups) = v.o.backups.known() else {
        return Next::wait(Reason::MembersUnreachable, "the backups can't be read");
    };
    let generation = v.o.cluster.generation;
    match backups.iter().find(|b| b.before == Some((version, generation))).map(|b| b.phase) {
        Some(Phase::Succeeded) => Next::Pass,
        Some(Phase::Failed) => Next::wait(Reason::UpgradeStuck, "the backup before the version change failed"),
        Some(_) => Next::wait(Reason::Upgrading, "a backup is taken before the version changes"),
        None => match source(v) {
            Some(from) => Next::Act(Act::StartBackup { from, purpose: Purpose::Before { version, generation } }),
            None => Next::wait(Reason::MemberUnhealthy, "no member is well enough to take a backup from"),
        },
    }
}

/// What is wrong with the backups; none while all is well.
pub(crate) fn trouble(v: &View) -> Option<Reason> {
    let policy = v.d.backup.as_ref()?;
    let Some(backups) = v.o.backups.known() else { return Some(Reason::MembersUnreachable) };
    let Some(newest) = backups.iter().filter_map(|b| b.completed.filter(|_| b.phase == Phase::Succeeded)).max() else {
        return Some(Reason::NeverTaken);
    };
    if backups.iter().rev().find(|b| b.phase.finished()).is_some_and(|b| b.phase == Phase::Failed) {
        return Some(Reason::BackupFailed);
    }
    let period = policy.schedule.latest.map_or(Seconds(u64::MAX / 4), |latest| policy.schedule.next.since(latest));
    (v.now.since(newest).0 > period.0.saturating_mul(2)).then_some(Reason::BackupStale)
}
